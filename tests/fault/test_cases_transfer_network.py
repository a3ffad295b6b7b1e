"""Fault cases 51 to 56: storms, slow and dead connections, names, certificates, clocks and credentials.

Each test has the number of its case in the acceptance list.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from parts.chaos import ChaosProxy
from parts.cli import SOURCE
from parts.fake_actions import slow_down, stall, status, throttle, trickle
from parts.fake_rules import Action
from parts.fake_s3 import ACCESS, SECRET, FakeS3
from parts.lab import TESTS, Lab
from transfer_cases import (
    DOWN,
    DST,
    ONE,
    PART,
    SRC,
    UP,
    UP_PART,
    data,
    do,
    files,
    is_range,
    put_bodies,
    wrote_twice,
)

PATIENT = {"ENTREPOT_THROTTLE_SECONDS": "60", "ENTREPOT_RETRY_SECONDS": "30"}
THROUGH = (*ONE, "--no-server-side")


@pytest.fixture
def src(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    return tmp_path / "src"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def many(root: Path, count: int) -> dict[bytes, bytes]:
    """``count`` small files."""
    for number in range(count):
        (root / f"k{number:04d}").write_bytes(b"%d" % number)
    return files(root)


# ---- 51: storms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 503])
def test_case_51_a_storm_is_weathered_at_a_lower_rate(store: FakeS3, lab: Lab, src: Path, code: int) -> None:
    wanted = many(src, 1200)
    store.latency = 0.005
    storm = store.rule("*", slow_down(code), seconds=3, when=lambda _: store.count("PUT") >= 300)
    done = lab.sync(src, DST, *ONE, server=store, env=PATIENT, copied=1200, total=1200)
    assert store.dump("dst") == wanted
    assert wrote_twice(store) == []
    assert 3 <= storm.hits < 200, f"{storm.hits} requests in a storm of 3 s are no lower rate"
    calm = [r.at for r in store.log("PUT") if r.status == 200 and r.at > storm.first_at + 3]
    before = [r.at for r in store.log("PUT") if r.at < storm.first_at]
    rate_before = len(before) / (before[-1] - before[0])
    # The best stretch of 200 after the storm: others on the machine may slow down any one of them.
    rate_end = max(200 / (late - early) for early, late in zip(calm, calm[200:], strict=False))
    if rate_end <= 0.5 * rate_before:  # is it us, or has the machine become slower meanwhile? The same without a storm:
        first = len(store.log("PUT"))
        lab.sync(src, f"{DST}/again", *ONE, server=store, env=PATIENT, copied=1200, total=1200)
        quiet = [r.at for r in store.log("PUT")[first:]]
        rate_before = min(rate_before, len(quiet) / (quiet[-1] - quiet[0]))
    assert rate_end > 0.5 * rate_before, f"{rate_end:.0f}/s after the storm, {rate_before:.0f}/s before it"
    assert done.seconds < 30


def test_case_51_retry_after_is_obeyed(store: FakeS3, lab: Lab, src: Path) -> None:
    many(src, 100)
    rule = store.rule("PUT", slow_down(retry_after="2"), nth=range(50, 60))
    lab.sync(src, DST, *ONE, server=store, env=PATIENT, copied=100, total=100)
    times = sorted(r.at for r in store.log("PUT"))
    assert rule.hits >= 1
    assert max(b - a for a, b in itertools.pairwise(times)) > 1.5, "there is a pause of about two seconds"


def test_case_51_a_store_with_a_limit_is_met_near_it(store: FakeS3, lab: Lab, src: Path) -> None:
    many(src, 600)
    rule = store.rule("PUT", throttle(100))
    done = lab.sync(src, DST, *ONE, server=store, env=PATIENT, copied=600, total=600)
    refused = sum(r.status == 503 for r in store.log("PUT"))
    assert rule.hits == 600 + refused
    assert refused < 600, "most requests should be let through"
    assert done.seconds < 30


def test_case_51_a_storm_that_never_ends_fails(store: FakeS3, lab: Lab, src: Path) -> None:
    many(src, 20)
    store.rule("PUT", slow_down())
    done = lab.sync(src, DST, *ONE, server=store, code=1, failed=20, total=20)
    assert set(lab.failures(done).values()) == {"throttled"}


# ---- 52: slow and hung connections -----------------------------------------------------------------------------------

HANGS: dict[str, Callable[[], Action]] = {
    "no answer": lambda: stall(60),
    "hangs in the body": lambda: stall(60, at=700),
    "1 KB/s": lambda: trickle(700),
}


@pytest.mark.parametrize("kind", HANGS)
def test_case_52_a_slow_connection_is_left(store: FakeS3, lab: Lab, out: Path, kind: str) -> None:
    wanted = put_bodies(store)
    rule = store.rule("GET", HANGS[kind](), key="medium", times=1)
    part = store.rule("GET", HANGS[kind](), key="large", when=is_range(PART), times=1)
    done = lab.sync(SRC, out, *DOWN, server=store, machine={"stall": 0.7}, copied=3, total=3)
    assert rule.hits + part.hits == 2
    assert files(out) == wanted
    assert done.seconds < 10


def test_case_52_a_slow_write_is_left(store: FakeS3, lab: Lab, src: Path) -> None:
    for name, size in (("small", 1000), ("large", 2 * UP_PART + 5)):
        (src / name).write_bytes(data(size))
    store.rule(["PutObject", "UploadPart"], stall(60), times=1, per_key=True)
    done = lab.sync(
        src, DST, *UP, server=store, machine={"stall": 0.7}, env={"ENTREPOT_STALL_TIMEOUT": "0.7"}, copied=2, total=2
    )
    assert store.dump("dst") == files(src)
    assert done.seconds < 15


def test_case_52_a_hung_socket_of_the_network(
    store: FakeS3, lab: Lab, out: Path, chaos: Callable[[int], ChaosProxy]
) -> None:
    wanted = put_bodies(store)
    proxy = chaos(store.port)
    proxy.next()
    proxy.next()
    proxy.next(stall_down=100_000)
    proxy.next(stall_down=300)
    env = {"AWS_ENDPOINT_URL": proxy.endpoint}
    done = lab.sync(SRC, out, *DOWN, server=store, env=env, machine={"stall": 0.7}, copied=3, total=3)
    assert files(out) == wanted
    assert done.seconds < 10


def test_case_52_everything_hangs(store: FakeS3, lab: Lab, out: Path) -> None:
    put_bodies(store)
    store.rule("GET", stall(60))
    done = lab.sync(SRC, out, *DOWN, server=store, code=1, failed=3, total=3, timeout=40,
                    env={"ENTREPOT_STALL_TIMEOUT": "0.5", "ENTREPOT_ATTEMPTS": "3"})  # fmt: skip
    assert set(lab.failures(done).values()) == {"timeout"}
    assert files(out) == {}


# ---- 53: names and addresses -----------------------------------------------------------------------------------------

RESOLVER = """
import os, socket, time
real = socket.getaddrinfo
began = time.monotonic()
def fake(host, port, *args, **kwargs):
    if host != "store.test":
        return real(host, port, *args, **kwargs)
    if time.time() < float(os.environ.get("TEST_DNS_FROM", "0")):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    found = []
    for address in os.environ["TEST_ADDRESSES"].split(","):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        place = (address, port, 0, 0) if ":" in address else (address, port)
        found.append((family, socket.SOCK_STREAM, 6, "", place))
    return found
