"""Cases 69 and 70 on a server, with real places: what a pause and a cancel leave of large objects."""

from __future__ import annotations

import os
import random
import signal

import pytest

from entrepot.ledger import orders
from entrepot.ledger.database import open_ledger
from entrepot.model.connection import Connection
from entrepot.model.options import SyncOptions
from entrepot.model.secret import Secret
from entrepot.model.task import TaskState
from entrepot.service.perform import perform
from ledger_parts import assert_counts_agree
from parts.fake_actions import stall
from serve_parts import ended, forked, job_of, look, submit, wait_until

S = TaskState
PART = 5 << 20
BIG = random.Random(7).randbytes(6 * PART + 1234)


@pytest.fixture
def ledger(tmp_path):
    found = open_ledger(str(tmp_path / "ledger.db"))
    yield found
    found.close()


@pytest.fixture
def job(ledger, tmp_path, store):
    (tmp_path / "v").mkdir()
    env = store.env()
    far = Connection(
        "far", "generic", endpoint=store.endpoint, region="us-east-1", access_key=env["AWS_ACCESS_KEY_ID"],
        secret_key=Secret(env["AWS_SECRET_ACCESS_KEY"]), addressing="path",
    )  # fmt: skip

    def make(task_id, **more):
        return job_of(
            ledger, task_id, tmp_path / "state", processes=1, connections={"far": far},
            volumes={"v": str(tmp_path / "v")}, **more,
        )  # fmt: skip

    return make


def _order(ledger, what, task_id):
    with ledger.write() as connection:
        return what(connection, task_id)


def _upload(ledger, tmp_path):
    (tmp_path / "v/src").mkdir()
    (tmp_path / "v/src/big").write_bytes(BIG)
    for n in range(30):
        (tmp_path / f"v/src/small{n}").write_bytes(b"x" * n)
    options = SyncOptions(part_size=PART)
    return submit(ledger, source="volume://v/src", destination="far:dst/", options=options)


def _download(ledger, store):
    store.put("src", "big", BIG)
    for n in range(30):
        store.put("src", f"small{n}", b"x" * n)
    options = SyncOptions(part_size=PART)
    return submit(ledger, source="far:src/", destination="volume://v/dst", options=options)


def _begun(store, op, count=3):
    wait_until(lambda: store.count(op, "big") >= count)


def _temporary(tmp_path):
    found = tmp_path / "v/dst"
    return [name for name in os.listdir(found) if name.startswith(".")] if found.exists() else []


@pytest.mark.parametrize("way", ["up", "down"])
def test_case_69_a_pause_in_a_large_object_goes_on_with_its_parts(ledger, tmp_path, store, job, way):
    task_id = _upload(ledger, tmp_path) if way == "up" else _download(ledger, store)
    op = "UploadPart" if way == "up" else "GetObject"
    store.rule(op, stall(2.0), key="big")
    work = job(task_id)
    pid = forked(lambda: perform(work))
    _begun(store, op)
    _order(ledger, orders.pause, task_id)
    assert ended(pid, 40) == 0
    assert look(ledger, task_id).state is S.PAUSED
    assert_counts_agree(ledger, task_id)
    before = store.count(op, "big")
    store.clear_rules()
    store.clear_log()
    _order(ledger, orders.resume, task_id)
    assert perform(job(task_id)) == 0
    task = look(ledger, task_id)
    assert (task.state, task.totals.total, task.totals.copied + task.totals.equal) == (S.SUCCEEDED, 31, 31)
    if way == "up":
        assert before + store.count(op, "big") <= 7 + 3, "parts that were there are not sent again"
        assert store.dump("dst")[b"big"] == BIG
        assert not store.open_uploads("dst")
    else:
        assert (tmp_path / "v/dst/big").read_bytes() == BIG
        assert _temporary(tmp_path) == []
    assert_counts_agree(ledger, task_id)


@pytest.mark.parametrize("moment", ["running", "paused", "killed"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_case_70_a_cancel_leaves_no_upload_and_no_temporary_file(ledger, tmp_path, store, job, way, moment):
    task_id = _upload(ledger, tmp_path) if way == "up" else _download(ledger, store)
    op = "UploadPart" if way == "up" else "GetObject"
    store.rule(op, stall(2.0), key="big")
    work = job(task_id)
    pid = forked(lambda: perform(work))
    _begun(store, op)
    if moment == "paused":
        _order(ledger, orders.pause, task_id)
    elif moment == "running":
        _order(ledger, orders.cancel, task_id)
    else:
        os.kill(pid, signal.SIGKILL)
    ended(pid, 40)
    store.clear_rules()
    if moment != "running":
        assert _order(ledger, orders.cancel, task_id) is not S.CANCELLED, "something has to be undone first"
        assert perform(job(task_id, undo=True)) == 0
    task = look(ledger, task_id)
    assert (task.state, task.stop) == (S.CANCELLED, "")
    if way == "up":
        assert not store.open_uploads("dst")
    else:
        assert _temporary(tmp_path) == []
    assert_counts_agree(ledger, task_id)
    assert _order(ledger, orders.cancel, task_id) is S.CANCELLED
    _order(ledger, orders.retry, task_id)
    assert perform(job(task_id)) == 0
    assert look(ledger, task_id).state is S.SUCCEEDED
    assert (store.dump("dst")[b"big"] if way == "up" else (tmp_path / "v/dst/big").read_bytes()) == BIG
