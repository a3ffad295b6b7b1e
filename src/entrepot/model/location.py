"""Locations: the places that data moves between, parsed and printed without loss.

Forms: ``s3://bucket/prefix`` (also oss, cos, obs, bos, ks3, qiniu, ufile, aoss, minio), ``az://container/prefix``,
``wasb://container@account/prefix``, ``file:///path``, a plain path, ``NAME:bucket/prefix`` of a stored
connection, ``volume://name/path`` on a server, and the long tail ``gs://``, ``webdav://``, ``webdavs://``,
``sftp://``, ``hdfs://``.
A trailing slash never changes the meaning.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from .errors import UsageError

S3_SCHEMES = frozenset({"s3", "aoss", "oss", "cos", "obs", "bos", "ks3", "qiniu", "ufile", "minio"})
AZURE_SCHEMES = frozenset({"az", "azure", "wasb", "wasbs", "abfs", "abfss"})
BRIDGE_SCHEMES = frozenset({"gs", "gcs", "webdav", "webdavs", "sftp", "hdfs"})
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://(.*)$", re.DOTALL)
VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_CONNECTION = re.compile(r"^([A-Za-z][A-Za-z0-9_-]{0,62}):(?!//)(.*)$", re.DOTALL)


@dataclass(slots=True, frozen=True)
class Location:
    """One parsed place.

    ``scheme`` is ``file`` for paths and ``connection`` for ``NAME:…``; ``bucket`` is the bucket, container or
    host; ``prefix`` is opaque bytes: for object stores without leading slash and, when not empty, ending in one
    ``/``; for files the absolute path.
    """

    scheme: str
    bucket: str
    prefix: bytes
    connection: str = ""
    account: str = ""
    shown: str = ""
    """How a directory of a volume is named in messages, instead of by its path."""

    @property
    def is_file(self) -> bool:
        """True for a place in the local file system."""
        return self.scheme == "file"

    def __str__(self) -> str:
        if self.shown:
            return self.shown
        tail = os.fsdecode(self.prefix)
        if self.is_file:
            return tail
        if self.scheme == "connection":
            return f"{self.connection}:{self.bucket}/{tail}"
        return f"{self.scheme}://{self.bucket}/{tail}"


def parse_location(text: str, *, directory: bool = True) -> Location:
    """Parse what a person typed.

    ``directory`` False keeps an object prefix as it stands (for ``cp`` of one object).
    Raises UsageError for an empty text, an unknown scheme, or a missing bucket.
    """
    if not text:
        raise UsageError("empty location", hint="give a path, s3://bucket/prefix, or NAME:bucket/prefix")
    if "\0" in text:
        raise UsageError("location contains a NUL character")
    found = _SCHEME.match(text)
    if found:
        return _with_scheme(text, found.group(1).lower(), found.group(2), directory)
    named = _CONNECTION.match(text)
    if named and not os.path.lexists(text):
        bucket, _, rest = named.group(2).partition("/")
        return Location("connection", bucket, _prefix(rest, directory), connection=named.group(1))
    return Location("file", "", os.fsencode(os.path.abspath(os.path.expanduser(text))))


def _with_scheme(text: str, scheme: str, rest: str, directory: bool) -> Location:
    if scheme == "file":
        if rest and not rest.startswith("/"):
            raise UsageError(f"{text}: file:// needs an absolute path", hint="write file:///path")
        return Location("file", "", os.fsencode(os.path.normpath(rest or "/")))
    if scheme == "volume":
        return _volume(text, rest)
    if scheme not in S3_SCHEMES | AZURE_SCHEMES | BRIDGE_SCHEMES:
        known = ", ".join(sorted(S3_SCHEMES | AZURE_SCHEMES | BRIDGE_SCHEMES | {"file", "volume"}))
        raise UsageError(f"{text}: unknown scheme {scheme}://", hint=f"known schemes: {known}")
    bucket, _, tail = rest.partition("/")
    account = ""
    if scheme in AZURE_SCHEMES and "@" in bucket:
        bucket, _, account = bucket.partition("@")
    if not bucket and scheme not in {"hdfs"}:
        raise UsageError(f"{text}: no bucket named", hint=f"write {scheme}://BUCKET/prefix")
    return Location(scheme, bucket, _prefix(tail, directory), account=account)


def _volume(text: str, rest: str) -> Location:
    name, _, tail = rest.partition("/")
    if not VOLUME_NAME.fullmatch(name):
        raise UsageError(f"{text}: no volume can be named {name!r}", hint="write volume://NAME/path")
    segments = [segment for segment in tail.split("/") if segment]
    if any(segment in {".", ".."} for segment in segments):
        raise UsageError(f"{text}: a path in a volume has no . or .. in it", hint="name the directory itself")
    return Location("volume", name, _prefix("/".join(segments), True))


def _prefix(text: str, directory: bool) -> bytes:
    raw = os.fsencode(text)
    if directory and raw and not raw.endswith(b"/"):
        raw += b"/"
    return raw
