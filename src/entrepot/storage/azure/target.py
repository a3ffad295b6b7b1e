"""Where an Azure Blob request goes: account, container, endpoint and credentials.

Hosts: ``account.blob.core.windows.net`` and its sisters in other clouds (``.blob.core.chinacloudapi.cn``),
where the account is part of the name; and endpoints that carry the account in the path, as Azurite and Azure
Stack do (``http://127.0.0.1:10000/account``). A :class:`Profile` says what the service turned out to honour;
store and lane share one target, so what one learns the other uses at once.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from entrepot.model.connection import Connection
from entrepot.model.errors import UsageError
from entrepot.model.location import Location
from entrepot.model.secret import Secret

SUFFIX = "core.windows.net"
CHINA_SUFFIX = "core.chinacloudapi.cn"
DEVELOPMENT_ACCOUNT = "devstoreaccount1"
DEVELOPMENT_ENDPOINT = "http://127.0.0.1:10000/devstoreaccount1"
DEVELOPMENT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key that every emulator has: published in its manual, and no secret."""
CREDENTIALS_HINT = (
    "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN (or "
    "AZURE_STORAGE_CONNECTION_STRING), or store the place with `entrepot connection add`"
)


@dataclass(slots=True)
class Profile:
    """What the service honours. Mutable: replies teach."""

    start_from: bool | None = None
    """``startFrom`` of List Blobs (service version 2026-02-06): None until a reply has shown it."""
    put_from_url: bool = True
    """Put Blob From URL is offered (Azurite does not know it: Copy Blob From URL is used there)."""


