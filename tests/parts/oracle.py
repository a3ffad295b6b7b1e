"""rclone as an independent witness: does a directory hold what a bucket holds?

It compares bytes (``check --download``), so it needs no common checksum. Known limits: it merges ``//`` in keys
and cannot see keys that end in ``/``; compare those with the server's own dump instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from typing import Any, Protocol

from parts.program import need_program


class Server(Protocol):
    """An S3 server as rclone must know it."""

    @property
    def endpoint(self) -> str: ...

    def env(self) -> dict[str, str]: ...


@dataclass
class Verdict:
    """What ``rclone check`` found; paths as rclone prints them."""

    equal: bool
    missing_on_source: list[str] = field(default_factory=list)
    missing_on_destination: list[str] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    text: str = ""


def _rclone(server: Server | None, arguments: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    rclone = need_program("rclone", "install the development dependencies (scripts/test does)")
    env = {"PATH": os.environ.get("PATH", ""), "RCLONE_CONFIG_S3_TYPE": "s3"}
    if server is not None:
        known = server.env()
        env |= {
            "RCLONE_CONFIG_S3_PROVIDER": getattr(server, "provider", "Other"),
            "RCLONE_CONFIG_S3_ENDPOINT": server.endpoint,
            "RCLONE_CONFIG_S3_REGION": known["AWS_REGION"],
            "RCLONE_CONFIG_S3_ACCESS_KEY_ID": known["AWS_ACCESS_KEY_ID"],
            "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": known["AWS_SECRET_ACCESS_KEY"],
            "RCLONE_CONFIG_S3_FORCE_PATH_STYLE": "true",
        }
        if "AWS_CA_BUNDLE" in known:
            env["RCLONE_CA_CERT"] = known["AWS_CA_BUNDLE"]
    with tempfile.TemporaryDirectory(prefix="oracle-") as home:
        env["HOME"] = home
        settings = os.path.join(home, "rclone.conf")
        with open(settings, "w"):
            pass
        command = [rclone, "--config", settings, *arguments]
        return subprocess.run(
            command,
            env=env,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=seconds,
            check=False,
        )


def place(text: str) -> str:
    """``s3://bucket/prefix`` in rclone's spelling; a path stays."""
    return "s3:" + text[5:] if text.startswith("s3://") else text


def check(server: Server | None, source: str, destination: str, *, seconds: float = 120.0) -> Verdict:
    """Compare two places byte by byte, both ways."""
    arguments = ["check", "--download", "--combined", "-", place(source), place(destination)]
    done = _rclone(server, arguments, seconds)
    verdict = Verdict(done.returncode == 0, text=done.stdout + done.stderr)
    lists = {
        "+": verdict.missing_on_destination,
        "-": verdict.missing_on_source,
        "*": verdict.differ,
        "!": verdict.errors,
    }
    for line in done.stdout.splitlines():
        if line[:1] in lists and line[1:2] == " ":
            lists[line[0]].append(line[2:])
    return verdict


def assert_same(server: Server | None, source: str, destination: str) -> None:
    """Fail with rclone's words when two places differ."""
    verdict = check(server, source, destination)
    assert verdict.equal, verdict.text


def listing(server: Server | None, where: str, *, hashes: bool = False) -> list[dict[str, Any]]:
    """``rclone lsjson -R`` of a place: Path, Size, ModTime, … of every file."""
    arguments = ["lsjson", "-R", "--files-only", *(["--hash"] if hashes else []), place(where)]
    done = _rclone(server, arguments, 120.0)
    if done.returncode:
        raise RuntimeError(f"rclone lsjson {where}: {done.stderr[-1000:]}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
