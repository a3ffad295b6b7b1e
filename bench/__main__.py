"""``python -m bench``: run the cases, print every figure and every bar."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

from .cases import Case, all_cases
from .engine import Engine, say
from .measure import as_row
from .report import bars_table, judge, rows_table
from .settings import QUICK, Settings, Sizes
from .tools import OURS, TOOLS


def read_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--only", default="*", help="cases to run: names or patterns, comma-separated ('small-*@lows3,start')")
    add("--skip", default="", help="cases to leave out, in the same way")
    add("--tools", default=",".join(TOOLS), help="contenders to run")
    add("--runs", type=int, default=5, help="runs of each tool, in turn")
    add(
        "--quick",
        action="store_true",
        help="tiny sizes, one run: shows that everything works, measures nothing",
    )
    add("--scale", type=float, default=1.0, help="multiply the sizes of all data sets")
    add("--json", metavar="FILE", help="write every run and every bar there")
    add("--bin", default="", metavar="DIR", help="where the programs are (else beside this Python, else PATH)")
    add("--src", default="", metavar="DIR", help="a source tree of ours to run instead of what is installed")
    add("--scratch", default="/dev/shm", metavar="DIR", help="tmpfs with 12 GiB free; a folder is made in it")
    add("--state-on-disk", default="", metavar="DIR", help="keep our ledger there and not on tmpfs")
    add("--server-cpus", default="0", help="cores of the server; '' for any")
    add("--client-cpus", default="1", help="cores of the client; '' for any")
    add("--timeout", type=float, default=300, help="seconds that one run may take")
    add("--list", action="store_true", help="name the cases and their bars, run nothing")
    return parser.parse_args(arguments)


def chosen(only: str, skip: str) -> list[Case]:
    """The cases that the patterns name."""

    def named(case: Case, patterns: str) -> bool:
        return any(fnmatch(case.name, p.strip()) for p in patterns.split(",") if p.strip())

    return [c for c in all_cases() if named(c, only) and not named(c, skip)]


def _sizes(quick: bool, scale: float) -> Sizes:
    sizes = QUICK if quick else Sizes()
    if scale == 1.0:
        return sizes
    kept = ("small_bytes", "large")
    return Sizes(**{k: v if k in kept else max(1, int(v * scale)) for k, v in vars(sizes).items()})


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a bar fails or a run of ours does; peers that fail are listed only."""
    options = read_arguments(arguments)
    cases = chosen(options.only, options.skip)
    if options.list or not cases:
        for case in cases:
            print(f"{case.name:22s} {'; '.join(bar.text for bar in case.bars)}")
        return 0 if cases else 2
    scratch = Path(tempfile.mkdtemp(prefix="entrepot-bench-", dir=options.scratch))
    pin = (os.cpu_count() or 1) > 1
    settings = Settings(
        scratch=scratch,
        sizes=_sizes(options.quick, options.scale),
        runs=1 if options.quick else options.runs,
        tools=tuple(t.strip() for t in options.tools.split(",")),
        bin=options.bin,
        src=options.src,
        server_cpus=options.server_cpus if pin else "",
        client_cpus=options.client_cpus if pin else "",
        timeout=options.timeout,
        state_on_disk=options.state_on_disk,
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # what was measured until then is printed
        signal.signal(number, signal.default_int_handler)
    engine = Engine(settings)
    try:
        engine.run(cases)
    except KeyboardInterrupt:
        say("interrupted; what was measured:")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    verdicts = judge(cases, engine.results)
    print("\n".join([*rows_table(cases, engine.results), "", *bars_table(verdicts)]))
    if options.json:
        bars = [
            {"case": v.case, "bar": v.bar.text, "value": v.value, "peer": v.peer, "verdict": v.word} for v in verdicts
        ]
        Path(options.json).write_text(json.dumps({"runs": [as_row(r) for r in engine.results], "bars": bars}, indent=1))
    failed = [r for r in engine.results if r.tool == OURS and not r.ok]
    return 1 if failed or any(v.word == "FAIL" for v in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
