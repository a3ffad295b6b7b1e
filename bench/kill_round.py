"""One round of the kill loop: kill a sync a few times, let it finish, look for damage."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .client import Client
from .data import tree
from .engine import say
from .evidence import done_in_report, done_in_segments
from .measure import kill_group
from .programs import environment, find_program, our_command
from .servers import Server
from .settings import SOURCE_BUCKET, TARGET_BUCKET, Settings
from .tools import rclone_config


@dataclass
class Score:
    """What a kill loop has seen."""

    kills: int = 0
    rounds: int = 0
    midway: int = 0
    """Kills that left some, but not all, of the entries at the destination."""
    faults: list[str] = field(default_factory=list)


class Loop:
    """Rounds against one server."""

    def __init__(
        self, settings: Settings, server: Server, options: argparse.Namespace, rng: random.Random, score: Score
    ) -> None:
        self.settings, self.server, self.options, self.rng = settings, server, options, rng
        self.source = settings.scratch / "tree"
        self.client: Client = server.client()
        self.score = score
        self.sizes = tree(self.source)
        self._usual = 0.0

    # ---- one run ----

    def _start(self, place: str, report: Path) -> subprocess.Popen[bytes]:
        source = str(self.source) if self.options.direction == "up" else f"s3://{SOURCE_BUCKET}/tree/"
        command = [*our_command(self.settings), "sync", source, place, "--report", str(report)]
        command += ["-q", "--no-progress", *self.options.flag]
        env = environment(self.settings, self.server.endpoint, self.server.ca)
        with open(self.settings.scratch / "tool.log", "wb") as log:
            return subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _finish(self, process: subprocess.Popen[bytes], what: str) -> bool:
        try:
            code = process.wait(self.options.timeout)
        except subprocess.TimeoutExpired:
            kill_group(process.pid)
            process.wait()
            self._fault(f"{what}: not done after {self.options.timeout:.0f} s")
            return False
        if code:
            tail = (self.settings.scratch / "tool.log").read_text(errors="replace").strip()[-400:]
            self._fault(f"{what}: exit {code}: {tail}")
        return code == 0

    def _fault(self, text: str) -> None:
        self.score.faults.append(text)
        say(f"  FAULT {text}")

    # ---- a round ----

    def round(self, number: int) -> None:
        """Kill a few times, finish, look."""
        state, out = self.settings.scratch / "state", self.settings.scratch / "out"
        report = self.settings.scratch / "report"
        for path in (state, out):
            shutil.rmtree(path, ignore_errors=True)
        report.unlink(missing_ok=True)
        prefix = f"kill-{number}/"
        place = f"s3://{TARGET_BUCKET}/{prefix}" if self.options.direction == "up" else str(out)

        def holds() -> dict[str, int]:
            if self.options.direction == "down":
                return tree(out) if out.exists() else {}
            return {k[len(prefix) :]: size for k, size in self.client.listing(TARGET_BUCKET, prefix).items()}

        kills = 0 if not self._usual else self.rng.randrange(1, 7)
        while True:
            started = time.monotonic()
            process = self._start(place, report)
            if not kills or self.score.kills >= self.options.kills:
                good = self._finish(process, f"round {number}, last run")
                break
            kills -= 1
            try:
                good = process.wait(self.rng.uniform(0.02, self._usual)) == 0
                if not good:
                    self._fault(f"round {number}: a run that was not killed failed")
                break
            except subprocess.TimeoutExpired:
                kill_group(process.pid)
                process.wait()
                self.score.kills += 1
                self._after_kill(process.pid, number, state, holds)
        if not self._usual and self.score.rounds:  # the very first one also compiled our modules
            self._usual = time.monotonic() - started
            say(f"  a run that is not killed takes {self._usual:.1f} s")
        self.score.rounds += 1
        if good:
            self._look(f"round {number}", place, out, report, holds())
        if self.options.direction == "up":
            self.client.clear(TARGET_BUCKET, prefix)

    def _after_kill(self, pid: int, number: int, state: Path, holds: Callable[[], dict[str, int]]) -> None:
        left = _session_of(pid)
        for _ in range(20):
            if not left:
                break
            time.sleep(0.1)
            left = _session_of(pid)
        if left:
            self._fault(f"round {number}: processes {left} outlive the kill of their group")
        there = holds()
        self.score.midway += 0 < len(there) < len(self.sizes)
        self._compare(f"round {number}, kill {self.score.kills}", done_in_segments(state), there)

    def _compare(self, what: str, said: dict[str, int], there: dict[str, int]) -> None:
        wrong = [key for key, size in said.items() if there.get(key) != size]
        if wrong:
            self._fault(f"{what}: {len(wrong)} of {len(said)} recorded as done are not there, as {wrong[0]!r}")

    # ---- after a round ----

    def _look(self, what: str, place: str, out: Path, report: Path, there: dict[str, int]) -> None:
        if there != self.sizes:
            wrong = sorted(set(there.items()) ^ set(self.sizes.items()))
            self._fault(f"{what}: destination differs, as {wrong[:2]}")
        if self.options.direction == "up":
            every = self.client.listing(TARGET_BUCKET, "")
            uploads = self.client.uploads(TARGET_BUCKET)
        else:
            every, uploads = tree(out), []
        temporary = [key for key in every if ".entrepot-" in key]
        folders = [p.name for p in out.rglob(".entrepot-*")] if out.exists() else []
        if temporary or folders:
            self._fault(f"{what}: temporary names left: {(temporary + folders)[:3]}")
        if uploads:
            self._fault(f"{what}: {len(uploads)} open uploads left, as {uploads[0]}")
        if not report.exists():
            self._fault(f"{what}: no report was written")
        else:
            said = done_in_report(report)
            self._compare(f"{what}, report", said, there)
            if len(said) != len(self.sizes):
                self._fault(f"{what}: the report has {len(said)} entries done, there are {len(self.sizes)}")
        self._rclone_check(what, place)

    def _rclone_check(self, what: str, place: str) -> None:
        rclone = find_program("rclone", self.settings.bin)
        if not rclone:
            return
        config = rclone_config(self.settings, self.server)
        command = [rclone, "--config", str(config), "check", "--download", "--checkers", "16"]
        command += [str(self.source), place.replace("s3://", "s3:")]
        env = environment(self.settings, self.server.endpoint, self.server.ca)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            self._fault(f"{what}: rclone check: {done.stderr.strip()[-400:]}")


def _session_of(pid: int) -> list[int]:
    """Processes of the session that ``pid`` led."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] != "Z":
            found.append(int(name))
    return found
