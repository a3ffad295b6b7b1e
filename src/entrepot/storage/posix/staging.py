"""Writing files so that a final name is always the old file or the complete new one.

Every file is written under a temporary name in ``<root>/.entrepot-<tag>/`` and renamed when it is complete.
Where the final directory is another mounted file system, the temporary name lies beside the final one.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass, field

from entrepot.model.errors import CorruptError, GuardError, StoreError, UsageError

from .faults import write_error
from .files import allocate as allocate_space
from .files import current_umask, unlink_quietly, write_rest
from .names import STAGING_PREFIX, show
from .root import Root, sync_directory
from .sweep import FOREIGN, remove_staging, sweep

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE_BOTH = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REOPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TAG = re.compile(r"[A-Za-z0-9_-]{1,100}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_PREALLOCATE_FROM = 1 << 20
__all__ = ["Owner", "Staged", "Staging", "remove_staging", "sweep"]

Owner = tuple[int, int]


@dataclass(slots=True)
class Staged:
    """A large file on its way: write to ``fd`` (pwrite), then commit or discard. ``size`` is final."""

    fd: int
    name: str
    size: int
    xattrs: dict[str, bytes] = field(default_factory=dict)
    """Set at commit, between chown and chmod."""


class Staging:
    """The temporary files of one runner process below ``root``; ``tag`` must be its own.

    ``fsync`` makes every file durable (and its directory entry) before a call returns. Nothing is created
    before the first write.
    """

    def __init__(self, root: Root, tag: str, fsync: bool = False) -> None:
        if not _TAG.fullmatch(tag):
            raise UsageError(f"staging tag {tag!r}: only letters, digits, - and _ are allowed")
        self.root = root
        self.tag = tag
        self.fsync = fsync
        root.durable = root.durable or fsync
        self._prefix = STAGING_PREFIX + tag.encode()
        self._fd = -1
        self._count = 0
        self._foreign: set[bytes] = set()
        self.umask = current_umask()
        self.warnings = 0
        """Attributes (owner, mode, extended) that could not be set so far."""

    def write_small(
        self,
        key: bytes,
        data: bytes | bytearray | memoryview,
        mtime_ns: int | None = None,
        mode: int | None = None,
        *,
        owner: Owner | None = None,
        xattrs: dict[str, bytes] | None = None,
    ) -> None:
        """Write the whole file ``key``: it appears complete, or not at all. Missing parents are made.

        ``mode`` None is the process default. Raises NameNotPossibleError, QuotaError, ForbiddenError, …
        """
        parent, leaf = self.root.place_for_write(key)
        home = self._fd if self._fd >= 0 else self._open()
        if self._foreign and key.rpartition(b"/")[0] in self._foreign:
            home = parent
            name = b"%s-%d" % (self._prefix, self._count)
        else:
            name = b"%d" % self._count
        self._count += 1
        try:
            fd = os.open(name, CREATE, 0o666 if mode is None else mode & 0o777, dir_fd=home)
        except OSError as error:
            if not (isinstance(error, FileNotFoundError) and self._swept()):
                raise write_error(error, key) from None
            self.write_small(key, data, mtime_ns, mode, owner=owner, xattrs=xattrs)
            return
        try:
            try:
                done = os.write(fd, data)
                if done != len(data):
                    write_rest(fd, memoryview(data)[done:])
                if owner is not None or xattrs or (mode is not None and mode & (self.umask | ~0o777)):
                    self._set(fd, mode, owner, xattrs)
                if mtime_ns is not None:
                    os.utime(fd, ns=(mtime_ns, mtime_ns))
                if self.fsync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(name, leaf, src_dir_fd=home, dst_dir_fd=parent)
        except OSError as error:
            self._rescue(error, home, name, key)
            return
        if self.fsync:
            sync_directory(parent)

    def begin(self, name: str, size: int, *, allocate: bool = True) -> Staged:
        """A new temporary file ``name`` (unique in this run; an old one is dropped) for ``size`` bytes.

        ``allocate`` reserves the space, so that a full disk shows now and not at the end.
        """
        _check_name(name)
        return self._begin(name, size, allocate)

    def begin_fresh(self, size: int) -> Staged:
        """A new temporary file under a name of its own, not for resuming."""
        return self._begin(self.fresh_name().decode(), size, False)

    def _begin(self, name: str, size: int, allocate: bool) -> Staged:
        home = self._fd if self._fd >= 0 else self._open()
        path = name.encode()
        subject = self._subject(name)
        try:
            unlink_quietly(path, home)
            fd = os.open(path, _CREATE_BOTH, 0o600, dir_fd=home)
        except OSError as error:
            raise write_error(error, subject) from None
        try:
            if allocate and size >= _PREALLOCATE_FROM:
                allocate_space(fd, size)
            elif size:
                os.ftruncate(fd, size)
        except OSError as error:
            os.close(fd)
            unlink_quietly(path, home)
            raise write_error(error, subject) from None
        return Staged(fd, name, size)

    def reopen(self, name: str) -> Staged | None:
        """A temporary file of an earlier run: ``name``, or ``tag/name`` of another. None when it is gone."""
        tag, _, plain = name.rpartition("/")
        _check_name(plain)
        home = self._fd if self._fd >= 0 else self._open()
        path = plain.encode()
        if tag and tag != self.tag:
            self._adopt(tag, path)
        try:
            fd = os.open(path, _REOPEN, dir_fd=home)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise write_error(error, self._subject(plain)) from None
        return Staged(fd, plain, os.fstat(fd).st_size)

    def commit(
        self,
        staged: Staged,
        key: bytes,
        mtime_ns: int | None = None,
        mode: int | None = None,
        *,
        owner: Owner | None = None,
    ) -> None:
        """Give the complete file its final name. On any error it is discarded, and the old file stands."""
        name = staged.name.encode()
        try:
            parent, leaf = self.root.place_for_write(key)
            size = os.fstat(staged.fd).st_size
            if size != staged.size:
                raise CorruptError(f"{show(key)}: {size} bytes were staged, expected {staged.size}", subject=show(key))
            final = mode if mode is not None else 0o666 & ~self.umask
            self._set(staged.fd, final, owner, staged.xattrs)
            if mtime_ns is not None:
                os.utime(staged.fd, ns=(mtime_ns, mtime_ns))
            if self.fsync:
                os.fsync(staged.fd)
            os.close(staged.fd)
            staged.fd = -1
            os.rename(name, leaf, src_dir_fd=self._fd, dst_dir_fd=parent)
        except OSError as error:
            self._rescue(error, self._fd, name, key)
            return
        except StoreError:
            self.discard(staged)
            raise
        finally:
            if staged.fd >= 0:
                os.close(staged.fd)
                staged.fd = -1
        if self.fsync:
            sync_directory(parent)

    def discard(self, staged: Staged) -> None:
        """Drop a temporary file; safe to repeat."""
        if staged.fd >= 0:
            os.close(staged.fd)
            staged.fd = -1
        if self._fd >= 0:
            unlink_quietly(staged.name.encode(), self._fd)

    def suspend(self, staged: Staged) -> None:
        """Close a temporary file and keep it for :meth:`reopen` by a later run."""
        if staged.fd >= 0:
            os.close(staged.fd)
            staged.fd = -1

    def rename_in(self, name: bytes, key: bytes) -> None:
        """Give ``name`` of the staging directory (a link, say) its final name."""
        parent, leaf = self.root.place_for_write(key)
        try:
            os.rename(name, leaf, src_dir_fd=self.fd, dst_dir_fd=parent)
        except OSError as error:
            unlink_quietly(name, self.fd)
            raise write_error(error, key) from None
        unlink_quietly(name, self.fd)  # rename leaves it when both were links to one file
        if self.fsync:
            sync_directory(parent)

    @property
    def plain(self) -> bool:
        """Whether a file is done when it is renamed: no fsync asked for, no other file system met below."""
        return not (self.fsync or self._foreign)

    @property
    def fd(self) -> int:
        """The staging directory, opened."""
        return self._fd if self._fd >= 0 else self._open()

    def fresh_name(self) -> bytes:
        """A name in the staging directory that nobody uses."""
        if self._fd < 0:
            self._open()
        self._count += 1
        return b"~%d" % (self._count - 1)

    def close(self, remove: bool) -> None:
        """Close; ``remove`` drops all temporary files of this tag, else only an empty directory goes."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if remove:
            remove_staging(self.root, self._prefix)
        else:
            try:
                os.rmdir(self._prefix, dir_fd=self.root.fd)
            except OSError:
                pass

    def _set(self, fd: int, mode: int | None, owner: Owner | None, xattrs: dict[str, bytes] | None) -> None:
        """Owner, extended attributes, mode, in this order: each undoes what comes later. Failures only
        count."""
        if owner is not None:
            try:
                os.fchown(fd, owner[0], owner[1])
            except OSError:
                self.warnings += 1
                owner = None
        for name, value in (xattrs or {}).items():
            try:
                os.setxattr(fd, name, value)
            except OSError:
                self.warnings += 1
        if mode is not None:
            # Set-id bits must not pass to another owner than the one they were given by.
            bits = mode & (0o7777 if owner is not None else 0o1777)
            try:
                os.fchmod(fd, bits)
            except OSError:
                self.warnings += 1

    def _open(self) -> int:
        name = self._prefix
        try:
            try:
                os.mkdir(name, 0o700, dir_fd=self.root.fd)
            except FileExistsError:
                pass
            self._fd = os.open(name, _OPEN_DIRECTORY, dir_fd=self.root.fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise GuardError(
                    f"{show(name)} in the destination is a link or file, not our staging directory",
                    hint="remove it and run again",
                ) from None
            raise write_error(error, name) from None
        self._count = max(self._count, _first_free(self._fd))
        return self._fd

    def _swept(self) -> bool:
        """True when somebody removed the staging directory under us; it is made anew at the next use."""
        if os.fstat(self._fd).st_nlink:
            return False
        os.close(self._fd)
        self._fd = -1
        return True

    def _rescue(self, error: OSError, home: int, name: bytes, key: bytes) -> None:
        """After a failed write or rename: another way where there is one, else drop the file and raise."""
        try:
            if error.errno == errno.EXDEV:
                self._move_across(home, name, key)
                return
            if error.errno == errno.ENOENT:
                self.root.forget()
                parent, leaf = self.root.place_for_write(key)
                os.rename(name, leaf, src_dir_fd=home, dst_dir_fd=parent)
                return
        except OSError as second:
            error = second
        finally:
            unlink_quietly(name, home)
        raise write_error(error, key) from None

    def _move_across(self, home: int, name: bytes, key: bytes) -> None:
        """The final directory is another file system: copy beside the final name, and rename there."""
        parent, leaf = self.root.place_for_write(key)
        self._note_foreign(key.rpartition(b"/")[0])
        beside = b"%s-%d" % (self._prefix, self._count)
        self._count += 1
        source = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=home)
        try:
            state = os.fstat(source)
            target = os.open(beside, CREATE, 0o600, dir_fd=parent)
            try:
                while os.sendfile(target, source, None, 1 << 24):
                    pass
                xattrs = {n: os.getxattr(source, n) for n in os.listxattr(source)}
                self._set(target, stat.S_IMODE(state.st_mode), (state.st_uid, state.st_gid), xattrs)
                os.utime(target, ns=(state.st_mtime_ns, state.st_mtime_ns))
                if self.fsync:
                    os.fsync(target)
                os.rename(beside, leaf, src_dir_fd=parent, dst_dir_fd=parent)
            except OSError:
                unlink_quietly(beside, parent)
                raise
            finally:
                os.close(target)
        finally:
            os.close(source)
        if self.fsync:
            sync_directory(parent)

    def _note_foreign(self, parent: bytes) -> None:
        if parent in self._foreign:
            return
        self._foreign.add(parent)
        fd = os.open(FOREIGN, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
        try:
            os.write(fd, parent + b"\0")
        finally:
            os.close(fd)

    def _adopt(self, tag: str, name: bytes) -> None:
        if not _TAG.fullmatch(tag):
            raise UsageError(f"staging tag {tag!r} is not one of ours")
        try:
            other = os.open(STAGING_PREFIX + tag.encode(), _OPEN_DIRECTORY, dir_fd=self.root.fd)
        except OSError:
            return
        try:
            os.rename(name, name, src_dir_fd=other, dst_dir_fd=self._fd)
        except OSError:
            pass
        finally:
            os.close(other)

    def _subject(self, name: str) -> bytes:
        return self._prefix + b"/" + name.encode()


def _first_free(fd: int) -> int:
    """Above all numbers that an earlier process with this tag left."""
    numbers = [name.lstrip("~") for name in os.listdir(fd)]
    return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name.isdigit() or name in (".", "..", FOREIGN.decode()):
        raise UsageError(f"staged name {name!r}: letters, digits, . - _ and not only digits")
