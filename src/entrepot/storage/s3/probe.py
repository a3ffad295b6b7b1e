"""What an endpoint really does: remembered facts, and the full probe behind ``entrepot connection test``.

A sync needs no probe: it starts with the remembered facts, else with the provider's profile, and one
listing of one key (which has to be asked anyway) shows whether bucket, keys, region, list version and clock
are right; the rest is learned from replies (``learn``). The full probe asks for everything; it writes only
below the prefix it was given, one object with a random name, and takes it away again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from entrepot.model.errors import StoreError

from .documents import element
from .errors import error_text, s3_error
from .exchange import Exchange, Reply
from .learn import date_offset, is_v1, learn, observe_listing
from .profiles import move, recognise
from .target import S3Target

FACTS_AGE = 24 * 3600.0
TURNS = 6
BODY = b"entrepot probe"
_CRC32C, _WRONG_CRC32C = "QPP0qA==", "AAAAAA=="
_YES_NO = (True, False)
_PROFILE_FACTS: dict[str, tuple[object, ...]] = {
    "list_v1": _YES_NO,
    "encoding_url": _YES_NO,
    "start_after": _YES_NO,
    "checksum": ("crc64nvme", "crc32c", ""),
    "checksum_checked": (True, False, None),
    "etag_is_md5": (True, False, None),
    "content_md5_required": _YES_NO,
    "batch_delete": _YES_NO,
    "copy": _YES_NO,
    "put_conditional": _YES_NO,
    "payload": ("unsigned", "signed"),
    "double_slash": (True, False, None),
    "ordered": _YES_NO,
}


@dataclass(slots=True, frozen=True)
class Finding:
    """One answer of the full probe. ``good`` False marks what a sync would suffer from."""

    what: str
    result: str
    good: bool = True


class Facts:
    """Remembered facts about a bucket at an endpoint: a small file in the state directory, good for a day."""

    def __init__(self, state_dir: str | None, target: S3Target, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._place = f"{target.profile.provider} {target.endpoint} {target.bucket}"
        name = hashlib.sha256(self._place.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._path = os.path.join(state_dir, "endpoints", f"{name}.json") if state_dir else ""
        self._saved: dict[str, Any] = {}

    def load(self, target: S3Target) -> bool:
        """Correct ``target`` by what is remembered; False when there is nothing fresh."""
        values = self._read()
        if values is None:
            return False
        for name, possible in _PROFILE_FACTS.items():
            if name in values and values[name] in possible:
                setattr(target.profile, name, values[name])
        region = values.get("region")
        if isinstance(region, str) and region and region != target.region:
            move(target, region)
        target.use("virtual" if values.get("style") == "virtual" else "path")
        self._saved = facts_of(target)
        return True

    def save(self, target: S3Target) -> None:
        """Remember what ``target`` knows. A directory that cannot be written is no fault: it is a cache."""
        facts = facts_of(target)
        if not self._path or facts == self._saved:
            return
        self._saved = facts
        temporary = f"{self._path}.{os.getpid()}.new"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump({"version": 1, "place": self._place, "at": self._clock(), "facts": facts}, file)
            os.replace(temporary, self._path)
        except OSError:
            pass

    def forget(self) -> None:
        """Drop what is remembered."""
        self._saved = {}
        try:
            if self._path:
                os.unlink(self._path)
        except OSError:
            pass

    def _read(self) -> dict[str, Any] | None:
        if not self._path:
            return None
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
            fresh = 0 <= self._clock() - float(found["at"]) < FACTS_AGE
            if found["version"] != 1 or found["place"] != self._place or not fresh:
                return None
            facts = found["facts"]
            return facts if isinstance(facts, dict) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def facts_of(target: S3Target) -> dict[str, Any]:
    """What is worth remembering about a target."""
    facts: dict[str, Any] = {name: getattr(target.profile, name) for name in _PROFILE_FACTS}
    return {**facts, "style": target.style, "region": target.region}


def list_one(exchange: Exchange, prefix: bytes, *, after: bytes = b"") -> Reply:
    """Ask for one key, in the list version that the profile names."""
    profile = exchange.target.profile
    query: list[tuple[str, str | bytes]] = [("max-keys", "1"), ("prefix", prefix)]
    if not profile.list_v1:
        query.append(("list-type", "2"))
    if profile.encoding_url:
        query.append(("encoding-type", "url"))
    if after:
        query.append(("marker" if profile.list_v1 else "start-after", after))
    return exchange.send("GET", query=query)


def first_listing(exchange: Exchange, prefix: bytes) -> Reply:
    """List one key, learning on the way; the last reply, good or bad. Usually one request."""
    target = exchange.target
    reply = list_one(exchange, prefix)
    for _ in range(TURNS):
        if reply.status == 200:
            recognise(target.profile, reply.header("server"))
            if not observe_listing(target, reply.body):
                break
        elif not learn(target, "list", reply.status, reply.headers, reply.body):
            break
        reply = list_one(exchange, prefix)
    return reply


def probe(exchange: Exchange, prefix: bytes, *, write: bool) -> Iterator[Finding]:
    """Everything that an endpoint can tell, one finding after the other; the target is corrected on the way.

    Raises StoreError when the bucket cannot even be listed. ``write`` also puts, checks and deletes one
    object.
    """
    target, profile = exchange.target, exchange.target.profile
    reply = first_listing(exchange, prefix)
    if reply.status != 200:
        raise s3_error(reply.status, reply.headers, reply.body, f"bucket {target.bucket}")
    yield Finding("addressing", f"{target.style} ({target.host})")
    yield Finding("region", target.region)
    yield Finding("clock", _clock_text(date_offset(reply.headers)), _clock_good(date_offset(reply.headers)))
    yield _list_version(exchange, prefix)
    yield Finding("listing of odd keys", "URL-encoded" if profile.encoding_url else "as they are")
    yield _start_after(exchange, prefix)
    if write:
        yield from _write(exchange, prefix + b".entrepot-probe-" + secrets.token_hex(8).encode())


def keeps_double_slash(exchange: Exchange, prefix: bytes) -> bool:
    """The one question whether keys with ``//`` stay what they are; the profile is corrected on the way."""
    return _double_slash(exchange, prefix + b".entrepot-probe-" + secrets.token_hex(8).encode()).good


