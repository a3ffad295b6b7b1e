"""Signatures against botocore's SigV4, for odd keys, queries, headers, tokens and bodies."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any
from unittest import mock

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.secret import Secret
from entrepot.storage.s3.signing import Signer, quote_path, quote_query
from entrepot.storage.s3.target import Credentials, Profile, S3Target

NOW = 1_715_000_000.0


def target(token: str = "", access: str = "AKIDEXAMPLE", **profile: Any) -> S3Target:
    keys = Credentials(access, Secret("wJalrXUtnFEMI/K7MDENG"), Secret(token))
    return S3Target("s3.test.example", 9000, False, "bkt", "eu-west-3", lambda refresh=False: keys, Profile(**profile))


def ours(place: S3Target, *request: Any, **more: Any) -> str:
    return Signer(place, lambda: NOW, lambda: 5.0).sign(*request, **more)


def theirs(method: str, url: str, headers: dict[str, str], token: str = "") -> str:
    """The Authorization header that botocore makes."""
    request = AWSRequest(method=method, url=url, headers=headers)
    signer = botocore.auth.S3SigV4Auth(
        BotoCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", token or None), "s3", "eu-west-3"
    )
    moment = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    request.context["payload_signing_enabled"] = False
    if "x-amz-content-sha256" in headers:
        sha = headers["x-amz-content-sha256"]
        with mock.patch.object(signer, "payload", lambda _request: sha):
            return sign(signer, request, moment)
    return sign(signer, request, moment)


def sign(signer: Any, request: AWSRequest, moment: datetime.datetime) -> str:
    with (
        mock.patch.object(
            botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: moment.replace(tzinfo=None)
        ),
        mock.patch.object(signer, "_modify_request_before_signing", lambda _request: None),
    ):
        request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
        request.headers["X-Amz-Date"] = request.context["timestamp"]
        canonical = signer.canonical_request(request)
        text = signer.string_to_sign(request, canonical)
        signature = signer.signature(text, request)
    names = signer.signed_headers(signer.headers_to_sign(request))
    return f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}"


def authorization(head: str) -> str:
    return next(line[15:] for line in head.split("\r\n") if line.startswith("Authorization: "))


def url(path: str, query: str = "") -> str:
    return f"http://s3.test.example:9000{path}" + (f"?{query}" if query else "")


BASE = {"host": "s3.test.example:9000", "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}


@given(st.binary(min_size=1, max_size=60))
def test_any_key_is_signed_as_botocore_does(key: bytes) -> None:
    path = "/bkt/" + quote_path(key)
    assert authorization(ours(target(), "GET", path)) == theirs("GET", url(path), dict(BASE))


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_query_is_signed_as_botocore_does(prefix: bytes, token: bytes) -> None:
    query = f"continuation-token={quote_query(token)}&list-type=2&prefix={quote_query(prefix)}"
    assert authorization(ours(target(), "GET", "/bkt", query)) == theirs("GET", url("/bkt", query), dict(BASE))


@given(
    st.text(
        st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc", "Zs"]),
        min_size=1,
        max_size=30,
    )
)
def test_header_values_are_signed_as_botocore_does(value: str) -> None:
    names, values = ("content-type", "x-amz-acl", "x-amz-meta-a"), ("text/plain", "private", value)
    head = ours(target(), "PUT", "/bkt/k", "", names, values)
    headers = {**BASE, **dict(zip(names, values, strict=True))}
    assert authorization(head) == theirs("PUT", url("/bkt/k"), headers)


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "HEAD", "DELETE"])
def test_methods_and_token(method: str) -> None:
    head = ours(target("tok%en=="), method, "/bkt/k", "uploads=")
    headers = {**BASE, "x-amz-security-token": "tok%en=="}
    assert authorization(head) == theirs(method, url("/bkt/k", "uploads="), headers, "tok%en==")
    assert "x-amz-security-token: tok%en==\r\n" in head


def test_spaces_in_values_are_folded_for_the_signature_only() -> None:
    head = ours(target(), "PUT", "/bkt/k", "", ("x-amz-meta-a",), ("two  spaces",))
    assert "x-amz-meta-a: two  spaces\r\n" in head
    assert authorization(head) == theirs("PUT", url("/bkt/k"), {**BASE, "x-amz-meta-a": "two  spaces"})


def test_signed_payload() -> None:
    place = target(payload="signed")
    sha = hashlib.sha256(b"body").hexdigest()
    head = ours(place, "PUT", "/bkt/k", payload=sha)
    assert authorization(head) == theirs("PUT", url("/bkt/k"), {**BASE, "x-amz-content-sha256": sha})
    assert f"x-amz-content-sha256: {sha}\r\n" in head
    empty = hashlib.sha256(b"").hexdigest()
    assert f"x-amz-content-sha256: {empty}\r\n" in ours(place, "GET", "/bkt/k")


def test_anonymous_requests_carry_no_signature() -> None:
    head = ours(target(access=""), "GET", "/bkt/k", "list-type=2", ("x-amz-meta-a",), ("v",))
    assert head == "GET /bkt/k?list-type=2 HTTP/1.1\r\nhost: s3.test.example:9000\r\nx-amz-meta-a: v\r\n"


def test_a_second_later_the_date_is_new_and_forget_takes_over_a_region() -> None:
    place, clock = target(), [100.0]
    signer = Signer(place, lambda: NOW + clock[0], lambda: clock[0])
    first = signer.sign("GET", "/bkt/k")
    assert signer.sign("GET", "/bkt/k") == first
    clock[0] += 1.1
    assert signer.sign("GET", "/bkt/k") != first
    place.region = "us-west-2"
    signer.forget()
    assert "/us-west-2/s3/aws4_request" in signer.sign("GET", "/bkt/k")


def test_quoting() -> None:
    assert quote_path(b"a/b c%+~.-_") == "a/b%20c%25%2B~.-_"
    assert quote_path(bytes(range(256))).count("%") == 256 - 67
    assert quote_query(b"a/b") == "a%2Fb"
