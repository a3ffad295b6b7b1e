"""Where the server may connect to: judged by the address that is connected to, not by the name that was asked for.

A person who may store a connection chooses hosts that the *server* then talks to, from inside its network. Refused
for good are cloud metadata, link-local, unspecified, multicast, broadcast and reserved addresses. Loopback is refused
unless the operator allows it, private networks are allowed unless the operator refuses them. Of the operator's lists
the one of refusals wins. IPv6 addresses that carry an IPv4 address are judged by both.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from entrepot.model.errors import ForbiddenError, UsageError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Check = Callable[[str, str, int], None]
"""(host as it was asked for, address to connect to, port); raises when that is not allowed."""

METADATA_NAMES = frozenset(
    {
        "metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal",
        "metadata.azure.internal", "metadata.tencentyun.com", "metadata.packet.net", "metadata.platformequinix.com",
    }
)  # fmt: skip
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254", "169.254.170.2", "169.254.0.23", "100.100.100.200", "192.0.0.192", "168.63.129.16",
        "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42",
    )
)  # fmt: skip
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_ZEROS, _SIX_TO_FOUR, _TEREDO = (ipaddress.IPv6Network(t) for t in ("::/96", "2002::/16", "2001::/32"))
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_NOWHERE = ipaddress.IPv4Network("0.0.0.0/8")
_SITE = ipaddress.IPv6Network("fec0::/10")
_KEYWORDS = ("loopback", "private", "public")


class EgressRefused(ForbiddenError):
    """The policy does not let the server connect there. ``reason`` is one word for logs and metrics."""

    def __init__(self, message: str, *, reason: str = "", subject: str = "", hint: str = "") -> None:
        super().__init__(message, subject=subject, hint=hint, retryable=False)
        self.reason = reason


@dataclass(slots=True, frozen=True)
class Rule:
    """One line of a list: a network, a host, all hosts below a domain, or a kind of address; perhaps one port."""

    text: str
    network: Network | None = None
    host: str = ""
    domain: str = ""
    kind: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read ``10.0.0.0/8``, ``fd00::/8``, ``host``, ``*.domain``, each perhaps with ``:port``, or ``loopback``,
        ``private``, ``public``. Raises UsageError."""
        bare = text.strip()
        if bare.lower() in _KEYWORDS:
            return cls(bare, kind=bare.lower())
        place, port = _split_port(bare)
        try:
            return cls(bare, network=ipaddress.ip_network(place, strict=False), port=port)
        except ValueError:
            pass
        try:
            wild = place.startswith("*.")
            name, address = normal_host(place[2:] if wild else place)
        except EgressRefused:
            name, address, wild = "", None, False
        if address is not None and not wild:
            return cls(bare, network=ipaddress.ip_network(address), port=port)
        if not name or address is not None:
            raise UsageError(
                f"{text!r} is no rule for outgoing addresses",
                hint="a network (10.0.0.0/8), a host, *.domain, each perhaps with :port, or loopback, private, public",
            )
        return cls(bare, host="" if wild else name, domain=name if wild else "", port=port)

    def matches(self, name: str, addresses: Iterable[Address], port: int) -> bool:
        """Whether the rule speaks of this host, or of one of its address's forms, at this port."""
        if self.port and self.port != port:
            return False
        if self.host or self.domain:
            return name == self.host if self.host else name.endswith("." + self.domain)
        if self.kind:
            return any(_kind(address) == self.kind for address in addresses)
        network = self.network
        return any(network is not None and a.version == network.version and a in network for a in addresses)


