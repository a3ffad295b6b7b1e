"""A stand-in for the engine behind the command line: records requests, answers with snapshots."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from entrepot.model.task import TaskState
from entrepot.model.totals import Totals
from entrepot.service.request import Snapshot, TaskRequest


def snapshot(**values: Any) -> Snapshot:
    """A finished run, with some values changed."""
    base: dict[str, Any] = {
        "task_id": "t1",
        "state": TaskState.SUCCEEDED,
        "totals": Totals(),
        "scanning": False,
        "seconds": 2.0,
        "peak_rss_bytes": 50 << 20,
    }
    return Snapshot(**(base | values))


@dataclass
class FakeEngine:
    answer: Snapshot = field(default_factory=snapshot)
    on_the_way: list[Snapshot] = field(default_factory=list)
    fault: BaseException | None = None
    requests: list[TaskRequest] = field(default_factory=list)

    def run(self, request: Any, on_snapshot: Callable[[Any], None], *, trade: Any = None) -> Snapshot:
        self.requests.append(request)
        for snapshot in self.on_the_way:
            on_snapshot(snapshot)
        if self.fault is not None:
            raise self.fault
        return self.answer


def install(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Put a fake engine in the place of ``entrepot.service.oneshot``."""
    import entrepot.service

    engine = FakeEngine()
    module = ModuleType("entrepot.service.oneshot")
    module.run = engine.run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "entrepot.service.oneshot", module)
    monkeypatch.setattr(entrepot.service, "oneshot", module, raising=False)
    return engine