def _list_version(exchange: Exchange, prefix: bytes) -> Finding:
    """Ask for V2 even where the profile says V1: the published rules are careful, not exact."""
    profile = exchange.target.profile
    if profile.list_v1:
        profile.list_v1 = False
        reply = list_one(exchange, prefix)
        profile.list_v1 = reply.status != 200 or is_v1(reply.body)
    return Finding("list version", "ListObjects (V1)" if profile.list_v1 else "ListObjectsV2")


def _start_after(exchange: Exchange, prefix: bytes) -> Finding:
    profile = exchange.target.profile
    first = _first_key(list_one(exchange, prefix).body)
    if not first:
        return Finding("start after a key", "unknown: no object to try it on")
    second = _first_key(list_one(exchange, prefix, after=first).body)
    honoured = second != first
    profile.start_after = honoured and profile.ordered
    return Finding("start after a key", "yes" if honoured else "ignored: listings cannot be split", honoured)


def _write(exchange: Exchange, key: bytes) -> Iterator[Finding]:
    try:
        yield from _checks(exchange, key)
    finally:
        try:
            gone = exchange.send("DELETE", key).status
        except StoreError:
            gone = 0
    name = key.decode("utf-8", "replace")
    yield Finding("delete", "yes" if gone in {200, 204} else f"refused: {name} is left behind", gone in {200, 204})