@dataclass(slots=True, frozen=True)
class EgressPolicy:
    """The operator's lists. With ``exclusive`` only what ``allow`` names may be connected to."""

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    private: bool = True
    loopback: bool = False
    exclusive: bool = False

    @classmethod
    def of(
        cls,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        *,
        private: bool = True,
        loopback: bool = False,
        exclusive: bool = False,
    ) -> EgressPolicy:
        """Read the lists. Raises UsageError for a line that is no rule."""
        rules = tuple(Rule.parse(text) for text in allow), tuple(Rule.parse(text) for text in deny)
        return cls(*rules, private=private, loopback=loopback, exclusive=exclusive)

    def to_json(self) -> str:
        """For processes that the server starts elsewhere: they connect under the same policy."""
        lists = {"allow": [rule.text for rule in self.allow], "deny": [rule.text for rule in self.deny]}
        flags = {"private": self.private, "loopback": self.loopback, "exclusive": self.exclusive}
        return json.dumps(lists | flags)

    @classmethod
    def from_json(cls, text: str) -> EgressPolicy:
        """The reverse of :meth:`to_json`. Raises UsageError: no process runs under half a policy."""
        try:
            return cls.of(**json.loads(text))
        except (ValueError, TypeError):
            raise UsageError(
                "the policy for outgoing connections cannot be read", hint="start the process anew"
            ) from None

    def check(self, host: str, address: str, port: int) -> None:
        """Raise EgressRefused unless ``address`` may be connected to on behalf of ``host``. This is the gate: call
        it with the address that the socket is then connected to."""
        name, literal = normal_host(host)
        try:
            whole = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            raise _refused(host, "it has an address that is no IP address", "malformed") from None
        forms = _forms(whole)
        named = "" if literal is not None else name
        shown = "it is" if literal is not None else "it resolves to"
        self._check_never(host, named, forms, shown)
        if any(rule.matches(named, forms, port) for rule in self.deny):
            raise _refused(host, "the operator's list refuses it", "denied")
        if any(rule.matches(named, forms, port) for rule in self.allow):
            return
        if self.exclusive:
            raise _refused(host, "it is not on the operator's list", "unlisted")
        kinds = {_kind(form) for form in forms}
        if "loopback" in kinds and not self.loopback:
            raise _refused(host, f"{shown} a loopback address, this server itself", "loopback")
        if "private" in kinds and not self.private:
            raise _refused(host, f"{shown} an address of a private network", "private")

    def check_host(self, host: str, port: int = 0) -> str:
        """What can be said before a name is resolved: for early answers, never instead of :meth:`check`.

        Returns the normal form of the host. Raises EgressRefused.
        """
        name, literal = normal_host(host)
        if literal is not None:
            self.check(host, str(literal), port)
        else:
            self._check_never(host, name, (), "it is")
            if any(rule.matches(name, (), port) for rule in self.deny):
                raise _refused(host, "the operator's list refuses it", "denied")
        return name

    def check_url(self, url: str, schemes: Iterable[str] = ("http", "https")) -> tuple[str, str, int]:
        """(scheme, normal host, port) of a URL that may be tried. Raises EgressRefused.

        The URL must have one reading only: no user, password or fragment, no backslash, blank or control character.
        """
        if len(url) > 8192 or not url.isprintable() or any(c in url for c in "\\ \t#"):
            raise _refused("the URL", "it holds characters that clients read differently", "malformed")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise _refused("the URL", "it is malformed", "malformed") from None
        if parts.scheme not in tuple(schemes):
            raise _refused("the URL", f"only {', '.join(schemes)} may be used", "scheme")
        if "@" in parts.netloc:
            raise _refused("the URL", "it holds a user or password", "malformed")
        if port == 0:
            raise _refused("the URL", "it names the port 0", "malformed")
        port = port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        return parts.scheme, self.check_host(host, port), port

    def _check_never(self, host: str, name: str, forms: Iterable[Address], shown: str) -> None:
        if name in METADATA_NAMES:
            raise _refused(host, "it is the metadata service of a cloud", "metadata")
        for form in forms:
            why = _never(form)
            if why:
                raise _refused(host, f"{shown} {why}", why.split()[-2] if "metadata" not in why else "metadata")