socket.getaddrinfo = fake
"""


@pytest.fixture
def names(tmp_path: Path, store: FakeS3) -> dict[str, str]:
    """A resolver of its own in the program: ``store.test`` has the addresses in TEST_ADDRESSES."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(RESOLVER)
    return {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), SOURCE, TESTS]),
        "AWS_ENDPOINT_URL": f"http://store.test:{store.port}",
        "TEST_ADDRESSES": "127.0.0.1",
    }


@pytest.mark.parametrize(
    "addresses",
    ["::1,127.0.0.1", "127.0.0.2,127.0.0.1", "2001:db8::1,::1,127.0.0.3,127.0.0.1", "127.0.0.1,127.0.0.2"],
    ids=["broken IPv6", "dead first", "one of four", "dead last"],
)
def test_case_53_other_addresses_are_used(
    store: FakeS3, lab: Lab, out: Path, names: dict[str, str], addresses: str
) -> None:
    wanted = put_bodies(store)
    env = {**names, "TEST_ADDRESSES": addresses}
    done = lab.sync(SRC, out, *DOWN, server=store, env=env, copied=3, total=3)
    assert files(out) == wanted
    assert done.seconds < 15


def test_case_53_an_address_that_hangs_up(
    store: FakeS3, lab: Lab, out: Path, chaos: Callable[[int], ChaosProxy]
) -> None:
    wanted = put_bodies(store)
    proxy = chaos(store.port)
    proxy.next()
    for _ in range(3):
        proxy.next(refuse=True)
    lab.sync(SRC, out, *DOWN, server=store, env={"AWS_ENDPOINT_URL": proxy.endpoint}, copied=3, total=3)
    assert files(out) == wanted


