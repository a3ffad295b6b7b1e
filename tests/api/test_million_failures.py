"""Case 75: a task with a million failed entries: quick pages, a whole export, and memory that does not know of it.

The ledger keeps the first 100,000 rows and counts all; the report has every entry. Each way out is walked to its end
in a process of its own whose memory is measured.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from entrepot.ledger import journal, tasks
from entrepot.ledger.database import open_ledger
from entrepot.ledger.journal import FAILURE_ROWS
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskState
from serve_parts import submit

HERE = Path(__file__).parent
MILLION = 1_000_000
SECONDS = 20.0
MORE = 40 << 20
"""Bytes that a process may need more than at its first rows. All the rows at once are many times that."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A server's data directory with such a task; the state directory of a machine has the same ledger."""
    folder = tmp_path_factory.mktemp("million") / "data"
    os.makedirs(folder / "state")
    ledger = open_ledger(str(folder / "ledger.db"))
    task_id = submit(ledger, options=SyncOptions(report="yes"))
    ledger_rows = (
        {
            "task": task_id, "phase": "scan", "key": b"dir/%07d" % n, "failure": "forbidden",
            "message": "s3://src: 403 Forbidden", "attempts": 1, "size": 5, "at": 1.7e9,
        }
        for n in range(FAILURE_ROWS)
    )  # fmt: skip
    with ledger.write() as c:
        c.executemany(journal._ADD_FAILURE, ledger_rows)
        c.change("UPDATE task SET failed = :n, total = :n, failure_rows = :rows", {"n": MILLION, "rows": FAILURE_ROWS})
        c.change(
            "INSERT INTO failure_count (task_id, failure, entries) VALUES (:id, 'forbidden', :n)",
            {"id": task_id, "n": MILLION},
        )
        tasks.transition(c, task_id, TaskState.FAILED, "1,000,000 entries failed")
    ledger.close()
    segments = folder / "state" / "segments" / task_id
    os.makedirs(segments)
    with open(segments / "00000001-000001.segment", "w") as file:
        file.write('{"after": ""}\n')
        for start in range(0, MILLION, 10_000):
            keys = [(b"dir/%07d" % n).hex() for n in range(start, start + 10_000)]
            file.write("".join(f'["{key}", "failed", 5, "", "forbidden: 403"]\n' for key in keys))
    (folder / "task").write_text(task_id)
    return folder


def _measured(work: str, folder: Path) -> dict[str, Any]:
    """What a function of this file answers in a small process of its own."""
    code = f"import sys; sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]; import test_million_failures as here; "
    code += f"here.{work}({str(folder)!r})"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert time.monotonic() - began < SECONDS
    print(work, found["more"] >> 20, "MiB more", f"{time.monotonic() - began:.1f} s")
    assert found["more"] < MORE, f"{found['more'] >> 20} MiB more"
    return found


def _peak() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) << 10


# -- in processes of their own ---------------------------------------------------------------------------------------


def join_report(folder: str) -> None:
    from entrepot.service import reports

    before = _peak()
    count = reports.keep(f"{folder}/state", Path(folder, "task").read_text())
    print(json.dumps({"rows": count, "more": _peak() - before}))


def _served(folder: str):
    from parts.api_server import Server, control_over, listening

    server = Server(*control_over(f"{folder}/ledger.db", Path(folder)))
    return server, listening(server), server.user("admin", name=f"me-{os.getpid()}")[1]


def _get(address: str, token: str, path: str) -> http.client.HTTPResponse:
    link = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    link.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = link.getresponse()
    assert answer.status == 200, answer.read()
    return answer


def turn_pages(folder: str) -> None:
    task_id = Path(folder, "task").read_text()
    server, listening, token = _served(folder)
    seen, pages, mark, before, last = 0, 0, "", 0, ""
    with listening as address:
        while True:
            path = f"/api/v1/tasks/{task_id}/failures?page_size=1000&page_token={mark}"
            found = json.loads(_get(address, token, path).read())
            keys = [one["key"] for one in found["failures"]]
            assert keys, "no page is empty"
            assert keys == sorted(keys, reverse=True)
            assert not last or keys[0] < last, "the latest first, none twice"
            last = keys[-1]
            seen, pages, mark = seen + len(keys), pages + 1, found["next_page_token"]
            before = before or _peak()
            if not mark:
                break
    server.close()
    print(json.dumps({"rows": seen, "pages": pages, "last": last, "more": _peak() - before}))


