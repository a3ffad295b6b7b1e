"""Starts the program on a prepared machine: short pauses, no root's rights, system calls that fail, folding names.

``python -m parts.starter WORDS…`` is ``entrepot WORDS…`` with the settings in ENTREPOT_TEST_MACHINE (JSON):

- retries wait milliseconds, always; ``"stall": SECONDS`` shortens the time after which a silent request is cut;
- ``"ordinary": true``: root's right to pass over file modes is given up (nothing to do for other users);
- ``"errors": [{"call": "scandir", "name": REGEX, "errno": "ESTALE", "while": FLAG}]``: the call fails for paths whose
  full name matches, as long as the file FLAG exists (no FLAG: always); the call ``create`` is an open that creates;
- ``"kill": {"call": "rename", "nth": 3, "after": false}``: SIGKILL to the whole program around the n-th such call;
- ``"record": FILE``: one line for every fsync, rename and utime;
- ``"folds": DIRECTORY``: names below it are those of a file system that ignores case and composes (NFC).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import signal
import unicodedata
from collections.abc import Callable
from typing import Any

VARIABLE = "ENTREPOT_TEST_MACHINE"


def main() -> None:
    """Prepare, then be the program."""
    settings = json.loads(os.environ.get(VARIABLE, "{}"))
    if settings.get("ordinary") and os.geteuid() == 0:
        _give_up_rights()
    _shorten_pauses(settings.get("stall", 30.0))
    if folds := settings.get("folds"):
        _Folding(os.path.realpath(folds)).install()
    for fault in settings.get("errors", ()):
        _fail(fault)
    if kill := settings.get("kill"):
        _kill_at(kill)
    if record := settings.get("record"):
        _record(record)
    from entrepot.__main__ import main as program

    program()


def _shorten_pauses(stall: float) -> None:
    from entrepot.storage.s3 import store
    from entrepot.storage.wire.options import LaneOptions

    names = LaneOptions.__init__.__code__.co_varnames[1 : len(LaneOptions.__init__.__defaults__ or ()) + 1]
    short = {
        "backoff": 0.005,
        "backoff_max": 0.02,
        "retry_seconds": 2.0,
        "throttle_seconds": 2.0,
        "stall_timeout": stall,
    }
    old = LaneOptions.__init__.__defaults__ or ()
    LaneOptions.__init__.__defaults__ = tuple(short.get(n, v) for n, v in zip(names, old, strict=True))
    store.PAUSES = tuple(0.005 for _ in store.PAUSES)


# ---- rights ----------------------------------------------------------------------------------------------------------


def _give_up_rights() -> None:
    """Drop CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER: then modes mean something to root, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for at in (0, 1):
        sets[at] &= ~0b1110
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


# ---- failing, dying, telling -----------------------------------------------------------------------------------------


def _full_name(arguments: tuple[Any, ...], options: dict[str, Any]) -> str:
    """The path a call means, from its first argument and ``dir_fd``."""
    first = arguments[0] if arguments else "."
    base = options.get("dst_dir_fd", options.get("dir_fd", options.get("src_dir_fd")))
    if isinstance(first, int):
        return _name_of(first)
    last = arguments[1] if len(arguments) > 1 and isinstance(arguments[1], str | bytes) else first
    text = os.fsdecode(last)
    return text if base is None or text.startswith("/") else f"{_name_of(base)}/{text}"


def _name_of(fd: int) -> str:
    try:
        return os.fsdecode(_readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        return "?"


_readlink = os.readlink


def _fail(fault: dict[str, str]) -> None:
    creates = fault["call"] == "create"
    name, call = re.compile(fault["name"]), "open" if creates else fault["call"]
    number, flag = getattr(errno, fault["errno"]), fault.get("while", "")
    real: Callable[..., Any] = getattr(os, call)
    exists = os.path.exists

    def failing(*arguments: Any, **options: Any) -> Any:
        meant = not creates or arguments[1] & os.O_CREAT
        if meant and name.search(_full_name(arguments, options)) and (not flag or exists(flag)):
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    setattr(os, call, failing)


def _kill_at(kill: dict[str, Any]) -> None:
    real: Callable[..., Any] = getattr(os, kill["call"])
    seen = 0

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == kill["nth"] and not kill.get("after"):
            os.killpg(0, signal.SIGKILL)
        result = real(*arguments, **options)
        if seen == kill["nth"]:
            os.killpg(0, signal.SIGKILL)
        return result

    setattr(os, kill["call"], deadly)


def _record(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    write = os.write

    def telling(call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def told(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            write(log, f"{call} {_full_name(arguments, options)}\n".encode("utf-8", "surrogateescape"))
            return result

        return told

    for call in ("fsync", "rename", "utime", "fchmod", "fchown", "setxattr", "mkdir"):
        setattr(os, call, telling(call, getattr(os, call)))


# ---- a file system that folds names ----------------------------------------------------------------------------------


class _Folding:
    """Lets every call below a directory find an existing entry whose name differs in case or composition only."""

    calls = ("open", "stat", "lstat", "mkdir", "rmdir", "unlink", "rename", "link", "readlink", "symlink", "utime")

    def __init__(self, root: str) -> None:
        self.root = root
        self.listdir = os.listdir
        self.real_open = os.open

    def install(self) -> None:
        for call in self.calls:
            setattr(os, call, self._folded(getattr(os, call)))

    def _folded(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            changed = list(arguments)
            if real is self.real_open and arguments[1] & os.O_CREAT and not arguments[1] & os.O_EXCL:
                return real(*arguments, **options)
            base = options.get("dir_fd", options.get("src_dir_fd"))
            if arguments and base is not None:
                changed[0] = self._found(base, arguments[0])
            if len(arguments) > 1 and options.get("dst_dir_fd") is not None:
                changed[1] = self._found(options["dst_dir_fd"], arguments[1])
            return real(*changed, **options)

        return call

    def _found(self, base: int, name: Any) -> Any:
        if not isinstance(name, str | bytes) or name in (b".", b"..", ".", ".."):
            return name
        where = _name_of(base)
        if where != self.root and not where.startswith(self.root + "/"):
            return name
        parts = os.fsdecode(name).split("/")
        for at, part in enumerate(parts):
            try:
                there = self.listdir("/".join([where, *parts[:at]]))
            except OSError:
                break
            if part not in there:
                parts[at] = next((other for other in sorted(there) if _fold(other) == _fold(part)), part)
        return os.fsencode("/".join(parts)) if isinstance(name, bytes) else "/".join(parts)


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


if __name__ == "__main__":
    main()
