"""Medians, bars and tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from .cases import Bar, Case
from .measure import Run
from .tools import OURS

FIGURES = {
    "cpu": "CPU of the best peer",
    "wall": "x the best peer's speed",
    "rss_mib": "MiB in one process",
    "first_put": "s to the first PUT",
    "heads": "HEAD requests",
    "chain": "x one chain of pages",
}


@dataclass
class Verdict:
    """A bar and what was measured; ``value`` None: not measured."""

    case: str
    bar: Bar
    value: float | None
    peer: str = ""

    @property
    def word(self) -> str:
        """pass, FAIL, or why there is neither."""
        if self.value is None:
            return "not measured"
        return "pass" if self.bar.holds(self.value) else "FAIL"


def good(results: Iterable[Run], case: str, tool: str) -> list[Run]:
    """Successful runs of a tool in a case."""
    return [r for r in results if r.case == case and r.tool == tool and r.ok]


def median(runs: list[Run], name: str) -> float | None:
    """Median of a figure; None without a run that has it."""
    values = [getattr(r, name) if name in ("wall", "cpu") else r.extra.get(name) for r in runs]
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None


def judge(cases: Iterable[Case], results: list[Run]) -> list[Verdict]:
    """Every bar of the cases that were run."""
    verdicts = []
    for case in cases:
        ours = good(results, case.name, OURS)
        tools = {r.tool for r in results if r.case == case.name and r.tool != OURS}
        for bar in case.bars:
            if bar.figure not in ("cpu", "wall"):
                verdicts.append(Verdict(case.name, bar, median(ours, bar.figure)))
                continue
            peers = [(median(good(results, case.name, t), bar.figure), t) for t in sorted(tools)]
            best, peer = min(((v, t) for v, t in peers if v), default=(None, ""))
            mine = median(ours, bar.figure)
            value = None if best is None or not mine else mine / best if bar.figure == "cpu" else best / mine
            verdicts.append(Verdict(case.name, bar, value, peer))
    return verdicts


def rows_table(cases: Iterable[Case], results: list[Run]) -> list[str]:
    """One line for each case and tool, fastest first."""
    lines = [
        "| case | tool | wall s | min-max | CPU s | CPU us/object | MiB/s | server CPU s | MiB | requests |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        rows = []
        for tool in dict.fromkeys(r.tool for r in results if r.case == case.name):
            runs = good(results, case.name, tool)
            if runs:
                rows.append((statistics.median(r.wall for r in runs), _line(case.name, tool, runs)))
            else:
                why = next(r.why for r in results if r.case == case.name and r.tool == tool)
                rows.append((1e9, f"| {case.name} | {tool} | not measured: {' '.join(why.split())[:110]} " + "| " * 8))
        lines += [line for _, line in sorted(rows)]
    return lines


def _line(case: str, tool: str, runs: list[Run]) -> str:
    walls = [r.wall for r in runs]
    cpu, first = statistics.median(r.cpu for r in runs), runs[0]
    wall = statistics.median(walls)
    requests = ", ".join(f"{count} {name}" for name, count in first.requests.items())
    per = f"{cpu / first.objects * 1e6:.1f}" if first.objects else "-"
    return (
        f"| {case} | {tool} | {wall:.2f} | {min(walls):.2f}-{max(walls):.2f} | {cpu:.2f} | {per} | "
        f"{first.bytes / wall / 2**20:.0f} | {statistics.median(r.server_cpu for r in runs):.2f} | "
        f"{max(r.rss_mib for r in runs):.0f} | {requests} |"
    )


def bars_table(verdicts: Iterable[Verdict]) -> list[str]:
    """The bars, with what was measured."""
    lines = ["| case | bar | measured | against | |", "|---|---|---|---|---|"]
    for v in verdicts:
        value = "-" if v.value is None else f"{v.value:.3g}"
        meaning = FIGURES.get(v.bar.figure, "")
        lines.append(f"| {v.case} | {v.bar.text} {meaning} | {value} | {v.peer or '-'} | {v.word} |")
    return lines