def test_case_53_an_unknown_host_is_told(store: FakeS3, lab: Lab, out: Path) -> None:
    env = {"AWS_ENDPOINT_URL": "http://no-such-host.invalid:1"}
    lab.sync(SRC, out, *DOWN, server=store, env=env, code=3, error="no-such-host.invalid", hint="endpoint")
    assert not out.exists() or files(out) == {}


def test_case_53_nothing_listens(store: FakeS3, lab: Lab, out: Path, tmp_path: Path) -> None:
    store.stop()
    lab.sync(SRC, out, *DOWN, server=store, code=3, error="connection refused", hint="running")


def test_case_53_the_store_is_away_for_a_while(store: FakeS3, lab: Lab, src: Path) -> None:
    wanted = many(src, 300)

    def away() -> None:
        def later() -> None:
            store.stop()
            time.sleep(1.5)
            store.start()

        threading.Thread(target=later).start()

    store.rule("PUT", do(away), nth=100)
    store.latency = 0.003
    lab.sync(src, DST, *ONE, server=store, env=PATIENT, copied=300, total=300)
    assert store.dump("dst") == wanted


def test_case_53_the_store_never_comes_back(store: FakeS3, lab: Lab, src: Path) -> None:
    many(src, 300)
    store.latency = 0.003
    store.rule("PUT", do(lambda: threading.Thread(target=store.stop).start()), nth=100)
    done = lab.sync(src, DST, *ONE, server=store, code=3, error="cannot connect", hint="network")
    assert done.seconds < 15
    store.clear_rules()
    store.start()
    again = lab.sync(src, DST, *ONE, server=store, copied=..., equal=..., total=300)
    assert again.report["resumed"]
    assert len(store.dump("dst")) == 300


# ---- 54: certificates ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def tls_server(tmp_path: Path, *names: str, name: str = "127.0.0.1", expired: bool = False) -> Iterator[FakeS3]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    after = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1) if expired else None
    authority.issue_cert(*names, not_after=after).configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with FakeS3(tls=context, tls_name=name, ca_file=str(ca_file)) as fake:
        fake.make_bucket("src")
        fake.put("src", "f", b"over TLS")
        fake.make_bucket("with.dots")
        fake.put("with.dots", "f", b"dotted")
        yield fake


def test_case_54_a_trusted_certificate(tmp_path: Path, lab: Lab, out: Path) -> None:
    with tls_server(tmp_path, "127.0.0.1") as fake:
        lab.sync(SRC, out, *ONE, server=fake, copied=1, total=1)
    assert files(out) == {b"f": b"over TLS"}


