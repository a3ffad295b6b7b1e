"""What travels beside the bytes: mtime, content type, metadata and storage class, as the options ask."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from entrepot.model.entry import Info
from entrepot.model.options import SyncOptions
from entrepot.storage.base import Meta

if TYPE_CHECKING:
    from mimetypes import MimeTypes

_BY_SUFFIX: dict[bytes, str] = {}


def content_type(key: bytes) -> str:
    """MIME type by the key's suffix (the table of the standard library, not the machine's); empty if unknown."""
    suffix = key[key.rfind(b".") :] if b"." in key[-12:] else b""
    known = _BY_SUFFIX.get(suffix)
    if known is None:
        known = _table().guess_type("x" + suffix.decode("ascii", "replace"))[0] or "" if suffix else ""
        if len(_BY_SUFFIX) < 10_000:
            _BY_SUFFIX[suffix] = known
    return known


@cache
def _table() -> MimeTypes:
    """Made when the first suffix is asked for: downloads and copies need none."""
    import mimetypes

    return mimetypes.MimeTypes(filenames=())


class MetaRules:
    """The options that decide what is kept, read once."""

    __slots__ = ("_metadata", "_mtime", "_storage", "_storage_class")

    def __init__(self, options: SyncOptions) -> None:
        self._mtime = "mtime" in options.preserve
        self._metadata = "metadata" in options.preserve
        self._storage = "storage_class" in options.preserve
        self._storage_class = options.storage_class

    def of_file(self, key: bytes, mtime_ns: int) -> Meta | None:
        """For a file that becomes an object."""
        kind = content_type(key) if self._metadata else ""
        if not (self._mtime or kind or self._storage_class):
            return None
        return Meta(mtime_ns if self._mtime else None, kind, self._storage_class)

    def of_object(self, info: Info) -> Meta | None:
        """For an object that passes through us to another store."""
        storage_class = self._storage_class or (info.storage_class if self._storage else "")
        if not self._metadata:
            mtime = info.source_mtime_ns or info.mtime_ns
            return Meta(mtime if self._mtime else None, "", storage_class)
        mtime = info.source_mtime_ns if info.source_mtime_ns is not None else info.mtime_ns
        return Meta(
            mtime if self._mtime else None,
            info.content_type,
            storage_class,
            dict(info.metadata),
            dict(info.headers),
        )

    @property
    def keeps_all(self) -> bool:
        """True when a server-side copy may simply keep the source's metadata."""
        return self._metadata and not self._storage_class
