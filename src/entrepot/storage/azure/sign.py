"""Signing for Azure Blob: Shared Key request signatures and short-lived service SAS tokens.

Shared Key signs the verb, eleven standard headers, every ``x-ms-*`` header and the resource with its decoded
query. The canonical ``x-ms-*`` lines are also sent as they were signed (``name:value``), so they are built
once.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Iterable
from urllib.parse import quote

from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret

SAS_VERSION = "2021-12-02"
_SORT = str.maketrans({"-": None, "_": "\x01"})


def decoded_key(key: Secret) -> bytes:
    """The bytes of an account key. Raises UsageError when it is not base64."""
    try:
        return base64.b64decode(key.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(
            "the storage account key is not base64", hint="copy it again from the account's access keys"
        ) from None


def ms_date(now: float) -> bytes:
    """``now`` (Unix time) as ``x-ms-date`` wants it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)).encode()


def canonical_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """``x-ms-*`` headers as signed: lower case, sorted, one ``name:value`` a line, each ending in a newline.

    The service sorts as a dictionary does: hyphens do not count and an underscore stands before digits.
    """
    lines = [(name.lower(), " ".join(value.split())) for name, value in headers]
    lines.sort(key=lambda line: (line[0].translate(_SORT), line[0]))
    return "".join(f"{name}:{value}\n" for name, value in lines).encode("utf-8")


def resource(account: str, path: bytes, query: Iterable[tuple[str, str]] = ()) -> bytes:
    """The canonical resource: account, encoded path as sent, then the decoded query sorted by name."""
    lines = [f"\n{name.lower()}:{value}" for name, value in sorted(query)]
    return b"/" + account.encode() + path + "".join(lines).encode("utf-8", "surrogateescape")


def string_to_sign(
    verb: bytes,
    ms_headers: bytes,
    canonical_resource: bytes,
    *,
    length: int = 0,
    md5: bytes = b"",
    content_type: bytes = b"",
    if_match: bytes = b"",
    if_none_match: bytes = b"",
) -> bytes:
    """What Shared Key signs. The date travels as ``x-ms-date`` and the range as ``x-ms-range``."""
    return b"%b\n\n\n%b\n%b\n%b\n\n\n%b\n%b\n\n\n%b%b" % (
        verb,
        b"%d" % length if length else b"",
        md5,
        content_type,
        if_match,
        if_none_match,
        ms_headers,
        canonical_resource,
    )


def authorization(account: bytes, key: bytes, text: bytes) -> bytes:
    """Value of the Authorization header."""
    return b"SharedKey %b:%b" % (account, base64.b64encode(hmac.digest(key, text, "sha256")))


def container_sas(account: str, key: bytes, container: str, *, expires: float, https_only: bool) -> str:
    """A read-only service SAS for one container, valid until ``expires`` (Unix time), as a query string."""
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
    protocol = "https" if https_only else "https,http"
    signed = [
        "r", "", until, f"/blob/{account}/{container}", "", "", protocol, SAS_VERSION, "c", "", "",
        "", "", "", "", "",
    ]  # fmt: skip
    signature = base64.b64encode(hmac.digest(key, "\n".join(signed).encode(), "sha256")).decode()
    fields = {"sv": SAS_VERSION, "spr": protocol, "se": until, "sr": "c", "sp": "r", "sig": signature}
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
