"""The issuer of OpenID Connect tokens that a server accepts: made of its settings, its keys fetched like all else."""

from __future__ import annotations

import http.client
import ssl
import time
from urllib.parse import urlsplit

from entrepot.security.oidc import KEYS_MAX, Issuer, Verifier
from entrepot.storage.wire import resolve

from .settings import Settings

SECONDS = 10.0


def verifier_of(settings: Settings) -> Verifier | None:
    """What checks tokens of the issuer in the settings; None when there is none. Raises UsageError."""
    if not settings.oidc_issuer:
        return None
    issuer = Issuer.of(settings.oidc_issuer, settings.oidc_audience, settings.oidc_grants)
    return Verifier(issuer, fetch, time.time)


def fetch(url: str) -> bytes:
    """The body of ``url``, from an address that the policy for outgoing connections allows; no redirect is followed.

    Raises OSError, or the policy's refusal.
    """
    at = urlsplit(url)
    secure = at.scheme == "https"
    port = at.port or (443 if secure else 80)
    connection = http.client.HTTPConnection(at.hostname or "", port, timeout=SECONDS)
    sock = resolve.connect(at.hostname or "", port, SECONDS)
    try:
        if secure:
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=at.hostname)
        connection.sock = sock
        connection.request("GET", (at.path or "/") + (f"?{at.query}" if at.query else ""))
        reply = connection.getresponse()
        if reply.status != 200:
            raise OSError(f"{at.hostname} answered {reply.status}")
        body = reply.read(KEYS_MAX + 1)
        if len(body) > KEYS_MAX:
            raise OSError(f"{at.hostname} answered too much")
        return body
    except http.client.HTTPException as fault:
        raise OSError(f"{at.hostname} gave no proper answer: {type(fault).__name__}") from None
    finally:
        sock.close()
