"""A place in a volume: a directory beneath a root that an operator opened, reached without following any link.

The directory is held by a descriptor and handed on under the name that the kernel gives to descriptors: whoever moves
it or puts a link in its way cannot have anything else opened instead.
"""

from __future__ import annotations

import os

from entrepot.model.errors import PlaceError
from entrepot.model.location import Location

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def inside(location: Location, root: str, *, create: bool = False) -> Location:
    """The location of ``volume://…`` as a directory of this process; shown as it was written.

    A directory that is missing is made with ``create``, else it stays missing. Raises PlaceError.
    """
    name = str(location)
    try:
        fd = os.open(root, _ROOT)
    except OSError as error:
        raise PlaceError(
            f"{name}: the volume {location.bucket} cannot be opened ({error.strerror})",
            hint="tell the operator of the server",
        ) from None
    segments = [segment for segment in location.prefix.split(b"/") if segment]
    for at, segment in enumerate(segments):
        above = fd
        try:
            fd = _step(above, segment, create)
        except FileNotFoundError:
            missing = b"/".join([f"/proc/self/fd/{above}".encode(), *segments[at:]])
            return Location("file", "", missing, shown=name)
        except OSError as error:
            os.close(above)
            raise _explained(name, segment, error) from None
        os.close(above)
    return Location("file", "", f"/proc/self/fd/{fd}".encode(), shown=name)


def _step(above: int, name: bytes, create: bool) -> int:
    try:
        return os.open(name, _STEP, dir_fd=above)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(name, dir_fd=above)
    except FileExistsError:
        pass
    return os.open(name, _STEP, dir_fd=above)


def _explained(name: str, segment: bytes, error: OSError) -> PlaceError:
    part = os.fsdecode(segment)
    if isinstance(error, NotADirectoryError):
        return PlaceError(
            f"{name}: {part} is not a directory (or a symbolic link to one)",
            hint="links in a volume are not followed; name the directory itself",
        )
    if isinstance(error, PermissionError):
        return PlaceError(f"{name}: no permission to enter {part}", hint="check its owner and mode")
    return PlaceError(f"{name}: {part} cannot be opened ({error.strerror})")
