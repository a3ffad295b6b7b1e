"""OpenID Connect: bearer JWTs of one issuer, checked against its published keys and turned into a principal.

The issuer says who somebody is; the operator says by rules what that gives them. Signatures are of public keys only:
neither ``none`` nor a shared secret is ever accepted, whatever a token's header says. Fetching is injected, so that
it goes through the policy for outgoing connections.
"""

from __future__ import annotations

import json
import re
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from entrepot.model.errors import AuthenticationError, EntrepotError, UsageError

from .identity import Grant, Kind, Principal, Role

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
TOKEN_MAX = 16 << 10
KEYS_MAX = 1 << 20
FRESH = 3600.0
"""Seconds after which the keys are fetched again."""
STALE = 24 * 3600.0
"""Seconds for which old keys serve while the issuer cannot be reached."""
ASK_AGAIN = 60.0
"""Seconds between two fetches at least, however many unknown keys are named."""
RSA_MIN = 2048

_KEY_TYPE = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_RULE = re.compile(r"([^=]+)=(.*):(" + "|".join(Role) + r")(?:@(.*))?")
_WRONG = "the OpenID Connect token is not valid"

Fetch = Callable[[str], bytes]
"""The body of a URL; raises OSError or EntrepotError."""


def looks_like_one(text: str) -> bool:
    """Whether a bearer token is a JWT rather than a token of ours."""
    return text.startswith("eyJ") and text.count(".") == 2


@dataclass(slots=True, frozen=True)
class ClaimRule:
    """Who has ``value`` in ``claim`` gets ``grant``. The claim may lie deeper: ``realm_access.roles``."""

    claim: str
    value: str
    grant: Grant

    @classmethod
    def parse(cls, text: str) -> ClaimRule:
        """Read ``CLAIM=VALUE:ROLE[@SCOPE]``. Raises UsageError."""
        found = _RULE.fullmatch(text.strip())
        if not found or not found[2]:
            raise UsageError(
                f"{text!r} is no rule for roles",
                hint=f"write CLAIM=VALUE:ROLE or CLAIM=VALUE:ROLE@SCOPE, ROLE one of {', '.join(Role)}",
            )
        return cls(found[1].strip(), found[2], Grant(Role(found[3]), found[4] or ""))


@dataclass(slots=True, frozen=True)
class Issuer:
    """Whose tokens are accepted, for whom they must be, and what they give."""

    url: str
    audience: str
    rules: tuple[ClaimRule, ...] = ()
    algorithms: tuple[str, ...] = ALGORITHMS
    leeway: int = 60
    """Seconds that the clocks may differ."""
    keys_url: str = ""
    """Where the keys are; empty: where the issuer's discovery document says."""

    def __post_init__(self) -> None:
        at = urlsplit(self.url)
        safe = at.scheme == "https" or (at.scheme == "http" and at.hostname in ("localhost", "127.0.0.1", "::1"))
        if not safe or not at.hostname or not self.audience:
            raise UsageError("OpenID Connect needs an issuer (https://…) and an audience", hint="set both or neither")
        unknown = set(self.algorithms) - set(ALGORITHMS)
        if unknown or not self.algorithms:
            raise UsageError(
                f"these algorithms cannot be accepted: {', '.join(sorted(unknown)) or 'none'}",
                hint="of: " + ", ".join(ALGORITHMS),
            )

    @classmethod
    def of(cls, url: str, audience: str, rules: Iterable[str] = (), **more: Any) -> Issuer:
        """As the constructor, with rules as text. Raises UsageError."""
        return cls(url, audience, tuple(ClaimRule.parse(rule) for rule in rules), **more)


class Verifier:
    """Checks tokens of one issuer; keeps its keys. Any number of threads may use it."""

    def __init__(self, issuer: Issuer, fetch: Fetch, clock: Callable[[], float]) -> None:
        self.issuer = issuer
        self._keys = _Keys(issuer, fetch, clock)
        self._clock = clock

    def authenticate(self, token: str) -> Principal:
        """The one whom the token speaks of. Raises AuthenticationError."""
        claims = self._claims(token)
        subject = claims["sub"]
        if not subject or len(subject) > 255 or not subject.isprintable():
            raise AuthenticationError(_WRONG, hint="its claim sub is empty or too long")
        name = (
            f"oidc:{_name(claims) or subject}"  # never that of a user of ours, whatever the issuer lets people choose
        )
        grants = tuple(dict.fromkeys(rule.grant for rule in self.issuer.rules if _holds(claims, rule)))
        return Principal(f"oidc:{subject}", name, Kind.USER, grants, token_id=f"oidc:{subject}"[:64])

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            from joserfc import jwt
            from joserfc.errors import ExpiredTokenError, JoseError
        except ImportError:
            raise UsageError("OpenID Connect needs joserfc", hint="pip install 'entrepot[server]'") from None
        header = _header(token)
        algorithm = header.get("alg")
        if algorithm not in self.issuer.algorithms:
            raise AuthenticationError(_WRONG, hint="its algorithm is not accepted")
        if "crit" in header or str(header.get("typ", "JWT")).lower() not in ("jwt", "at+jwt", "application/at+jwt"):
            raise AuthenticationError(_WRONG, hint="it is of another kind than an ID or access token")
        key = self._keys.find(header.get("kid"), algorithm)
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=self.issuer.leeway,
            iss={"essential": True, "value": self.issuer.url},
            aud={"essential": True, "value": self.issuer.audience},
            sub={"essential": True},
            exp={"essential": True},
        )
        try:
            found = jwt.decode(token, key, algorithms=[algorithm])
            registry.validate(found.claims)
        except ExpiredTokenError:
            raise AuthenticationError("the OpenID Connect token has expired", hint="log in again") from None
        except (JoseError, ValueError, TypeError) as fault:
            # The name of the error, not its text: that may quote the token.
            raise AuthenticationError(_WRONG, hint=f"{type(fault).__name__}{_claim_of(fault)}") from None
        return dict(found.claims)


