"""OpenID Connect tokens: good ones, forged ones, key rotation at the issuer, and what claims give."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey

from entrepot.model.errors import AuthenticationError, UsageError
from entrepot.security.identity import Action, Grant, Role, allows
from entrepot.security.oidc import ASK_AGAIN, FRESH, STALE, ClaimRule, Issuer, Verifier, looks_like_one

URL = "https://login.example"
NOW = 1_700_000_000.0
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
OTHER = ECKey.generate_key("P-256", {"kid": "ec"})
FRESH_KEY = ECKey.generate_key("P-256", {"kid": "fresh"})
ISSUER = Issuer.of(
    URL, "entrepot", ["groups=port:operator@team", "email=root@example.org:admin", "realm.roles=see:reader"]
)


class Site:
    """The issuer's web site: documents by URL, and how often each was asked for."""

    def __init__(self, *keys: Any) -> None:
        self.keys: list[Any] = list(keys)
        self.down = False
        self.asked: list[str] = []
        self.discovery: dict[str, Any] = {"issuer": URL, "jwks_uri": f"{URL}/keys"}
        self.extra: list[dict[str, Any]] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if self.down:
            raise OSError("no route")
        if url.endswith("/.well-known/openid-configuration"):
            return json.dumps(self.discovery).encode()
        return json.dumps({"keys": [k.as_dict(private=False) for k in self.keys] + self.extra}).encode()


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def made(key: Any = EC, alg: str = "ES256", head: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {"iss": URL, "aud": "entrepot", "sub": "u-1", "iat": int(NOW), "exp": int(NOW) + 300} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    header = {"alg": alg, "kid": key.kid} | (head or {})
    return jwt.encode({k: v for k, v in header.items() if v is not None}, claims, key, algorithms=[alg])


@pytest.fixture
def site() -> Site:
    return Site(RSA, EC, ED)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(site: Site, clock: Clock) -> Verifier:
    return Verifier(ISSUER, site, clock)


@pytest.mark.parametrize(("key", "alg"), [(RSA, "RS256"), (RSA, "PS512"), (EC, "ES256"), (ED, "Ed25519")])
def test_a_good_token_says_who_it_is(verifier: Verifier, key: Any, alg: str) -> None:
    token = made(key, alg, preferred_username="ana", groups=["x", "port"])
    assert looks_like_one(token)
    who = verifier.authenticate(token)
    assert (who.id, who.name, who.grants) == ("oidc:u-1", "oidc:ana", (Grant(Role.OPERATOR, "team"),))
    assert allows(who, Action.TASK_CREATE, "team/x") and not allows(who, Action.TASK_READ, "other")


def test_a_stranger_to_the_rules_is_known_and_may_nothing(verifier: Verifier) -> None:
    who = verifier.authenticate(made())
    assert who.name == "oidc:u-1" and who.grants == ()


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"iss": "https://evil.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": ["other", "more"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": "x" * 300}, "sub"),
        ({"sub": "a\nb"}, "sub"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"nbf": int(NOW) + 120}, "nbf"),
        ({"iat": int(NOW) + 120}, "iat"),
    ],
)
def test_wrong_claims_are_refused_and_named(verifier: Verifier, changes: dict[str, Any], hint: str) -> None:
    with pytest.raises(AuthenticationError, match="not valid") as caught:
        verifier.authenticate(made(**changes))
    assert hint in caught.value.hint


def test_clocks_may_differ_a_little(verifier: Verifier) -> None:
    verifier.authenticate(made(exp=int(NOW) - 50, iat=int(NOW) + 50, nbf=int(NOW) + 50))
    with pytest.raises(AuthenticationError, match="expired"):
        verifier.authenticate(made(exp=int(NOW) - 61))


def test_an_audience_among_several_is_enough(verifier: Verifier) -> None:
    assert verifier.authenticate(made(aud=["a", "entrepot"])).id == "oidc:u-1"


def forged_none() -> str:
    parts = [{"alg": "none", "kid": "ec"}, {"iss": URL, "aud": "entrepot", "sub": "u", "exp": int(NOW) + 300}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts) + "."


def forged_with_the_public_key() -> str:
    claims = {"iss": URL, "aud": "entrepot", "sub": "u", "exp": int(NOW) + 300}
    parts = (json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "rsa"}, claims))
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = hmac.digest(RSA.as_pem(private=False), signed, "sha256")
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def with_own_key_inside() -> str:
    return made(OTHER, head={"kid": "ec", "jwk": OTHER.as_dict(private=False)})


