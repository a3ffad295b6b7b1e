"""Progress: never a false total, never a hundred percent too early, and silence where it is wanted."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from cli_fakes import snapshot
from hypothesis import given
from hypothesis import strategies as st

from entrepot.cli import progress as module
from entrepot.cli.progress import done_text, line_of, phase_of, progress_for, share_done, speed_text
from entrepot.model.shard import Failure
from entrepot.model.task import TaskState
from entrepot.model.totals import Totals
from entrepot.service.request import Snapshot

TOTALS = Totals(
    total=100, total_bytes=1000, copied=30, copied_bytes=300, equal=20, equal_bytes=200, failed=1, failed_bytes=10
)


def running(**values: Any) -> Snapshot:
    base = {"state": TaskState.RUNNING, "phase": "scan", "totals": TOTALS, "rate_bytes": 1 << 20, "rate_entries": 812.0}
    return snapshot(**(base | values))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_while_the_scan_runs_totals_are_bounds_and_there_is_no_eta() -> None:
    shot = running(scanning=True, eta_seconds=5.0)
    assert done_text(shot) == "51 of ≥ 100 objects · 510 B of ≥ 1000 B".replace("1000 B", "0.98 KiB")
    assert "ETA" not in speed_text(shot)
    assert "scan still running, ≥ 100 so far" in speed_text(shot)
    assert share_done(shot) == 0.0
    assert phase_of("sync", shot) == "Scanning, copying"


def test_after_the_scan_there_are_totals_percent_and_eta() -> None:
    shot = running(scanning=False, eta_seconds=123.0)
    assert done_text(shot) == "51 of 100 objects · 510 B of 0.98 KiB"
    assert speed_text(shot) == "1.00 MiB/s · 812 objects/s · ETA 2m03s · 2.0 s so far"
    assert share_done(shot) == pytest.approx(0.51)
    assert phase_of("sync", shot) == "Copying"


def test_phases() -> None:
    assert phase_of("sync", running(state=TaskState.QUEUED)) == "Starting"
    assert phase_of("sync", running(phase="delete")) == "Deleting"
    assert phase_of("sync", running(phase="verify")) == "Verifying"
    assert phase_of("verify", running(phase="verify")) == "Verifying"
    assert phase_of("sync", running(phase="")) == "Finishing"


def test_failures_are_counted_by_class() -> None:
    shot = running(failure_counts={"timeout": 1, "forbidden": 2}, totals=Totals(total=9, failed=3))
    assert line_of("sync", shot).endswith("3 failed (2 forbidden, 1 timeout)")


@given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_never_a_hundred_percent_before_the_end(total: int, done: int, size: int, moved: int) -> None:
    shot = running(totals=Totals(total=total, total_bytes=size, copied=done, copied_bytes=moved))
    assert 0.0 <= share_done(shot) < 1.0


def test_elsewhere_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    clock = Clock()
    shown = progress_for("sync", quiet=False, wanted=True, clock=clock)
    for tenth in range(0, 301):
        clock.now = tenth / 10
        shown.show(running())
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("entrepot: copying: 51 of 100 objects")


def test_quiet_and_no_progress_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ({"quiet": True, "wanted": True}, {"quiet": False, "wanted": False}):
        clock = Clock()
        shown = progress_for("sync", clock=clock, **words)
        clock.now = 100.0
        shown.show(running())
        shown.close()
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_block_is_drawn_and_taken_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    clock = Clock()
    shown = progress_for("sync", quiet=False, wanted=True, clock=clock)
    shown.show(running())
    assert "rich" not in sys.modules or capsys.readouterr().err == "", "a short run draws nothing"
    clock.now = module.DRAW_AFTER
    failure = Failure(b"a\x1b[2Jb", "forbidden", "no\x1b[31m", 1, 5)
    shown.show(running(failures=[failure], failure_counts={"forbidden": 1}))
    drawn = capsys.readouterr().err
    assert "Copying" in drawn
    assert "51 of 100 objects" in drawn
    assert "\x1b[2J" not in drawn, "a key must not reach the terminal as it is"
    assert r"a\e[2Jb" in drawn
    shown.close()
    assert "\x1b[2K" in capsys.readouterr().err


def test_no_colour_when_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    clock = Clock()
    shown = progress_for("sync", quiet=False, wanted=True, clock=clock)
    clock.now = 1.0
    shown.show(running(failure_counts={"forbidden": 1}))
    shown.close()
    drawn = capsys.readouterr().err
    assert "51 of 100" in drawn
    for colour in range(30, 38):
        assert f"\x1b[{colour}m" not in drawn


def test_on_a_dumb_terminal_only_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    clock = Clock()
    shown = progress_for("sync", quiet=False, wanted=True, clock=clock)
    clock.now = 10.0
    shown.show(running())
    assert capsys.readouterr().err.count("\n") == 1
