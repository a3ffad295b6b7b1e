"""Outgoing addresses: every spelling of the forbidden ones, the operator's lists, and names that change their mind."""

from __future__ import annotations

import ipaddress
import pickle
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.errors import UsageError
from entrepot.security.egress import EgressPolicy, EgressRefused, Rule, normal_host

DEFAULT = EgressPolicy()
OPEN = EgressPolicy(private=True, loopback=True)
NEVER = [
    "169.254.169.254", "169.254.0.1", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fe80::1",
    "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254", "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "239.1.2.3", "ff02::1",
    "255.255.255.255", "240.0.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "::a9fe:a9fe", "2001:0:0:0:0:0:5601:5601", "::ffff:0.0.0.0",
    "::ffff:100.100.100.200",
]  # fmt: skip
LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1"]
PRIVATE = [
    "10.0.0.1", "172.16.5.5", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1", "fd12:3456::1", "fc00::1",
    "fec0::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
SPELLINGS = {
    "127.0.0.1": ["2130706433", "0x7f000001", "0X7F.1", "127.1", "127.0.1", "0177.0.0.1", "0177.0x0.0.01", "127.0.0.1.",
                  "127.0.0.1..", "１２７.0.0.1", "127。0。0。1", "①27.0.0.1", "017700000001"],
    "169.254.169.254": ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "0xa9.0xfe.0xa9.0xfe", "169.254.43518",
                        "169.16689662", "①⑥⑨.②⑤④.①⑥⑨.②⑤④", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]"],
}  # fmt: skip


def reason(policy: EgressPolicy, host: str, address: str, port: int = 443) -> str:
    try:
        policy.check(host, address, port)
    except EgressRefused as refusal:
        return refusal.reason or "?"
    return ""


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_refused_whatever_the_operator_says(address: str) -> None:
    allow_all = EgressPolicy.of(["0.0.0.0/0", "::/0", "*.example.org", "loopback", "private"], loopback=True)
    for policy in (DEFAULT, OPEN, allow_all):
        assert reason(policy, "host.example.org", address)


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_is_refused_unless_the_operator_says_so(address: str) -> None:
    assert reason(DEFAULT, "host", address) == "loopback"
    assert reason(OPEN, "host", address) == ""
    for rule in ("loopback", "host", "host:443"):
        assert reason(EgressPolicy.of([rule]), "host", address) == "", rule
    assert reason(EgressPolicy.of(["host:9000"]), "host", address) == "loopback"
    assert reason(EgressPolicy.of(["loopback"], ["loopback"]), "host", address) == "denied"


@pytest.mark.parametrize("address", PRIVATE)
def test_private_networks_are_allowed_unless_the_operator_says_no(address: str) -> None:
    assert reason(DEFAULT, "host", address) == ""
    assert reason(EgressPolicy(private=False), "host", address) == "private"
    assert reason(EgressPolicy.of(deny=["private"]), "host", address) == "denied"
    assert reason(EgressPolicy.of(["host"], private=False), "host", address) == ""


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert reason(EgressPolicy(private=False), "host", address) == ""
    assert reason(EgressPolicy.of(deny=["public"]), "host", address) == "denied"


@pytest.mark.parametrize(("address", "text"), [(a, t) for a, texts in SPELLINGS.items() for t in texts])
def test_every_spelling_of_an_address_is_that_address(address: str, text: str) -> None:
    _, found = normal_host(text)
    plain = found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found
    assert str(plain) == address
    with pytest.raises(EgressRefused):
        DEFAULT.check_host(text)
    with pytest.raises(EgressRefused):
        DEFAULT.check_url(f"http://{text}/x")


@given(st.ip_addresses(v=4))
def test_spellings_agree_with_the_systems_own(address: ipaddress.IPv4Address) -> None:
    a, b, c, d = address.packed
    value = int(address)
    short = (f"{a}.{value & 0xFFFFFF}", f"{a}.{b}.{c * 256 + d}", f"0{a:o}.0x{b:x}.{c}.0{d:o}")
    for text in (str(value), hex(value), oct(value).replace("o", ""), *short):
        assert normal_host(text)[1] == address == ipaddress.ip_address(socket.inet_aton(text))


@pytest.mark.parametrize("name", ["metadata.google.internal", "METADATA.google.internal.", "metadata", "instance-data"])
def test_metadata_names_are_refused_before_and_after_resolving(name: str) -> None:
    with pytest.raises(EgressRefused, match="metadata"):
        DEFAULT.check_host(name)
    assert reason(EgressPolicy.of(["0.0.0.0/0"]), name, "8.8.8.8") == "metadata"


