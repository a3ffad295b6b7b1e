"""Text without secrets: what goes to logs, errors and the audit passes here when its origin is not ours.

Secrets of our own have a type that does not print (``model.secret``). This is the net below it: for messages of
libraries and servers, tracebacks, and requests as they came in.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from entrepot.model.secret import Secret

MASK = "***"
PLANTED_MIN = 6
"""Shorter secrets are not searched for: they would mask half of every text."""

_NAMES = (
    r"authorization|proxy-authorization|x-auth-token|x-amz-security-token|x-goog-signature|x-amz-signature|"
    r"x-amz-credential|x-oss-signature|cookie|set-cookie|idempotency-key|signature|sig|sas|"
    r"(?:[a-z0-9]+[_-])*(?:secret|password|passwd|passphrase|token|credential|credentials)|"
    r"(?:[a-z0-9]+[_-])*(?:secret|private|account|api|signing)[_-]?(?:access[_-]?)?key|(?:secret)?accesskey|sk"
)
_SECRET_NAME = re.compile(rf"(?:{_NAMES})", re.I | re.A)
_OWN = re.compile(r"\b(ent_[0-9A-Za-z]{12}_)[0-9A-Za-z]{43}|\b(entt_)[\w.-]+", re.A)
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*", re.A)
_SCHEME = re.compile(r"\b(Bearer|Basic|hmac|AWS4-HMAC-SHA256|OSS|COS|SharedKey|Digest)(\s+)(?=[^\s,;])[^\r\n]*", re.A)
_URL = re.compile(r"(://)[^\s/?#@\"'<>]*@")
_PEM = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)
_PAIR = re.compile(
    rf"""(?<![\w-])({_NAMES})(\\?["']?\s*[:=]\s*)(?:\\?"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^\s,;&"'}})\]]+)""",
    re.I | re.A,
)
_HEADER = re.compile(
    r"(?im)^([ \t]*(?:authorization|proxy-authorization|cookie|set-cookie|x-auth-token)[ \t]*:[ \t]*)[^\r\n]+"
)


class Redactor:
    """Masks planted secrets and everything that looks like one. Any number of threads may use it."""

    def __init__(self, secrets: Sequence[Secret] = ()) -> None:
        self._planted: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()
        for secret in secrets:
            self.plant(secret)

    def plant(self, secret: Secret) -> None:
        """From now on this secret is masked wherever it stands, in its usual encodings too."""
        text = secret.reveal()
        if len(text) < PLANTED_MIN:
            return
        with self._lock:
            self._planted |= _encodings(text)
            longest_first = sorted(self._planted, key=len, reverse=True)
            self._pattern = re.compile("|".join(re.escape(one) for one in longest_first))

    def __call__(self, text: str) -> str:
        """``text`` with every secret masked."""
        pattern = self._pattern
        if pattern is not None:
            text = pattern.sub(MASK, text)
        return redact(text)


class RedactingFormatter(logging.Formatter):
    """Formats by another formatter and masks the outcome, traceback and all."""

    def __init__(self, inner: logging.Formatter, redactor: Redactor) -> None:
        super().__init__()
        self._inner = inner
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """The line for ``record``."""
        return self._redactor(self._inner.format(record))


def redact(text: str) -> str:
    """``text`` with everything masked that looks like a secret: tokens, headers, URL credentials, signatures."""
    text = _PEM.sub(rf"\1{MASK}", text)
    text = _OWN.sub(lambda m: f"{m[1] or m[2]}{MASK}", text)
    text = _JWT.sub(MASK, text)
    text = _HEADER.sub(rf"\1{MASK}", text)
    text = _PAIR.sub(rf"\1\2{MASK}", text)
    text = _SCHEME.sub(_after_scheme, text)
    return _URL.sub(rf"\1{MASK}@", text)


def redact_fields(value: Any, depth: int = 12) -> Any:
    """A copy of JSON-like ``value`` with secret-looking fields masked, and the texts of all others redacted."""
    if depth <= 0:
        return MASK
    if isinstance(value, Mapping):
        return {
            str(name): _masked(one) if is_secret_name(str(name)) else redact_fields(one, depth - 1)
            for name, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact_fields(one, depth - 1) for one in value]
    if isinstance(value, Secret):
        return MASK if value else ""
    return redact(value) if isinstance(value, str) else value


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret, as far as names tell."""
    return _SECRET_NAME.fullmatch(name) is not None or _SECRET_NAME.fullmatch(_snake(name)) is not None


def _masked(value: Any) -> Any:
    return value if value is None or value == "" or isinstance(value, bool) else MASK


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _after_scheme(found: re.Match[str]) -> str:
    # Of a word such as "Basic usage" nothing is lost that matters; a credential never stays.
    rest = found[0][len(found[1]) + len(found[2]) :]
    word, blank, tail = rest.partition(" ")
    if "=" in rest and found[1] not in ("Bearer", "Basic"):
        return f"{found[1]}{found[2]}{MASK}"
    if len(word) < 8 and found[1] in ("Basic", "Digest", "OSS", "COS", "hmac"):
        return found[0]
    return f"{found[1]}{found[2]}{MASK}{blank}{tail}"


def _encodings(text: str) -> set[str]:
    from base64 import b64encode
    from json import dumps
    from urllib.parse import quote, quote_plus

    plain = b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")
    forms = {text, plain, dumps(text)[1:-1], repr(text)[1:-1]}
    if text.isascii():
        forms |= {quote(text, safe=""), quote(text), quote_plus(text)}
    return {form for form in forms if len(form) >= PLANTED_MIN}
