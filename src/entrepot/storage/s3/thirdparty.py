"""The nine third-party types of the datasync family: from their type, host, keys and path to a connection.

Hosts are taken as people copy them from a vendor's console: with or without scheme, with or without the bucket
in front, with the vendor's own API host or its S3 host. What is wrong is refused with the field's name first.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from entrepot.model.connection import Connection, Provider
from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret

from .profiles import provider_of, region_in_hosts
from .providers import PROVIDERS

_PROVIDER: dict[str, Provider] = {
    "OSS": "oss", "COS": "cos", "OBS": "obs", "BOS": "bos", "S3": "s3", "KS3": "ks3", "QINIU": "qiniu",
    "WASB": "azure", "UFILE": "ufile",
}  # fmt: skip
_EXAMPLE = {
    "OSS": "oss-cn-hangzhou.aliyuncs.com",
    "COS": "cos.ap-guangzhou.myqcloud.com",
    "OBS": "obs.cn-north-4.myhuaweicloud.com",
    "BOS": "bj.bcebos.com",
    "S3": "s3.us-east-1.amazonaws.com",
    "KS3": "ks3-cn-beijing.ksyuncs.com",
    "QINIU": "s3.cn-east-1.qiniucs.com",
    "WASB": "account.blob.core.windows.net",
    "UFILE": "cn-bj.ufileos.com",
}
_FIELD_MAX = 1024
_PLAIN = re.compile(r"[\x21-\x7e]*")
_LABELS = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}")
_AZURE = re.compile(
    r"(?:([a-z0-9-]+)\.)?(?:blob|dfs)\.(core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net|cloudapi\.de))"
)
_AZURE_END = re.compile(r"(?:^|\.)(?:blob|dfs)\.core\.[a-z]+\.(?:net|cn|de)$")
_NOT_S3 = ("qiniup.com", "qiniuapi.com", "qiniuio.com", "qbox.me", "clouddn.com", "qiniudn.com", "ucloud.cn")
"""Hosts of the vendors' other services, by which their consoles and SDKs speak of a bucket too."""
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}(?:-secondary)?")


@dataclass(slots=True, frozen=True)
class ThirdParty:
    """A third-party place: where and with which keys, which bucket (container for WASB), below which prefix."""

    connection: Connection
    bucket: str
    prefix: str


@dataclass(slots=True)
class _Host:
    tls: bool
    name: str
    port: int | None
    path: str
    bucket: str = ""
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        port = "" if self.port is None else f":{self.port}"
        return f"{'https' if self.tls else 'http'}://{name}{port}{self.path}"


def types() -> tuple[str, ...]:
    """The names of the nine types, as the family spells them."""
    return tuple(_PROVIDER)


def example_host(kind: str) -> str:
    """A host of this type as its console shows it."""
    return _EXAMPLE[kind]


def provider_for(kind: str) -> Provider:
    """The provider behind a type. Raises UsageError for an unknown one."""
    found = _PROVIDER.get(kind.strip().upper()) if isinstance(kind, str) else None
    if found is None:
        raise UsageError(f"type: {_shown(kind)} is no third-party type", hint="one of: " + ", ".join(_PROVIDER))
    return found


def connection_for(kind: str, host: str, ak: str, sk: str) -> Connection:
    """The connection that a third-party source means, without the bucket that ``host`` may hold.

    It has no name yet. ``ak`` and ``sk`` both empty means a public bucket. For WASB they are the account and its
    key (or a SAS).
    Raises UsageError whose message begins with the field that is wrong.
    """
    provider = provider_for(kind)
    kind = kind.strip().upper()
    found = _host(kind, provider, host)
    _check_keys(ak, sk)
    if provider == "azure":
        return _azure(found, ak, sk)
    if provider == "s3":
        provider = cast(Provider, provider_of(found.name)) if found.name else "s3"
    return Connection(
        name="",
        provider=provider,
        endpoint=found.url if found.name else "",
        access_key=ak,
        secret_key=Secret(sk),
        options={} if ak else {"anonymous": "true"},
    )


