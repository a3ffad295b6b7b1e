"""Shared Key signing, SAS tokens, and the request heads built from them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.errors import UsageError
from entrepot.model.location import parse_location
from entrepot.model.secret import Secret
from entrepot.storage.azure import sign
from entrepot.storage.azure.request import Requests
from entrepot.storage.azure.target import AzureTarget, target_of

KEY = base64.b64encode(b"0123456789abcdef").decode()


def target(**changes: object) -> AzureTarget:
    env = {"AZURE_STORAGE_ACCOUNT": "acct", "AZURE_STORAGE_KEY": KEY}
    found = target_of(parse_location("az://box/"), environ=env)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_the_documented_example_of_a_string_to_sign() -> None:
    ms = sign.canonical_headers([("x-ms-version", "2015-02-21"), ("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT")])
    resource = sign.resource(
        "myaccount",
        b"/mycontainer",
        [("restype", "container"), ("comp", "metadata"), ("timeout", "20")],
    )
    assert sign.string_to_sign(b"GET", ms, resource) == (
        b"GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        b"/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
    )


def test_each_signed_header_has_its_line() -> None:
    text = sign.string_to_sign(
        b"PUT", b"", b"/r", length=5, md5=b"M", content_type=b"T", if_match=b"I", if_none_match=b"N"
    )
    assert text.split(b"\n") == [b"PUT", b"", b"", b"5", b"M", b"T", b"", b"", b"I", b"N", b"", b"", b"/r"]
    assert sign.string_to_sign(b"PUT", b"", b"/r", length=0).split(b"\n")[3] == b""


def test_headers_sort_as_the_service_sorts() -> None:
    text = sign.canonical_headers(
        [("x-ms-meta-a1", "1"), ("x-ms-meta-a_1", "2"), ("x-ms-Meta-B", " 3  4 "), ("x-ms-date", "d")]
    )
    assert text == b"x-ms-date:d\nx-ms-meta-a_1:2\nx-ms-meta-a1:1\nx-ms-meta-b:3 4\n"


def test_a_request_head_carries_its_own_signature() -> None:
    requests = Requests(target(), clock=lambda: 1_600_000_000.5)
    head = requests.head(
        b"PUT", b"a%20b", (("blockid", b"a+/="), ("comp", b"block")), length=3, md5=b"bWQ1", before=b"x-ms-a:1\n"
    )
    assert head == (
        b"PUT /box/a%20b?blockid=a%2B%2F%3D&comp=block HTTP/1.1\r\nHost: acct.blob.core.windows.net\r\n"
        b"User-Agent: entrepot\r\nx-ms-a:1\r\nx-ms-date:Sun, 13 Sep 2020 12:26:40 GMT\r\n"
        b"x-ms-version:2021-12-02\r\nContent-Length: 3\r\nContent-MD5: bWQ1\r\nAuthorization: SharedKey acct:"
        + base64.b64encode(
            hmac.digest(
                b"0123456789abcdef",
                b"PUT\n\n\n3\nbWQ1\n\n\n\n\n\n\n\nx-ms-a:1\nx-ms-date:Sun, 13 Sep 2020 12:26:40 GMT\n"
                b"x-ms-version:2021-12-02\n/acct/box/a%20b\nblockid:a+/=\ncomp:block",
                "sha256",
            )
        )
        + b"\r\n\r\n"
    )


def test_a_sas_goes_into_the_query_and_nothing_is_signed() -> None:
    requests = Requests(target(key=Secret(""), sas=Secret("sv=1&sig=s%3D")))
    head = requests.head(b"GET", b"k")
    assert head.startswith(b"GET /box/k?sv=1&sig=s%3D HTTP/1.1\r\n") and b"Authorization" not in head
    assert requests.head(b"GET", b"", (("comp", b"list"),)).startswith(b"GET /box?comp=list&sv=1&sig=s%3D ")
    anonymous = Requests(target(key=Secret("")))
    assert b"Authorization" not in anonymous.head(b"GET", b"k") and not anonymous.signs


def test_a_container_sas_is_signed_field_by_field() -> None:
    token = sign.container_sas("acct", b"k", "box", expires=1_600_000_000, https_only=True)
    fields = {name: values[0] for name, values in parse_qs(token).items()}
    text = "\n".join(["r", "", "2020-09-13T12:26:40Z", "/blob/acct/box", "", "", "https", "2021-12-02", "c"] + [""] * 7)
    expected = base64.b64encode(hmac.new(b"k", text.encode(), hashlib.sha256).digest()).decode()
    assert fields == {
        "sv": "2021-12-02", "spr": "https", "se": "2020-09-13T12:26:40Z", "sr": "c", "sp": "r", "sig": expected,
    }  # fmt: skip


def test_source_tokens_are_reused_and_renewed() -> None:
    now = [1_600_000_000.0]
    requests = Requests(target(), clock=lambda: now[0])
    source = target()
    first = requests.source_url(source, b"a b")
    assert first.startswith(b"https://acct.blob.core.windows.net/box/a%20b?sv=")
    now[0] += 600
    assert requests.source_url(source, b"a b") == first
    now[0] += 1800
    assert requests.source_url(source, b"a b") != first
    shared = target(key=Secret(""), sas=Secret("sig=x"))
    assert requests.source_url(shared, b"k").endswith(b"/box/k?sig=x")


def test_the_clock_is_learned_only_when_it_matters() -> None:
    requests = Requests(target(), clock=lambda: 1000.0)
    assert not requests.learn_clock(1030.0) and requests.target.clock_offset == 0
    assert requests.learn_clock(8200.0) and requests.date() == sign.ms_date(8200)
    assert not requests.learn_clock(8200.0)


def test_a_key_that_is_no_base64_is_named_but_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        Requests(target(key=Secret("not*base64")))
    assert "not*base64" not in f"{caught.value} {caught.value.hint}"


@given(st.binary(max_size=40))
def test_any_key_round_trips_through_base64(raw: bytes) -> None:
    assert sign.decoded_key(Secret(base64.b64encode(raw).decode())) == raw
