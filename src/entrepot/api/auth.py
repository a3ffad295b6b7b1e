"""From the headers of a request to who is asking, and what every endpoint is given."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Annotated, Any

from fastapi import Depends, Request

from entrepot.control.context import Control
from entrepot.control.identify import Presented
from entrepot.model.errors import AuthenticationError
from entrepot.model.secret import Secret
from entrepot.security import signing
from entrepot.security.identity import Principal

PUBLIC = frozenset({"/healthz", "/readyz", "/docs", "/docs/page.js", "/docs/page.css"})
"""What answers without credentials. Everything else, also what does not exist, wants them."""


@dataclass(slots=True, frozen=True)
class Asked:
    """What an endpoint knows about its request besides its fields."""

    control: Control
    who: Principal
    request: Request

    @property
    def request_id(self) -> str:
        """The request's id, as the answer's X-Request-Id has it."""
        return str(self.request.scope["state"]["request_id"])

    @property
    def body(self) -> bytes:
        """The request's body as it came."""
        return bytes(self.request.scope["state"]["body"])


async def asked(request: Request) -> Asked:
    """The door let this request in, so somebody asks it."""
    return Asked(request.app.state.control, request.scope["state"]["who"], request)


Ask = Annotated[Asked, Depends(asked)]
"""The type of an endpoint's first parameter: ``def endpoint(ask: Ask, …)``."""


def presented(headers: dict[bytes, bytes]) -> Presented:
    """The credentials in a request's headers. Raises AuthenticationError for a scheme that is not known."""
    authorization = _text(headers.get(b"authorization", b"")).strip()
    if not authorization:
        return Presented(Secret(_text(headers.get(b"x-auth-token", b"")).strip()))
    if signing.is_signed(authorization):
        return Presented(authorization=authorization, x_date=_text(headers.get(b"x-date", b"")))
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise AuthenticationError(
            "the scheme of the Authorization header is not known", hint="send Bearer TOKEN, or a signature: hmac …"
        )
    return Presented(Secret(rest.strip()))


def address_of(scope: Any, headers: dict[bytes, bytes], trusted: tuple[str, ...]) -> str:
    """Where the request comes from: the peer, or what trusted proxies say before it."""
    client = scope.get("client")
    address = str(client[0]) if client else ""
    if not trusted or not _within(address, trusted):
        return address
    for hop in reversed(_text(headers.get(b"x-forwarded-for", b"")).split(",")):
        found = hop.strip()
        if not _is_address(found):
            break
        address = found
        if not _within(found, trusted):
            break
    return address


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _within(text: str, networks: tuple[str, ...]) -> bool:
    try:
        found = ip_address(text)
        return any(found in ip_network(network, strict=False) for network in networks)
    except ValueError:
        return False
