"""Hard links across a copy: names of one source file become names of one destination file.

The first copy of a file with several names gets an anchor, a hard link of its own in
``.entrepot-<tag>-links`` below the destination root, named by the source's device, inode, mtime and size.
Later names link to the anchor: also from other processes with the same tag, and when a broken-off run is
resumed. Nothing is held in memory.
"""

from __future__ import annotations

import os

from .names import STAGING_PREFIX
from .staging import Staging
from .sweep import remove_staging

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Links:
    """The anchors below the destination of ``staging``. ``tag`` names the task: all its runners share it."""

    def __init__(self, staging: Staging, tag: str) -> None:
        self._staging = staging
        self._name = STAGING_PREFIX + tag.encode() + b"-links"
        self._fd = -1

    def link(self, key: bytes, state: os.stat_result) -> bool:
        """Make ``key`` a further name of a file copied before. False when there is none, or links fail."""
        staged = self._staging.fresh_name()
        home = self._staging.fd
        try:
            os.link(_anchor(state), staged, src_dir_fd=self._directory(), dst_dir_fd=home, follow_symlinks=False)
        except OSError:
            return False
        self._staging.rename_in(staged, key)
        return True

    def remember(self, key: bytes, state: os.stat_result) -> None:
        """``key`` was copied from a file with several names: keep it for the others."""
        root = self._staging.root
        parent, name = root.place_for_write(key)
        try:
            os.link(name, _anchor(state), src_dir_fd=parent, dst_dir_fd=self._directory(), follow_symlinks=False)
        except FileExistsError:
            self.link(key, state)  # another process was first: join it
        except OSError:
            pass

    def close(self, remove: bool) -> None:
        """Close; ``remove`` (when the task is done) drops the anchors."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if remove:
            remove_staging(self._staging.root, self._name)

    def _directory(self) -> int:
        if self._fd < 0:
            root = self._staging.root.fd
            try:
                os.mkdir(self._name, 0o700, dir_fd=root)
            except FileExistsError:
                pass
            self._fd = os.open(self._name, _DIRECTORY, dir_fd=root)
        return self._fd


def _anchor(state: os.stat_result) -> bytes:
    return b"%x.%x.%x.%x" % (state.st_dev, state.st_ino, state.st_mtime_ns & (1 << 64) - 1, state.st_size)
