"""The server of an imitated vendor: objects and paging of the scripted S3 server behind the vendor's own gate.

::

    with Vendor(VENDORS["OSS"]) as oss:
        oss.fill({b"a/b": b"hello"})
        connection = oss.connection()           # made by the code under test from type, host, ak, sk
        ...
        assert not oss.strays and oss.refused == []

``refused`` lists what was refused (operation, status, code): a run with the right profile leaves it empty.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import struct
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import formatdate

from entrepot.model.connection import Connection
from entrepot.storage.s3.thirdparty import connection_for
from parts.fake_checks import qiniu_etag
from parts.fake_http import Reply, Request, S3Error
from parts.fake_objects import multipart_etag
from parts.fake_s3 import FakeS3
from parts.fake_state import Quirks
from parts.fake_store import Body

from . import gate
from .strict import Refusal, Strict

_INITIATED = re.compile(rb"<Initiated>([^<]*)</Initiated>")


class Vendor(FakeS3):
    """One vendor on loopback, with one bucket and one pair of keys."""

    def __init__(
        self,
        strict: Strict,
        *,
        path_style: Refusal | None = None,
        virtual_style: Refusal | None = None,
        signed_payload: bool = False,
        tells_endpoint: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        quirks = Quirks(
            list_v2="ignore" if strict.list_v2 == "ignore" else "accept",
            max_keys=strict.page_max,
            encoding_type=strict.encoding_url,
            checksum_headers="ignore" if strict.checksum_headers == "ignore" else "accept",
            conditional_put=strict.conditional_put,
            part_min=strict.part_min,
            part_fixed=strict.part_fixed,
            etags="md5" if strict.etags in {"md5", "upper"} else "other",
        )
        super().__init__(quirks=quirks, region=strict.region, domain=strict.host, tls=tls)
        self.strict = strict
        self.path_style = path_style or strict.path_style
        self.virtual_style = virtual_style or strict.virtual_style
        self.signed_payload = signed_payload
        self.tells_endpoint = tells_endpoint
        """Requests to another region's host are told the right one."""
        self.secrets = {strict.ak: strict.sk}
        self.public = False
        """Anybody may read."""
        self.strays: list[str] = []
        """Hosts that were asked for and are not the vendor's."""
        self.refused: list[tuple[str, int, str]] = []
        self.make_bucket(strict.bucket)

    @property
    def bucket(self) -> str:
        return self.strict.bucket

    @property
    def host(self) -> str:
        """What a user enters: the host as the console shows it, at our port."""
        return f"{'https' if self._tls else 'http'}://{self.strict.copied}:{self.port}"

    @property
    def endpoint(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.strict.host}:{self.port}"

    def connection(self, name: str = "vendor", **change: object) -> Connection:
        """The connection that the code under test makes of type, host and keys."""
        made = connection_for(self.strict.type, self.host, self.strict.ak, self.strict.sk)
        return replace(made, name=name, **change)  # type: ignore[arg-type]

    def fill(self, objects: Mapping[bytes, bytes]) -> None:
        """Place objects."""
        for key, data in objects.items():
            self.put(self.bucket, key, data)

    def held(self) -> dict[bytes, bytes]:
        """Everything in the bucket."""
        return self.dump(self.bucket)

    def _admit(self, request: Request) -> None:
        try:
            gate.admit(self, request)
        except S3Error as error:
            if error.status != 404:
                self.refused.append((request.op, error.status, error.code))
            raise

    def _operate(self, request: Request) -> Reply:
        try:
            reply = super()._operate(request)
        except S3Error as error:
            if error.status not in {404, 416, 412}:
                self.refused.append((request.op, error.status, error.code))
            raise
        if request.op == "CompleteMultipartUpload":
            self._completed(request, reply)
        if request.op == "ListMultipartUploads" and self.strict.hours and isinstance(reply.body, bytes):
            reply.body = _INITIATED.sub(self._local, reply.body)
        reply.headers["server"] = self.strict.server
        reply.headers["date"] = formatdate(self.now(), usegmt=True)
        return reply

    def _local(self, found: re.Match[bytes]) -> bytes:
        moment = datetime.fromisoformat(found[1].decode()).astimezone(timezone(timedelta(hours=self.strict.hours)))
        return f"<Initiated>{moment.isoformat(timespec='milliseconds')}</Initiated>".encode()

    # ---- etags ---------------------------------------------------------------------------------------------

    def make_etag(self, body: Body) -> str:
        """An etag as the vendor writes it."""
        return _etag(self.strict.etags, body)

    def _completed(self, request: Request, reply: Reply) -> None:
        obj = self.object(request.bucket, request.key)
        starts = [sum(obj.part_sizes[:i]) for i in range(len(obj.part_sizes))]
        pieces = [obj.body.slice(at, size) for at, size in zip(starts, obj.part_sizes, strict=True)]
        sums = [piece.md5() for piece in pieces]
        form = self.strict.etags
        etag = multipart_etag(sums)
        if form == "upper":
            etag = etag.upper()
        elif form in {"qetag", "us3"}:
            etag = _etag(form, obj.body)
        assert isinstance(reply.body, bytes)
        reply.body = reply.body.replace(f"&quot;{obj.etag}&quot;".encode(), f"&quot;{etag}&quot;".encode())
        obj.etag = etag


def _etag(form: str, body: Body) -> str:
    if body.generated and form in {"qetag", "us3"}:
        return urlsafe_b64encode(bytes.fromhex(body.md5())).decode()
    if form == "upper":
        return body.md5().upper()
    if form == "qetag":
        return qiniu_etag(body.bytes())
    if form == "us3":
        return us3_etag(body.bytes())
    return body.md5()


def us3_etag(data: bytes) -> str:
    """The hash of US3: the number of 4 MiB blocks, then SHA-1 of the only one or of all their SHA-1s."""
    step = 4 << 20
    sums = [hashlib.sha1(data[at : at + step]).digest() for at in range(0, len(data), step)]
    joined = b"".join(sums) if sums else hashlib.sha1(b"").digest()
    last = hashlib.sha1(joined).digest() if len(sums) > 1 else joined
    return urlsafe_b64encode(struct.pack("<I", max(len(sums), 1)) + last).decode()
