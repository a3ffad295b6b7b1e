"""People of an outside issuer: its tokens open the door to what the rules give them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from parts.api_server import Server

KEY = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig", "alg": "ES256"}, private=True)


class Issuer:
    """A small issuer on loopback."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.redirect = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if outer.redirect:
                    self.send_response(302)
                    self.send_header("Location", outer.redirect)
                    self.end_headers()
                    return
                pages: dict[str, Any] = {
                    "/.well-known/openid-configuration": {"issuer": outer.url, "jwks_uri": f"{outer.url}/keys"},
                    "/keys": {"keys": [KEY.as_dict(private=False)]},
                }
                body = json.dumps(pages.get(self.path, {})).encode()
                self.send_response(200 if self.path in pages else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def token(self, **changes: Any) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": "entrepot", "sub": "u-1", "iat": now, "exp": now + 60, "groups": ["movers"]}
        return jwt.encode({"alg": "ES256", "kid": "k1"}, {**claims, **changes}, KEY)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


@pytest.fixture
def trusting(issuer: Issuer, make_server: Callable[..., Server]) -> Server:
    return make_server(oidc_issuer=issuer.url, oidc_audience="entrepot", oidc_grants=("groups=movers:operator@team/a",))


def _status(server: Server, token: str) -> int:
    return server.client(token=token).get("/api/v1/usage").status_code


def _store(server: Server, token: str, name: str, scope: str) -> int:
    body = {"name": name, "scope": scope, "provider": "minio", "endpoint": "http://127.0.0.1:1", "access_key": "a",
            "secret_key": "s"}  # fmt: skip
    return server.client(token=token).post("/api/v1/connections", json=body).status_code


def test_a_token_of_the_issuer_opens_what_the_rules_give(trusting: Server, issuer: Issuer) -> None:
    assert _store(trusting, issuer.token(), "mine", "team/a") in {200, 201}
    assert _store(trusting, issuer.token(), "theirs", "team/b") == 403
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


def test_a_stranger_gets_nothing_and_a_forger_not_even_in(trusting: Server, issuer: Issuer) -> None:
    assert _store(trusting, issuer.token(groups=["others"]), "mine", "team/a") == 403
    assert _status(trusting, issuer.token(aud="other")) == 401
    assert _status(trusting, issuer.token(exp=int(time.time()) - 3600)) == 401
    head, claims, signature = issuer.token().split(".")
    assert _status(trusting, f"{head}.{claims}.{signature[:-4]}AAAA") == 401


def test_an_issuer_that_redirects_is_not_followed(trusting: Server, issuer: Issuer) -> None:
    issuer.redirect = "http://169.254.169.254/latest/meta-data/"
    assert _status(trusting, issuer.token()) == 401
    assert set(issuer.asked) == {"/.well-known/openid-configuration"}


def test_without_an_issuer_such_tokens_are_nothing(server: Server, issuer: Issuer) -> None:
    assert _status(server, issuer.token()) == 401
    assert issuer.asked == []
