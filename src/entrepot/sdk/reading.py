"""From the JSON of answers to typed values, and back: fields that are not known are ignored, missing ones are empty."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from entrepot.model.secret import Secret

T = TypeVar("T")
Convert = Callable[[Any], Any]
_ZEROS: Mapping[Any, Any] = {str: "", int: 0, float: 0.0, bool: False}
_READERS: dict[type, Callable[[Any], Any]] = {}


def reader(kind: type[T]) -> Callable[[Any], T]:
    """What makes a dataclass of an answer's JSON object."""
    if kind not in _READERS:
        _READERS[kind] = _made(kind)
    return _READERS[kind]


def _made(kind: type[T]) -> Callable[[Any], T]:
    hints = get_type_hints(kind)
    parts = [(one.name, _converter(hints[one.name]), _missing(one, hints[one.name])) for one in fields(kind)]  # type: ignore[arg-type]

    def read(value: Any) -> T:
        if not isinstance(value, Mapping):
            raise TypeError(f"{kind.__name__} is no object")
        return kind(
            **{
                name: convert(value[name]) if name in value else missing() if callable(missing) else missing
                for name, convert, missing in parts
            }
        )

    return read


def _missing(one: Any, hint: Any) -> Any:
    if one.default is not MISSING:
        return one.default
    if one.default_factory is not MISSING:
        return one.default_factory
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType) or hint is datetime or hint is Any:
        return None
    if origin is tuple:
        return ()
    if origin in (dict, Mapping):
        return dict
    if is_dataclass(hint):
        return lambda: _later(hint)({})
    if hint is Secret:
        return Secret("")
    return _ZEROS.get(hint, args[0] if args else None)


def _converter(hint: Any) -> Convert:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        inner = _converter(next(one for one in args if one is not NoneType))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        each = _converter(args[0])
        return lambda value: tuple(each(one) for one in value or ())
    if origin in (dict, Mapping):
        each = _converter(args[1])
        return lambda value: {name: each(one) for name, one in (value or {}).items()}
    if hint is datetime:
        return moment
    if hint is Secret:
        return lambda value: Secret(str(value or ""))
    if is_dataclass(hint):
        return _later(hint)
    return lambda value: value


def _later(hint: Any) -> Convert:
    """Its reader is looked up when it is needed: a task holds tasks."""

    def read(value: Any) -> Any:
        return reader(hint)(value)

    return read


def moment(text: Any) -> datetime:
    """A time from RFC 3339."""
    return datetime.fromisoformat(text)


def text_of(at: datetime | str | None) -> str | None:
    """A time for a request; one without a zone is local time."""
    if at is None or isinstance(at, str):
        return at
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """A value as JSON has it; secrets as ``***``."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, datetime):
        return text_of(value)
    return str(value) if isinstance(value, Secret) else value
