"""Where a server is, who asks, and how patiently."""

from __future__ import annotations

import os
import ssl
from typing import Any
from urllib.parse import urlsplit

import entrepot
from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret

from .token import find_token

TIMEOUT = 60.0
RETRIES = 4
PATIENCE = 120.0


class Settings:
    """As given, else from ENTREPOT_SERVER and ENTREPOT_TOKEN (or ENTREPOT_TOKEN_FILE). Raises UsageError."""

    def __init__(
        self,
        server: str = "",
        token: str | Secret = "",
        *,
        token_file: str = "",
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        patience: float = PATIENCE,
        ca_file: str = "",
        insecure_skip_verify: bool = False,
        transport: Any = None,
    ) -> None:
        self.server = _checked(server or os.environ.get("ENTREPOT_SERVER", ""))
        self.token = find_token(token, token_file)
        self.timeout = timeout
        self.retries = retries
        self.patience = patience
        self.transport = transport
        self._ca_file = ca_file
        self._verify = not insecure_skip_verify

    def options(self) -> dict[str, Any]:
        """What both kinds of HTTP clients are made with."""
        import httpx

        headers = {"User-Agent": f"entrepot/{entrepot.__version__}", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token.reveal()}"
        return {
            "base_url": self.server,
            "headers": headers,
            "timeout": httpx.Timeout(self.timeout, connect=min(10.0, self.timeout)),
            "verify": self._trust(),
            "follow_redirects": False,
            "trust_env": False,
            "transport": self.transport,
        }

    def _trust(self) -> ssl.SSLContext | bool:
        if not self.server.startswith("https://"):
            return False
        try:
            context = ssl.create_default_context(cafile=self._ca_file or None)
        except (OSError, ssl.SSLError) as fault:
            why = getattr(fault, "strerror", None) or "no certificate in it"
            raise UsageError(f"the certificate file {self._ca_file} cannot be read: {why}") from None
        if not self._verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif not self._ca_file:
            _trust_certifi(context)
        return context


def _trust_certifi(context: ssl.SSLContext) -> None:
    """Beside what the system trusts: a small machine may know no authorities at all."""
    try:
        import certifi
    except ImportError:
        return
    context.load_verify_locations(certifi.where())


def _checked(server: str) -> str:
    hint = "write https://HOST:PORT, or set ENTREPOT_SERVER"
    if not server:
        raise UsageError("no server is named", hint=hint)
    try:
        parts = urlsplit(server)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        near = "://" not in server and " " not in server
        raise UsageError(f"{server!r} is no address of a server", hint=f"write https://{server}" if near else hint)
    if parts.username or parts.password:
        raise UsageError("the address of a server holds a user or password", hint="use a token")
    if parts.query or parts.fragment:
        raise UsageError(f"{server!r} is no address of a server: it has a query", hint=hint)
    return server.rstrip("/")