def normal_host(host: str) -> tuple[str, Address | None]:
    """(normal form, address when the host is one, in whatever spelling). Raises EgressRefused for what is no host.

    Lower case, no dots at the end, no brackets, IDN as punycode; ``0x7f.1``, ``2130706433`` and ``0177.0.0.1`` are
    the address that resolvers take them for.
    """
    bare = host.strip(".") if host.endswith(".") and not host.startswith(".") else host
    if bare.startswith("[") and bare.endswith("]"):
        bare = bare[1:-1]
    if ":" in bare:
        try:
            address = ipaddress.IPv6Address(bare.partition("%")[0])
        except ValueError:
            raise _refused(host, "it is no host name", "malformed") from None
        return str(address), address
    name = _ascii(bare, host)
    number = _ipv4(name)
    if number is not None:
        return str(number), number
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or _NUMBER.fullmatch(labels[-1]):
        raise _refused(host, "it is no host name", "malformed")
    return name, None


def _ascii(text: str, host: str) -> str:
    try:
        # Nameprep folds full-width digits, other dots and the like, as resolvers and browsers do.
        return text.encode("idna").decode("ascii").lower().rstrip(".") if not text.isascii() else text.lower()
    except UnicodeError:
        raise _refused(host, "it is no host name", "malformed") from None


def _ipv4(name: str) -> IPv4Address | None:
    """The address that inet_aton reads: one to four numbers, decimal, octal or hexadecimal."""
    parts = name.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        return None
    *front, last = numbers
    if any(number > 255 for number in front) or last >= 256 ** (5 - len(numbers)):
        return None
    value = last
    for place, number in enumerate(front):
        value += number << (24 - 8 * place)
    return IPv4Address(value)


def _number(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text[2:] or "0", 16)
    if len(text) > 20:
        raise ValueError
    return int(text, 8) if text[0] == "0" else int(text)


def _split_port(text: str) -> tuple[str, int]:
    if text.startswith("["):
        place, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        place, _, port = text.partition(":")
    else:
        return text, 0
    if not port and not text.endswith(":"):
        return place, 0
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"{text!r}: {port!r} is no port", hint="a number from 1 to 65535")
    return place, int(port)


def _forms(address: Address) -> tuple[Address, ...]:
    """The address and the IPv4 addresses that it carries."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    value = int(address)
    if any(address in network for network in _NAT64) or (address in _ZEROS and value > 0xFFFF):
        return (address, IPv4Address(value & 0xFFFFFFFF))
    if address in _SIX_TO_FOUR:
        return (address, IPv4Address((value >> 80) & 0xFFFFFFFF))
    if address in _TEREDO:
        return (address, IPv4Address((value >> 64) & 0xFFFFFFFF), IPv4Address(~value & 0xFFFFFFFF))
    return (address,)


def _never(address: Address) -> str:
    """Why nothing may ever connect there; empty when something may."""
    if address in _METADATA:
        return "the address of a cloud's metadata service"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified or (address.version == 4 and address in _NOWHERE):
        return "an unspecified address"
    if address == IPv4Address("255.255.255.255"):
        return "a broadcast address"
    if address.version == 4 and address.is_reserved:
        return "a reserved address"
    return ""


def _kind(address: Address) -> str:
    if address.is_loopback:
        return "loopback"
    if address.version == 6 and (any(address in n for n in _NAT64) or address in _SIX_TO_FOUR or address in _TEREDO):
        return "public"  # a tunnel: what it carries is judged beside it
    return "public" if address.is_global and address not in _SITE else "private"


def _refused(host: str, why: str, reason: str) -> EgressRefused:
    shown = host if host.isprintable() and len(host) <= 255 else "this host"
    return EgressRefused(
        f"the server does not connect to {shown}: {why}",
        reason=reason,
        subject=shown,
        hint="an operator can change the policy for outgoing connections (egress_allow, egress_deny)"
        if reason in ("loopback", "private", "denied", "unlisted")
        else "use another address",
    )
