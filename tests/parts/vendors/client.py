"""Single signed requests of any form to an imitated vendor, right or wrong on purpose."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from .server import Vendor


@dataclass(slots=True, frozen=True)
class Answer:
    """A reply in short."""

    status: int
    code: str
    message: str
    body: bytes


def ask(
    vendor: Vendor,
    method: str = "GET",
    key: bytes = b"",
    *,
    query: Iterable[tuple[str, str]] = (),
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    style: str = "",
    host: str = "",
    region: str = "",
    service: str = "s3",
    secret: str = "",
    clock: float = 0.0,
    signed: bool = True,
    chunked: bool = False,
) -> Answer:
    """One request in the vendor's own form, but for what is said otherwise."""
    strict = vendor.strict
    style = style or ("path" if vendor.virtual_style else "virtual")
    name = host or (f"{vendor.bucket}.{strict.host}" if style == "virtual" else strict.host)
    path = ("" if style == "virtual" else f"/{vendor.bucket}") + "/" + quote(key, safe="/-_.~")
    text = "&".join(sorted(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in query))
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + clock))
    sent = {"host": f"{name}:{vendor.port}", **{k.lower(): v for k, v in (headers or {}).items()}}
    if signed:
        sent = {"x-amz-date": stamp, "x-amz-content-sha256": hashlib.sha256(body or b"").hexdigest()} | sent
        sent["authorization"] = _authorization(
            vendor, (method, path, text), sent, stamp, f"{region or strict.region}/{service}", secret or strict.sk
        )
    link = http.client.HTTPConnection("127.0.0.1", vendor.port, timeout=10)
    target = path + (f"?{text}" if text else "")
    if chunked:
        link.request(method, target, body=iter([body or b""]), headers=sent, encode_chunked=True)
    else:
        link.request(method, target, body=body, headers=sent)
    reply = link.getresponse()
    answer = reply.read()
    link.close()
    return Answer(reply.status, _element(answer, "Code"), _element(answer, "Message"), answer)


def _authorization(
    vendor: Vendor, line: tuple[str, str, str], sent: dict[str, str], stamp: str, where: str, secret: str
) -> str:
    names = ";".join(sorted(sent))
    lines = "".join(f"{k}:{sent[k]}\n" for k in sorted(sent))
    canonical = "\n".join((*line, lines, names, sent["x-amz-content-sha256"]))
    scope = f"{stamp[:8]}/{where}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return f"AWS4-HMAC-SHA256 Credential={vendor.strict.ak}/{scope}, SignedHeaders={names}, Signature={signature}"


def _element(body: bytes, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>".encode(), body)
    return found[1].decode() if found else ""