@dataclass(slots=True)
class AzureTarget:
    """One container at one account. ``base_path`` begins and ends with ``/``; the account may stand in it."""

    account: str
    container: str
    host: str
    port: int
    tls: bool
    base_path: bytes = b"/"
    key: Secret = field(default_factory=lambda: Secret(""))
    sas: Secret = field(default_factory=lambda: Secret(""))
    verify: bool = True
    ca_file: str = ""
    clock_offset: float = 0.0
    """Server time minus ours, in seconds; added to the clock when signing (learned from Date)."""
    profile: Profile = field(default_factory=Profile)

    @property
    def host_header(self) -> bytes:
        """Value of the Host header."""
        bare = f"[{self.host}]" if ":" in self.host else self.host
        standard = self.port == (443 if self.tls else 80)
        return (bare if standard else f"{bare}:{self.port}").encode("idna" if not bare.isascii() else "ascii")

    @property
    def path_prefix(self) -> bytes:
        """What stands before the encoded key in a request path."""
        return self.base_path + self.container.encode() + b"/"

    @property
    def endpoint(self) -> str:
        """URL of the account, without credentials: for messages and as a canonical name."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{self.host_header.decode()}{self.base_path.decode().rstrip('/')}"


def target_of(
    location: Location, connection: Connection | None = None, environ: Mapping[str, str] | None = None
) -> AzureTarget:
    """The target of ``location``, from a stored connection or from the environment.

    Raises UsageError when no account is named or the endpoint is no URL. No credentials at all means
    anonymous access, which public containers allow.
    """
    env = os.environ if environ is None else environ
    account, suffix = _account_of(location.account)
    if connection is not None and not _blank(connection):
        found = _from_connection(connection)
    else:
        found = _from_environment(env, account)
    account = account or found.account
    if not account:
        raise UsageError(f"{location}: no storage account named", hint=CREDENTIALS_HINT)
    endpoint = found.endpoint
    if location.account and suffix:
        endpoint = f"https://{account}.blob.{suffix}"
    elif not endpoint:
        endpoint = f"{found.protocol}://{account}.blob.{found.suffix}"
    tls, host, port, base_path = _endpoint(endpoint, account, found.addressing)
    _check_container(location)
    return AzureTarget(
        account=account,
        container=location.bucket,
        host=host,
        port=port,
        tls=tls,
        base_path=base_path,
        key=found.key,
        sas=found.sas,
        verify=found.verify,
        ca_file=found.ca_file,
    )


@dataclass(slots=True)
class _Found:
    account: str = ""
    key: Secret = field(default_factory=lambda: Secret(""))
    sas: Secret = field(default_factory=lambda: Secret(""))
    endpoint: str = ""
    suffix: str = SUFFIX
    protocol: str = "https"
    addressing: str = "auto"
    verify: bool = True
    ca_file: str = ""


def _blank(connection: Connection) -> bool:
    """True for a connection that says nothing: the environment answers then."""
    return not (
        connection.endpoint or connection.access_key or connection.secret_key or connection.sas or connection.options
    )


def _from_connection(connection: Connection) -> _Found:
    text = connection.options.get("connection_string", "")
    found = _from_connection_string(text) if text else _Found()
    found.account = connection.access_key or found.account
    found.key = connection.secret_key or found.key
    found.sas = _sas(connection.sas.reveal()) if connection.sas else found.sas
    found.endpoint = connection.endpoint or found.endpoint
    if connection.disable_ssl:
        found.protocol = "http"
    if connection.region.lower().startswith("china"):
        found.suffix = CHINA_SUFFIX
    found.addressing = connection.addressing
    found.verify = not connection.insecure_skip_verify
    found.ca_file = connection.ca_file
    return found


def _from_environment(env: Mapping[str, str], account: str) -> _Found:
    text = env.get("AZURE_STORAGE_CONNECTION_STRING", "")
    found = _from_connection_string(text) if text else _Found()
    found.account = env.get("AZURE_STORAGE_ACCOUNT", "") or env.get("AZURE_STORAGE_ACCOUNT_NAME", "") or found.account
    key = env.get("AZURE_STORAGE_KEY", "") or env.get("AZURE_STORAGE_ACCESS_KEY", "")
    found.key = Secret(key) if key else found.key
    sas = env.get("AZURE_STORAGE_SAS_TOKEN", "")
    found.sas = _sas(sas) if sas else found.sas
    found.endpoint = env.get("AZURE_STORAGE_ENDPOINT", "") or found.endpoint
    found.ca_file = env.get("AZURE_STORAGE_CA_FILE", "")
    if account and found.account and account != found.account:
        # Another account's location must not be signed with this one's key, nor sent to its endpoint.
        return _Found(account=account, suffix=found.suffix, ca_file=found.ca_file)
    return found


def _from_connection_string(text: str) -> _Found:
    fields: dict[str, str] = {}
    for piece in text.split(";"):
        name, equals, value = piece.strip().partition("=")
        if name and not equals:
            raise UsageError(
                "the storage connection string is malformed: a piece without '='",
                hint="it has the form DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…",
            )
        fields[name.lower()] = value
    found = _Found(
        account=fields.get("accountname", ""),
        key=Secret(fields.get("accountkey", "")),
        sas=_sas(fields.get("sharedaccesssignature", "")),
        endpoint=fields.get("blobendpoint", ""),
        suffix=fields.get("endpointsuffix", "") or SUFFIX,
        protocol=fields.get("defaultendpointsprotocol", "") or "https",
    )
    if fields.get("usedevelopmentstorage", "").lower() == "true":
        found.account = DEVELOPMENT_ACCOUNT
        found.key = found.key or Secret(DEVELOPMENT_KEY)
        found.endpoint = found.endpoint or DEVELOPMENT_ENDPOINT
    if not found.account and found.endpoint:
        found.account = _account_in(urlsplit(found.endpoint))
    return found


def _sas(text: str) -> Secret:
    return Secret(text.strip().lstrip("?&").rstrip("&"))


def _account_of(text: str) -> tuple[str, str]:
    """(account, endpoint suffix) of what stands behind the ``@`` of a wasb or abfs location."""
    host, _, _ = text.partition(":")
    account, _, rest = host.partition(".")
    service, _, suffix = rest.partition(".")
    if rest and service not in {"blob", "dfs"}:
        raise UsageError(
            f"{text}: not a storage account", hint="write wasb://container@account.blob.core.windows.net/path"
        )
    return account, suffix


def _endpoint(url: str, account: str, addressing: str) -> tuple[bool, str, int, bytes]:
    if "://" not in url:
        url = f"https://{url}"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
        raise UsageError(
            "the blob endpoint is not a plain http or https URL",
            hint="for example https://account.blob.core.windows.net",
        )
    try:
        port = parts.port
    except ValueError:
        raise UsageError(f"{parts.hostname}: the endpoint's port is not a number") from None
    tls = parts.scheme == "https"
    host = parts.hostname
    path = parts.path.strip("/")
    wants_path = addressing == "path" or (addressing == "auto" and _bare_host(host))
    if wants_path and path.rpartition("/")[2] != account:
        path = f"{path}/{account}".lstrip("/")
    elif addressing == "virtual" and not host.startswith(f"{account}."):
        host = f"{account}.{host}"
    base = f"/{path}/" if path else "/"
    return tls, host, port or (443 if tls else 80), base.encode()


def _bare_host(host: str) -> bool:
    """True for an address or a name without dots: no account can stand in it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host
    return True


def _account_in(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if _bare_host(host):
        return parts.path.strip("/").partition("/")[0]
    return host.partition(".")[0]


def _check_container(location: Location) -> None:
    name = location.bucket
    plain = name.replace("-", "").replace("$", "")
    if not plain.isascii() or not plain.isalnum():
        raise UsageError(
            f"{location}: {name!r} is not a container name", hint="letters, digits and single hyphens only"
        )
