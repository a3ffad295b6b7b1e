"""Filters: rsync-style include and exclude rules, compiled once, and applied page-wise.

A rule is ``+ pattern`` (include) or ``- pattern`` (exclude); the first rule that matches decides; no match
includes. Patterns follow rsync(1) "FILTER RULES": a leading ``/`` anchors at the root of the transfer; a trailing
``/`` matches directories only (and so everything below); ``*`` matches within one name, ``**`` across names, ``?``
one character that is not ``/``, ``[…]`` a class; a pattern with a ``/`` inside matches the end of the whole path, one
without matches any single name. As in rsync, an excluded directory hides all below it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from entrepot.model.entry import Row
from entrepot.model.errors import UsageError


@dataclass(slots=True, frozen=True)
class _Rule:
    include: bool
    name: re.Pattern[bytes]
    directory_only: bool


class Filter:
    """Compiled rules. ``Filter(())`` passes everything and is falsy."""

    def __init__(self, rules: Sequence[str]) -> None:
        self._rules = [_compile(text) for text in rules]
        self._directories: dict[bytes, bool] = {b"": True}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def allows(self, key: bytes) -> bool:
        """True when ``key`` takes part."""
        directory, _, name = key.rpartition(b"/")
        if not name and directory:
            return self._allows_directory(directory)
        return self._allows_directory(directory) and self._decide(key, False)

    def rows(self, rows: list[Row]) -> list[Row]:
        """The rows that take part, in order."""
        return [row for row in rows if self.allows(row[0])]

    def prunes(self, directory: bytes) -> bool:
        """True when nothing below ``directory`` (key without trailing slash) can take part."""
        return not self._allows_directory(directory)

    def _allows_directory(self, path: bytes) -> bool:
        known = self._directories.get(path)
        if known is None:
            parent = path.rpartition(b"/")[0]
            known = self._allows_directory(parent) and self._decide(path, True)
            if len(self._directories) > 50_000:
                self._directories = {b"": True}
            self._directories[path] = known
        return known

    def _decide(self, path: bytes, directory: bool) -> bool:
        for rule in self._rules:
            if rule.directory_only and not directory:
                continue
            if rule.name.search(path):
                return rule.include
        return True


def _compile(text: str) -> _Rule:
    sign, _, pattern = text.partition(" ")
    if sign not in ("+", "-") or not pattern.strip("/"):
        raise UsageError(f"filter {text!r} is no rule", hint="write '+ PATTERN' or '- PATTERN'")
    directory_only = pattern.endswith("/")
    body = pattern.rstrip("/")
    anchored = body.startswith("/")
    body = body.lstrip("/")
    try:
        expression = _translate(body)
        head = b"^" if anchored else b"(?:^|/)"
        return _Rule(sign == "+", re.compile(head + expression + b"$", re.DOTALL), directory_only)
    except re.error as error:
        raise UsageError(f"filter {text!r}: {error}") from None


def _translate(pattern: str) -> bytes:
    """Glob to regular expression; bytes in, so that any name can match."""
    out: list[bytes] = []
    raw = pattern.encode("utf-8", "surrogateescape")
    at = 0
    while at < len(raw):
        char = raw[at : at + 1]
        if raw.startswith(b"**", at):
            at += 2
            out.append(b".*")
            continue
        if char == b"*":
            out.append(b"[^/]*")
        elif char == b"?":
            out.append(b"[^/]")
        elif char == b"[" and (end := raw.find(b"]", at + 2)) > 0:
            inner = raw[at + 1 : end].replace(b"\\", b"\\\\")
            out.append(b"[" + (b"^" + inner[1:] if inner[:1] == b"!" else inner) + b"]")
            at = end
        elif char == b"\\" and at + 1 < len(raw):
            at += 1
            out.append(re.escape(raw[at : at + 1]))
        else:
            out.append(re.escape(char))
        at += 1
    return b"".join(out)
