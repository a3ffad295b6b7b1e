"""Where an S3 request goes and how it must look there: endpoint, bucket, credentials and profile.

A :class:`Profile` starts as the provider's known behaviour (``profiles``) and is corrected in place by what
the endpoint really does (``probe``, and the lane when a reply teaches it something). An :class:`S3Target` is
one bucket at one endpoint; store and lane share the same object, so what one learns the other uses at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from entrepot.model.secret import Secret
from entrepot.storage.base import Capabilities

Checksum = Literal["crc64nvme", "crc32c", ""]
Addressing = Literal["auto", "path", "virtual"]
Payload = Literal["unsigned", "signed"]


@dataclass(slots=True, frozen=True)
class Credentials:
    """Keys for signing. An empty ``access_key`` means anonymous: send the request unsigned."""

    access_key: str
    secret_key: Secret
    session_token: Secret = field(default_factory=lambda: Secret(""))
    expires: float | None = None
    """Unix time after which the keys are worthless; None when they do not expire."""


@dataclass(slots=True)
class Profile:
    """What an endpoint does and demands. Sizes in bytes. Mutable: replies teach."""

    provider: str = "generic"
    addressing: Addressing = "auto"
    list_v1: bool = False
    """Use ListObjects (marker) instead of ListObjectsV2."""
    encoding_url: bool = True
    """Ask for ``encoding-type=url`` in listings (a reply says whether it was honoured)."""
    start_after: bool = True
    """``start-after`` (V2) or ``marker`` (V1) with a key that need not exist is honoured."""
    ordered: bool = True
    """Listings come in the byte order of keys. False: only within one level, directories by their bare names;
    then ``start_after`` must be False too, because it would skip keys without a trace."""
    list_max: int = 1000
    checksum: Checksum = "crc32c"
    """``x-amz-checksum-*`` header that the endpoint accepts on PUT; empty: send none.

    It is a proof only where the reply repeats it or ``checksum_checked`` is True: a store may ignore it.
    """
    checksum_checked: bool | None = None
    """True when a wrong checksum was seen to be refused; None when nobody tried."""
    etag_is_md5: bool | None = None
    """The etag of a single PUT is the MD5 of its bytes; None when nobody looked."""
    content_md5_required: bool = False
    """Send Content-MD5 on DeleteObjects (the old rule) instead of relying on a checksum header."""
    batch_delete: bool = True
    batch_delete_max: int = 1000
    part_min: int = 5 << 20
    part_max: int = 5 << 30
    part_fixed: int = 0
    """When not 0, every part but the last must have exactly this size."""
    parts_max: int = 10_000
    put_max: int = 5 << 30
    copy_max: int = 5 << 30
    copy: bool = True
    """CopyObject and UploadPartCopy work."""
    put_conditional: bool = True
    """``If-None-Match: *`` on PUT is honoured."""
    payload: Payload = "unsigned"
    """``unsigned`` sends UNSIGNED-PAYLOAD, ``signed`` hashes every body."""
    signing_service: str = "s3"
    key_max: int = 1024
    leading_slash: bool = True
    """Keys that begin with ``/`` can be read back."""
    double_slash: bool | None = None
    """Keys with ``//`` are kept; False where the store folds ``a//b`` into ``a/b``; None when nobody looked."""


@dataclass(slots=True)
class S3Target:
    """One bucket at one endpoint.

    Connect to ``host``:``port`` (also the TLS server name), send ``host_header`` as Host, and write the
    request path as ``path_prefix`` + encoded key. All three follow from the addressing style: change it
    by :meth:`use`.
    """

    endpoint_host: str
    """Host of the endpoint without bucket."""
    port: int
    tls: bool
    bucket: str
    region: str
    credentials: Callable[[bool], Credentials]
    """Call with True to fetch fresh keys (after an expiry), with False for the current ones."""
    profile: Profile
    base_path: bytes = b"/"
    """Path of the endpoint URL, ending in ``/``."""
    verify: bool = True
    ca_file: str = ""
    requester_pays: bool = False
    clock_offset: float = 0.0
    """Server time minus ours, in seconds; add it to the clock when signing (learned from Date)."""
    tried_regions: set[str] = field(default_factory=set)
    """Regions that were signed for and refused: redirects in circles end."""
    style: Literal["path", "virtual"] = "path"
    """The addressing style in use."""
    host: str = ""
    host_header: bytes = b""
    path_prefix: bytes = b""

    def __post_init__(self) -> None:
        self.use(self.style)

    def use(self, style: Literal["path", "virtual"]) -> None:
        """Switch the addressing style; existing connections are of no use after that."""
        self.style = style
        virtual = style == "virtual" and bool(self.bucket)
        self.host = f"{self.bucket}.{self.endpoint_host}" if virtual else self.endpoint_host
        bare = f"[{self.host}]" if ":" in self.host else self.host
        standard = self.port == (443 if self.tls else 80)
        self.host_header = (bare if standard else f"{bare}:{self.port}").encode()
        in_path = b"" if virtual or not self.bucket else quote(self.bucket, safe="").encode() + b"/"
        self.path_prefix = self.base_path + in_path

    @property
    def endpoint(self) -> str:
        """URL of the endpoint without bucket, for messages and as a canonical name."""
        bare = f"[{self.endpoint_host}]" if ":" in self.endpoint_host else self.endpoint_host
        standard = self.port == (443 if self.tls else 80)
        port = "" if standard else f":{self.port}"
        path = self.base_path.decode("latin-1").rstrip("/")
        return f"{'https' if self.tls else 'http'}://{bare}{port}{path}"


def capabilities(profile: Profile) -> Capabilities:
    """The profile as callers of any store see it."""
    return Capabilities(
        server_copy=profile.copy,
        part_min=profile.part_min,
        part_max=profile.part_max,
        part_fixed=profile.part_fixed,
        parts_max=profile.parts_max,
        put_max=profile.put_max,
        copy_max=profile.copy_max,
        key_max=profile.key_max,
        start_after=profile.start_after,
        ordered=profile.ordered,
    )
