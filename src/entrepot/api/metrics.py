"""Figures for Prometheus: answers by route, and from the ledger tasks by state and what was moved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from entrepot.control.observation import Figures

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The figures of one process; those of the ledger are the same in all."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("process", "method", "route")
        self._process = str(os.getpid())
        self._seconds = Histogram(
            "entrepot_request_seconds",
            "Time to the end of an answer",
            labels,
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._answers = Counter("entrepot_requests", "Answers by status", (*labels, "status"), registry=self._registry)

    def watch(self, scope: Any, status: int, seconds: float) -> None:
        """Count one answer. Paths that match no route share one name: labels stay few."""
        route = scope.get("route")
        path = getattr(route, "path", "") or "(none)"
        about = (self._process, scope["method"] if route is not None else "(any)", path)
        self._seconds.labels(*about).observe(seconds)
        self._answers.labels(*about, str(status)).inc()

    def render(self, figures: Figures) -> bytes:
        """The whole page."""
        ledger = CollectorRegistry()
        ledger.register(_OfLedger(figures))
        return generate_latest(self._registry) + generate_latest(ledger)


class _OfLedger:
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def describe(self) -> list[Metric]:
        """Registered once for one page: nothing to compare names with."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What the ledger says now."""
        tasks = GaugeMetricFamily("entrepot_tasks", "Tasks by state", labels=("family", "state"))
        for (family, state), count in sorted(self._figures.tasks.items()):
            tasks.add_metric((family, state), count)
        yield tasks
        yield CounterMetricFamily("entrepot_copied_bytes", "Bytes copied by tasks", value=self._figures.copied_bytes)
        yield CounterMetricFamily("entrepot_copied_entries", "Entries copied", value=self._figures.copied_entries)
        yield GaugeMetricFamily(
            "entrepot_scheduler_alive", "Whether a scheduler holds the lead", value=float(self._figures.scheduler)
        )