def bucket_in(kind: str, host: str) -> str:
    """The bucket (WASB: container) that stands in ``host``; empty when there is none. Raises UsageError."""
    return _host(kind.strip().upper(), provider_for(kind), host).bucket


def place_for(kind: str, host: str, ak: str, sk: str, path: str) -> ThirdParty:
    """The whole of a third-party source; ``path`` is ``bucket/prefix``.

    Where the host holds the bucket already, it may be left out of the path. Raises UsageError as above.
    """
    connection = connection_for(kind, host, ak, sk)
    if not isinstance(path, str) or "\x00" in path or len(path) > _FIELD_MAX + 256:
        raise UsageError("path: not a bucket and a prefix", hint="write bucket/prefix")
    in_host = bucket_in(kind, host)
    bucket, _, prefix = path.removeprefix("/").partition("/")
    if in_host and bucket != in_host:
        return ThirdParty(connection, in_host, path.removeprefix("/"))
    if not bucket:
        raise UsageError("path: no bucket named", hint="write bucket/prefix")
    if not _BUCKET.fullmatch(bucket) and bucket not in {"$root", "$web", "$logs"}:
        raise UsageError(f"path: {_shown(bucket)} is no bucket name", hint="write bucket/prefix")
    return ThirdParty(connection, bucket, prefix)


def endpoint_for(provider: str, region: str) -> str:
    """URL of a provider's public S3 endpoint in ``region``. Raises UsageError where there is none."""
    known = PROVIDERS.get(provider)
    if known is None or not known.endpoint:
        raise UsageError(f"no public endpoint is known for {_shown(provider)}", hint="name the endpoint")
    if not re.fullmatch(r"[A-Za-z0-9-]{1,63}", region):
        raise UsageError(f"region: {_shown(region)} is no region", hint=f"for example {known.region}")
    suffix = ".cn" if provider == "s3" and region.startswith("cn-") else ""
    return "https://" + known.endpoint.format(region=region_in_hosts(known, region)) + suffix


def provider_of_host(host: str) -> str:
    """Whose host it is (``azure`` too); ``generic`` for nobody known."""
    name = host.partition("://")[2] or host
    name = name.partition("/")[0].rpartition("@")[2].partition(":")[0].lower().rstrip(".")
    return "azure" if _AZURE_END.search(name) else provider_of(name)


# -- the host


def _host(kind: str, provider: Provider, text: str) -> _Host:
    example = f"for example {_EXAMPLE[kind]}"
    if not isinstance(text, str) or not _PLAIN.fullmatch(text.strip()) or len(text) > _FIELD_MAX:
        raise UsageError("host: not a host name", hint=example)
    text = text.strip()
    if not text:
        if kind in {"S3", "WASB"}:
            return _Host(True, "", None, "")
        raise UsageError("host: missing", hint=example)
    found = _split(kind, text, example)
    owner = provider_of_host(found.name)
    if kind == "S3":
        provider = cast(Provider, owner)
        if owner == "azure":
            raise UsageError(f"host: {found.name} is of Azure and does not speak S3", hint="type WASB is for it")
    elif owner not in {provider, "generic"}:
        raise UsageError(f"host: {found.name} is not a host of {kind} ({owner} runs it)", hint=example)
    if provider == "azure":
        return _azure_host(found)
    _take_bucket(provider, found)
    if found.path:
        found.path = "/" + found.path.strip("/")
    return found


def _split(kind: str, text: str, example: str) -> _Host:
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "https", text
    scheme = scheme.lower()
    web = {"http": False, "https": True}
    if kind == "WASB":
        web |= {"wasb": True, "wasbs": True, "abfs": True, "abfss": True}
    if scheme not in web:
        raise UsageError("host: only http:// and https:// may stand in front", hint=example)
    try:
        parts = urlsplit(f"//{rest}")
        name, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise UsageError("host: not a host name", hint=example) from None
    if parts.password is not None or (parts.username is not None and kind != "WASB"):
        raise UsageError("host: holds a user name or keys", hint="give them as ak and sk")
    address = ":" in name and re.fullmatch(r"[0-9a-f:.]+", name)
    if parts.query or parts.fragment or port == 0 or not (address or _LABELS.fullmatch(name)):
        raise UsageError("host: not a host name", hint=example)
    return _Host(web[scheme], name, port, parts.path.rstrip("/"), bucket=parts.username or "")