@pytest.mark.parametrize("forge", [forged_none, forged_with_the_public_key, with_own_key_inside, lambda: made(OTHER)])
def test_forged_tokens_are_refused(verifier: Verifier, forge: Callable[[], str]) -> None:
    with pytest.raises(AuthenticationError, match="not valid"):
        verifier.authenticate(forge())


def test_a_key_serves_its_own_algorithm_only(clock: Clock) -> None:
    bound = RSAKey.import_key(RSA.as_dict(private=True) | {"alg": "RS256"})
    verifier = Verifier(ISSUER, Site(bound), clock)
    verifier.authenticate(made(RSA, "RS256"))
    with pytest.raises(AuthenticationError):
        verifier.authenticate(made(RSA, "PS256"))


def test_keys_for_encryption_short_keys_and_shared_secrets_are_not_used(site: Site, clock: Clock) -> None:
    short = RSAKey.generate_key(1024, {"kid": "short"})
    site.keys = [EC]
    site.extra = [
        RSA.as_dict(private=False) | {"use": "enc"},
        short.as_dict(private=False),
        OctKey.generate_key(256, {"kid": "oct"}).as_dict(private=True),
        {"kty": "new", "kid": "pq"},
        {"kty": "EC", "kid": "bad", "crv": "P-256", "x": "!", "y": "?"},
        7,  # type: ignore[list-item]
    ]
    verifier = Verifier(ISSUER, site, clock)
    verifier.authenticate(made())
    for token in (made(RSA, "RS256"), made(short, "RS256")):
        with pytest.raises(AuthenticationError):
            verifier.authenticate(token)


def test_changed_tokens_are_refused(verifier: Verifier) -> None:
    token = made(groups=["x"])
    head, body, mac = token.split(".")
    other = (
        base64.urlsafe_b64encode(base64.urlsafe_b64decode(body + "==").replace(b'"x"', b'"port"')).rstrip(b"=").decode()
    )
    for changed in (f"{head}.{other}.{mac}", f"{head}.{body}.{mac[:-4]}AAAA", f"{head}.{body}.", f"{head}.{body}"):
        with pytest.raises(AuthenticationError) as caught:
            verifier.authenticate(changed)
        assert mac not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("head", [{"crit": ["exp"]}, {"typ": "dpop+jwt"}, {"typ": "logout+jwt"}])
def test_tokens_of_another_kind_are_refused(verifier: Verifier, head: dict[str, Any]) -> None:
    token = made()
    _, body, mac = token.split(".")
    first = base64.urlsafe_b64encode(json.dumps({"alg": "ES256", "kid": "ec"} | head).encode()).rstrip(b"=").decode()
    with pytest.raises(AuthenticationError, match="not valid") as caught:
        verifier.authenticate(f"{first}.{body}.{mac}")
    assert "another kind" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "..", "eyJ.eyJ.x", "é.é.é", "e30.e30.e30", "W10.e30.x", "eyJ" * 9000 + ".a.b", "[" * 20000]
)
def test_what_is_no_token_is_refused(verifier: Verifier, site: Site, text: str) -> None:
    with pytest.raises(AuthenticationError):
        verifier.authenticate(text)
    assert site.asked == [], "nothing is fetched for garbage"


def test_keys_are_fetched_once_and_again_when_they_are_old(verifier: Verifier, site: Site, clock: Clock) -> None:
    for _ in range(5):
        verifier.authenticate(made())
    assert site.asked == [f"{URL}/.well-known/openid-configuration", f"{URL}/keys"]
    clock.now += FRESH + 1
    verifier.authenticate(made(exp=int(clock.now) + 60, iat=int(clock.now)))
    assert len(site.asked) == 4


def test_a_new_key_is_fetched_when_it_is_named_but_not_for_every_liar(
    verifier: Verifier, site: Site, clock: Clock
) -> None:
    verifier.authenticate(made())
    site.keys.append(FRESH_KEY)
    for _ in range(20):
        with pytest.raises(AuthenticationError):
            verifier.authenticate(made(FRESH_KEY))
    assert len(site.asked) == 2, "not within the pause between two fetches"
    clock.now += ASK_AGAIN
    assert verifier.authenticate(made(FRESH_KEY)).id == "oidc:u-1"
    for number in range(20):
        liar = ECKey.generate_key("P-256", {"kid": f"liar{number}"})
        with pytest.raises(AuthenticationError):
            verifier.authenticate(made(liar))
    assert len(site.asked) == 4


