"""The S3 store's control calls on real servers (SeaweedFS, rclone) and on imitated vendors that refuse things."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from pathlib import Path

import pytest

from entrepot.model import errors as model
from entrepot.model.connection import Connection
from entrepot.model.location import parse_location
from entrepot.model.secret import Secret
from entrepot.storage.base import Get
from entrepot.storage.environment import connection_for
from entrepot.storage.registry import open_store
from entrepot.storage.s3.store import S3Store
from parts.cli import Cli
from parts.fake_actions import close, redirect, status
from parts.fake_s3 import ACCESS, SECRET, FakeS3, Logged
from parts.servers import S3Server

SERVERS = ["seaweed", "rclone_s3"]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    return found


def store_at(server: S3Server | FakeS3, text: str, *, state_dir: Path | None = None, **env: str) -> S3Store:
    location = parse_location(text)
    connection = connection_for(location, {"HOME": "/nonexistent", **server.env(), **env})
    found = S3Store.open(location, connection, state_dir=str(state_dir) if state_dir else None)
    found._sleep = lambda seconds: None
    return found


def named(endpoint: str, provider: str, **more: object) -> Connection:
    keys = {"access_key": ACCESS, "secret_key": Secret(SECRET)}
    return Connection("c", provider, endpoint=endpoint, **keys, **more)  # type: ignore[arg-type]


def asked(fake: FakeS3, count: int) -> list[Logged]:
    """The requests so far, once there are ``count`` (they are logged after their reply); no more may follow."""
    end = time.monotonic() + 5
    while len(fake.requests) < count and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(0.02)
    assert len(fake.requests) == count
    return fake.requests


# -- real servers


def test_check_is_one_request_and_quick(server: S3Server, bucket_name: str) -> None:
    server.make_bucket(bucket_name)
    store = store_at(server, f"s3://{bucket_name}/below")
    before = time.monotonic()
    store.check()
    assert time.monotonic() - before < 0.4


def test_a_missing_bucket_is_named_with_a_guess(server: S3Server, bucket_name: str) -> None:
    """Case 8."""
    server.make_bucket(bucket_name)
    with pytest.raises(model.NotFoundError) as caught:
        store_at(server, f"s3://{bucket_name}x/").check()
    assert f"bucket `{bucket_name}x` does not exist at {server.endpoint}" in str(caught.value)
    assert caught.value.hint == f"did you mean `{bucket_name}`?"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "hunter2"}, "the signature was refused"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "does not know this access key"),
    ],
)
def test_wrong_keys(server: S3Server, bucket_name: str, change: dict[str, str], text: str) -> None:
    server.make_bucket(bucket_name)
    with pytest.raises(model.ForbiddenError, match=text) as caught:
        store_at(server, f"s3://{bucket_name}/", **change).check()
    assert "hunter2" not in f"{caught.value!r} {caught.value.hint}"
    assert caught.value.hint


def test_children_are_one_level(server: S3Server, bucket_name: str) -> None:
    server.make_bucket(bucket_name)
    client = server.client()
    for key in (b"top/a b+c.txt", b"top/d%2Fe", b"top/sub/x", b"top/sub/y/z", "top/é".encode(), b"other"):
        assert client.put(bucket_name, key, b"12345") == 200
    store = store_at(server, f"s3://{bucket_name}/top/")
    pages = list(store.children(b""))
    rows = [row for page in pages for row in page[0]]
    assert [(key, size) for key, _, size in rows] == [(b"a b+c.txt", 5), (b"d%2Fe", 5), ("é".encode(), 5)]
    assert all(isinstance(stamp, int) and abs(stamp / 1e9 - time.time()) < 600 for _, stamp, _ in rows)
    assert [name for page in pages for name in page[1]] == [b"sub/"]
    (page,) = store.children(b"sub/")
    assert ([row[0] for row in page[0]], page[1]) == ([b"sub/x"], [b"sub/y/"])


def test_uploads_are_seen_and_aborted(server: S3Server, bucket_name: str) -> None:
    server.make_bucket(bucket_name)
    client = server.client()
    store = store_at(server, f"s3://{bucket_name}/p/")
    assert list(store.uploads(b"")) == []
    for key in (b"p/big", b"q/other"):
        assert client.request("POST", bucket_name, key, query=[("uploads", "")])[0] == 200
    ((key, upload, at),) = store.uploads(b"")
    assert (key, abs(at - time.time()) < 600) == (b"big", True)
    for number, body in ((1, b"a" * 100), (2, b"b" * 50)):
        query = [("partNumber", str(number)), ("uploadId", upload)]
        assert client.request("PUT", bucket_name, b"p/big", query=query, body=body)[0] == 200
    parts = store.upload_parts(b"big", upload)
    assert [(part.number, part.size) for part in parts] == [(1, 100), (2, 50)]
    assert parts[0].etag == b"36a92cc94a9e0fa21f625f8bfb007adf"
    store.abort_upload(b"big", upload)
    store.abort_upload(b"big", upload)
    assert list(store.uploads(b"")) == []
    with pytest.raises(model.NotFoundError):
        store.upload_parts(b"big", upload)
    assert list(store_at(server, f"s3://{bucket_name}/").uploads(b"")) != []


def test_objects_go_through_the_lane(server: S3Server, bucket_name: str) -> None:
    server.make_bucket(bucket_name)
    store = store_at(server, f"s3://{bucket_name}/x/")
    for key in (b"b", b"a/1", b"c d+e"):
        store.write(key, b"hello " + key)
    assert store.read(b"c d+e") == b"hello c d+e"
    assert store.head(b"b").size == 7
    with pytest.raises(model.NotFoundError):
        store.head(b"nothing")
    rows = [row for page in store.pages() for row in page.rows]
    assert [(key, size) for key, _, size in rows] == [(b"a/1", 9), (b"b", 7), (b"c d+e", 11)]
    assert [row[0] for page in store.pages(b"a/1", "etag") for row in page.rows] == [b"b", b"c d+e"]
    store.close()


def test_a_range_is_a_range_whatever_status_it_comes_under(server: S3Server, bucket_name: str) -> None:
    """Some servers send what was asked for, and Content-Range, under status 200."""
    server.make_bucket(bucket_name)
    data = os.urandom(3 << 20)
    assert server.client().put(bucket_name, b"x/k", data) == 200
    store = store_at(server, f"s3://{bucket_name}/x/")
    for offset, length in ((2 << 20, 1000), (0, 10), ((3 << 20) - 5, 5), (1, -1), (1 << 20, -1)):
        whole = Get(b"k", lambda _op: None, offset=offset, length=length)
        store._run(whole)
        stop = len(data) if length < 0 else offset + length
        assert bytes(whole.body) == data[offset:stop], (offset, length)
    store.close()


def test_a_large_object_comes_in_ranges_from_any_server(server: S3Server, bucket_name: str, tmp_path: Path) -> None:
    server.make_bucket(bucket_name)
    data = os.urandom(1 << 20) * 70 + b"the end"
    assert server.client().put(bucket_name, b"x/large", data) == 200
    cli = Cli(str(tmp_path / "state"))
    done = cli("sync", f"s3://{bucket_name}/x", tmp_path / "out", "--json", server=server)
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "large").read_bytes() == data


ODD_ORDER = (b"a b", b"a-b/x", b"a.txt", b"a/1", b"a/2", b"a0", b"b/c.txt", b"b/c/d", b"b/c0")


def test_pages_come_in_the_order_of_bytes(server: S3Server, bucket_name: str) -> None:
    """Case 14, also on a server that sorts directories by their bare names."""
    server.make_bucket(bucket_name)
    for key in ODD_ORDER:
        assert server.client().put(bucket_name, b"t/" + key, key) == 200
    store = store_at(server, f"s3://{bucket_name}/t/")
    store.check()
    for after in (b"", b"a", b"a.", b"a.txt", b"a/", b"a/1", b"a0", b"b/c/", b"b/c0"):
        pages = list(store.pages(after, "etag"))
        assert [row[0] for page in pages for row in page.rows] == [key for key in ODD_ORDER if key > after]
        assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
    assert {row[1] for page in store.pages(b"b/c/", "etag") for row in page.rows} == {
        hashlib.md5(b"b/c/d").hexdigest().encode(),
        hashlib.md5(b"b/c0").hexdigest().encode(),
    }
    store.close()


def test_buckets_are_created_only_when_asked(server: S3Server, bucket_name: str) -> None:
    store = store_at(server, f"s3://{bucket_name}/")
    with pytest.raises(model.NotFoundError):
        store.check()
    with pytest.raises(model.NotFoundError):
        list(store.children(b""))
    assert bucket_name not in store.buckets()
    store.create_bucket()
    store.check()
    assert bucket_name in store.buckets()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("seaweed", ("crc32c", True, True, True, False, False, False)),
        ("rclone_s3", ("", False, True, False, False, True, True)),
    ],
)
def test_the_full_probe_records_what_the_server_does(
    request: pytest.FixtureRequest, bucket_name: str, tmp_path: Path, name: str, expected: tuple[object, ...]
) -> None:
    server: S3Server = request.getfixturevalue(name)
    server.make_bucket(bucket_name)
    server.client().put(bucket_name, b"p/seen", b"1")
    server.client().put(bucket_name, b"p/then", b"1")
    store = store_at(server, f"s3://{bucket_name}/p/", state_dir=tmp_path)
    findings = {finding.what: finding.result for finding in store.probe(write=True)}
    profile = store.target.profile
    found = (
        profile.checksum, profile.checksum_checked, profile.etag_is_md5, profile.put_conditional,
        profile.double_slash, profile.ordered, profile.start_after,
    )  # fmt: skip
    assert found == expected
    assert findings["start after a key"] == "yes"
    assert findings["list version"] == "ListObjectsV2"
    assert server.client().keys(bucket_name) == [(b"p/seen", 1), (b"p/then", 1)]
    again = store_at(server, f"s3://{bucket_name}/elsewhere", state_dir=tmp_path)
    assert again.target.profile.checksum == profile.checksum


# -- vendors that refuse


def test_a_vendor_without_list_v2(fake_s3: FakeS3) -> None:
    for quirk in ("refuse", "ignore"):
        fake_s3.quirks.list_v2 = quirk
        for n in range(3):
            fake_s3.put("data", f"k{n}", b"x")
        store = store_at(fake_s3, "s3://data/")
        store.check()
        assert store.target.profile.list_v1
        fake_s3.quirks.max_keys = 1
        assert [row[0] for page in store.children(b"") for row in page[0]] == [b"k0", b"k1", b"k2"]
        fake_s3.quirks.max_keys = 1000


def test_children_learn_the_list_version_without_a_check(fake_s3: FakeS3) -> None:
    fake_s3.quirks.list_v2 = "refuse"
    fake_s3.put("data", "k", b"x")
    assert [row[0] for page in store_at(fake_s3, "s3://data/").children(b"") for row in page[0]] == [b"k"]


@pytest.mark.parametrize(("quirk", "result"), [("refuse", "refused"), ("ignore", "accepted but not checked: not used")])
def test_a_vendor_without_checksum_headers(fake_s3: FakeS3, quirk: str, result: str) -> None:
    """Case 49."""
    fake_s3.quirks.checksum_headers = quirk
    fake_s3.make_bucket("data")
    store = store_at(fake_s3, "s3://data/")
    findings = {finding.what: finding.result for finding in store.probe(write=True)}
    assert (findings["checksum in flight"], store.target.profile.checksum) == (result, "")
    assert fake_s3.dump("data") == {}


def test_a_vendor_with_etags_of_its_own(fake_s3: FakeS3) -> None:
    """Case 48."""
    fake_s3.quirks.etags = "qiniu"
    fake_s3.quirks.conditional_put = "ignore"
    fake_s3.make_bucket("data")
    store = store_at(fake_s3, "s3://data/")
    list(store.probe(write=True))
    assert store.target.profile.etag_is_md5 is False
    assert store.target.profile.put_conditional is False


def test_a_vendor_that_ignores_start_after(fake_s3: FakeS3) -> None:
    fake_s3.quirks.start_after = False
    fake_s3.put("data", "k1", b"x")
    fake_s3.put("data", "k2", b"x")
    store = store_at(fake_s3, "s3://data/")
    list(store.probe())
    assert not store.caps.start_after
    assert fake_s3.count("WRITE") == 0


def test_a_vendor_that_wants_the_bucket_in_the_host(fake_s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    lookup = socket.getaddrinfo
    names = {"data.localhost": "127.0.0.1"}  # not every resolver knows names below localhost
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **named: lookup(names.get(host, host), *more, **named)
    )
    fake_s3.make_bucket("data")
    refusal = status(403, "SecondLevelDomainForbidden", message="please use virtual hosted style")
    fake_s3.rule("*", refusal, when=lambda r: not r.headers["host"].startswith("data."))
    store = S3Store.open(parse_location("c:data/"), named(f"http://localhost:{fake_s3.port}", "generic"))
    store.check()
    assert store.target.style == "virtual"
    assert asked(fake_s3, 2)[-1].headers["host"] == f"data.localhost:{fake_s3.port}"


def test_fixed_parts_are_told_to_the_planner(fake_s3: FakeS3) -> None:
    store = S3Store.open(parse_location("c:data/"), named(fake_s3.endpoint, "ufile"))
    assert (store.caps.part_fixed, store.caps.part_min, store.caps.part_max) == (8 << 20, 8 << 20, 8 << 20)


@pytest.mark.parametrize("code", [301, 307, 400])
def test_a_wrong_region_is_followed_once(fake_s3: FakeS3, code: int, tmp_path: Path) -> None:
    """Case 8."""
    fake_s3.make_bucket("far", region="eu-north-1", wrong_region=code)
    store = store_at(fake_s3, "s3://far/", state_dir=tmp_path)
    store.check()
    assert store.target.region == "eu-north-1"
    assert [request.status for request in asked(fake_s3, 2)] == [code, 200]
    store_at(fake_s3, "s3://far/", state_dir=tmp_path).check()
    assert asked(fake_s3, 3)[-1].status == 200


def test_a_redirect_in_circles_ends(fake_s3: FakeS3) -> None:
    fake_s3.make_bucket("data")
    fake_s3.rule("*", redirect("somewhere"))
    with pytest.raises(model.ForbiddenError, match="another region"):
        store_at(fake_s3, "s3://data/").check()
    asked(fake_s3, 2)


@pytest.mark.parametrize("offset", [-4000, 4000])
def test_a_wrong_clock_is_learned(fake_s3: FakeS3, offset: int) -> None:
    """Case 55."""
    fake_s3.make_bucket("data")
    fake_s3.clock_offset = offset
    store = store_at(fake_s3, "s3://data/")
    store.check()
    assert store.target.clock_offset == pytest.approx(offset, abs=5)


def test_a_busy_store_is_asked_again_a_few_times(fake_s3: FakeS3) -> None:
    fake_s3.make_bucket("data")
    fake_s3.rule("LIST", status(503, "SlowDown"), times=2)
    store_at(fake_s3, "s3://data/").check()
    fake_s3.rule("LIST", status(503, "SlowDown"))
    with pytest.raises(model.ThrottledError):
        store_at(fake_s3, "s3://data/").check()
    asked(fake_s3, 3 + 4)


def test_cut_connections_are_tried_again(fake_s3: FakeS3) -> None:
    fake_s3.make_bucket("data")
    store = store_at(fake_s3, "s3://data/")
    store.check()
    fake_s3.drop_connections()
    store.check()
    fake_s3.rule("LIST", close(reset=True), times=2)
    store.check()


def test_an_endpoint_that_is_no_s3(fake_s3: FakeS3) -> None:
    fake_s3.rule("*", status(200, body=b"<html>welcome</html>"), nth=1)
    fake_s3.rule("*", status(404, body=b"<html>nothing here</html>"), nth=2)
    for kind in (model.UnexpectedReplyError, model.NotFoundError):
        with pytest.raises(kind) as caught:
            store_at(fake_s3, "s3://data/").check()
        assert "S3 endpoint" in caught.value.hint


@pytest.mark.parametrize(
    ("endpoint", "kind", "text"),
    [
        ("http://127.0.0.1:{closed}", model.StoreTimeoutError, "connection refused"),
        ("http://no-such-host.invalid", model.NotFoundError, "is not known"),
        ("https://127.0.0.1:{port}", model.ForbiddenError, "no TLS with"),
    ],
)
def test_unreachable_endpoints(fake_s3: FakeS3, endpoint: str, kind: type[model.StoreError], text: str) -> None:
    with FakeS3() as other:
        closed = other.port
    url = endpoint.format(closed=closed, port=fake_s3.port)
    with pytest.raises(kind, match=text) as caught:
        store_at(fake_s3, "s3://data/", AWS_ENDPOINT_URL=url).check()
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_certificates_are_checked_unless_a_person_says_otherwise(tls_s3: FakeS3, tmp_path: Path) -> None:
    """Case 54."""
    tls_s3.make_bucket("data")
    store_at(tls_s3, "s3://data/").check()
    with pytest.raises(model.ForbiddenError, match="not trusted"):
        S3Store.open(parse_location("c:data/"), named(tls_s3.endpoint, "generic")).check()
    careless = named(tls_s3.endpoint, "generic", insecure_skip_verify=True)
    S3Store.open(parse_location("c:data/"), careless).check()


def test_a_bucket_with_dots_over_tls_goes_by_path(tls_s3: FakeS3, tmp_path: Path) -> None:
    """Case 54."""
    tls_s3.make_bucket("my.dotted.bucket")
    wanted = named(tls_s3.endpoint, "generic", addressing="virtual", insecure_skip_verify=True)
    store = S3Store.open(parse_location("c:my.dotted.bucket/"), wanted)
    store.check()
    assert store.target.style == "path"


def test_session_tokens_and_requester_pays(fake_s3: FakeS3) -> None:
    """Cases 56 and 59."""
    fake_s3.tokens[ACCESS] = "token-1"
    fake_s3.make_bucket("data")
    store_at(fake_s3, "s3://data/", AWS_REQUEST_PAYER="requester").check()
    assert asked(fake_s3, 1)[-1].headers["x-amz-request-payer"] == "requester"
    with pytest.raises(model.ForbiddenError) as caught:
        store_at(fake_s3, "s3://data/", AWS_SESSION_TOKEN="stale").check()
    assert "stale" not in str(caught.value)


def test_expired_keys_are_fetched_again(fake_s3: FakeS3, tmp_path: Path) -> None:
    """Case 56."""
    fake_s3.tokens[ACCESS] = "token-2"
    fake_s3.make_bucket("data")
    file = tmp_path / "credentials"

    def rotate(token: str) -> None:
        file.write_text(
            f"[default]\naws_access_key_id={ACCESS}\naws_secret_access_key={SECRET}\naws_session_token={token}\n"
        )

    rotate("token-2")
    env = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_ENDPOINT_URL": fake_s3.endpoint}
    location = parse_location("s3://data/")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        store = S3Store.open(location, connection_for(location, env))
        store.check()
        fake_s3.tokens[ACCESS] = "token-3"
        rotate("token-3")
        fake_s3.rule("*", status(400, "ExpiredToken"), times=1)
        store.check()


def test_anonymous_requests_carry_no_signature(fake_s3: FakeS3) -> None:
    fake_s3.verify_signatures = False
    fake_s3.make_bucket("data")
    location = parse_location("s3://data/")
    env = {"HOME": "/nonexistent", "AWS_ENDPOINT_URL": fake_s3.endpoint, "AWS_NO_SIGN_REQUEST": "1"}
    S3Store.open(location, connection_for(location, env)).check()
    assert "authorization" not in asked(fake_s3, 1)[-1].headers


def test_what_the_endpoint_showed_is_remembered(fake_s3: FakeS3, tmp_path: Path) -> None:
    fake_s3.quirks.list_v2 = "refuse"
    fake_s3.make_bucket("data")
    store_at(fake_s3, "s3://data/", state_dir=tmp_path).check()
    asked(fake_s3, 2)
    store_at(fake_s3, "s3://data/", state_dir=tmp_path).check()
    asked(fake_s3, 3)


def test_server_copies_stay_at_one_endpoint_under_one_key(fake_s3: FakeS3) -> None:
    one, other = store_at(fake_s3, "s3://a/"), store_at(fake_s3, "s3://b/")
    assert one.can_server_copy_from(other)
    assert not one.can_server_copy_from(store_at(fake_s3, "s3://b/", AWS_ACCESS_KEY_ID="x"))
    assert not one.can_server_copy_from(store_at(fake_s3, "s3://b/", AWS_ENDPOINT_URL="http://127.0.0.1:1"))
    one.target.profile.copy = False
    assert not one.can_server_copy_from(other)


# -- the registry


def test_the_registry_opens_by_scheme(fake_s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in fake_s3.env().items():
        monkeypatch.setenv(name, value)
    fake_s3.make_bucket("data")
    for text in ("s3://data/p", "minio://data/p", "ks3://data/p"):
        found = open_store(parse_location(text), state_dir=str(tmp_path))
        found.check()
        assert found.identity()[1] == b"p/"
    stored = open_store(parse_location("c:data/p"), named(fake_s3.endpoint, "minio"))
    assert stored.identity() == open_store(parse_location("s3://data/p")).identity()
    assert open_store(parse_location(str(tmp_path))).location.is_file


def test_the_registry_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_NO_SIGN_REQUEST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(model.PlaceError, match="no credentials"):
        open_store(parse_location("s3://data/"))
    with pytest.raises(model.UsageError, match="no connection named 'far'") as caught:
        open_store(parse_location("far:data/"))
    assert "entrepot connection add far" in caught.value.hint
    with pytest.raises(model.UsageError, match="no bucket"):
        open_store(parse_location("far:"), named("http://127.0.0.1:1", "generic"))