@pytest.mark.parametrize(
    "url",
    [
        "http://good.example@169.254.169.254/", "http://good.example:80@evil/", "http://user:pw@good.example/",
        "http://good.example\\@169.254.169.254/", "http:\\\\169.254.169.254", "http://169.254.169.254\t.example/",
        "http://good.example /", "http://good\n.example/", "file:///etc/passwd", "gopher://x/", "ftp://x/", "//x/",
        "http://", "http:///x", "http://[::1", "http://[::ffff:127.0.0.1]/", "http://x:0/", "http://x:99999/",
        "http://x:port/", "http://%31%32%37.0.0.1/", "http://a..b/", "http://-a/", "http://a_" + "b" * 70 + "/",
        "http://" + "a." * 200 + "b/", "http://1.2.3.4.5/", "http://256.1.1.1/", "http://0x100000000/",
        "http://host.123/", "jar:http://x/", "http://x\0/", "http://*/", "http://\ud800/", "http://x/#f", "http://good.example#@evil.example/",
    ],
)  # fmt: skip
def test_urls_with_tricks_are_refused(url: str) -> None:
    with pytest.raises(EgressRefused):
        DEFAULT.check_url(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://store.example", ("https", "store.example", 443)),
        ("HTTP://Store.Example.:9000/path?x=1", ("http", "store.example", 9000)),
        ("http://bücher.example/", ("http", "xn--bcher-kva.example", 80)),
        ("http://10.1.2.3/", ("http", "10.1.2.3", 80)),
        ("https://[2606:4700:4700:0::1111]:8443", ("https", "2606:4700:4700::1111", 8443)),
        ("http://my_bucket.minio:9000", ("http", "my_bucket.minio", 9000)),
    ],
)
def test_urls_that_are_fine_come_back_in_normal_form(url: str, expected: tuple[str, str, int]) -> None:
    assert DEFAULT.check_url(url) == expected


def test_the_operators_refusals_win() -> None:
    policy = EgressPolicy.of(["10.0.0.0/8", "*.corp.example"], ["10.9.0.0/16", "bad.corp.example", "8.8.8.8:53"])
    assert reason(policy, "a", "10.8.0.1") == ""
    assert reason(policy, "a", "10.9.0.1") == "denied"
    assert reason(policy, "good.corp.example", "10.9.0.1") == "denied"
    assert reason(policy, "bad.corp.example", "1.1.1.1") == "denied"
    assert reason(policy, "BAD.corp.example.", "1.1.1.1") == "denied"
    assert reason(policy, "x", "8.8.8.8", 53) == "denied"
    assert reason(policy, "x", "8.8.8.8", 443) == ""
    assert reason(policy, "x", "::ffff:10.9.0.1") == "denied", "in IPv6 clothes"
    with pytest.raises(EgressRefused):
        policy.check_host("bad.corp.example")


def test_an_exclusive_list_allows_nothing_else() -> None:
    policy = EgressPolicy.of(["*.aliyuncs.com", "10.0.0.0/8"], exclusive=True)
    assert reason(policy, "oss-cn-x.aliyuncs.com", "8.8.8.8") == ""
    assert reason(policy, "aliyuncs.com", "8.8.8.8") == "unlisted", "a wildcard is for what lies below"
    assert reason(policy, "evilaliyuncs.com", "8.8.8.8") == "unlisted"
    assert reason(policy, "aliyuncs.com.evil.example", "8.8.8.8") == "unlisted"
    assert reason(policy, "x", "10.1.1.1") == ""
    assert reason(policy, "x.aliyuncs.com", "169.254.169.254") == "metadata"


def test_a_name_that_resolves_elsewhere_later_is_judged_by_where_it_leads() -> None:
    assert reason(DEFAULT, "rebind.example", "8.8.8.8") == ""
    assert reason(DEFAULT, "rebind.example", "127.0.0.1") == "loopback"
    assert reason(DEFAULT, "rebind.example", "169.254.169.254") == "metadata"


@pytest.mark.parametrize(
    "text", ["", "*", "*.*", "a b", "10.0.0.0/33", "host:", "host:x", "host:70000", "http://x", "*.127.1", "x/y"]
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Rule.parse(text)


@pytest.mark.parametrize(
    "text", ["10.0.0.0/8:443", "10.0.0.1:80", "[fd00::1]:80", "[fd00::/8]:443", "fd00::/8", "Host.", " a:1 "]
)
def test_rules_are_read_in_their_usual_forms(text: str) -> None:
    Rule.parse(text)


def test_a_rule_for_an_address_in_another_spelling_means_the_address() -> None:
    policy = EgressPolicy.of(deny=["0x08080808"])
    assert reason(policy, "dns", "8.8.8.8") == "denied"


@given(st.ip_addresses(), st.integers(1, 65535))
def test_nothing_that_is_allowed_is_link_local_or_loopback(address: ipaddress.IPv4Address, port: int) -> None:
    if reason(DEFAULT, "x", str(address), port) == "":
        assert not (address.is_link_local or address.is_loopback or address.is_multicast or address.is_unspecified)


@given(st.text(max_size=30))
def test_any_text_is_judged_without_breaking(text: str) -> None:
    for judge in (
        DEFAULT.check_host,
        DEFAULT.check_url,
        lambda t: DEFAULT.check(t, "8.8.8.8", 1),
        lambda t: DEFAULT.check("x", t, 1),
    ):
        try:
            judge(text)
        except EgressRefused:
            pass


def test_a_refusal_can_be_sent_between_processes_and_says_what_to_do() -> None:
    with pytest.raises(EgressRefused) as caught:
        DEFAULT.check("lab", "127.0.0.1", 9000)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.hint, again.reason, again.retryable) == (
        str(caught.value),
        caught.value.hint,
        "loopback",
        False,
    )
    assert "127.0.0.1" not in str(again), "what an inner name resolves to is not told"
    assert "egress_allow" in again.hint


def test_a_policy_travels_to_other_processes() -> None:
    policy = EgressPolicy.of(["10.0.0.0/8:443", "*.corp.example"], ["loopback"], private=False, exclusive=True)
    assert EgressPolicy.from_json(policy.to_json()) == policy
    assert EgressPolicy.from_json(DEFAULT.to_json()) == DEFAULT
    for text in ("", "[]", "{", '{"allow": ["*"]}', '{"other": 1}'):
        with pytest.raises(UsageError):
            EgressPolicy.from_json(text)
