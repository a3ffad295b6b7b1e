"""``entrepot sync``: every option arrives where it belongs, and the end of a run is told rightly."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from cli_fakes import FakeEngine, install, snapshot

from entrepot.cli.app import run
from entrepot.model.options import PRESERVABLE, SyncOptions
from entrepot.model.shard import Failure
from entrepot.model.task import TaskState
from entrepot.model.totals import Totals
from entrepot.service.request import Interrupted, Snapshot


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEngine:
    monkeypatch.setenv("ENTREPOT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.delenv("ENTREPOT_DEBUG", raising=False)
    monkeypatch.delenv("ENTREPOT_STATE_DIR", raising=False)
    return install(monkeypatch)


def options(engine: FakeEngine, *words: str) -> SyncOptions:
    assert run(["sync", "/a", "s3://b/c", *words]) == 0
    found = engine.requests[-1].options
    assert isinstance(found, SyncOptions)
    return found


def test_without_options_the_defaults_hold(engine: FakeEngine) -> None:
    assert options(engine) == SyncOptions()
    request = engine.requests[-1]
    assert (request.kind, request.source, request.destination) == ("sync", "/a", "s3://b/c")
    assert request.processes == 0
    assert request.state_dir == ""


def test_every_option_arrives(engine: FakeEngine, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a\n")
    words = f"""
        --compare checksum --verify full --delete --delete-max-count 7 --delete-max-share 10% --delete-excluded
        --allow-empty-source --include *.a --exclude *.b --min-size 1K --max-size 2M
        --modified-after 2026-01-01T00:00Z --modified-before 2026-02-01T00:00Z --list {keys} --symlinks copy
        --preserve mtime,xattr --preserve tags --storage-class COLD --bandwidth 08:00-18:00=10M,20M
        --max-requests 5 --on-error stop --max-failures 3 --dry-run --report {tmp_path}/r.csv --fsync
        --part-size 16M --concurrency 9 --escape-names --no-server-side
    """.split()
    found = options(engine, *words)
    assert found == SyncOptions(
        compare="checksum",
        verify="full",
        delete="destination",
        delete_max_count=7,
        delete_max_share=0.1,
        delete_excluded=True,
        allow_empty_source=True,
        filters=("+ *.a", "- *.b"),
        min_size=1024,
        max_size=2 << 20,
        modified_after=1_767_225_600 * 10**9,
        modified_before=1_769_904_000 * 10**9,
        list=str(keys),
        symlinks="copy",
        preserve=("mtime", "xattr", "tags"),
        storage_class="COLD",
        bandwidth=20 << 20,
        bandwidth_windows=("08:00-18:00=10485760",),
        max_requests=5,
        on_error="stop",
        max_failures=3,
        dry_run=True,
        report=f"{tmp_path}/r.csv",
        fsync=True,
        part_size=16 << 20,
        concurrency=9,
        escape_names=True,
        server_side=False,
    )
    default = SyncOptions()
    untouched = [f.name for f in fields(SyncOptions) if getattr(found, f.name) == getattr(default, f.name)]
    assert untouched == [], "an option of SyncOptions has no flag, or this test does not set it"


def test_filters_keep_the_order_in_which_they_were_given(engine: FakeEngine, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_bytes(b"\xef\xbb\xbf# ours\r\n\r\n+ /keep/**\r\n- *.tmp\r\n; old\r\n")
    found = options(
        engine, "--exclude", "a", "--include=b", "--filter-from", str(rules), "--exclude=c", "--include", "d"
    )
    assert found.filters == ("- a", "+ b", "+ /keep/**", "- *.tmp", "- c", "+ d")


def test_a_bad_filter_file_names_its_line(
    engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules"
    rules.write_text("+ a\n*.tmp\n")
    assert run(["sync", "/a", "/b", "--filter-from", str(rules)]) == 2
    assert "rules, line 2: '*.tmp' is no rule" in capsys.readouterr().err
    assert run(["sync", "/a", "/b", "--filter-from", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_includes_alone_are_remarked(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    options(engine, "--include", "*.jpg")
    assert "add --exclude '*'" in capsys.readouterr().err


def test_preserve_all_and_none(engine: FakeEngine) -> None:
    assert options(engine, "--preserve", "none").preserve == ()
    assert options(engine, "--preserve", "all").preserve == PRESERVABLE


@pytest.mark.parametrize(
    "words",
    [
        ["--delete-excluded"],
        ["--allow-empty-source"],
        ["--min-size", "2K", "--max-size", "1K"],
        ["--modified-after", "2026-02-01", "--modified-before", "2026-01-01"],
        ["--preserve", "colour"],
        ["--list", "/no/such/file"],
        ["--list", "/"],
        ["--delete-max-share", "1.5"],
        ["--delete-max-count", "-1"],
        ["--report", "/no/such/directory/r.csv"],
        ["--report", "/"],
    ],
)
def test_contradictions_are_refused_before_anything_runs(engine: FakeEngine, words: list[str]) -> None:
    assert run(["sync", "/a", "/b", *words]) == 2
    assert engine.requests == []


def test_state_dir_comes_from_the_environment_too(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTREPOT_STATE_DIR", "/var/state")
    options(engine)
    assert engine.requests[-1].state_dir == "/var/state"
    options(engine, "--state-dir", "/other", "--processes", "3")
    assert (engine.requests[-1].state_dir, engine.requests[-1].processes) == ("/other", 3)


def finished(**values: object) -> Snapshot:
    totals = Totals(
        total=10, total_bytes=1000, copied=4, copied_bytes=400, equal=3, equal_bytes=300, deleted=2, deleted_bytes=20,
        skipped=1, skipped_bytes=100, failed=2, failed_bytes=200, retries=1,
    )  # fmt: skip
    base = snapshot(
        totals=totals,
        seconds=2.5,
        failures=[
            Failure(b"x\x1b[31m", "forbidden", "403 denied", 1, 5),
            Failure(b"y", "timeout", "no answer", 3, 5),
        ],
        failure_counts={"forbidden": 1, "timeout": 1},
        requests={"list": 2, "put": 4, "requests.weird": 9},
        resumed=True,
    )
    return replace(base, **values)  # type: ignore[arg-type]


def test_json_is_one_last_object_with_exactly_the_promised_keys(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.answer = finished()
    engine.on_the_way = [finished(scanning=True, state=TaskState.SCANNING)]
    assert run(["sync", "/a", "/b", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "task_id": "t1",
        "state": "SUCCEEDED",
        "total": {"entries": 10, "bytes": 1000},
        "copied": {"entries": 4, "bytes": 400},
        "equal": {"entries": 3, "bytes": 300},
        "deleted": {"entries": 2, "bytes": 20},
        "skipped": {"entries": 1, "bytes": 100},
        "failed": {"entries": 2, "bytes": 200},
        "seconds": 2.5,
        "requests": {"list": 2, "get": 0, "put": 4, "head": 0, "copy": 0, "delete": 0, "multipart": 0},
        "peak_rss_bytes": 50 << 20,
        "resumed": True,
    }
    assert shown.out.count("\n") == 1
    assert "2 entries failed" in shown.err


def test_the_summary_tells_what_failed_and_where_to_read_on(
    engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = str(tmp_path / "r.csv")
    engine.answer = finished(report=report, warnings=["clock is 20 min off"])
    assert run(["sync", "/a", "/b", "--report", report]) == 1
    shown = capsys.readouterr()
    for text in (
        "Done, but 2 entries failed", "copied", "equal", "deleted", "skipped", "6 requests (2 list, 4 put)",
        "1 retried",
        "peak memory 50.0 MiB", "1 forbidden:", r"$'x\e[31m': 403 denied", "1 timeout:", f"report: {report}",
        "warning: clock is 20 min off",
    ):  # fmt: skip
        assert text in shown.out, text
    assert "\x1b" not in shown.out + shown.err
    assert shown.err == f"entrepot: 2 entries failed\nhint: read {report}\n"


def test_a_clean_run(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.answer = snapshot(totals=Totals(total=1, total_bytes=5, copied=1, copied_bytes=5))
    assert run(["sync", "/a", "/b"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("Done\n")
    assert shown.err == ""


def test_a_dry_run_says_would(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.answer = finished(failures=[], failure_counts={}, totals=Totals(total=3, copied=2, deleted=1))
    assert run(["sync", "/a", "/b", "-n"]) == 0
    text = capsys.readouterr().out
    assert "nothing was changed" in text
    assert "would copy" in text
    assert "would delete" in text


def test_quiet_prints_nothing_but_errors(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.on_the_way = [finished()]
    assert run(["sync", "/a", "/b", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    engine.answer = finished()
    assert run(["sync", "/a", "/b", "-q"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "entrepot: 2 entries failed\nhint: entrepot tasks failures t1\n"


@pytest.mark.parametrize(
    ("state", "code"), [("SUCCEEDED", 0), ("PAUSED", 130), ("CANCELLED", 130), ("REVIEW", 4), ("FAILED", 5)]
)
def test_states_as_exit_codes(engine: FakeEngine, state: str, code: int) -> None:
    engine.answer = snapshot(state=TaskState(state))
    assert run(["sync", "/a", "/b", "--json"]) == code


def test_an_interrupted_run_still_tells_how_far_it_came(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.fault = Interrupted("interrupted", snapshot=finished(state=TaskState.PAUSED))
    assert run(["sync", "/a", "/b", "--json"]) == 130
    shown = capsys.readouterr()
    assert json.loads(shown.out)["state"] == "PAUSED"
    assert shown.err == "entrepot: interrupted\nhint: run the same command again to go on\n"
    engine.fault = Interrupted("interrupted", hint="run it again")
    assert run(["sync", "/a", "/b"]) == 130
    assert capsys.readouterr() == ("", "entrepot: interrupted\nhint: run it again\n")


def test_a_connection_that_is_missing_is_told_before_anything_runs(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sync", "/a", "lab:b"]) == 2
    shown = capsys.readouterr()
    assert "no connection named 'lab'" in shown.err
    assert "./lab:" in shown.err
    assert engine.requests == []


def test_a_run_keeps_the_keys_it_began_with(engine: FakeEngine) -> None:
    from entrepot.model.connection import Connection
    from entrepot.model.secret import Secret
    from entrepot.service.connections import ConnectionStore

    ConnectionStore().add(Connection("lab", "s3", access_key="AK", secret_key=Secret("one")))
    assert run(["sync", "/a", "lab:b"]) == 0
    ConnectionStore().remove("lab")
    found = engine.requests[-1].connections("lab")
    assert found is not None
    assert found.secret_key.reveal() == "one"