def _checks(exchange: Exchange, key: bytes) -> Iterator[Finding]:
    target, profile = exchange.target, exchange.target.profile
    reply = _put(exchange, key, {})
    for _ in range(TURNS):
        if reply.status < 300 or not learn(target, "put", reply.status, reply.headers, reply.body):
            break
        reply = _put(exchange, key, {})
    if reply.status >= 300:
        raise s3_error(reply.status, reply.headers, reply.body, f"{target.bucket}: the probe object")
    profile.etag_is_md5 = reply.header("etag").strip('"').lower() == hashlib.md5(BODY).hexdigest()
    yield Finding("write", "yes")
    yield Finding("etag", "MD5 of the bytes" if profile.etag_is_md5 else "not the MD5 of the bytes")
    yield _checksum(exchange, key)
    yield _content_md5(exchange, key)
    yield _conditional(exchange, key)
    ranged = exchange.send("GET", key, headers={"Range": "bytes=2-5"})
    whole = ranged.body == BODY[2:6]
    yield Finding("ranged read", f"{'yes' if whole else 'no'} (HTTP {ranged.status})", whole)
    yield _double_slash(exchange, key)
    yield _order(exchange, key)


def _checksum(exchange: Exchange, key: bytes) -> Finding:
    """A checksum header counts only where a right one is accepted and a wrong one is refused."""
    profile = exchange.target.profile
    accepted = _put(exchange, key, {"x-amz-checksum-crc32c": _CRC32C}).status < 300
    checked = accepted and _put(exchange, key, {"x-amz-checksum-crc32c": _WRONG_CRC32C}).status >= 300
    profile.checksum = "crc32c" if checked else ""
    profile.checksum_checked = checked
    result = "crc32c, checked" if checked else "accepted but not checked: not used" if accepted else "refused"
    return Finding("checksum in flight", result)


def _double_slash(exchange: Exchange, key: bytes) -> Finding:
    """Does a key with ``//`` and ``\\`` come back as sent? It must stand in the listing; reading it proves nothing."""
    profile = exchange.target.profile
    odd = key + b"-a//b\\c"
    if _put(exchange, odd, {}).status >= 300:
        profile.double_slash = False
        return Finding("keys with //", "refused", False)
    try:
        profile.double_slash = _first_key(list_one(exchange, key + b"-").body) == odd
    finally:
        exchange.send("DELETE", odd)
    return Finding("keys with //", "kept" if profile.double_slash else "changed", profile.double_slash)


def _order(exchange: Exchange, key: bytes) -> Finding:
    """Is ``x-y`` listed before ``x/y``, as the bytes say?"""
    profile = exchange.target.profile
    base = key + b"-o"
    try:
        for end in (b"/1", b"-1"):
            _put(exchange, base + end, {})
        profile.ordered = _first_key(list_one(exchange, base).body) == base + b"-1"
    finally:
        for end in (b"/1", b"-1"):
            exchange.send("DELETE", base + end)
    if profile.ordered:
        return Finding("order of listings", "by bytes")
    profile.start_after = False
    return Finding("order of listings", "by directory: read level by level", False)


def _content_md5(exchange: Exchange, key: bytes) -> Finding:
    reply = _put(exchange, key, {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    checked = reply.status >= 400
    return Finding("Content-MD5", "checked" if checked else "not checked")


def _conditional(exchange: Exchange, key: bytes) -> Finding:
    reply = _put(exchange, key, {"If-None-Match": "*"})
    exchange.target.profile.put_conditional = reply.status == 412
    if reply.status == 412:
        return Finding("conditional write", "honoured")
    code, _ = error_text(reply.body)
    return Finding("conditional write", "ignored" if reply.status < 300 else f"refused ({code or reply.status})")


def _put(exchange: Exchange, key: bytes, headers: dict[str, str]) -> Reply:
    return exchange.send("PUT", key, headers={"Content-Type": "text/plain", **headers}, body=BODY)


def _first_key(body: bytes) -> bytes:
    from urllib.parse import unquote_to_bytes

    raw = element(element(body, b"Contents"), b"Key")
    encoded = element(body, b"EncodingType") == b"url"
    return unquote_to_bytes(raw.replace(b"+", b" ")) if encoded else raw


def _clock_text(offset: float | None) -> str:
    if offset is None:
        return "unknown: the endpoint sends no Date"
    return f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} ours" if abs(offset) >= 2 else "equal"


def _clock_good(offset: float | None) -> bool:
    return offset is None or abs(offset) < 300
