"""Signed manifests: what ``verify`` found of every entry, in a file that anyone can check later.

JSON lines: a head, one line an entry in key order, and a tail with the totals, the SHA-256 of all bytes before it, and
an Ed25519 signature of that digest. The key pair is made at first use in the state directory; its public half stands
in the tail, so that a reader can compare it with the one he trusts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import Any

from entrepot.model.errors import UsageError
from entrepot.transfer.report import join

from .report import record, segments_directory

FORMAT = "entrepot-manifest-1"


def write_manifest(state_dir: str, task_id: str, path: str, about: dict[str, Any]) -> int:
    """Write and sign the manifest of a verify task; how many entries it has. ``about`` goes into head and tail."""
    digest = hashlib.sha256()
    count = 0
    counts: dict[str, int] = {}
    partial = f"{path}.partial"
    with open(partial, "wb") as file:

        def put(value: dict[str, Any]) -> None:
            raw = json.dumps(value, ensure_ascii=False, sort_keys=True).encode() + b"\n"
            digest.update(raw)
            file.write(raw)

        put({"format": FORMAT, "task_id": task_id, **about})
        for outcome in join(segments_directory(state_dir, task_id)):
            put(record(outcome))
            counts[outcome[1]] = counts.get(outcome[1], 0) + 1
            count += 1
        file.write(json.dumps(_tail(state_dir, digest.digest(), count, counts), sort_keys=True).encode() + b"\n")
    os.replace(partial, path)
    return count


def check_manifest(path: str) -> dict[str, Any]:
    """The tail of a manifest whose digest and signature hold. Raises UsageError otherwise."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    digest = hashlib.sha256()
    previous = b""
    with open(path, "rb") as file:
        for line in file:
            digest.update(previous)
            previous = line
    try:
        tail: dict[str, Any] = json.loads(previous)
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(tail["public_key"]))
        key.verify(base64.b64decode(tail["signature"]), digest.digest())
    except (ValueError, KeyError, TypeError, InvalidSignature):
        raise UsageError(f"{path}: not a manifest, or it was altered after it was signed") from None
    if tail["sha256"] != digest.hexdigest():
        raise UsageError(f"{path}: the digest in its tail is not that of its lines")
    return tail


def _tail(state_dir: str, digest: bytes, count: int, counts: dict[str, int]) -> dict[str, Any]:
    from cryptography.hazmat.primitives import serialization

    key = _signing_key(state_dir)
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {
        "entries": count,
        "outcomes": counts,
        "sha256": digest.hex(),
        "public_key": base64.b64encode(public).decode(),
        "signature": base64.b64encode(key.sign(digest)).decode(),
    }


def _signing_key(state_dir: str) -> Any:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = os.path.join(state_dir, "manifest.key")
    try:
        with open(path, "rb") as file:
            return Ed25519PrivateKey.from_private_bytes(file.read())
    except FileNotFoundError:
        key = Ed25519PrivateKey.generate()
        raw = key.private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(raw)
        return key
