"""From a connection to a target: which host, region, addressing style and profile a provider's endpoint has."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal
from urllib.parse import urlsplit

from entrepot.model.connection import Connection
from entrepot.model.errors import UsageError

from .credentials import credential_source
from .providers import GIB, PROVIDERS, Provider
from .target import Profile, S3Target

_GENERIC = Profile()
_DNS_BUCKET = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")


def resolve(connection: Connection, bucket: str) -> S3Target:
    """The target that ``connection`` means for ``bucket``. Raises UsageError for an endpoint that is none."""
    provider = PROVIDERS.get(connection.provider)
    if provider is None:
        raise UsageError(f"{connection.provider} is no provider of the S3 family")
    tls, host, port, path = endpoint_parts(connection, provider)
    host = s3_host(provider, _without_bucket(provider, host, bucket))
    profile = new_profile(connection.provider)
    style = first_style(connection.addressing, profile.addressing, provider, host=host, bucket=bucket, tls=tls)
    if connection.addressing != "auto":
        profile.addressing = connection.addressing
    return S3Target(
        endpoint_host=host,
        port=port,
        tls=tls,
        bucket=bucket,
        region=_signing_region(connection, provider, host),
        credentials=credential_source(connection),
        profile=profile,
        base_path=path,
        verify=not connection.insecure_skip_verify,
        ca_file=connection.ca_file,
        requester_pays=connection.requester_pays,
        style=style,
    )


def _signing_region(connection: Connection, provider: Provider, host: str) -> str:
    if not connection.region:
        return region_of(provider, host)
    if connection.endpoint:
        return connection.region
    return provider.signing.get(connection.region, connection.region)


def new_profile(provider: str) -> Profile:
    """A fresh profile of a provider, as published."""
    values = dict(PROVIDERS[provider].profile)
    if "part_fixed" not in values:
        values.setdefault("part_max", 5 * GIB)
    return Profile(provider=provider, **values)  # type: ignore[arg-type]


def endpoint_parts(connection: Connection, provider: Provider) -> tuple[bool, str, int, bytes]:
    """(tls, host, port, base path ending in ``/``) of a connection's endpoint."""
    text = connection.endpoint
    if not text:
        if not provider.endpoint:
            raise UsageError(
                f"no endpoint for provider {connection.provider}",
                hint="set AWS_ENDPOINT_URL, or entrepot connection add NAME --endpoint https://HOST",
            )
        region = region_in_hosts(provider, connection.region or provider.region)
        suffix = ".cn" if connection.provider == "s3" and region.startswith("cn-") else ""
        text = "https://" + provider.endpoint.format(region=region) + suffix
    elif "://" not in text:
        text = f"{'http' if connection.disable_ssl else 'https'}://{text}"
    return _split(text, connection.disable_ssl)


def _split(text: str, disable_ssl: bool) -> tuple[bool, str, int, bytes]:
    try:
        parts = urlsplit(text)
        port = parts.port
        host = (parts.hostname or "").encode("ascii" if (parts.hostname or "").isascii() else "idna").decode()
    except ValueError:
        raise UsageError("the endpoint is no URL", hint="write https://HOST[:PORT]") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "the endpoint holds a user name or password", hint="leave them out of the URL: give keys instead"
        )
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise UsageError(
            f"{text.partition('?')[0]!r} is no endpoint", hint="write https://HOST[:PORT], without the bucket"
        )
    tls = parts.scheme == "https" and not disable_ssl
    path = parts.path.rstrip("/").encode() + b"/"
    return tls, host, port or (443 if tls else 80), path


def s3_host(provider: Provider, host: str) -> str:
    """The host that speaks S3, for a host of the provider's own API; other hosts as they are."""
    for pattern, replacement in provider.native:
        if re.match(pattern, host):
            return re.sub(pattern, replacement, host)
    return host


def region_of(provider: Provider, host: str) -> str:
    """The signing region that ``host`` names, else the provider's default."""
    for pattern in provider.region_in_host:
        found = re.match(pattern, host)
        if found:
            return provider.signing.get(found.group(1), found.group(1))
    return provider.region


