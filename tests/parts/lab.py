"""The fault lab: the program as a person runs it, on a machine that misbehaves, and every outcome asserted in full.

::

    lab.sync(src, "s3://dst", "--delete", server=fake, code=1, copied=3, failed=1, failures={b"x": "name"})

``sync`` asserts the exit code, the totals of ``--json`` (a total that is not named must be 0; ``...`` leaves it open),
the failed entries by class, that at most one clear error line was said (with a hint where ``hint`` is given), that
neither secrets nor tracebacks were shown, and that the program left no temporary files and no open uploads.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from types import EllipsisType
from typing import Any

from parts.cli import SOURCE, Cli, HasEnv, Result, Run
from parts.fake_s3 import SECRET, FakeS3
from parts.starter import VARIABLE

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUTCOMES = ("copied", "equal", "deleted", "skipped", "failed")
Count = int | EllipsisType


class Lab(Cli):
    """``parts.cli.Cli`` with short pauses and a machine to prepare; see ``parts.starter`` for ``machine``."""

    def begin(
        self,
        *words: str | bytes | os.PathLike[str],
        server: HasEnv | None = None,
        machine: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Run:
        """Start a run."""
        extra = {VARIABLE: json.dumps(dict(machine or {})), "PYTHONPATH": f"{SOURCE}{os.pathsep}{TESTS}"}
        command = [sys.executable, "-m", "parts.starter", *map(os.fsdecode, words)]
        if machine and machine.get("own_memory"):
            # A process's peak of memory begins with that of the process it was started from.
            command = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *command]
        return Run(command, self.env(server, {**extra, **(env or {})}), None, timeout)

    def run(self, *words: str | bytes | os.PathLike[str], **how: Any) -> Result:
        """Run to the end."""
        with self.begin(*words, **how) as run:
            return run.wait()

    def sync(
        self,
        source: str | bytes | os.PathLike[str],
        destination: str | bytes | os.PathLike[str],
        *words: str,
        code: int = 0,
        failures: Mapping[bytes, str] | None = None,
        error: str = "",
        hint: str = "",
        leaves_temporary: bool = False,
        verb: str = "sync",
        server: HasEnv | None = None,
        machine: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        **counts: Count,
    ) -> Result:
        """Run a sync (or ``verb``) and assert its outcome; see the module's text."""
        command = [verb, source, destination, *words, "--json"]
        done = self.run(*command, server=server, machine=machine, env=env, timeout=timeout)
        assert done.code == code, done.text
        check_text(done, error, hint)
        assert set(counts) <= {*OUTCOMES, "total"}, counts
        if done.report:
            check_counts(done, counts)
        else:
            assert code >= 2 and not counts, f"no report\n{done.text}"
        if failures is not None:
            assert self.failures(done) == dict(failures), done.text
        if not leaves_temporary:
            self._check_clean(destination, server)
        return done

    def failures(self, done: Result) -> dict[bytes, str]:
        """The failed entries of a run: key -> class."""
        return {key: row["class"] for key, row in self.failure_rows(done).items()}

    def failure_rows(self, done: Result) -> dict[bytes, dict[str, Any]]:
        """The failed entries of a run, in full."""
        listed = self.run("tasks", "failures", done.report["task_id"], "--json")
        assert listed.code == 0, listed.text
        rows = [json.loads(line) for line in listed.out.splitlines()]
        return {_key(row): row for row in rows}

    def _check_clean(self, destination: Any, server: HasEnv | None) -> None:
        place = os.fsdecode(destination)
        if isinstance(server, FakeS3):
            assert server.open_uploads() == []
        if "://" not in place:
            assert temporary_files(place) == []


def _key(row: Mapping[str, Any]) -> bytes:
    return bytes.fromhex(row["key_hex"]) if "key_hex" in row else str(row["key"]).encode()


def temporary_files(root: str | os.PathLike[str]) -> list[str]:
    """What the program would have left below ``root``."""
    found = []
    for directory, folders, files in os.walk(root):
        found += [os.path.join(directory, name) for name in folders + files if name.startswith(".entrepot-")]
    return found


def check_counts(done: Result, counts: Mapping[str, Count]) -> None:
    """The totals of ``--json``, which must also add up."""
    report = done.report
    for name in OUTCOMES:
        wanted = counts.get(name, 0)
        assert wanted is ... or report[name]["entries"] == wanted, f"{name} should be {wanted}\n{done.text}"
    if (total := counts.get("total", ...)) is not ...:
        assert report["total"]["entries"] == total, done.text
    done_with = sum(report[name]["entries"] for name in ("copied", "equal"))
    assert done_with <= report["total"]["entries"], f"more done than found\n{done.text}"


def check_text(done: Result, error: str = "", hint: str = "") -> None:
    """One clear error line when the run failed, none else; nothing secret, no internals."""
    shown = done.out + done.err
    assert SECRET not in shown, "a secret was shown"
    assert "Traceback" not in shown, done.text
    assert "internal error" not in shown, done.text
    complaints = re.findall(
        r"^entrepot: (?!warning:|scanning|copying|starting|finishing: |deleting: |verifying: )(.*)$",
        done.err,
        re.MULTILINE,
    )
    assert len(complaints) == (1 if done.code else 0), done.text
    if error:
        assert re.search(error, complaints[0]), f"no {error!r} in\n{done.text}"
    if hint:
        hints = re.findall(r"^hint: (.*)$", done.err, re.MULTILINE)
        assert any(re.search(hint, text) for text in hints), f"no hint {hint!r} in\n{done.text}"
