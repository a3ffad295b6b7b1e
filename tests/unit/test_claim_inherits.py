"""A new task takes over what dead tasks left half-moved at its destination."""

from __future__ import annotations

import pytest

from entrepot.ledger.database import open_ledger
from entrepot.ledger.port import DirectPort
from entrepot.model.options import SyncOptions
from entrepot.model.shard import Partial
from entrepot.model.task import TaskSpec
from entrepot.service import claim as claiming
from entrepot.work.places import PreflightResult

OPTIONS = SyncOptions()
OTHER = SyncOptions(part_size=9 << 20)


@pytest.mark.parametrize(
    ("place", "source", "found"),
    [
        ("store|d/", "here|/h/", (b"e/f", 5)),
        ("store|d/e/", "here|/h/", (b"f", 0)),
        ("store|d/e/", "here|/h/e/", (b"f", 5)),
        ("store|d/e/", "here|/h/x/", (b"f", 0)),
        ("store|", "here|/", (b"d/e/f", 0)),
        ("store|d/", "there|/h/", (b"e/f", 0)),
        ("store|x/", "here|/h/", None),
        ("other|d/", "here|/h/", None),
    ],
    ids=["same", "below", "both below", "below, elsewhere", "above", "another source", "beside", "another store"],
)
def test_inheritance(
    ledger_place: str,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    source: str,
    found: tuple[bytes, int] | None,
) -> None:
    ledger = open_ledger(ledger_place)
    spec = TaskSpec("sync", "s", "d", OPTIONS.to_json())
    dead = claiming.claim(ledger, spec, PreflightResult("here|/h/", "store|d/"), OPTIONS, [])
    DirectPort(ledger, dead.task_id, "r").save_partial(Partial(b"e/f", 10, 7, 5, upload_id="u", started=1.0))
    monkeypatch.setattr(claiming, "is_running", lambda task: False)
    new = claiming.claim(ledger, spec, PreflightResult(source, place), OTHER, [])
    assert new.task_id != dead.task_id
    half = DirectPort(ledger, new.task_id, "r").partials(b"", None)
    left = DirectPort(ledger, dead.task_id, "r").partials(b"", None)
    assert [(p.key, p.part_size) for p in half] == ([found] if found else [])
    assert bool(left) is (found is None)
    assert (dead.task_id in new.forebears) is (place == "store|d/")
    ledger.close()


def test_a_live_task_keeps_what_is_its_own(ledger_place: str) -> None:
    ledger = open_ledger(ledger_place)
    spec = TaskSpec("sync", "s", "d", OPTIONS.to_json())
    live = claiming.claim(ledger, spec, PreflightResult("here|/h/", "store|d/"), OPTIONS, [])
    DirectPort(ledger, live.task_id, "r").save_partial(Partial(b"f", 10, 7, 5, upload_id="u", started=1.0))
    claiming.claim(ledger, spec, PreflightResult("here|/h/", "store|elsewhere/"), OTHER, [])
    assert len(DirectPort(ledger, live.task_id, "r").partials(b"", None)) == 1
    ledger.close()
