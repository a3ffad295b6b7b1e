"""The program against a whole server: work done there and followed from here, left, taken up, over a restart."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

import entrepot
from entrepot.sdk.errors import NotReachable
from parts.cli import Cli, Result
from parts.entrepot_server import TOKEN, EntrepotServer
from parts.fake_s3 import FakeS3

SLOW = ("--bandwidth", "2M")


def _free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EntrepotServer]:
    running = EntrepotServer(tmp_path, "--port", _free_port()).start()
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
        running.volume(name, tmp_path / name)
    yield running
    running.stop()


@pytest.fixture
def env(server: EntrepotServer) -> dict[str, str]:
    return {"ENTREPOT_SERVER": server.url, "ENTREPOT_TOKEN": TOKEN}


@pytest.fixture
def ask(cli: Cli, env: dict[str, str]) -> Callable[..., Result]:
    return lambda *words, **more: cli(*words, env=env, **more)


def _fill(folder: Path, count: int, size: int) -> None:
    for number in range(count):
        (folder / f"file {number:03}").write_bytes(os.urandom(size))


def _begun(client: entrepot.Client) -> str:
    """The id of the task that moves bytes now."""
    until = time.monotonic() + 60
    while True:
        for task in client.tasks.list(state=["RUNNING", "SCANNING"]):
            return task.id
        assert time.monotonic() < until, [(one.state, one.reason) for one in client.tasks.list()]
        time.sleep(0.05)


def test_a_sync_on_the_server_ends_like_one_here(ask: Callable[..., Result], tmp_path: Path) -> None:
    _fill(tmp_path / "from", 20, 3000)
    report = tmp_path / "report.jsonl"
    done = ask("sync", "volume://from", "volume://to/x", "--report", report)
    assert done.code == 0, done.text
    assert done.report["state"] == "SUCCEEDED" and done.report["copied"] == {"entries": 20, "bytes": 60000}
    assert done.report["peak_rss_bytes"] > 0
    assert len(report.read_text().splitlines()) == 20
    again = ask("sync", "volume://from", "volume://to/x", json=False)
    assert "Done" in again.out and "equal" in again.out and again.code == 0, again.text
    (tmp_path / "to" / "x" / "file 003").write_bytes(b"other")
    differs = ask("verify", "volume://from", "volume://to/x")
    assert (differs.code, differs.report["failed"]["entries"]) == (1, 1), differs.text
    preview = ask("sync", "volume://from", "volume://to/x", "--dry-run", json=False)
    assert "would copy" in preview.out and preview.code == 0, preview.text
    assert (tmp_path / "to" / "x" / "file 003").read_bytes() == b"other"


def test_a_bucket_is_stored_tried_browsed_and_copied(
    ask: Callable[..., Result], fake_s3: FakeS3, tmp_path: Path
) -> None:
    env = fake_s3.env()
    fake_s3.make_bucket("photos")
    for number in range(3):
        fake_s3.put("photos", f"2026/{number}.jpg", b"x" * 1000)
    (tmp_path / "secret").write_text(env["AWS_SECRET_ACCESS_KEY"])
    (tmp_path / "secret").chmod(0o600)
    added = ask(
        "connection", "add", "lab", "--provider", "generic", "--endpoint", env["AWS_ENDPOINT_URL"], "--access-key",
        env["AWS_ACCESS_KEY_ID"], "--secret-file", tmp_path / "secret", "--region", "us-east-1", "--addressing", "path",
    )  # fmt: skip
    assert added.code == 0, added.text
    tried = ask("connection", "test", "lab", "photos")
    assert tried.code == 0 and "fail" not in tried.out, tried.text
    assert "2026/" in ask("connection", "browse", "lab:photos").out
    assert "0.jpg" in ask("connection", "browse", "lab:photos/2026/").out
    done = ask("sync", "lab:photos/2026", "volume://to/2026")
    assert (done.code, done.report["copied"]["entries"]) == (0, 3), done.text
    assert done.report["requests"]["get"] == 3 and done.report["requests"]["list"] >= 1
    gone = ask("sync", "lab:nowhere", "volume://to/2026")
    assert gone.code == 3 and "nowhere" in gone.err, gone.text


def test_deletes_that_are_too_many_wait_for_a_person(ask: Callable[..., Result], tmp_path: Path) -> None:
    _fill(tmp_path / "from", 2, 10)
    _fill(tmp_path / "to", 8, 10)
    words = ("sync", "volume://from", "volume://to", "--delete", "--delete-max-count", "1")
    done = ask(*words, json=False)
    assert done.code == 4 and "waits for approval" in done.err, done.text
    task_id = done.err.split()[1]
    assert ask("task", "approve", task_id).code == 0
    followed = ask("task", "follow", task_id, "--json")
    assert (followed.code, followed.report["deleted"]["entries"]) == (0, 6), followed.text


def test_ctrl_c_leaves_the_task_to_the_server(
    cli: Cli, ask: Callable[..., Result], env: dict[str, str], server: EntrepotServer, tmp_path: Path
) -> None:
    _fill(tmp_path / "from", 12, 1 << 20)
    with entrepot.Client(server.url, TOKEN) as client:
        with cli.start("sync", "volume://from", "volume://to/y", *SLOW, env=env, json=False) as run:
            task_id = _begun(client)
            run.send(signal.SIGINT)
            left = run.wait()
        assert left.code == 130, left.text
        assert f"entrepot task follow {task_id}" in left.err and "Traceback" not in left.err
        assert not client.tasks.get(task_id).ended
        followed = ask("task", "follow", task_id, "--json")
        assert followed.code == 0 and followed.report["copied"]["entries"] == 12, followed.text
        assert followed.report["task_id"] == task_id


def test_following_goes_on_over_a_restart_of_the_server(
    cli: Cli, env: dict[str, str], server: EntrepotServer, tmp_path: Path
) -> None:
    _fill(tmp_path / "from", 12, 1 << 20)
    with entrepot.Client(server.url, TOKEN) as client:
        with cli.start("sync", "volume://from", "volume://to/z", *SLOW, env=env) as run:
            task_id = _begun(client)
            server.stop()
            server.start()
            done = run.wait()
        assert done.code == 0, done.text
        assert done.report["task_id"] == task_id
        assert done.report["copied"]["entries"] + done.report["equal"]["entries"] == 12
        assert client.tasks.wait(task_id, 5).state == "SUCCEEDED"


def test_tls_is_checked_against_the_authority_that_is_named(cli: Cli, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    (tmp_path / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (tmp_path / "cert.pem").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = EntrepotServer(tmp_path, "--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    server.start()
    try:
        with entrepot.Client(server.url, TOKEN, ca_file=str(tmp_path / "ca.pem")) as client:
            assert client.users.me().grants
        with entrepot.Client(server.url, TOKEN, insecure_skip_verify=True) as client:
            assert client.users.me().grants
        with entrepot.Client(server.url, TOKEN, retries=0) as client, pytest.raises(NotReachable) as caught:
            client.users.me()
        assert "cannot be trusted" in caught.value.message and "--ca-file" in caught.value.hint
        done = cli(
            "--server", server.url, "--ca-file", tmp_path / "ca.pem", "user", "me", env={"ENTREPOT_TOKEN": TOKEN}
        )
        assert done.code == 0, done.text
        plain = cli("--server", server.url.replace("https", "http"), "user", "me", env={"ENTREPOT_TOKEN": TOKEN})
        assert plain.code == 3 and f"write {server.url}" in plain.err, plain.text
    finally:
        server.stop()
