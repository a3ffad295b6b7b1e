"""The one door to CRC-32C.

The package's own ``__init__`` looks up its version in the installed metadata, which costs more than all the rest of
our imports here; so its extension module is loaded by itself, and the package only where that is not possible.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import find_spec, module_from_spec

Crc = Callable[..., int]


def _load() -> Crc:
    package = find_spec("crc32c")
    for directory in (package.submodule_search_locations or ()) if package is not None else ():
        for suffix in EXTENSION_SUFFIXES:
            path = os.path.join(directory, "_crc32c" + suffix)
            if os.path.exists(path):
                loader = ExtensionFileLoader("_crc32c", path)
                module = module_from_spec(ModuleSpec("_crc32c", loader, origin=path))
                loader.exec_module(module)
                return module.crc32c  # type: ignore[no-any-return]
    from crc32c import crc32c as whole

    return whole


crc32c = _load()
"""``crc32c(data, value=0) -> int``: folds ``data`` into a running value."""
