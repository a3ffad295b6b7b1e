"""A stand-in for the engine behind the command line: records requests, answers with snapshots."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from entrepot.model.shard import Failure
from entrepot.model.totals import Totals


@dataclass
class FakeSnapshot:
    task_id: str = "t1"
    state: str = "SUCCEEDED"
    totals: Totals = field(default_factory=Totals)
    scanning: bool = False
    seconds: float = 2.0
    rate_bytes: float = 0.0
    rate_entries: float = 0.0
    eta_seconds: float | None = None
    failures: list[Failure] = field(default_factory=list)
    failure_counts: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    peak_rss_bytes: int = 50 << 20
    resumed: bool = False
    warnings: list[str] = field(default_factory=list)
    report: str = ""


class FakeRequest:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


@dataclass
class FakeEngine:
    answer: FakeSnapshot = field(default_factory=FakeSnapshot)
    on_the_way: list[FakeSnapshot] = field(default_factory=list)
    fault: BaseException | None = None
    requests: list[Any] = field(default_factory=list)

    def run(self, request: Any, on_snapshot: Callable[[Any], None]) -> FakeSnapshot:
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
    module.TaskRequest = FakeRequest  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "entrepot.service.oneshot", module)
    monkeypatch.setattr(entrepot.service, "oneshot", module, raising=False)
    return engine
