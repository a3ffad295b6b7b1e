"""The vendors' own host names lead to loopback, in this process or in a program; any other outside name fails.

So the whole of a host (bucket, region, domain) is what the real service would see, and no test can reach a real one.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from parts.cli import SOURCE

SUFFIXES = (
    "amazonaws.com", "aliyuncs.com", "myqcloud.com", "myhuaweicloud.com", "bcebos.com", "ksyuncs.com", "qiniucs.com",
    "ufileos.com", "core.windows.net", "vendor.example",
)  # fmt: skip
LOCAL = ("localhost", "127.0.0.1", "::1")

PROGRAM = """
from parts.vendors.names import pretend
pretend()
"""
TESTS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def pretend(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """From here on this process finds the vendors at 127.0.0.1."""
    real = socket.getaddrinfo

    def lookup(host: str, *more: object, **named: object) -> object:
        if isinstance(host, str) and host not in LOCAL:
            if not host.endswith(tuple("." + suffix for suffix in SUFFIXES)):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = "127.0.0.1"
        return real(host, *more, **named)  # type: ignore[arg-type]

    if monkeypatch is None:
        socket.getaddrinfo = lookup  # type: ignore[assignment]
    else:
        monkeypatch.setattr(socket, "getaddrinfo", lookup)


def environment(directory: Path) -> dict[str, str]:
    """The environment of a program that finds the vendors at 127.0.0.1; writes its start file to ``directory``."""
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(PROGRAM)
    return {"PYTHONPATH": os.pathsep.join([str(directory), SOURCE, TESTS])}
