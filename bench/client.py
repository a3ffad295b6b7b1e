"""A minimal S3 client for filling buckets and checking what arrived; never the thing that is measured."""

from __future__ import annotations

import hashlib
import hmac
import html
import http.client
import json
import re
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any, BinaryIO

from .settings import ACCESS_KEY, REGION, SECRET_KEY

_SIGNED = "host;x-amz-content-sha256;x-amz-date"


class Client:
    """One connection to one endpoint on loopback, signed by SigV4 with unsigned payloads."""

    def __init__(self, port: int, ca: str = "") -> None:
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self._ca = ca
        self._link = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        if not self._ca:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        context = ssl.create_default_context(cafile=self._ca)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=120, context=context)

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: bytes | BinaryIO = b"",
        size: int = -1,
    ) -> tuple[int, bytes]:
        """Status and body of one request. ``path`` is not encoded yet."""
        pairs = sorted((query or {}).items())
        text = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
        target = urllib.parse.quote(path, safe="/-_.~")
        headers = self._headers(method, target, text)
        if size >= 0:
            headers["Content-Length"] = str(size)
        whole = target + ("?" + text if text else "")
        for attempt in (0, 1):
            try:
                self._link.request(method, whole, body=body, headers=headers)
                reply = self._link.getresponse()
                return reply.status, reply.read()
            except (OSError, http.client.HTTPException):
                self._link.close()
                self._link = self._connect()
                if attempt or not isinstance(body, bytes):
                    raise
        raise AssertionError

    def _headers(self, method: str, target: str, query: str) -> dict[str, str]:
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        canonical = (
            f"{method}\n{target}\n{query}\nhost:{self.host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\n"
            f"x-amz-date:{now}\n\n{_SIGNED}\nUNSIGNED-PAYLOAD"
        )
        key = ("AWS4" + SECRET_KEY).encode()
        for word in (now[:8], REGION, "s3", "aws4_request"):
            key = hmac.digest(key, word.encode(), "sha256")
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}".encode(), "sha256").hex()
        return {
            "Host": self.host,
            "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
            "x-amz-date": now,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={_SIGNED}, "
            f"Signature={signature}",
        }

    def must(self, method: str, path: str, query: dict[str, str] | None = None, body: bytes = b"") -> bytes:
        """The body of a request that has to succeed."""
        status, reply = self.call(method, path, query, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {reply[:200]!r}")
        return reply

    def pages(self, bucket: str, prefix: str) -> Iterator[list[tuple[str, int]]]:
        """Keys and sizes below a prefix, page by page."""
        token = ""
        while True:
            query = {"list-type": "2", "prefix": prefix} | ({"continuation-token": token} if token else {})
            page = self.must("GET", f"/{bucket}", query).decode()
            keys = map(html.unescape, re.findall(r"<Key>(.*?)</Key>", page))
            yield list(zip(keys, map(int, re.findall(r"<Size>(\d+)</Size>", page)), strict=True))
            found = re.search(r"<NextContinuationToken>(.*?)</NextContinuationToken>", page)
            if not found:
                return
            token = html.unescape(found.group(1))

    def listing(self, bucket: str, prefix: str) -> dict[str, int]:
        """Sizes by key below a prefix, without the keys of directories that some stores make."""
        return {key: size for page in self.pages(bucket, prefix) for key, size in page if not key.endswith("/")}

    def uploads(self, bucket: str, prefix: str = "") -> list[tuple[str, str]]:
        """Open multipart uploads: (key, upload id)."""
        found: list[tuple[str, str]] = []
        marker: dict[str, str] = {}
        while True:
            page = self.must("GET", f"/{bucket}", {"uploads": "", "prefix": prefix} | marker).decode()
            for upload in re.findall(r"<Upload>(.*?)</Upload>", page, re.DOTALL):
                key, name = (
                    re.search(r"<Key>(.*?)</Key>", upload),
                    re.search(r"<UploadId>(.*?)</UploadId>", upload),
                )
                if key and name:
                    found.append((html.unescape(key.group(1)), html.unescape(name.group(1))))
            if "<IsTruncated>true</IsTruncated>" not in page or not found:
                return found
            marker = {"key-marker": found[-1][0], "upload-id-marker": found[-1][1]}

    def clear(self, bucket: str, prefix: str) -> None:
        """Delete everything below a prefix."""
        for page in list(self.pages(bucket, prefix)):
            for at in range(0, len(page), 1000):
                keys = "".join(f"<Object><Key>{html.escape(key)}</Key></Object>" for key, _ in page[at : at + 1000])
                body = f"<Delete><Quiet>true</Quiet>{keys}</Delete>".encode()
                self.must("POST", f"/{bucket}", {"delete": ""}, body)

    def stats(self) -> dict[str, Any]:
        """Counters of lows3 since the last call."""
        counters: dict[str, Any] = json.loads(self.must("POST", "/_lows3/stats"))
        return counters


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="-_.~")