@pytest.mark.parametrize(
    ("names", "expired", "trusted", "why"),
    [
        (("127.0.0.1",), False, False, "certificate"),
        (("127.0.0.1",), True, True, "expired"),
        (("elsewhere.test",), False, True, "127.0.0.1"),
    ],
    ids=["unknown authority", "expired", "wrong host"],
)
def test_case_54_a_bad_certificate_is_refused_unless_told(
    tmp_path: Path, lab: Lab, out: Path, names: tuple[str, ...], expired: bool, trusted: bool, why: str
) -> None:
    with tls_server(tmp_path, *names, expired=expired) as fake:
        env = {} if trusted else {"AWS_CA_BUNDLE": ""}
        lab.sync(SRC, out, *ONE, server=fake, env=env, code=3, error="certificate", hint="ca|CA")
        assert why in lab.run("ls", SRC, server=fake, env=env).err
        assert fake.requests == [], "nothing was sent to a server that could not be trusted"
        added = lab.run(
            "connection", "add", "lab", "--endpoint", fake.endpoint, "--access-key", ACCESS, "--secret-env", "S",
            "--insecure-skip-verify", env={"S": SECRET},
        )  # fmt: skip
        assert added.code == 0, added.text
        lab.sync("lab:src", out, *ONE, copied=1, total=1)
    assert files(out) == {b"f": b"over TLS"}


def test_case_54_a_bucket_with_dots_is_addressed_by_path(tmp_path: Path, lab: Lab, out: Path) -> None:
    with tls_server(tmp_path, "localhost", "*.localhost", name="localhost") as fake:
        for number, style in enumerate(("auto", "virtual", "path")):
            added = lab.run(
                "connection", "add", f"lab{number}", "--endpoint", fake.endpoint, "--access-key", ACCESS,
                "--secret-env", "S", "--addressing", style, "--ca-file", fake.ca_file, env={"S": SECRET},
            )  # fmt: skip
            assert added.code == 0, added.text
            lab.sync(f"lab{number}:with.dots", out / style, *ONE, copied=1, total=1)
            assert files(out / style) == {b"f": b"dotted"}


def test_case_54_plain_http_where_tls_is_expected(lab: Lab, store: FakeS3, out: Path) -> None:
    env = {"AWS_ENDPOINT_URL": f"https://127.0.0.1:{store.port}"}
    lab.sync(SRC, out, *ONE, server=store, env=env, code=3, error="TLS", hint="http://")


# ---- 55: clocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [3600.0, -3600.0, 86400.0 * 400])
def test_case_55_the_clocks_differ(store: FakeS3, lab: Lab, src: Path, out: Path, offset: float) -> None:
    store.clock_offset = offset
    wanted = many(src, 50)
    lab.sync(src, DST, *ONE, server=store, copied=50, total=50)
    assert store.dump("dst") == wanted
    skewed = [r for r in store.log() if r.status == 403]
    assert 1 <= len(skewed) <= 5
    lab.sync(src, DST, *ONE, server=store, equal=50)
    lab.sync(DST, out, *ONE, server=store, copied=50)
    store.clear_log()
    lab.sync(DST, out, *ONE, server=store, equal=50)
    assert store.count("GET") == 0


def test_case_55_the_clock_jumps_under_way(store: FakeS3, lab: Lab, src: Path) -> None:
    wanted = many(src, 200)

    def jump() -> None:
        store.clock_offset = 7200.0

    store.rule("PUT", do(jump), nth=100)
    lab.sync(src, DST, *ONE, server=store, copied=200, total=200)
    assert store.dump("dst") == wanted


# ---- 56: credentials -------------------------------------------------------------------------------------------------


def revoke(store: FakeS3) -> None:
    store.secrets = {"another": "secret"}


def change(store: FakeS3) -> None:
    store.secrets = {ACCESS: "another-secret"}


def expire(store: FakeS3) -> None:
    store.tokens[ACCESS] = "another-token"


REVOKED: dict[str, tuple[Callable[[FakeS3], None], str]] = {
    "revoked": (revoke, "access key"),
    "other secret": (change, "signature"),
    "expired": (expire, "expired|token"),
}


