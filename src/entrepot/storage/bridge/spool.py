"""Uploads in parts for backends that only take whole files: parts gather in a local file, which is then sent at once.

One directory per upload: ``data`` (parts at their offsets) and ``parts`` (a line for each part that is safely
there). An upload survives a crash of the process; on another machine it is simply gone and starts anew.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator

from entrepot.model.errors import NotFoundError, QuotaError, StoreError, UnexpectedReplyError
from entrepot.storage.base import Buffer, FileRegion, Part

PART = 16 << 20
"""Every part but the last has this size: the number of a part says where it belongs."""
PIECE = 1 << 20
_ID = re.compile(r"[0-9a-f]{32}\Z")


def spool_directory() -> str:
    """Where uploads gather: ENTREPOT_SPOOL, else a private directory below the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("ENTREPOT_SPOOL") or os.path.join(home, "entrepot", "spool")


class Spool:
    """The gathering uploads of one store; ``place`` tells stores apart."""

    def __init__(self, place: str, directory: str | None = None) -> None:
        self._root = directory or spool_directory()
        self._place = place

    def create(self, key: bytes) -> str:
        """Begin an upload; its id."""
        upload_id = secrets.token_hex(16)
        folder = os.path.join(self._root, upload_id)
        try:
            os.makedirs(folder, mode=0o700)
            with open(os.path.join(folder, "key"), "wb") as out:
                out.write(os.fsencode(self._place) + b"\n" + key)
            for name in ("data", "parts"):
                with open(os.path.join(folder, name), "wb"):
                    pass
        except OSError as fault:
            raise self._full(fault) from None
        return upload_id

    def put(self, upload_id: str, number: int, body: Buffer | FileRegion) -> Part:
        """Store one part. Raises NotFoundError when the upload is gone."""
        folder = self._folder(upload_id)
        offset, size = (number - 1) * PART, 0
        try:
            fd = os.open(os.path.join(folder, "data"), os.O_WRONLY)
            try:
                for piece in pieces_of(body):
                    done = 0
                    while done < len(piece):
                        done += os.pwrite(fd, piece[done:], offset + size + done)
                    size += len(piece)
                os.fdatasync(fd)
            finally:
                os.close(fd)
            with open(os.path.join(folder, "parts"), "a") as out:
                out.write(f"{number} {size}\n")
        except OSError as fault:
            raise self._full(fault) from None
        return Part(number, size, b"%d" % size)

    def parts(self, upload_id: str) -> list[Part]:
        """The parts that are there, in order."""
        found: dict[int, int] = {}
        with open(os.path.join(self._folder(upload_id), "parts")) as lines:
            for line in lines:
                number, _, size = line.strip().partition(" ")
                if line.endswith("\n") and number.isdigit() and size.isdigit():
                    found[int(number)] = int(size)
        return [Part(number, size, b"%d" % size) for number, size in sorted(found.items())]

    def open(self, upload_id: str, parts: list[Part]) -> FileRegion:
        """The whole body, once ``parts`` are all there without a hole. The caller closes ``fd``."""
        have = {part.number: part.size for part in self.parts(upload_id)}
        total = 0
        for place, part in enumerate(parts, 1):
            whole = place == len(parts) or part.size == PART
            if part.number != place or have.get(part.number) != part.size or not whole:
                raise UnexpectedReplyError(
                    f"part {place} of the upload is missing or has another size", hint="run again"
                )
            total += part.size
        return FileRegion(os.open(os.path.join(self._folder(upload_id), "data"), os.O_RDONLY), 0, total)

    def drop(self, upload_id: str) -> None:
        """Forget an upload; one that is gone is fine."""
        if _ID.match(upload_id):
            shutil.rmtree(os.path.join(self._root, upload_id), ignore_errors=True)

    def uploads(self) -> Iterator[tuple[bytes, str, float]]:
        """(key, upload id, Unix time of its begin) of the uploads to this store."""
        try:
            names = sorted(os.listdir(self._root))
        except OSError:
            return
        for name in names:
            path = os.path.join(self._root, name, "key")
            try:
                with open(path, "rb") as held:
                    place, _, key = held.read().partition(b"\n")
                begun = os.stat(path).st_mtime
            except OSError:
                continue
            if _ID.match(name) and place == os.fsencode(self._place):
                yield key, name, min(begun, time.time())

    def _folder(self, upload_id: str) -> str:
        folder = os.path.join(self._root, upload_id)
        if not _ID.match(upload_id) or not os.path.isdir(folder):
            raise NotFoundError("the upload is gone from the spool directory", subject=upload_id)
        return folder

    def _full(self, fault: OSError) -> StoreError:
        return QuotaError(
            f"the spool directory {self._root} cannot take the upload: {fault.strerror}",
            subject=self._root,
            hint="free space there, or name another directory in ENTREPOT_SPOOL",
        )


def pieces_of(body: Buffer | FileRegion) -> Iterator[bytes | memoryview]:
    """``body`` piece by piece."""
    if not isinstance(body, FileRegion):
        view = memoryview(body)
        for start in range(0, len(view), PIECE):
            yield view[start : start + PIECE]
        return
    offset, left = body.offset, body.length
    while left:
        piece = os.pread(body.fd, min(PIECE, left), offset)
        if not piece:
            raise UnexpectedReplyError("a file became shorter while it was sent", hint="run again", retryable=True)
        yield piece
        offset += len(piece)
        left -= len(piece)


def length_of(body: Buffer | FileRegion) -> int:
    """Bytes in ``body``."""
    return body.length if isinstance(body, FileRegion) else len(body)