def region_in_hosts(provider: Provider, region: str) -> str:
    """A signing region as the provider's hosts write it."""
    return next((name for name, signed in provider.signing.items() if signed == region), region)


def other_spelling(target: S3Target) -> str:
    """The other way to write the target's signing region where sources print two; empty if there is none."""
    provider = PROVIDERS[target.profile.provider]
    other = provider.signing.get(target.region) or region_in_hosts(provider, target.region)
    return "" if other == target.region else other


def provider_of(host: str) -> str:
    """The provider that runs an endpoint host; ``generic`` for hosts of nobody known."""
    for name, provider in PROVIDERS.items():
        if any(host == domain or host.endswith("." + domain) for domain in provider.domains):
            return name
    return "generic"


def first_style(
    asked: str, usual: str, provider: Provider, *, host: str, bucket: str, tls: bool
) -> Literal["path", "virtual"]:
    """The addressing style to begin with.

    Path style wherever a bucket cannot stand in the host: an address instead of a name, a bucket that is no
    DNS label, or one with dots over TLS (no wildcard certificate covers it).
    """
    if not fits_in_host(host, bucket, tls):
        return "path"
    if asked != "auto":
        return "virtual" if asked == "virtual" else "path"
    if usual == "auto":
        known = any(host.endswith("." + domain) for domain in provider.domains)
        return "virtual" if known else "path"
    return "virtual" if usual == "virtual" else "path"


def fits_in_host(host: str, bucket: str, tls: bool) -> bool:
    """True when ``bucket.host`` can be connected to."""
    if not bucket or not _DNS_BUCKET.match(bucket) or (tls and "." in bucket):
        return False
    if "." not in host and host != "localhost":
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def recognise(profile: Profile, server: str) -> None:
    """Take over what is known of a server that names itself in ``Server``, where the endpoint's kind was open."""
    found = {"seaweedfs": "seaweedfs", "minio": "minio"}.get(server.lower().partition(" ")[0].partition("/")[0])
    if found is None or profile.provider != "generic":
        return
    for name, value in PROVIDERS[found].profile.items():
        if name != "addressing" and getattr(profile, name) in {None, getattr(_GENERIC, name)}:
            setattr(profile, name, value)
    profile.provider = found


def move(target: S3Target, region: str) -> None:
    """Go on in another region: sign for it, and where the host names the region use the host of that one."""
    provider = PROVIDERS[target.profile.provider]
    former = region_in_hosts(provider, region_of(provider, target.endpoint_host))
    if any(re.match(p, target.endpoint_host) for p in provider.region_in_host):
        target.endpoint_host = target.endpoint_host.replace(former, region_in_hosts(provider, region))
    elif target.endpoint_host == "s3.amazonaws.com":
        target.endpoint_host = f"s3.{region}.amazonaws.com"
    target.region = region
    target.use(target.style)


def canonical_endpoint(target: S3Target) -> str:
    """One name for all ways to write an endpoint: with or without TLS, internal or public host, localhost.

    Amazon's bucket names are unique in the world, so there the region says nothing.
    """
    provider = PROVIDERS[target.profile.provider]
    host = target.endpoint_host.lower().rstrip(".")
    if target.profile.provider == "s3" and host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return "amazonaws.com.cn" if host.endswith(".cn") else "amazonaws.com"
    if any(host.endswith("." + domain) for domain in provider.domains):
        host = host.replace("-internal.", ".").replace("-external.", ".").removeprefix("internal.")
    if host in {"localhost", "::1", "0.0.0.0"}:
        host = "127.0.0.1"
    port = "" if target.port in {80, 443} else f":{target.port}"
    return f"{host}{port}{target.base_path.decode('latin-1').rstrip('/')}"


def _without_bucket(provider: Provider, host: str, bucket: str) -> str:
    """Drop a bucket that someone wrote into a provider's host."""
    rest = host.removeprefix(f"{bucket}.") if bucket else host
    return rest if any(rest.endswith("." + domain) for domain in provider.domains) else host
