"""Runs cases: starts the server a group needs, lets the tools run in turn, checks what they left behind."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from .cases import Case
from .client import Client
from .data import Data, DataSet, load, tree
from .measure import Run, execute
from .programs import environment, pinned
from .servers import Lows3, Seaweed, Server
from .settings import SOURCE_BUCKET, TARGET_BUCKET, Settings
from .tools import OURS, TOOLS, Job


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


class Engine:
    """Runs cases of one benchmark run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data = Data(settings)
        self.results: list[Run] = []
        self._loaded: set[str] = set()
        self._warm = False
        self._server: Server | None = None
        self._client: Client | None = None

    def run(self, cases: Iterable[Case]) -> list[Run]:
        """All cases, each group of neighbours on one server."""
        for (name, keys, latency), cases_of_group in groupby(cases, lambda c: (c.server, c.keys, c.latency_us)):
            self._loaded.clear()
            group = list(cases_of_group)
            self._server = self._client = None
            for case in group:
                if case.server == "keys" and case.data:
                    self.data.get(case.data)  # its files have to be older than the keys
            if not name:
                self._group(group)
                continue
            with self._start(name, keys, latency) as server:
                self._server, self._client = server, server.client()
                self._group(group)
        return self.results

    def _start(self, name: str, keys: str, latency_us: int) -> Server:
        if name == "seaweed":
            return Seaweed(self.settings)
        if name == "keys":
            count = getattr(self.settings.sizes, keys)
            return Lows3(self.settings, synthetic=count, latency_us=latency_us)
        return Lows3(self.settings, name)

    def _group(self, cases: list[Case]) -> None:
        for at, case in enumerate(cases):
            try:
                self._case(case)
            finally:
                if case.data in ("large", "fs-large") and all(c.data != case.data for c in cases[at + 1 :]):
                    self.data.drop(case.data)

    def _case(self, case: Case) -> None:
        data = self.data.get(case.data) if case.data else None
        client = self._client
        if data and client and case.source == "s3" and case.server != "keys" and data.name not in self._loaded:
            load(client, data)
            self._loaded.add(data.name)
        if case.kind == "noop-auto" and case.target == "fs" and isinstance(self._server, Lows3):
            self.data.touch(case.data, self._server.generated_time)  # as a download leaves them
        for number in range(1 if case.once else self.settings.runs):
            for tool in self._tools(case):
                self._one(case, tool, number, data)

    def _tools(self, case: Case) -> Iterator[str]:
        for tool in self.settings.tools:
            if not case.only or tool in case.only:
                yield tool

    def _one(self, case: Case, tool: str, number: int, data: DataSet | None) -> None:
        server, client = self._server, self._client
        job = Job(case, self._source(case, data), self._target(case, tool, number, data), server, self.settings)
        command = TOOLS[tool](job)
        if not command:
            return
        env = environment(self.settings, server.endpoint if server else "", server.ca if server else "")
        if tool == OURS:
            self._warm_up(command, env)
        if client and server and server.is_lows3:
            client.stats()
        before = server.cpu() if server else 0.0
        done = execute(
            pinned(command, self.settings.client_cpus if case.pinned and server else ""),
            env,
            self.settings.scratch / "tool.log",
            self.settings.timeout,
            keep_stdout=not case.kind.startswith("list"),
        )
        run = Run(case.name, tool, number, wall=done.wall, cpu=done.cpu, rss_mib=done.rss_mib)
        run.server_cpu = (server.cpu() if server else 0.0) - before
        run.objects, run.bytes = self._amount(case, data)
        run.ok = done.code == 0
        if not run.ok:
            run.why = f"exit {done.code}: " + done.output.strip()[-300:]
        if client and server and server.is_lows3:
            self._read_stats(run, client, done.started)
        run.extra["rss_mib"] = run.rss_mib
        if case.kind == "list-far":
            # one chain pays the latency once for each page of 1000 keys
            run.extra["chain"] = run.objects / 1000 * case.latency_us / 1e6 / run.wall
        if run.ok:
            self._check(run, case, job, client, data)
        self._clean(case, job, client)
        self.results.append(run)
        self._tell(run)

    # ---- places ----

    def _source(self, case: Case, data: DataSet | None) -> str:
        if case.server == "keys" and case.source == "s3":
            return f"s3://{case.buckets[0]}/"
        assert data
        return f"{data.folder}/" if case.source == "fs" else f"s3://{SOURCE_BUCKET}/{data.prefix}"

    def _target(self, case: Case, tool: str, number: int, data: DataSet | None) -> str:
        if not case.target:
            return ""
        if case.server == "keys":
            return f"s3://{case.buckets[1]}/" if case.target == "s3" else f"{data.folder}/" if data else ""
        if case.target == "s3":
            return f"s3://{TARGET_BUCKET}/{case.kind}-{tool}-{number}/"
        out = self.settings.scratch / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        return f"{out}/"

    def _amount(self, case: Case, data: DataSet | None) -> tuple[int, int]:
        if case.keys:
            count = getattr(self.settings.sizes, case.keys)
            return count, count * 100
        return (data.objects, data.bytes) if data else (0, 0)

    # ---- before and after ----

    def _warm_up(self, command: list[str], env: dict[str, str]) -> None:
        """Compile our modules once: an installed package has that behind it."""
        if self._warm:
            return
        self._warm = True
        a, b = self.settings.scratch / "warm-a", self.settings.scratch / "warm-b"
        a.mkdir(exist_ok=True)
        (a / "x").write_text("x")
        start = command[: command.index("sync")] if "sync" in command else command[: command.index("du")]
        log = self.settings.scratch / "tool.log"
        execute([*start, "sync", str(a), str(b)], env, log, 60)
        execute([*start, "ls", f"s3://{SOURCE_BUCKET}/"], env, log, 60)
        execute([*start, "sync", str(a), f"s3://{TARGET_BUCKET}/warm/", "--dry-run"], env, log, 60)

    @staticmethod
    def _read_stats(run: Run, client: Client, started: float) -> None:
        stats = client.stats()
        first_put, first = stats.pop("first_put"), stats.pop("first_request")
        run.requests = {name: count for name, count in stats.items() if count}
        run.extra["heads"] = stats["head"]
        if first:
            run.extra["first_request"] = first / 1e6 - started
        if first_put:
            run.extra["first_put"] = first_put / 1e6 - started

    def _check(self, run: Run, case: Case, job: Job, client: Client | None, data: DataSet | None) -> None:
        """The destination holds as many entries and bytes as the source."""
        if case.server == "keys" or not data:
            changed = sum(run.requests.get(verb, 0) for verb in ("put", "part", "copy", "delete", "get"))
            if changed and not case.kind.startswith("list"):
                run.ok, run.why = False, f"not a no-op: {run.requests}"
            return
        if case.target == "fs":
            found = tree(Path(job.target))
        else:
            assert client
            found = client.listing(TARGET_BUCKET, job.target.split("/", 3)[3])
        got = (len(found), sum(found.values()))
        if got != (data.objects, data.bytes):
            run.ok, run.why = False, f"destination holds {got}, expected {(data.objects, data.bytes)}"

    def _clean(self, case: Case, job: Job, client: Client | None) -> None:
        if case.target == "fs" and case.server != "keys":
            shutil.rmtree(job.target, ignore_errors=True)
        elif case.target == "s3" and case.server != "keys" and client:
            prefix = job.target.split("/", 3)[3]
            client.clear(TARGET_BUCKET, prefix)
            for key, upload in client.uploads(TARGET_BUCKET, prefix):
                client.call("DELETE", f"/{TARGET_BUCKET}/{key}", {"uploadId": upload})
        if not self.settings.state_on_disk:
            shutil.rmtree(self.settings.scratch / "state", ignore_errors=True)

    @staticmethod
    def _tell(run: Run) -> None:
        per = f"{run.cpu / run.objects * 1e6:7.1f} us/object" if run.objects else ""
        say(
            f"  {run.case:22s} {run.tool:9s} {run.run}: {run.wall:7.2f} s wall {run.cpu:7.2f} s cpu {per} "
            f"server {run.server_cpu:6.2f} s, {run.rss_mib:5.0f} MiB {'' if run.ok else 'FAILED ' + run.why}"
        )
