"""The test parts themselves: every real server starts, answers, and agrees with an independent witness."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from parts import oracle, trees
from parts.chaos import ChaosProxy
from parts.cli import Cli, last_object
from parts.fake_s3 import FakeS3
from parts.program import Program
from parts.servers import AzureServer, FileServer, S3Server


def _fill(server: S3Server, bucket: str, tree: trees.Tree) -> None:
    client = server.client()
    assert client.make_bucket(bucket)
    for key, data in tree.items():
        assert client.put(bucket, key, data) == 200


@pytest.mark.parametrize("name", ["seaweed", "rclone_s3", "low_s3"])
def test_part_s3_keeps_what_it_gets(name: str, request: pytest.FixtureRequest, bucket_name: str) -> None:
    server: S3Server = request.getfixturevalue(name)
    tree = {b"a/one": b"1", b"a/two": b"22" * 1000, b"b": b"", "é 日本+&.txt".encode(): b"odd"}
    _fill(server, bucket_name, tree)
    trees.assert_same(tree, server.client().dump(bucket_name))


def test_part_wrong_secret_is_refused_by_seaweed(seaweed: S3Server, bucket_name: str) -> None:
    seaweed.make_bucket(bucket_name)
    seaweed.secret_key, kept = "wrong", seaweed.secret_key
    try:
        assert seaweed.client().put(bucket_name, b"x", b"") == 403
    finally:
        seaweed.secret_key = kept


@pytest.mark.parametrize("kind", ["seaweed", "fake_s3", "tls_s3"])
def test_part_oracle_sees_differences(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, bucket_name: str
) -> None:
    server = request.getfixturevalue(kind)
    tree = {b"a/one": b"1", b"a/two": b"22", b"three": b"333"}
    if isinstance(server, FakeS3):
        for key, data in tree.items():
            server.put(bucket_name, key, data)
    else:
        _fill(server, bucket_name, tree)
    trees.write_tree(tmp_path / "tree", tree)
    oracle.assert_same(server, str(tmp_path / "tree"), f"s3://{bucket_name}")
    assert {(f["Path"], f["Size"]) for f in oracle.listing(server, f"s3://{bucket_name}")} == {
        ("a/one", 1),
        ("a/two", 2),
        ("three", 3),
    }
    (tmp_path / "tree" / "three").write_bytes(b"344")
    (tmp_path / "tree" / "extra").write_bytes(b"")
    (tmp_path / "tree" / "a" / "one").unlink()
    verdict = oracle.check(server, str(tmp_path / "tree"), f"s3://{bucket_name}")
    assert not verdict.equal
    assert verdict.differ == ["three"]
    assert verdict.missing_on_destination == ["extra"]
    assert verdict.missing_on_source == ["a/one"]


def test_part_webdav_serves_files(rclone_webdav: FileServer) -> None:
    Path(rclone_webdav.root, "hello.txt").write_bytes(b"hello")
    login = base64.b64encode(f"{rclone_webdav.user}:{rclone_webdav.password}".encode()).decode()
    wanted = urllib.request.Request(rclone_webdav.url + "/hello.txt", headers={"Authorization": f"Basic {login}"})
    with urllib.request.urlopen(wanted, timeout=10) as reply:
        assert reply.read() == b"hello"


def test_part_sftp_greets(rclone_sftp: FileServer) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(rclone_sftp.url).port or 0), 10) as sock:
        assert sock.recv(8).startswith(b"SSH-2.0")


def test_part_azurite_makes_a_container(azurite: AzureServer, bucket_name: str) -> None:
    date = formatdate(usegmt=True)
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06", "content-length": "0"}
    text = (
        "PUT\n\n\n\n\n\n\n\n\n\n\n\n"
        f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
        f"/{azurite.account}/{azurite.account}/{bucket_name}\nrestype:container"
    )
    signature = hmac.digest(base64.b64decode(azurite.key), text.encode(), "sha256")
    headers["Authorization"] = f"SharedKey {azurite.account}:{base64.b64encode(signature).decode()}"
    connection = http.client.HTTPConnection(urlsplit(azurite.endpoint).netloc, timeout=10)
    connection.request("PUT", f"/{azurite.account}/{bucket_name}?restype=container", headers=headers)
    assert connection.getresponse().status == 201
    connection.close()


def test_part_tls_needs_the_authority(tls_s3: FakeS3) -> None:
    context = ssl.create_default_context(cafile=tls_s3.env()["AWS_CA_BUNDLE"])
    connection = http.client.HTTPSConnection("localhost", tls_s3.port, context=context, timeout=5)
    connection.request("GET", "/")
    assert connection.getresponse().status == 403
    connection.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        http.client.HTTPSConnection("localhost", tls_s3.port, timeout=5).request("GET", "/")


def _get(port: int, path: str = "/box/key") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def test_part_chaos_cuts_flips_stalls_refuses(fake_s3: FakeS3, chaos: Callable[[int], ChaosProxy]) -> None:
    fake_s3.verify_signatures = False
    body = b"x" * 100_000
    fake_s3.put("box", "key", body)
    proxy = chaos(fake_s3.port)
    assert _get(proxy.port) == body
    proxy.next(cut_down=5000)
    with pytest.raises(http.client.IncompleteRead):
        _get(proxy.port)
    proxy.next(flip_down=50_000)
    flipped = _get(proxy.port)
    assert len(flipped) == len(body)
    assert sum(a != b for a, b in zip(flipped, body, strict=True)) == 1
    proxy.next(stall_down=3000, stall_seconds=30.0)
    with pytest.raises(TimeoutError):
        _get(proxy.port)
    proxy.next(refuse=True)
    with pytest.raises(OSError):
        _get(proxy.port)
    proxy.next(cut_up=10)
    with pytest.raises(OSError):
        _get(proxy.port)
    proxy.always(delay=0.05)
    before = time.monotonic()
    assert _get(proxy.port) == body
    assert time.monotonic() - before >= 0.1
    assert proxy.connections == 7


def test_part_program_is_ended_with_its_children(tmp_path: Path) -> None:
    program = Program(
        ["sh", "-c", "trap '' TERM; sleep 60 & echo $!; wait; sleep 60"], str(tmp_path / "log"), grace=0.3
    )
    program.wait_until(lambda: program.tail().strip().isdigit(), 10, "sh")
    child = int(program.tail())
    program.stop()
    assert not program.alive
    for _ in range(100):
        if not os.path.exists(f"/proc/{child}") or "\nState:\tZ" in Path(f"/proc/{child}/status").read_text():
            return
        time.sleep(0.02)
    pytest.fail("the child still lives")


def test_part_cli_runs_the_program(cli: Cli) -> None:
    done = cli("--help")
    assert done.code == 0, done.text
    assert "sync" in done.out
    with cli.start("sync", "--help") as run:
        assert run.wait().code == 0


def test_part_cli_finds_the_last_object() -> None:
    assert last_object('noise {"a": 1}\n{"b": 2}\n{"c": {\n"d": 3}}\n') == {"c": {"d": 3}}
    assert last_object("nothing") == {}


def test_part_trees_tell_differences(tmp_path: Path) -> None:
    tree = trees.odd_tree() | trees.border_tree(1000)
    trees.write_tree(tmp_path / "t", tree, mtime_ns=10**18 + 5)
    trees.assert_same(tree, trees.read_tree(tmp_path / "t"))
    assert {m[1] for m in trees.metadata(tmp_path / "t").values()} == {10**18 + 5}
    changed = dict(tree) | {b"plain.txt": b"?", b"new": b""}
    del changed[b"-dash"]
    told = trees.difference(tree, changed)
    assert "differs b'plain.txt'" in told
    assert "extra b'new'" in told
    assert "missing b'-dash'" in told
    assert hashlib.sha256(tree[b"size-000001000"]).digest() != hashlib.sha256(tree[b"size-000000999"]).digest()
