"""Secrets at rest: AES-256-GCM under a ring of keys, each text bound to its place.

The key file is JSON of mode 0600: ``{"current": id, "keys": {id: base64}, "created": {id: Unix time}}``. The current
(newest) key seals, every key opens. A sealed text is ``v1.<key id>.<base64url of nonce and ciphertext>``; version,
key id and place are authenticated with it, so that a text that is moved to another row or field does not open.
The older form ``v1:<key id>:<base64>`` of the connection files still opens.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import stat
import threading
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from entrepot.model.errors import InternalError, UsageError
from entrepot.model.secret import Secret

KEY_BYTES = 32
NONCE_BYTES = 12

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)

Random = Callable[[int], bytes]
"""Gives so many random bytes; os.urandom outside of tests."""


class KeyFileError(UsageError):
    """The key file is missing, damaged, or not private."""


class MissingKeyFileError(KeyFileError):
    """There is no key file."""


class LostKeyError(UsageError):
    """A text was sealed with a key that the ring does not hold (any more). ``key_id`` names it."""

    def __init__(self, message: str, *, key_id: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.key_id = key_id


class BrokenSealError(UsageError):
    """A sealed text was changed, cut, or moved from another place."""


@dataclass(slots=True, frozen=True)
class Keyring:
    """Keys by id. ``current`` seals; all open. A value: changing it makes another one."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)
    created: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def new(cls, random: Random, now: float, former: Keyring | None = None) -> Keyring:
        """A ring with a fresh current key, and the keys of ``former``."""
        keys = dict(former.keys) if former else {}
        created = dict(former.created) if former else {}
        key_id = random(4).hex()
        while key_id in keys:
            key_id = random(4).hex()
        keys[key_id] = random(KEY_BYTES)
        created[key_id] = int(now)
        return cls(key_id, MappingProxyType(keys), MappingProxyType(created))

    @classmethod
    def from_json(cls, text: bytes, path: str) -> Keyring:
        """Read a key file's content. Raises KeyFileError, which names ``path``."""
        try:
            found = json.loads(text)
            keys = {key_id: b64decode(key, validate=True) for key_id, key in found["keys"].items()}
            created = {key_id: int(found.get("created", {}).get(key_id, 0)) for key_id in keys}
            good = all(_ID.fullmatch(key_id) and len(key) == KEY_BYTES for key_id, key in keys.items())
            if found["current"] not in keys or not good:
                raise ValueError("not a key ring")
            return cls(found["current"], MappingProxyType(keys), MappingProxyType(created))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise KeyFileError(
                f"{path} is damaged: stored secrets cannot be read",
                hint="restore it from a backup, or remove it and enter the secrets again",
            ) from None

    def to_json(self) -> bytes:
        """The content of a key file."""
        keys = {key_id: b64encode(key).decode() for key_id, key in self.keys.items()}
        return json.dumps({"current": self.current, "keys": keys, "created": dict(self.created)}).encode() + b"\n"

    def only_current(self) -> Keyring:
        """Without the keys that no longer seal: what they sealed is lost unless it was resealed before."""
        key, created = self.keys[self.current], self.created.get(self.current, 0)
        return Keyring(self.current, MappingProxyType({self.current: key}), MappingProxyType({self.current: created}))

    def seal(self, secret: Secret | bytes, place: str, random: Random) -> str:
        """Encrypt ``secret`` for ``place``, such as ``connection/<id>/secret_key``. Never empty, always different."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        plain = secret.reveal().encode() if isinstance(secret, Secret) else secret
        nonce = random(NONCE_BYTES)
        bound = _bound(self.current, place)
        raw = nonce + AESGCM(self.keys[self.current]).encrypt(nonce, plain, bound)
        return f"v1.{self.current}.{urlsafe_b64encode(raw).rstrip(b'=').decode()}"

    def open(self, sealed: str, place: str) -> Secret:
        """Decrypt a text that was sealed for ``place``. Raises LostKeyError or BrokenSealError."""
        try:
            return Secret(self.open_bytes(sealed, place).decode())
        except UnicodeDecodeError:
            raise _broken(place) from None

    def open_bytes(self, sealed: str, place: str) -> bytes:
        """As :meth:`open`, for secrets that are no text."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key_id, raw, bound = _parts(sealed, place)
        if key_id not in self.keys:
            raise LostKeyError(
                f"the secret of {place} was encrypted under the key {key_id}, which is not in the key file",
                key_id=key_id,
                hint="restore the key file from a backup, or enter the secret again",
            )
        try:
            return AESGCM(self.keys[key_id]).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound)
        except (InvalidTag, ValueError):
            raise _broken(place) from None

    def is_stale(self, sealed: str) -> bool:
        """Whether ``sealed`` is not under the current key in the current form: to be resealed."""
        return not sealed.startswith(f"v1.{self.current}.")

    def reseal(self, sealed: str, place: str, random: Random) -> str:
        """``sealed`` under the current key; itself when it is already. Raises as :meth:`open` does."""
        plain = self.open_bytes(sealed, place)
        return self.seal(plain, place, random) if self.is_stale(sealed) else sealed

    def derive(self, purpose: str) -> dict[str, bytes]:
        """A key for signing from each key of the ring, by key id: sign with ``current``'s, accept all.

        Each purpose has its own (HKDF-SHA256), such as ``task-token``, ``webhook``, ``page-token``.
        """
        return {key_id: _hkdf(key, f"entrepot/{purpose}".encode()) for key_id, key in self.keys.items()}