def test_old_keys_serve_while_the_issuer_is_away_but_not_for_ever(verifier: Verifier, site: Site, clock: Clock) -> None:
    verifier.authenticate(made())
    site.down = True
    clock.now += FRESH + 1
    verifier.authenticate(made(exp=int(clock.now) + 60))
    clock.now = NOW + STALE + 1
    with pytest.raises(AuthenticationError, match="not valid"):
        verifier.authenticate(made(exp=int(clock.now) + 60))
    site.down = False
    clock.now += ASK_AGAIN
    verifier.authenticate(made(exp=int(clock.now) + 60))


def test_a_key_that_was_withdrawn_no_longer_serves(verifier: Verifier, site: Site, clock: Clock) -> None:
    verifier.authenticate(made())
    site.keys = [RSA]
    clock.now += FRESH + 1
    with pytest.raises(AuthenticationError):
        verifier.authenticate(made(exp=int(clock.now) + 60))


@pytest.mark.parametrize(
    "discovery",
    [{"issuer": "https://evil", "jwks_uri": f"{URL}/keys"}, {"issuer": URL, "jwks_uri": "http://x/keys"}, {}],
)
def test_a_wrong_discovery_document_gives_no_keys(site: Site, clock: Clock, discovery: dict[str, Any]) -> None:
    site.discovery = discovery
    with pytest.raises(AuthenticationError):
        Verifier(ISSUER, site, clock).authenticate(made())


def test_a_token_without_a_key_id_needs_a_single_key(site: Site, clock: Clock) -> None:
    single = Verifier(ISSUER, Site(EC), clock)
    assert single.authenticate(made(head={"kid": None})).id == "oidc:u-1"
    site.keys = [EC, FRESH_KEY]
    with pytest.raises(AuthenticationError):
        Verifier(ISSUER, site, clock).authenticate(made(head={"kid": None}))


def test_an_address_counts_only_when_the_issuer_has_checked_it(verifier: Verifier) -> None:
    assert verifier.authenticate(made(email="root@example.org")).grants == ()
    assert verifier.authenticate(made(email="root@example.org", email_verified="true")).grants == ()
    assert verifier.authenticate(made(email="root@example.org", email_verified=True)).grants == (Grant(Role.ADMIN),)


@pytest.mark.parametrize(
    ("rule", "claims", "expected"),
    [
        ("groups=port:reader", {"groups": "port"}, True),
        ("groups=port:reader", {"groups": "a port"}, False),
        ("scope=port:reader", {"scope": "a port"}, True),
        ("realm.roles=see:reader", {"realm": {"roles": ["see"]}}, True),
        ("realm.roles=see:reader", {"realm": ["see"]}, False),
        ("realm.roles=see:reader", {"realm.roles": ["see"]}, True),
        ("https://x.example/r=a:b:reader@s/t", {"https://x.example/r": ["a:b"]}, True),
        ("staff=true:reader", {"staff": True}, True),
        ("level=1:reader", {"level": 1}, False),
        ("groups=port:reader", {"groups": [["port"], {"port": 1}]}, False),
    ],
)
def test_rules_read_claims_of_all_forms(clock: Clock, rule: str, claims: dict[str, Any], expected: bool) -> None:
    verifier = Verifier(Issuer.of(URL, "entrepot", [rule]), Site(EC), clock)
    assert bool(verifier.authenticate(made(**claims)).grants) is expected


@pytest.mark.parametrize(
    "text", ["", "groups", "groups=port", "groups=port:boss", "groups=:reader", "=x:reader", "g=x:reader@/bad"]
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ClaimRule.parse(text)


@pytest.mark.parametrize(
    "settings",
    [
        ("http://login.example", "a", {}),
        ("http://localhost.login.example", "a", {}),
        ("https://", "a", {}),
        (URL, "", {}),
        (URL, "a", {"algorithms": ("HS256",)}),
        (URL, "a", {"algorithms": ("none",)}),
        (URL, "a", {"algorithms": ()}),
    ],
)
def test_settings_that_would_open_the_door_are_refused(settings: tuple[str, str, dict[str, Any]]) -> None:
    url, audience, more = settings
    with pytest.raises(UsageError):
        Issuer.of(url, audience, **more)


def test_private_parts_of_published_keys_are_never_kept(site: Site, clock: Clock) -> None:
    site.keys, site.extra = [], [EC.as_dict(private=True)]
    verifier = Verifier(ISSUER, site, clock)
    verifier.authenticate(made())
    assert not any(key.is_private for key in KeySet(verifier._keys._keys))
