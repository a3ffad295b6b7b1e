"""``python -m bench.serve_kill --kills 1000``: kill -9 of any process of a server at random, tasks all the while.

Nothing may be lost, doubled or stuck: every task ends SUCCEEDED with exactly the entries of its source at the
destination, its percent never falls, its state never leaves an end, and its counters equal a recount of its ranges.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .engine import say
from .port import Port, family
from .serve import ENDED, make_files
from .servers import Lows3
from .settings import HERE, TARGET_BUCKET, Settings, Sizes

TOGETHER = 4
STUCK = 120.0


@dataclass(slots=True)
class Watched:
    """A task under way, and what was seen of it."""

    id: str
    prefix: str
    since: float
    percent: int = 0


@dataclass(slots=True)
class Score:
    """What the loop has seen."""

    kills: Counter[str] = field(default_factory=Counter)
    tasks: int = 0
    resumed: int = 0
    faults: list[str] = field(default_factory=list)


class Loop:
    """Kills, looks, starts again."""

    def __init__(self, port: Port, server: Lows3, objects: int, dice: random.Random) -> None:
        self.port, self.server, self.objects, self.dice = port, server, objects, dice
        self.store = server.client()
        self.live: list[Watched] = []
        self.score = Score()

    def turn(self) -> None:
        """One kill, after a random time, and a look at every task."""
        self._top_up()
        time.sleep(self.dice.uniform(0.02, 0.5))
        self._kill()
        self.look()

    def _top_up(self) -> None:
        while len(self.live) < TOGETHER:
            number = self.score.tasks
            prefix = f"k{number:06d}"
            with suppress(OSError):
                # Few requests a second make tasks that last about as long as the time between kills.
                task = self.port.sync("volume://files/kill", f"store:{TARGET_BUCKET}/{prefix}", max_requests=600)
                self.live.append(Watched(task, prefix, time.monotonic()))
                self.score.tasks += 1
                continue
            # The API's process may have been the victim: the supervisor begins another one.
            time.sleep(0.1)

    def _kill(self) -> None:
        found = family(self.port.pid)
        victim = self.dice.choice(found)
        what = "supervisor" if victim == self.port.pid else _name(victim)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            self.score.kills[what] += 1
        if victim == self.port.pid:
            self.port.await_end()
            self.port.start()

    def look(self) -> None:
        """Take the pulse of every task that is not done."""
        for task in list(self.live):
            try:
                found = self.port.task(task.id)
            except OSError:
                return
            if found["percent"] < task.percent:
                self.fault(f"{task.id}: percent fell from {task.percent} to {found['percent']}")
            task.percent = found["percent"]
            if found["state"] in ENDED:
                self.live.remove(task)
                self._judge(task, found)
            elif time.monotonic() - task.since > STUCK:
                self.live.remove(task)
                self.fault(f"{task.id}: {found['state']} ({found['reason']}) for {STUCK:g} s")

    def _judge(self, task: Watched, found: dict[str, object]) -> None:
        self.score.resumed += bool(found["resumed"])
        totals: dict[str, dict[str, int]] = found["totals"]  # type: ignore[assignment]
        there = totals["copied"]["entries"] + totals["equal"]["entries"]
        if found["state"] != "SUCCEEDED" or there != self.objects or totals["total"]["entries"] != self.objects:
            self.fault(f"{task.id}: {found['state']} {found['reason']} with {totals}")
        keys = self.store.listing(TARGET_BUCKET, f"{task.prefix}/")
        if len(keys) != self.objects or self.store.uploads(TARGET_BUCKET, f"{task.prefix}/"):
            self.fault(f"{task.id}: {len(keys)} objects at the destination")

    def fault(self, text: str) -> None:
        """Note and show a fault."""
        self.score.faults.append(text)
        say(f"  FAULT {text}")

    def finish(self) -> None:
        """Let what is under way end."""
        until = time.monotonic() + STUCK
        while self.live and time.monotonic() < until:
            self.look()
            time.sleep(0.1)
        for task in self.live:
            self.fault(f"{task.id}: never ended")


def _name(pid: int) -> str:
    with suppress(OSError):
        for part in Path(f"/proc/{pid}/comm").read_text().split():
            return part
    return "process"


def recount(ledger: Path) -> list[str]:
    """Tasks whose counters are not the sum of their ranges."""
    from entrepot.ledger import tasks
    from entrepot.ledger.database import open_ledger

    opened = open_ledger(str(ledger))
    wrong = []
    with opened.read() as connection:
        for row in connection.execute("SELECT id FROM task"):
            kept, anew = tasks.recount(connection, row.id)
            if kept != anew:
                wrong.append(f"{row.id}: {kept} on record, {anew} by its ranges")
    opened.close()
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve_kill", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--kills", type=int, default=100)
    add("--objects", type=int, default=300)
    add("--seed", type=int, default=None)
    add("--bin", default="")
    add("--src", default="", metavar="DIR")
    add("--scratch", default="/tmp")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    scratch = Path(tempfile.mkdtemp(prefix="entrepot-serve-kill-", dir=options.scratch))
    settings = Settings(scratch, Sizes(), 1, (), bin=options.bin, src=options.src, server_cpus="", client_cpus="")
    say(f"seed {seed}")
    try:
        make_files(scratch / "volume" / "kill", options.objects, 2048)
        port = Port(settings)
        with Lows3(settings) as server:
            try:
                port.start()
                port.furnish(server.endpoint, scratch / "volume")
                loop = Loop(port, server, options.objects, random.Random(seed))
                for turn in range(options.kills):
                    loop.turn()
                    if turn % 20 == 19:
                        say(f"  {turn + 1} kills, {loop.score.tasks} tasks, {len(loop.score.faults)} faults")
                loop.finish()
                port.stop()
                sys.path.insert(0, options.src or str(HERE.parent / "src"))
                for text in recount(port.data / "ledger.db"):
                    loop.fault(text)
            finally:
                port.kill()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    score = loop.score
    print(
        f"{sum(score.kills.values())} kills {dict(score.kills)}, {score.tasks} tasks, {score.resumed} resumed, "
        f"{len(score.faults)} faults, seed {seed}"
    )
    return 1 if score.faults else 0


if __name__ == "__main__":
    sys.exit(main())