class KeyFile:
    """The ring of a key file, read again when the file was replaced: a rotation needs no restart.

    A replacement that cannot be used leaves the ring as it is. Any number of threads may use it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._mark = _mark(path)
        self._ring = load(path)

    @property
    def ring(self) -> Keyring:
        """The ring as it is now; take it once for several calls that belong together."""
        mark = _mark(self.path)
        if mark != self._mark:
            with contextlib.suppress(KeyFileError):
                self._ring = load(self.path)
            self._mark = mark
        return self._ring


def load(path: str) -> Keyring:
    """The ring of a key file. Raises KeyFileError when it is missing, damaged, or readable by others."""
    try:
        with open(path, "rb") as file:
            state = os.fstat(file.fileno())
            text = file.read(1 << 20)
    except FileNotFoundError:
        raise MissingKeyFileError(
            f"the key file {path} does not exist",
            hint="restore it from a backup: without it stored secrets cannot be read",
        ) from None
    except OSError as fault:
        raise KeyFileError(f"{path} cannot be read: {fault.strerror}", hint="check its owner and mode") from None
    if stat.S_IMODE(state.st_mode) & 0o077:
        raise KeyFileError(
            f"{path} can be read by others (mode {stat.S_IMODE(state.st_mode):04o}): its keys are not used",
            hint=f"chmod 600 {path}, then rotate the key",
        )
    if state.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(
            f"{path} belongs to another user (uid {state.st_uid}): its keys are not used",
            hint=f"chown it to the user that runs the server (uid {os.geteuid()})",
        )
    return Keyring.from_json(text, path)


def load_or_make(path: str, random: Random, now: float) -> Keyring:
    """As :func:`load`; a missing file is made. Of several that make it at once, all get the same ring."""
    if not os.path.lexists(path):
        with contextlib.suppress(FileExistsError):
            write_private(path, Keyring.new(random, now).to_json(), replace=False)
    return load(path)


def rotate(path: str, random: Random, now: float) -> Keyring:
    """Add a key to the file: it seals from now on, the former ones still open. Reseal, then :func:`retire`."""
    with _locked(path):
        ring = Keyring.new(random, now, load(path))
        write_private(path, ring.to_json())
    return ring


def retire(path: str, keep: Callable[[str], bool]) -> Keyring:
    """Take keys out of the file, save the current one and those for which ``keep(key id)`` is true."""
    with _locked(path):
        ring = load(path)
        keys = {k: key for k, key in ring.keys.items() if k == ring.current or keep(k)}
        ring = Keyring(ring.current, keys, {k: ring.created.get(k, 0) for k in keys})
        write_private(path, ring.to_json())
    return ring


def write_private(path: str, data: bytes, *, replace: bool = True) -> None:
    """Write a file of mode 0600 in one step, on disk when this returns.

    Without ``replace`` a file that is there stays: FileExistsError. Raises InternalError when it cannot be written.
    """
    temporary = f"{path}.{os.getpid()}-{threading.get_native_id()}.new"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(fd, 0o600)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        if replace:
            os.rename(temporary, path)
        else:
            os.link(temporary, path)
            os.unlink(temporary)
        _sync_directory(os.path.dirname(path) or ".")
    except FileExistsError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    except OSError as fault:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise InternalError(f"{path} could not be written: {fault.strerror}", hint="check space and mode") from None


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    try:
        fd = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as fault:
        raise KeyFileError(f"{path}.lock: {fault.strerror}", hint="check the directory's owner and mode") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _mark(path: str) -> tuple[int, int]:
    try:
        state = os.stat(path)
    except OSError:
        return (0, 0)
    return (state.st_ino, state.st_mtime_ns)


def _sync_directory(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _parts(sealed: str, place: str) -> tuple[str, bytes, bytes]:
    """(key id, nonce and ciphertext, associated data)."""
    form, mark = sealed[:3], sealed[2:3]
    key_id, _, body = sealed[3:].partition(mark or ".")
    if form not in ("v1.", "v1:") or not _ID.fullmatch(key_id):
        raise _broken(place)
    try:
        if form == "v1:":
            return key_id, b64decode(body, validate=True), place.encode()
        raw = b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise _broken(place) from None
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != body:
        raise _broken(place)  # the last character has bits to spare: only one spelling is ours
    return key_id, raw, _bound(key_id, place)


def _bound(key_id: str, place: str) -> bytes:
    return f"v1.{key_id}.{place}".encode()


def _broken(place: str) -> BrokenSealError:
    return BrokenSealError(
        f"the secret of {place} does not decrypt: it was changed, or moved here from another place",
        hint="enter the secret again, and find out who can write there",
    )


def _hkdf(key: bytes, purpose: bytes) -> bytes:
    # RFC 5869 with one block of output and the salt of zeros.
    extracted = hmac.digest(b"\0" * hashlib.sha256().digest_size, key, "sha256")
    return hmac.digest(extracted, purpose + b"\x01", "sha256")