def _take_bucket(provider: str, found: _Host) -> None:
    """Move the bucket from the front of a known vendor's host to ``found.bucket``."""
    known = PROVIDERS[provider]
    if found.name.endswith(tuple("." + domain for domain in _NOT_S3)):
        raise UsageError(f"host: {found.name} does not speak S3", hint="enter the S3 endpoint of the bucket's region")
    if not any(found.name.endswith("." + domain) for domain in known.domains):
        return
    labels = found.name.split(".")
    for count in range(len(labels) - 1):
        rest = ".".join(labels[count:])
        if _is_endpoint(provider, rest):
            found.bucket, found.name = ".".join(labels[:count]), rest
            return
    if provider != "s3":  # Amazon has more kinds of endpoints than are listed
        raise UsageError(
            f"host: {found.name} is no S3 endpoint of {provider}", hint="enter the S3 endpoint of the bucket's region"
        )


def _is_endpoint(provider: str, host: str) -> bool:
    known = PROVIDERS[provider]
    if any(re.match(pattern, host) for pattern in known.region_in_host):
        return True
    return host in known.global_hosts or any(re.match(pattern, host) for pattern, _ in known.native)


# -- Azure


def _azure_host(found: _Host) -> _Host:
    match = _AZURE.fullmatch(found.name)
    if match is None:  # an emulator or a private stack: the account is in the path or not at all
        return found
    found.notes = {"account": match[1] or "", "suffix": match[2]}
    container = found.path.strip("/")
    if container:
        if "/" in container or (found.bucket and found.bucket != container):
            raise UsageError("host: more than a host and a container", hint="the prefix belongs into path")
        found.bucket, found.path = container, ""
    return found


def _azure(found: _Host, ak: str, sk: str) -> Connection:
    named = found.notes.get("account", "")
    account = ak or named
    if not account:
        raise UsageError("ak: missing", hint="for WASB it is the storage account")
    if named and ak and named.removesuffix("-secondary") != ak:
        raise UsageError(f"ak: the host is of account {named}, not of this one", hint="both name the storage account")
    if not _ACCOUNT.fullmatch(account):
        raise UsageError("ak: no name of a storage account", hint="3 to 24 small letters and digits")
    signature = "sig=" in sk
    if sk and not signature:
        try:
            base64.b64decode(sk, validate=True)
        except (binascii.Error, ValueError):
            raise UsageError("sk: no account key", hint="the key is base64 text; a SAS works too") from None
    endpoint = found.url if found.name else f"https://{account}.blob.core.windows.net"
    if suffix := found.notes.get("suffix"):
        endpoint = f"{'https' if found.tls else 'http'}://{named or account}.blob.{suffix}"
        endpoint += "" if found.port is None else f":{found.port}"
    return Connection(
        name="",
        provider="azure",
        endpoint=endpoint,
        access_key=account,
        secret_key=Secret("" if signature else sk),
        sas=Secret(sk if signature else ""),
    )


# -- keys


def _check_keys(ak: str, sk: str) -> None:
    for name, value in (("ak", ak), ("sk", sk)):
        if not isinstance(value, str) or not _PLAIN.fullmatch(value) or len(value) > 2 * _FIELD_MAX:
            raise UsageError(f"{name}: not a key", hint="printable characters without spaces")
    if sk and not ak:
        raise UsageError("ak: missing", hint="keys go in pairs; leave both empty for a public bucket")
    if ak and not sk:
        raise UsageError("sk: missing", hint="keys go in pairs; leave both empty for a public bucket")


def _shown(text: object) -> str:
    """A value of the caller's, cut to a length that a message can carry."""
    return repr(text if len(str(text)) <= 80 else str(text)[:77] + "...")
