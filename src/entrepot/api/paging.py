"""Page tokens: where the next page begins, bound to the question that the first one answered."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

from entrepot.model.errors import RequestError

Mark = list[str | int]


def token(mark: Sequence[str | int] | None, question: Any = None) -> str:
    """The token for what follows ``mark``; empty when nothing does. ``question`` is the filter of the list."""
    if mark is None:
        return ""
    raw = json.dumps([_digest(question), *mark], separators=(",", ":"), ensure_ascii=True).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def mark(text: str, shape: Sequence[type], question: Any = None) -> list[Any] | None:
    """The mark in a token; None for the first page. Raises RequestError for one that was not made for this list."""
    if not text:
        return None
    try:
        found = json.loads(urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)))
        digest, *parts = found
        good = len(parts) == len(shape) and all(type(part) is kind for part, kind in zip(parts, shape, strict=True))
        if not good or any(isinstance(part, str) and not part.isprintable() for part in parts):
            raise ValueError
        if any(isinstance(part, int) and abs(part) >= 1 << 62 for part in parts):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise RequestError("page_token", "no token of a page", hint="take next_page_token as it was answered") from None
    if digest != _digest(question):
        raise RequestError("page_token", "a token of another list", hint="keep the filters while you turn pages")
    marks: list[Any] = parts
    return marks


def _digest(question: Any) -> str:
    if question is None:
        return ""
    text = json.dumps(question, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]