@pytest.mark.parametrize("way", ["up", "down", "through", "server"])
@pytest.mark.parametrize("kind", REVOKED)
def test_case_56_revoked_credentials_stop_the_run_with_one_line(
    store: FakeS3, lab: Lab, src: Path, out: Path, way: str, kind: str
) -> None:
    wanted = many(src, 1500)
    for key, body in wanted.items():
        store.put("src", key, body)
    happens, said = REVOKED[kind]
    env = store.env()
    op = {"up": "PutObject", "down": "GetObject", "through": "PutObject", "server": "CopyObject"}[way]
    rule = store.rule(op, do(lambda: happens(store)), nth=700)
    source, target = (str(src) if way == "up" else SRC), (str(out) if way == "down" else DST)
    words = THROUGH if way == "through" else ONE
    done = lab.sync(source, target, *words, server=store, env=env, code=3, error=said, leaves_temporary=True)
    assert rule.hits == 1
    assert done.seconds < 15
    refused = [r for r in store.log() if r.status in (400, 403)]
    assert len(refused) < 150, f"{len(refused)} refusals: it should have stopped"
    rule.remove()
    store.secrets, store.tokens = {ACCESS: SECRET}, {}
    again = lab.sync(source, target, *words, server=store, copied=..., equal=..., total=1500)
    assert again.report["resumed"]
    assert again.report["failed"]["entries"] == 0, "what the revoked keys kept back has not failed"
    assert (files(out) if way == "down" else store.dump("dst")) == wanted


def test_case_56_a_large_upload_goes_on_with_renewed_credentials(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(8 * UP_PART + 1))
    env = store.env()
    rule = store.rule("PART", do(lambda: revoke(store)), nth=5)
    words = (*UP, "--concurrency", "1")
    lab.sync(src, DST, *words, server=store, env=env, code=3, error="access key", leaves_temporary=True)
    (upload,) = store.open_uploads()
    have = set(upload.parts)
    rule.remove()
    store.secrets = {ACCESS: SECRET}
    store.clear_log()
    lab.sync(src, DST, *words, server=store, copied=1, total=1)
    assert sorted(int(r.query["partNumber"]) for r in store.log("PART")) == sorted(set(range(1, 10)) - have)
    assert store.dump("dst") == files(src)


def test_case_56_a_forbidden_listing_under_way_pauses(store: FakeS3, lab: Lab, out: Path) -> None:
    store.quirks.max_keys = 50
    for number in range(500):
        store.put("src", f"k{number:03d}", b"x")
    env = store.env()
    store.rule("LIST", do(lambda: revoke(store)), nth=6)
    lab.sync(SRC, out, *ONE, server=store, env=env, code=3, error="access key", leaves_temporary=True)
    store.clear_rules()
    store.secrets = {ACCESS: SECRET}
    lab.sync(SRC, out, *ONE, server=store, copied=..., equal=..., total=500)
    assert len(files(out)) == 500


def test_case_56_rotated_credentials_are_fetched_again(store: FakeS3, lab: Lab, src: Path, tmp_path: Path) -> None:
    wanted = many(src, 400)
    keys, config = tmp_path / "keys.json", tmp_path / "config"

    def hand_out(token: str) -> None:
        store.tokens[ACCESS] = token
        issued = {"Version": 1, "AccessKeyId": ACCESS, "SecretAccessKey": SECRET, "SessionToken": token}
        keys.write_text(json.dumps(issued))

    hand_out("token-1")
    script = tmp_path / "hand_out.py"
    script.write_text(f"print(open({str(keys)!r}).read())")
    config.write_text(f"[profile rotating]\ncredential_process = {sys.executable} {script}\n")
    env = {
        **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), ""),
        "AWS_PROFILE": "rotating",
        "AWS_CONFIG_FILE": str(config),
    }
    store.rule("PUT", do(lambda: hand_out("token-2")), nth=150)
    store.rule("PUT", do(lambda: hand_out("token-3")), nth=320)
    done = lab.sync(src, DST, *ONE, server=store, env=env, copied=400, total=400)
    assert store.dump("dst") == wanted
    assert "token-" not in done.out + done.err


def test_case_56_one_signature_refused_is_one_failure(store: FakeS3, lab: Lab, src: Path) -> None:
    many(src, 50)
    store.rule("PUT", status(403, "SignatureDoesNotMatch"), key="^k0007$")
    done = lab.sync(src, DST, *ONE, server=store, code=1, copied=49, failed=1, total=50)
    assert lab.failures(done) == {b"k0007": "forbidden"}
