"""Trees to work on, and a way to work as somebody who may not read everything."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

NOBODY = 65534


def fill(root: bytes, files: dict[bytes, bytes]) -> None:
    """Write files below ``root``; a key ending in ``/`` makes a directory."""
    for key, data in files.items():
        path = os.path.join(root, key)
        if key.endswith(b"/"):
            os.makedirs(path, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def files_of(root: bytes) -> dict[bytes, bytes]:
    """Every regular file below ``root`` and its bytes, by an independent walk."""
    found = {}
    for where, _, names in os.walk(root):
        for name in names:
            path = os.path.join(where, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, root)] = file.read()
    return found


@contextmanager
def open_directory() -> Iterator[bytes]:
    """A temporary directory that everybody may enter."""
    path = tempfile.mkdtemp(prefix="posix-")
    os.chmod(path, 0o777)
    try:
        yield os.fsencode(path)
    finally:
        for where, directories, _ in os.walk(path):
            for name in directories:
                os.chmod(os.path.join(where, name), 0o700, follow_symlinks=True)
        shutil.rmtree(path, ignore_errors=True)


def as_nobody(work: Callable[[], Any]) -> Any:
    """The result of ``work`` in a child process without privileges; its exception is raised here."""
    if os.geteuid() != 0:
        return work()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            answer = (True, work())
        except BaseException as error:
            answer = (False, error)
        with os.fdopen(writer, "wb") as pipe:
            try:
                pipe.write(pickle.dumps(answer))
            except Exception as error:
                pipe.write(pickle.dumps((False, RuntimeError(f"{answer!r}: {error!r}"))))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        good, value = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if not good:
        raise value
    return value
