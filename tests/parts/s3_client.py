"""A small S3 client on the standard library: fills and reads real servers without the code under test."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import time
from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes, urlsplit
from xml.sax.saxutils import unescape


class S3Client:
    """Signed requests over one connection; ``request`` for everything that has no call of its own."""

    def __init__(self, endpoint: str, access: str, secret: str, region: str = "us-east-1") -> None:
        self.host = urlsplit(endpoint).netloc
        self.access, self.secret, self.region = access, secret, region
        self.connection = http.client.HTTPConnection(self.host, timeout=60)

    def request(
        self,
        method: str,
        bucket: str,
        key: bytes = b"",
        *,
        query: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request: (status, headers in lower case, body)."""
        path = quote(f"/{bucket}") + ("/" + quote(key, safe="/-_.~") if key else "")
        pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query)
        text = "&".join(f"{k}={v}" for k, v in pairs)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        sent = {
            "host": self.host,
            "x-amz-date": stamp,
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
        }
        sent |= {k.lower(): v for k, v in (headers or {}).items()}
        names = ";".join(sorted(sent))
        lines = "".join(f"{k}:{sent[k]}\n" for k in sorted(sent))
        canonical = f"{method}\n{path}\n{text}\n{lines}\n{names}\n{sent['x-amz-content-sha256']}"
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        signed = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        secret = ("AWS4" + self.secret).encode()
        for part in (stamp[:8], self.region, "s3", "aws4_request"):
            secret = hmac.digest(secret, part.encode(), "sha256")
        signature = hmac.digest(secret, signed.encode(), "sha256").hex()
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        self.connection.request(method, path + ("?" + text if text else ""), body=body, headers=sent)
        reply = self.connection.getresponse()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()

    def make_bucket(self, name: str) -> bool:
        """Make a bucket; True when it is there now."""
        return self.request("PUT", name)[0] in (200, 409)

    def put(self, bucket: str, key: bytes, body: bytes, headers: dict[str, str] | None = None) -> int:
        """Write an object; the status."""
        return self.request("PUT", bucket, key, body=body, headers=headers)[0]

    def get(self, bucket: str, key: bytes) -> bytes:
        """Read an object; KeyError when it is not there."""
        status, _, body = self.request("GET", bucket, key)
        if status != 200:
            raise KeyError((status, key, body[:200]))
        return body

    def head(self, bucket: str, key: bytes) -> dict[str, str]:
        """Reply headers of an object; KeyError when it is not there."""
        status, headers, _ = self.request("HEAD", bucket, key)
        if status != 200:
            raise KeyError((status, key))
        return headers

    def delete(self, bucket: str, key: bytes) -> int:
        """Delete an object; the status."""
        return self.request("DELETE", bucket, key)[0]

    def keys(self, bucket: str, prefix: str = "") -> list[tuple[bytes, int]]:
        """(key, size) of everything below ``prefix``."""
        found: list[tuple[bytes, int]] = []
        token = ""
        while True:
            query = [("list-type", "2"), ("prefix", prefix), ("encoding-type", "url")]
            query += [("continuation-token", token)] if token else []
            status, _, body = self.request("GET", bucket, query=query)
            if status != 200:
                raise RuntimeError(f"listing {bucket}: {status} {body[:300]!r}")
            for key, size in re.findall(rb"<Key>(.*?)</Key>.*?<Size>(\d+)</Size>", body, re.DOTALL):
                found.append((unquote_to_bytes(unescape(key.decode()).replace("+", " ")), int(size)))
            more = re.search(rb"<NextContinuationToken>(.*?)</NextContinuationToken>", body)
            if not more:
                return found
            token = unescape(more[1].decode())

    def dump(self, bucket: str, prefix: str = "") -> dict[bytes, bytes]:
        """Keys and bytes of everything below ``prefix``."""
        return {key: self.get(bucket, key) for key, _ in self.keys(bucket, prefix)}

    def uploads(self, bucket: str) -> list[bytes]:
        """The upload ids of open multipart uploads."""
        _, _, body = self.request("GET", bucket, query=[("uploads", "")])
        return re.findall(rb"<UploadId>(.*?)</UploadId>", body)
