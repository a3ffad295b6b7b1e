"""The commands against an S3 server: cp of single objects, ls, du, connection test, doctor."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from entrepot.cli.app import run
from entrepot.service.connections import ConnectionStore
from parts.cli import Cli
from parts.fake_actions import cut, status
from parts.fake_s3 import SECRET, FakeS3

LARGE = os.urandom(1 << 20) * 20


@pytest.fixture
def store(fake_s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeS3:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in fake_s3.env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ENTREPOT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("ENTREPOT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("ENTREPOT_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    fake_s3.make_bucket("src")
    fake_s3.make_bucket("dst")
    return fake_s3


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("s3://dst", b"file"),
        ("s3://dst/", b"file"),
        ("s3://dst/d/", b"d/file"),
        ("s3://dst/d/name", b"d/name"),
        ("s3://dst//x", b"/x"),
    ],
)
def test_cp_up(store: FakeS3, tmp_path: Path, target: str, found: bytes, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert run(["cp", "file", target, "-q"]) == 0
    assert store.dump("dst") == {found: data}
    assert store.count("LIST") <= 2, "one object needs no listing of its neighbours"


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize(("target", "found"), [(".", "key"), ("d/", "d/key"), ("name", "name"), ("d/name", "d/name")])
def test_cp_down(store: FakeS3, tmp_path: Path, target: str, found: str, data: bytes) -> None:
    store.put("src", "a//key", data)
    assert run(["cp", "s3://src/a//key", target, "-q"]) == 0
    assert (tmp_path / found).read_bytes() == data


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("words", [[], ["--no-server-side"]], ids=["server", "through"])
@pytest.mark.parametrize("target", ["s3://dst/new", "s3://src/a/key2", "s3://src/a/key/deeper"])
def test_cp_across(store: FakeS3, target: str, data: bytes, words: list[str]) -> None:
    store.put("src", "a/key", data, metadata={"colour": "blue"})
    assert run(["cp", "s3://src/a/key", target, "-q", *words]) == 0
    bucket, _, key = target.removeprefix("s3://").partition("/")
    assert store.dump(bucket)[key.encode()] == data
    assert store.object(bucket, key).metadata["colour"] == "blue"
    assert bool(store.count("GET")) == bool(words)
    assert not store.open_uploads()


def test_cp_of_a_large_object_survives_faults(store: FakeS3, tmp_path: Path) -> None:
    store.put("src", "key", LARGE)
    store.rule("GET", cut(after=100_000), nth=2)
    store.rule("GET", status(503, "SlowDown"), nth=3)
    assert run(["cp", "s3://src/key", "name", "-q"]) == 0
    assert (tmp_path / "name").read_bytes() == LARGE
    assert sorted(os.listdir(tmp_path)) == ["name", "state"]


def test_cp_of_a_prefix(store: FakeS3, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.put("src", "p/1", b"1")
    store.put("src", "p/q/2", b"22")
    store.put("src", "pq", b"no")
    assert run(["cp", "s3://src/p", "out", "--json"]) == 0
    assert lines(capsys)[-1]["copied"] == {"entries": 2, "bytes": 3}
    assert (tmp_path / "out/q/2").read_bytes() == b"22"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["s3://src/none", "x"], 3, "nothing is there"),
        (["s3://gone/key", "x"], 3, "bucket does not exist"),
        (["s3://src/a", "s3://src/a"], 4, "source and destination are the same"),
        (["s3://src/a", "s3://gone/x"], 3, "destination: "),
        (["s3://src/a", "s5://gone/x"], 2, "unknown scheme"),
        (["lab:src/a", "x"], 2, "no connection named 'lab'"),
    ],
)
def test_cp_refuses(
    store: FakeS3, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put("src", "a", b"1")
    assert run(["cp", *words]) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert "hint: " in shown.err or code == 4


def test_ls_and_du_are_streams_over_pages(store: FakeS3, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2500):
        store.put("src", f"d/{number:04d}", b"x")
    store.put("src", "top", b"12345")
    store.put("src", b"ctl\x01\n", b"")
    assert run(["ls", "s3://src"]) == 0
    assert capsys.readouterr().out.splitlines() == ["         -  d/", r"       0 B  $'ctl\x01\n'", "       5 B  top"]
    assert run(["ls", "-r", "s3://src/d"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2500
    assert run(["du", "--json", "-d", "1", "s3://src"]) == 0
    assert [tuple(line.values()) for line in lines(capsys)] == [("d/", 2500, 2500), (True, 2502, 2505)]
    assert run(["ls", "s3://src/top"]) == 0
    assert capsys.readouterr().out == "       5 B  top\n"


def add_connection(store: FakeS3, tmp_path: Path, secret: str = SECRET, *words: str) -> None:
    (tmp_path / "secret").write_text(secret)
    access = store.env()["AWS_ACCESS_KEY_ID"]
    base = ["connection", "add", "lab", "--endpoint", store.endpoint, "--access-key", access]
    assert run([*base, "--secret-file", str(tmp_path / "secret"), "--replace", *words]) == 0


def test_a_stored_connection_is_used_and_tested(
    store: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_connection(store, tmp_path)
    for name in store.env():
        monkeypatch.delenv(name, raising=False)
    assert ConnectionStore().get("lab").provider == "generic"
    store.put("src", "a", b"1")
    assert run(["cp", "lab:src/a", "lab:dst/b", "-q"]) == 0
    assert store.dump("dst") == {b"b": b"1"}
    assert run(["sync", "lab:src", "out", "-q"]) == 0
    capsys.readouterr()
    assert run(["connection", "test", "lab", "src/below", "--json"]) == 0
    found = {check["name"]: check for check in lines(capsys)}
    for name in ("resolve", "connect", "clock", "auth", "list", "write", "delete"):
        assert found[name]["verdict"] == "ok", found[name]
    assert store.keys("src") == [b"a"], "the probe takes its object away"
    assert all(entry.key.startswith(b"below/") for entry in store.log("WRITE") if entry.bucket == "src")
    assert run(["connection", "test", "lab", "--json"]) == 0
    assert run(["doctor", "--json"]) == 0
    assert any(check["name"] == "lab: connect" and check["verdict"] == "ok" for check in lines(capsys))


def test_read_only_writes_nothing(store: FakeS3, tmp_path: Path) -> None:
    add_connection(store, tmp_path)
    assert run(["connection", "test", "lab", "src", "--read-only"]) == 0
    assert store.count("WRITE") == 0


def test_a_test_says_which_right_is_missing(store: FakeS3, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_connection(store, tmp_path)
    capsys.readouterr()
    store.rule("PUT", status(403, "AccessDenied"))
    assert run(["connection", "test", "lab", "src", "--json"]) == 3
    failed = [check for check in lines(capsys) if check["verdict"] == "fail"]
    assert [check["name"] for check in failed] == ["write"]
    assert failed[0]["hint"]
    assert run(["connection", "test", "lab", "nobucket", "--json"]) == 3
    assert [check["name"] for check in lines(capsys) if check["verdict"] == "fail"] == ["list"]


def test_a_wrong_secret_is_told_and_not_shown(
    store: FakeS3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_connection(store, tmp_path, "wrong-secret-1234")
    for words in (["connection", "test", "lab", "src"], ["connection", "test", "lab"], ["ls", "lab:src"]):
        assert run(words) == 3
        shown = capsys.readouterr()
        assert "wrong-secret-1234" not in shown.out + shown.err
        assert "secret" in (shown.out + shown.err)


def test_tls_is_checked(
    tls_s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENTREPOT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("ENTREPOT_STATE_DIR", str(tmp_path / "state"))
    tls_s3.make_bucket("src")
    add_connection(tls_s3, tmp_path)
    capsys.readouterr()
    assert run(["connection", "test", "lab", "src", "--json"]) == 3
    last = lines(capsys)[-1]
    assert (last["name"], last["verdict"]) == ("TLS", "fail")
    assert "--ca-file" in last["hint"]
    add_connection(tls_s3, tmp_path, SECRET, "--ca-file", tls_s3.ca_file)
    capsys.readouterr()
    assert run(["connection", "test", "lab", "src", "--json"]) == 0
    found = {check["name"]: check for check in lines(capsys)}
    assert found["TLS"]["verdict"] == "ok"


def test_ctrl_c_then_the_same_command_goes_on(cli: Cli, fake_s3: FakeS3, tmp_path: Path) -> None:
    fake_s3.make_bucket("src")
    fake_s3.put("src", "key", LARGE)
    target = str(tmp_path / "name")
    words = ("cp", "s3://src/key", target, "--json", "--part-size", "1M")
    fake_s3.latency = 0.3
    with cli.start(*words, "--concurrency", "2", server=fake_s3) as run:
        assert run.kill_when(lambda: fake_s3.count("GET") >= 4, number=signal.SIGINT)
        stopped = run.wait()
    assert stopped.code == 130, stopped.text
    assert stopped.report["state"] == "PAUSED"
    assert "entrepot: interrupted\nhint: run the same command again" in stopped.err
    assert not os.path.exists(target)
    fake_s3.latency = 0.0
    before = fake_s3.count("GET")
    done = cli(*words, server=fake_s3)
    assert done.code == 0, done.text
    assert done.report["resumed"] is True
    assert fake_s3.count("GET") - before < 20, "parts that were there are not read again"
    assert Path(target).read_bytes() == LARGE


def test_cancel_takes_away_what_a_killed_copy_left(cli: Cli, fake_s3: FakeS3, tmp_path: Path) -> None:
    fake_s3.make_bucket("dst")
    (tmp_path / "file").write_bytes(LARGE)
    fake_s3.latency = 0.3
    words = ("cp", str(tmp_path / "file"), "s3://dst/other", "--part-size", "5M", "--concurrency", "1")
    with cli.start(*words, server=fake_s3) as run:
        run.kill_when(lambda: fake_s3.count("PART") >= 2)
    assert fake_s3.open_uploads()
    fake_s3.latency = 0.0
    listed = cli("tasks", "list", "--json", server=fake_s3)
    task = json.loads(listed.out)
    assert (task["running"], task["state"] in {"SUCCEEDED", "CANCELLED"}) == (False, False)
    cancelled = cli("tasks", "cancel", task["task_id"], server=fake_s3)
    assert cancelled.code == 0, cancelled.text
    assert not fake_s3.open_uploads()
    assert fake_s3.keys("dst") == []
