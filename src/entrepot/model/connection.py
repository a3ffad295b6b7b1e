"""Connections: endpoint, credentials and options of an outside place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .secret import Secret

Provider = Literal[
    "s3", "aoss", "oss", "cos", "obs", "bos", "ks3", "qiniu", "ufile", "minio", "seaweedfs", "generic",
    "azure", "gcs", "webdav", "sftp", "hdfs",
]  # fmt: skip
Addressing = Literal["auto", "path", "virtual"]


@dataclass(slots=True, frozen=True)
class Connection:
    """Everything needed to open stores at one endpoint.

    ``endpoint`` is a URL without bucket (empty: the provider's own for ``region``). For azure ``access_key`` is
    the account and ``secret_key`` the account key; ``sas`` is a SAS query string. ``options`` holds provider-specific
    extras as text.
    """

    name: str
    provider: Provider
    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: Secret = field(default_factory=lambda: Secret(""))
    session_token: Secret = field(default_factory=lambda: Secret(""))
    sas: Secret = field(default_factory=lambda: Secret(""))
    addressing: Addressing = "auto"
    insecure_skip_verify: bool = False
    disable_ssl: bool = False
    ca_file: str = ""
    profile: str = ""
    requester_pays: bool = False
    options: dict[str, str] = field(default_factory=dict)
