"""``python -m bench.serve``: what the service adds: start, many tasks at once, overhead over the one-shot command."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from .engine import say
from .measure import execute
from .port import Port, asked
from .programs import environment, our_command
from .servers import Lows3
from .settings import TARGET_BUCKET, Settings, Sizes

ENDED = {"SUCCEEDED", "FAILED", "CANCELLED", "REJECTED"}


def make_files(folder: Path, count: int, size: int) -> None:
    """Files with different content."""
    folder.mkdir(parents=True, exist_ok=True)
    block = os.urandom(size)
    for i in range(count):
        (folder / f"f{i:05d}").write_bytes(i.to_bytes(8, "big") + block[8:])


class Prober(threading.Thread):
    """Asks the API at an even rate and keeps how long each answer took since it was due."""

    def __init__(self, port: Port, paths: list[str], rate: float) -> None:
        super().__init__(daemon=True)
        self.port, self.paths, self.rate = port, paths, rate
        self.seconds: list[float] = []
        self.bad = 0
        self.done = threading.Event()

    def run(self) -> None:
        """Until ``done``."""
        connection = self.port.session()
        due, number = time.monotonic(), 0
        while not self.done.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            status, _ = asked(connection, "GET", self.paths[number % len(self.paths)])
            self.seconds.append(time.monotonic() - due)
            self.bad += status != 200
            number += 1
            due += 1 / self.rate
        connection.close()

    def p99(self) -> float:
        """Seconds."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)] if self.seconds else 0.0


def many(port: Port, settings: Settings, count: int, objects: int) -> list[str]:
    """``count`` tasks of ``objects`` objects each, all asked for at once. Faults found."""
    for i in range(count):
        make_files(settings.scratch / "volume" / "many" / f"t{i:04d}", objects, 1024 + i)
    prober = Prober(port, ["/api/v1/tasks?page_size=20", "/api/v1/tasks?state=RUNNING&page_size=20"], 50)
    prober.start()
    began = time.monotonic()
    tasks = [port.sync(f"volume://files/many/t{i:04d}", f"store:{TARGET_BUCKET}/many/t{i:04d}") for i in range(count)]
    asked_at = time.monotonic()
    prober.paths += [f"/api/v1/tasks/{task}" for task in tasks[:: max(1, count // 5)]]
    until = time.monotonic() + 600
    while time.monotonic() < until:
        status, page = port.ask("GET", "/api/v1/tasks?page_size=1&state=QUEUED&state=SCANNING&state=RUNNING")
        if status == 200 and page["total"] == 0:
            break
        time.sleep(0.2)
    wall = time.monotonic() - began
    prober.done.set()
    prober.join()
    faults = [
        f"{t}: {found['state']} {found['reason']}" for t in tasks if (found := port.task(t))["state"] != "SUCCEEDED"
    ]
    copied = sum(port.task(t)["totals"]["copied"]["entries"] for t in tasks)
    if copied != count * objects:
        faults.append(f"{copied} objects on record instead of {count * objects}")
    for i in range(count):
        here = set(os.listdir(settings.scratch / "volume" / "many" / f"t{i:04d}"))
        if len(here) != objects:
            faults.append(f"t{i:04d}: {len(here)} files")
    say(f"  {count} tasks of {objects} objects: all asked for in {asked_at - began:.1f} s, done in {wall:.1f} s")
    print(f"| many | {count} tasks x {objects} | {wall:.1f} s | API p99 {prober.p99() * 1000:.0f} ms of "
          f"{len(prober.seconds)} requests, {prober.bad} refused | bar 200 ms |")  # fmt: skip
    return faults + (["the API's p99 is over 200 ms"] if prober.p99() > 0.2 or prober.bad else [])


def overhead(port: Port, settings: Settings, server: Lows3, objects: int, runs: int) -> list[str]:
    """The same sync by the one-shot command and by the service, in turn."""
    make_files(settings.scratch / "volume" / "one", objects, 4096)
    source = str(settings.scratch / "volume" / "one")
    alone: list[float] = []
    served: list[float] = []
    for run in range(runs):
        command = [*our_command(settings), "sync", source, f"s3://{TARGET_BUCKET}/cli{run}", "-q", "--no-progress"]
        done = execute(command, environment(settings, server.endpoint, ""), settings.scratch / "cli.log", 300)
        if done.code:
            return [f"the one-shot command ended with {done.code}"]
        alone.append(done.wall)
        began = time.monotonic()
        task = port.sync("volume://files/one", f"store:{TARGET_BUCKET}/served{run}")
        connection = port.session()
        while True:
            _, found = asked(connection, "GET", f"/api/v1/tasks/{task}")
            if found["state"] in ENDED:
                break
            time.sleep(0.02)
        connection.close()
        served.append(time.monotonic() - began)
        if found["state"] != "SUCCEEDED" or found["totals"]["copied"]["entries"] != objects:
            return [f"the task ended {found['state']} with {found['totals']['copied']}"]
    ratio = statistics.median(served) / statistics.median(alone)
    print(f"| overhead | {objects} x 4 KiB | one-shot {statistics.median(alone):.2f} s, "
          f"service {statistics.median(served):.2f} s | ratio {ratio:.2f} | bar 1.10 |")  # fmt: skip
    return [f"the service takes {ratio:.2f} times as long"] if ratio > 1.1 else []


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when a bar is missed or something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--tasks", type=int, default=200)
    add("--objects", type=int, default=100)
    add("--overhead-objects", type=int, default=20_000)
    add("--runs", type=int, default=5)
    add("--database-url", default="")
    add("--bin", default="")
    add("--src", default="", metavar="DIR")
    add("--scratch", default="/tmp")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    scratch = Path(tempfile.mkdtemp(prefix="entrepot-serve-", dir=options.scratch))
    settings = Settings(
        scratch, Sizes(), options.runs, (), bin=options.bin, src=options.src, server_cpus="", client_cpus=""
    )
    faults: list[str] = []
    try:
        (scratch / "volume").mkdir()
        port = Port(settings, database_url=options.database_url)
        with Lows3(settings) as server:
            try:
                port.start()
                first = port.ready_seconds
                port.furnish(server.endpoint, scratch / "volume")
                port.stop()
                port.start()
                print(f"| ready | first start {first:.2f} s | again {port.ready_seconds:.2f} s | | bar 3 s |")
                faults += ["it is not ready within 3 s"] if max(first, port.ready_seconds) > 3 else []
                faults += overhead(port, settings, server, options.overhead_objects, options.runs)
                faults += many(port, settings, options.tasks, options.objects)
                print(f"| stop | {port.stop():.2f} s |")
            finally:
                port.kill()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("".join(f"  {fault}\n" for fault in faults), end="")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