def _export(folder: str, form: str) -> None:
    import pyarrow.parquet  # noqa: F401

    task_id = Path(folder, "task").read_text()
    server, listening, token = _served(folder)
    size, lines, pieces = 0, 0, 0
    with listening as address, open(f"{folder}/got.{form}", "wb") as file:
        _get(address, token, f"/api/v1/tasks/{task_id}").read()
        before = 0
        answer = _get(address, token, f"/api/v1/tasks/{task_id}/report?format={form}")
        assert answer.getheader("Content-Length") is None, "streamed"
        while piece := answer.read1(1 << 18):
            size, lines, pieces = size + len(piece), lines + piece.count(b"\n"), pieces + 1
            file.write(piece)
            before = before or (_peak() if pieces > 10 else 0)
    more = _peak() - before
    server.close()
    print(json.dumps({"bytes": size, "lines": lines, "pieces": pieces, "more": more}))


def export_jsonl(folder: str) -> None:
    _export(folder, "jsonl")


def export_csv(folder: str) -> None:
    _export(folder, "csv")


def export_parquet(folder: str) -> None:
    _export(folder, "parquet")


def list_by_command(folder: str) -> None:
    from entrepot.cli.app import run

    task_id = Path(folder, "task").read_text()
    assert run(["tasks", "show", task_id]) == 0
    sys.stdout.flush()
    before, kept = _peak(), os.dup(1)
    with open(f"{folder}/listed", "wb") as file:
        os.dup2(file.fileno(), 1)
        code = run(["tasks", "failures", task_id, "--null"])
        sys.stdout.flush()
        os.dup2(kept, 1)
    assert code == 0
    print(json.dumps({"more": _peak() - before}))


# -- tests -----------------------------------------------------------------------------------------------------------


def test_case_75_pages_over_http_are_as_many_as_the_ledger_keeps(data):
    found = _measured("turn_pages", data)
    assert (found["rows"], found["pages"], found["last"]) == (FAILURE_ROWS, 100, "dir/0000000")


def test_case_75_a_page_is_found_by_its_place_and_not_by_sorting(data):
    ledger = open_ledger(str(data / "ledger.db"))
    with ledger.read() as c:
        for more in (journal._OLDER, journal._NEWEST):
            query = f"EXPLAIN QUERY PLAN {journal._FAILURES}{more}{journal._LATEST_FIRST}"
            plan = [row.detail for row in c.execute(query, {"task": "t", "before": 9, "limit": 10})]
            assert "failure_by_task" in plan[0]
            assert not any("TEMP B-TREE" in step for step in plan), plan
    ledger.close()


def test_case_75_the_command_lists_them_and_counts_all(data, monkeypatch):
    monkeypatch.setenv("ENTREPOT_STATE_DIR", str(data))
    _measured("list_by_command", data)
    listed = (data / "listed").read_bytes().split(b"\0")
    assert len(listed) == FAILURE_ROWS + 1
    assert listed[0] == b"dir/%07d" % (FAILURE_ROWS - 1)
    ledger = open_ledger(str(data / "ledger.db"))
    with ledger.read() as c:
        assert journal.failure_counts(c, (data / "task").read_text()) == {"forbidden": MILLION}
    ledger.close()


@pytest.fixture(scope="module")
def reported(data):
    """The report of all of them, joined from what the runners wrote."""
    assert _measured("join_report", data)["rows"] == MILLION
    return data


def test_case_75_the_report_has_all_of_them_as_json_lines(reported):
    found = _measured("export_jsonl", reported)
    assert found["lines"] == MILLION
    assert found["bytes"] > MORE, "kept whole it would show"
    with open(reported / "got.jsonl") as file:
        first = json.loads(file.readline())
    assert (first["key"], first["outcome"], first["note"]) == ("dir/0000000", "failed", "forbidden: 403")


def test_case_75_the_report_has_all_of_them_as_csv(reported):
    found = _measured("export_csv", reported)
    assert found["lines"] == MILLION + 1
    assert found["pieces"] > 50


def test_case_75_the_report_has_all_of_them_as_parquet(reported):
    import pyarrow.parquet as pq

    found = _measured("export_parquet", reported)
    about = pq.ParquetFile(reported / "got.parquet")
    assert about.metadata.num_rows == MILLION
    assert about.metadata.num_row_groups > 10
    assert found["bytes"] == os.path.getsize(reported / "got.parquet")
    last = about.read_row_group(about.metadata.num_row_groups - 1, columns=["key"]).column("key")[-1]
    assert last.as_py() == "dir/0999999"
