"""Trying again what failed, with real places: only those entries are asked for, and every counter fits."""

from __future__ import annotations

import json
import os

import pytest

from entrepot.ledger import orders
from entrepot.ledger.database import open_ledger
from entrepot.model.connection import Connection
from entrepot.model.options import SyncOptions
from entrepot.model.secret import Secret
from entrepot.model.task import TaskState
from entrepot.service.perform import perform
from entrepot.service.reports import report_place
from ledger_parts import assert_counts_agree
from parts.fake_actions import status
from serve_parts import job_of, look, submit

S = TaskState


@pytest.fixture
def ledger(tmp_path):
    found = open_ledger(str(tmp_path / "ledger.db"))
    yield found
    found.close()


class Server:
    """Performs tasks one by one, as conductors do."""

    def __init__(self, ledger, tmp_path, store=None):
        self.ledger = ledger
        self.state = tmp_path / "state"
        self.volumes = {"v": str(tmp_path / "v")}
        os.makedirs(self.volumes["v"], exist_ok=True)
        self.connections = {}
        if store is not None:
            env = store.env()
            self.connections["far"] = Connection(
                "far",
                "generic",
                endpoint=store.endpoint,
                region="us-east-1",
                access_key=env["AWS_ACCESS_KEY_ID"],
                secret_key=Secret(env["AWS_SECRET_ACCESS_KEY"]),
                addressing="path",
            )

    def run(self, task_id):
        job = job_of(self.ledger, task_id, self.state, processes=1, connections=self.connections, volumes=self.volumes)
        assert perform(job) == 0
        assert_counts_agree(self.ledger, task_id)
        return look(self.ledger, task_id)

    def retry(self, task_id):
        with self.ledger.write() as connection:
            orders.retry(connection, task_id)
        assert_counts_agree(self.ledger, task_id)
        return self.run(task_id)

    def report(self, task_id):
        with open(report_place(str(self.state), task_id), encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
        return {row["key"]: row["outcome"] for row in rows}

    def failed_keys(self, task_id):
        with self.ledger.read() as connection:
            rows = connection.execute("SELECT key FROM failure WHERE task_id = :id ORDER BY key", {"id": task_id})
        return [bytes(row.key) for row in rows]


def _fill(root, count=20):
    for n in range(count):
        path = root / f"d{n % 3}" / f"f{n:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"body {n}")


def _outcomes(total, **others):
    return {"total": total, "copied": total, "equal": 0, "skipped": 0, "failed": 0, "deleted": 0, **others}


def _counts(task):
    return {name: getattr(task.totals, name) for name in _outcomes(0)}


def test_files_that_were_in_the_way_of_others(tmp_path, ledger):
    server = Server(ledger, tmp_path)
    root = tmp_path / "v"
    _fill(root / "src")
    for name in ("d0/f03", "d1/f04"):
        (root / "dst" / name / "in the way").mkdir(parents=True)
    task_id = submit(ledger, source="volume://v/src", destination="volume://v/dst", options=SyncOptions(report="yes"))
    task = server.run(task_id)
    assert (task.state, _counts(task)) == (S.FAILED, _outcomes(20, copied=18, failed=2))
    assert server.failed_keys(task_id) == [b"d0/f03", b"d1/f04"]
    (root / "dst/d0/f03/in the way").rmdir()
    (root / "dst/d0/f03").rmdir()
    (root / "src/new").write_text("came later: not part of what failed")
    (root / "dst/d0/f00").write_text("changed at the destination: not looked at")
    task = server.retry(task_id)
    assert (task.state, _counts(task)) == (S.FAILED, _outcomes(20, copied=19, failed=1))
    assert server.failed_keys(task_id) == [b"d1/f04"]
    assert server.report(task_id)["d0/f03"] == "copied"
    assert server.report(task_id)["d1/f04"] == "failed"
    (root / "dst/d1/f04/in the way").rmdir()
    (root / "dst/d1/f04").rmdir()
    task = server.retry(task_id)
    assert (task.state, _counts(task), task.percent) == (S.SUCCEEDED, _outcomes(20), 100)
    assert server.report(task_id) == {f"d{n % 3}/f{n:02}": "copied" for n in range(20)}
    assert not (root / "dst/new").exists()
    assert (root / "dst/d0/f00").read_text().startswith("changed")
    assert task.totals.total_bytes == task.totals.copied_bytes


def test_an_entry_that_is_gone_by_now_is_no_failure_any_more(tmp_path, ledger):
    server = Server(ledger, tmp_path)
    root = tmp_path / "v"
    _fill(root / "src")
    (root / "dst/d0/f03/x").mkdir(parents=True)
    task_id = submit(ledger, source="volume://v/src", destination="volume://v/dst")
    assert server.run(task_id).state is S.FAILED
    (root / "src/d0/f03").unlink()
    task = server.retry(task_id)
    assert (task.state, _counts(task)) == (S.SUCCEEDED, _outcomes(19))


def test_objects_that_were_forbidden_are_asked_for_alone(tmp_path, ledger, store):
    server = Server(ledger, tmp_path, store)
    for n in range(50):
        store.put("src", f"k{n:02}", b"x" * n)
    store.rule("GET", status(403, "AccessDenied"), key="^k(07|31)$")
    task_id = submit(ledger, source="far:src/", destination="far:dst/copy/", options=SyncOptions(server_side=False))
    task = server.run(task_id)
    assert (task.state, _counts(task)) == (S.FAILED, _outcomes(50, copied=48, failed=2))
    store.clear_rules()
    store.clear_log()
    store.put("src", "late", b"not looked at")
    task = server.retry(task_id)
    assert (task.state, _counts(task), task.percent) == (S.SUCCEEDED, _outcomes(50), 100)
    assert store.count("PutObject") == 2
    assert {logged.key for logged in store.log("GetObject")} == {b"k07", b"k31"}
    assert task.totals.copied_bytes == task.totals.total_bytes == sum(range(50))


def test_a_range_that_could_not_be_listed_goes_on_behind_its_cursor(tmp_path, ledger, store, monkeypatch):
    monkeypatch.setenv("ENTREPOT_ATTEMPTS", "2")
    monkeypatch.setenv("ENTREPOT_BACKOFF", "0.01")
    server = Server(ledger, tmp_path, store)
    for n in range(1500):
        store.put("src", f"k{n:04}", b"x")
    second_page = lambda request: "start-after" in request.query or "continuation-token" in request.query  # noqa: E731
    store.rule("ListObjectsV2", status(403, "AccessDenied"), bucket="src", when=second_page)
    store.rule("GetObject", status(403, "AccessDenied"), key="^k0003$")
    task_id = submit(ledger, source="far:src/", destination="volume://v/out")
    task = server.run(task_id)
    assert (task.state, task.totals.failed, task.totals.copied) == (S.FAILED, 2, 999)
    store.clear_rules()
    store.clear_log()
    task = server.retry(task_id)
    assert (task.state, _counts(task)) == (S.SUCCEEDED, _outcomes(1500))
    assert store.count("GetObject") == 501, "the rest of the range, and the one that failed"


def test_deletes_that_failed_are_done_again_and_no_others(tmp_path, ledger, store):
    server = Server(ledger, tmp_path, store)
    store.put("src", "kept", b"x")
    for n in range(10):
        store.put("dst", f"old{n}", b"x")
    store.rule("DELETE", status(403, "AccessDenied"))
    store.rule("DeleteObjects", status(403, "AccessDenied"))
    options = SyncOptions(delete="destination", delete_max_share=1.0)
    task_id = submit(ledger, source="far:src/", destination="far:dst/", options=options)
    task = server.run(task_id)
    assert (task.state, task.totals.failed, task.totals.deleted) == (S.FAILED, 10, 0)
    store.clear_rules()
    task = server.retry(task_id)
    assert (task.state, task.totals.failed, task.totals.deleted) == (S.SUCCEEDED, 0, 10)
    assert task.totals.copied == task.totals.total == 1


def test_beyond_the_rows_that_are_kept_everything_is_looked_at_again(tmp_path, ledger, monkeypatch):
    monkeypatch.setattr("entrepot.ledger.journal.FAILURE_ROWS", 3)
    server = Server(ledger, tmp_path)
    root = tmp_path / "v"
    _fill(root / "src")
    for n in range(5):
        (root / "dst" / f"d{n % 3}" / f"f{n:02}" / "x").mkdir(parents=True)
    task_id = submit(ledger, source="volume://v/src", destination="volume://v/dst")
    task = server.run(task_id)
    assert (task.state, task.totals.failed, len(server.failed_keys(task_id))) == (S.FAILED, 5, 3)
    percent = task.percent
    for n in range(5):
        (root / "dst" / f"d{n % 3}" / f"f{n:02}" / "x").rmdir()
        (root / "dst" / f"d{n % 3}" / f"f{n:02}").rmdir()
    task = server.retry(task_id)
    assert (task.state, _counts(task)) == (S.SUCCEEDED, _outcomes(20, copied=5, equal=15))
    assert percent <= task.percent == 100


def test_a_verification_that_found_differences_looks_at_everything_again(tmp_path, ledger):
    server = Server(ledger, tmp_path)
    root = tmp_path / "v"
    _fill(root / "src")
    _fill(root / "dst")
    (root / "dst/d0/f00").write_text("other")
    (root / "dst/extra").write_text("x")
    task_id = submit(
        ledger,
        kind="verify",
        source="volume://v/src",
        destination="volume://v/dst",
        options=SyncOptions(compare="checksum"),
    )
    task = server.run(task_id)
    assert (task.state, task.totals.failed) == (S.FAILED, 2)
    (root / "dst/extra").unlink()
    task = server.retry(task_id)
    assert (task.state, task.totals.failed, task.totals.equal) == (S.FAILED, 1, 19)


def test_what_a_full_verification_finds_broken_is_copied_again(tmp_path, ledger, store):
    server = Server(ledger, tmp_path, store)
    for n in range(10):
        store.put("src", f"k{n}", b"right")

    options = SyncOptions(verify="full", compare="size")
    task_id = submit(ledger, source="far:src/", destination="volume://v/out", options=options)
    # It was there, of the same size, with other bytes: the comparison by size is content with it.
    (tmp_path / "v/out").mkdir(parents=True)
    (tmp_path / "v/out/k4").write_bytes(b"wrong")
    task = server.run(task_id)
    assert (task.state, task.totals.failed, task.totals.copied, task.totals.equal) == (S.FAILED, 1, 9, 1)
    task = server.retry(task_id)
    assert (task.state, task.totals.failed, task.totals.total) == (S.SUCCEEDED, 0, 10)
    assert task.totals.copied + task.totals.equal == 10
    assert (tmp_path / "v/out/k4").read_bytes() == b"right"
