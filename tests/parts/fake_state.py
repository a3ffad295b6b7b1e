"""The state of the fake S3 server: buckets, objects, uploads, and in what the imitated store differs."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from parts.fake_checks import checksum, qiniu_etag
from parts.fake_http import Request, S3Error
from parts.fake_objects import multipart_etag
from parts.fake_store import ORDERS, Body, Bucket, Obj, SyntheticBucket, Upload


@dataclass(slots=True)
class Quirks:
    """What the imitated store does otherwise; each ``refuse`` answers 501 NotImplemented."""

    list_v2: str = "accept"
    """accept, refuse, or ignore (answers as V1)."""
    max_keys: int = 1000
    start_after: bool = True
    """False: ignored, the listing starts at the beginning."""
    encoding_type: bool = True
    """False: ignored, keys come as XML text."""
    plus_for_space: bool = True
    """Whether encoding-type=url writes a space as ``+`` (as S3 does) or ``%20``."""
    always_next_marker: bool = False
    """V1: NextMarker without a delimiter, too."""
    order: str = "bytes"
    """bytes, utf16 (code units), or tree (directory by directory, as SeaweedFS)."""
    path_style: str = "accept"
    """Refused by 403 SecondLevelDomainForbidden, as OSS does; ``virtual_host`` too."""
    virtual_host: str = "accept"
    checksum_headers: str = "accept"
    """accept, refuse or ignore."""
    default_checksum: str = ""
    """Compute this one (e.g. crc64nvme, as S3 does) when the client sends none."""
    aws_chunked: str = "accept"
    conditional_put: str = "accept"
    """accept, refuse or ignore."""
    batch_delete: str = "accept"
    server_copy: str = "accept"
    part_copy: str = "accept"
    part_min: int = 5 << 20
    part_fixed: int = 0
    parts_max: int = 10_000
    etags: str = "md5"
    """md5, random (as with KMS), or qiniu."""


class State:
    """What the store holds; see ``fake_s3``."""

    def __init__(self, quirks: Quirks | None, region: str) -> None:
        self.quirks = quirks or Quirks()
        self.region = region
        self.clock_offset = 0.0
        self.buckets: dict[str, Bucket] = {}
        self.uploads: dict[str, Upload] = {}
        self.delete_errors: dict[bytes, S3Error] = {}
        self.lock_error = (403, "AccessDenied", "Access Denied because object protected by object lock.")
        self.lock = threading.RLock()
        self.port = 0
        self._ids = itertools.count(1)

    # ---- state ---------------------------------------------------------------------------------------------

    def make_bucket(self, name: str, *, region: str = "", wrong_region: int = 301, versioned: bool = False) -> Bucket:
        """A new empty bucket. With a ``region`` other than the server's, requests signed for another are
        refused with ``wrong_region``: 301 PermanentRedirect, 307 to ``bucket.redirect_to``, or 400."""
        bucket = Bucket(name, region=region, wrong_region=wrong_region, versioned=versioned)
        bucket.set_order(ORDERS[self.quirks.order])
        self.buckets[name] = bucket
        return bucket

    def make_synthetic(
        self,
        name: str,
        count: int,
        *,
        size: int = 100,
        key: Callable[[int], bytes] | None = None,
        modified: float = 1.7e9,
    ) -> SyntheticBucket:
        """A bucket of ``count`` generated objects. ``key(i)`` must grow with i."""
        made = SyntheticBucket(name, count, size, key or (lambda i: b"%06d/%09d" % (i // 1000, i)), modified)
        self.buckets[name] = made
        return made

    def put(
        self,
        bucket: str,
        key: bytes | str,
        data: bytes | Body = b"",
        *,
        etag: str = "",
        modified: float = 0.0,
        metadata: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        storage_class: str = "STANDARD",
        tags: dict[str, str] | None = None,
        checksums: Iterable[str] = (),
        locked: bool = False,
        parts: Iterable[int] = (),
    ) -> Obj:
        """Place an object directly. ``parts`` (sizes) gives it a multipart ETag; ``checksums`` names the
        algorithms whose values the store keeps."""
        raw, body = raw_key(key), data if isinstance(data, Body) else Body.of(data)
        sizes, value = list(parts), etag or self.make_etag(body)
        if sizes and not etag:
            starts = [sum(sizes[:i]) for i in range(len(sizes))]
            pieces = [body.slice(a, n) for a, n in zip(starts, sizes, strict=True)]
            value = multipart_etag([p.md5() for p in pieces])
        obj = Obj(raw, body, value, modified or self.now(), dict(headers or {}), dict(metadata or {}))
        obj.storage_class, obj.tags, obj.locked, obj.part_sizes = (
            storage_class,
            dict(tags or {}),
            locked,
            sizes,
        )
        obj.checksums = {name: checksum(name, body.bytes()) for name in checksums}
        with self.lock:
            if bucket not in self.buckets:
                self.make_bucket(bucket)
            home = self.buckets[bucket]
            obj.version_id = self.new_id("v") if home.versioned else ""
            home.put(obj)
        return obj

    def put_virtual(self, bucket: str, key: bytes | str, size: int, *, seed: int = 0) -> Obj:
        """An object of any size whose bytes are generated when read (its ETag is no MD5 of them)."""
        return self.put(bucket, key, Body.pattern(size, seed))

    def delete(self, bucket: str, key: bytes | str) -> None:
        """Remove an object directly."""
        with self.lock:
            self.buckets[bucket].remove(raw_key(key))

    def damage(self, bucket: str, key: bytes | str, offset: int, mask: int = 1) -> None:
        """Alter one stored byte; ETag, checksums and time stay."""
        obj = self.object(bucket, key)
        data = bytearray(obj.body.bytes())
        data[offset] ^= mask
        obj.body = Body.of(bytes(data))

    def object(self, bucket: str, key: bytes | str) -> Obj:
        """The object; KeyError when it is not there."""
        found = self.buckets[bucket].get(raw_key(key))
        if found is None:
            raise KeyError(key)
        return found

    def dump(self, bucket: str, prefix: bytes | str = b"") -> dict[bytes, bytes]:
        """All keys below ``prefix`` and their bytes."""
        with self.lock:
            home, head = self.buckets[bucket], raw_key(prefix)
            keys = [k for k in home.all_keys() if k.startswith(head)]
            return {k: o.body.bytes() for k in keys if (o := home.get(k)) is not None}

    def keys(self, bucket: str) -> list[bytes]:
        """All keys in order."""
        with self.lock:
            return self.buckets[bucket].all_keys()

    def open_uploads(self, bucket: str = "") -> list[Upload]:
        """Multipart uploads that were neither completed nor aborted."""
        with self.lock:
            return [u for u in self.uploads.values() if not bucket or u.bucket == bucket]

    # ---- what the operations use ---------------------------------------------------------------------------

    def now(self) -> float:
        """The store's own clock."""
        return time.time() + self.clock_offset

    def new_id(self, kind: str) -> str:
        """A fresh id with characters that must be encoded in a query."""
        return f"{kind}{next(self._ids)}+/=.{self.port}"

    def make_etag(self, body: Body) -> str:
        """An ETag in the store's style."""
        if self.quirks.etags == "random":
            return f"{next(self._ids):032x}"
        if self.quirks.etags == "qiniu":
            return qiniu_etag(body.bytes())
        return body.md5()

    def bucket_for(self, request: Request) -> Bucket:
        """The bucket of a request; S3Error NoSuchBucket."""
        found = self.buckets.get(request.bucket)
        if found is None:
            raise S3Error(404, "NoSuchBucket", "the specified bucket does not exist")
        return found

    def upload_for(self, request: Request) -> Upload:
        """The open upload of a request; S3Error NoSuchUpload."""
        self.bucket_for(request)
        found = self.uploads.get(request.query.get("uploadId", ""))
        if found is None or found.key != request.key or found.bucket != request.bucket:
            raise S3Error(404, "NoSuchUpload", "the specified upload does not exist")
        return found


def raw_key(key: bytes | str) -> bytes:
    return key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key