class _Keys:
    """The issuer's keys, fetched when they are old or when one is named that is not among them."""

    def __init__(self, issuer: Issuer, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._keys: list[Any] = []
        self._loaded = self._asked = float("-inf")
        self._lock = threading.Lock()

    def find(self, key_id: object, algorithm: str) -> Any:
        """The key. Raises AuthenticationError."""
        now = self._clock()
        key = self._pick(key_id, algorithm) if now - self._loaded <= FRESH else None
        if key is None:
            self._refresh()
            key = self._pick(key_id, algorithm) if now - self._loaded <= STALE else None
        if key is None:
            raise AuthenticationError(_WRONG, hint="the issuer has published no key that fits it")
        return key

    def _pick(self, key_id: object, algorithm: str) -> Any:
        fitting = [key for key in self._keys if _fits(key, algorithm)]
        if key_id is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.kid == key_id), None)

    def _refresh(self) -> None:
        with self._lock:
            now = self._clock()
            if now - self._asked < ASK_AGAIN:
                return
            self._asked = now
            try:
                keys = _parse_keys(self._fetch(self._keys_url()))
            except (OSError, EntrepotError, ValueError, KeyError, TypeError, AttributeError):
                return  # the keys that are there go on for a while
            self._keys, self._loaded = keys, now

    def _keys_url(self) -> str:
        if self._issuer.keys_url:
            return self._issuer.keys_url
        found = _json(self._fetch(self._issuer.url.rstrip("/") + "/.well-known/openid-configuration"))
        if found["issuer"] != self._issuer.url:
            raise ValueError("the discovery document is of another issuer")
        url = str(found["jwks_uri"])
        if urlsplit(self._issuer.url).scheme == "https" and urlsplit(url).scheme != "https":
            raise ValueError("the keys are not behind TLS")
        return url


def _parse_keys(text: bytes) -> list[Any]:
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry

    keys = []
    for one in _json(text)["keys"]:
        if not isinstance(one, dict) or one.get("kty") not in ("RSA", "EC", "OKP") or one.get("use", "sig") != "sig":
            continue
        public = {k: v for k, v in one.items() if k not in ("d", "p", "q", "dp", "dq", "qi", "oth", "k")}
        try:
            key: Any = JWKRegistry.import_key(public)
            if key.key_type == "RSA" and key.raw_value.key_size < RSA_MIN:
                continue
            keys.append(key)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            continue  # a kind of key from after our time
    return keys


def _fits(key: Any, algorithm: str) -> bool:
    named = key.get("alg")
    return key.key_type == _KEY_TYPE[algorithm[:2]] and named in (None, algorithm)


def _json(text: bytes) -> dict[str, Any]:
    if len(text) > KEYS_MAX:
        raise ValueError("too long")
    found: dict[str, Any] = json.loads(text)
    return found


def _header(token: str) -> dict[str, Any]:
    if len(token) > TOKEN_MAX or not token.isascii() or token.count(".") != 2:
        raise AuthenticationError(_WRONG, hint="it is no signed JWT, or too long")
    try:
        head = token.partition(".")[0]
        found = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise AuthenticationError(_WRONG, hint="its header cannot be read")
    return found


def _claim_of(fault: Exception) -> str:
    claim = getattr(fault, "claim", "")
    return f": {claim}" if isinstance(claim, str) and claim else ""


def _name(claims: Mapping[str, Any]) -> str:
    for claim in ("preferred_username", "email", "name"):
        value = claims.get(claim)
        if isinstance(value, str) and value.strip() and value.isprintable():
            return value.strip()[:128]
    return ""


def _holds(claims: Mapping[str, Any], rule: ClaimRule) -> bool:
    if rule.claim == "email" and claims.get("email_verified") is not True:
        return False  # anybody can enter any address somewhere
    found = _claim(claims, rule.claim)
    if isinstance(found, str):
        return rule.value in (found.split() if rule.claim in ("scope", "scp") else [found])
    if isinstance(found, bool):
        return rule.value == str(found).lower()
    return isinstance(found, list) and any(isinstance(one, str) and one == rule.value for one in found)


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    if path in claims:
        return claims[path]  # names of claims may hold dots: https://example.org/roles
    found: Any = claims
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found
