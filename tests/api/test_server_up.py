"""The whole server by its own command: ready, working, stopped, started again, killed in parts, over HTTP only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from serve_parts import children_of, gone, wait_until

ENDED = {"SUCCEEDED", "FAILED", "CANCELLED"}


class Up:
    """``entrepot up`` in a process of its own, and a client."""

    def __init__(self, place, *flags, token=""):
        self.place = place
        self.log = open(place / "log", "a", encoding="utf-8")  # noqa: SIM115
        command = [sys.executable, "-m", "entrepot", "up", "--data", str(place / "data"), "--port", "0", "--json"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}
        began = time.monotonic()
        self.process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=self.log, text=True, env=env)
        line = self.process.stdout.readline()
        self.seconds = time.monotonic() - began
        assert line, (place / "log").read_text()
        told = json.loads(line)
        self.url, self.first_token, self.pids = told["url"], told["admin_token"], told["pids"]
        self.token = token or self.first_token

    def call(self, method, path, body=None, *, wanted=200, raw=False):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/v1{path}", data, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        assert status == wanted, content
        return content if raw else json.loads(content or b"{}")

    def task(self, task_id):
        return self.call("GET", f"/tasks/{task_id}")

    def wait(self, task_id, *states, seconds=30):
        wanted = set(states) or ENDED
        return wait_until(
            lambda: (lambda task: task if task["state"] in wanted else None)(self.task(task_id)),  # noqa: PLC3002
            seconds,
            f"not {wanted}",
        )

    def stop(self, number=signal.SIGTERM):
        everyone = [self.process.pid, *children_of(self.process.pid)]
        everyone += [grandchild for pid in everyone[1:] for grandchild in children_of(pid)]
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        wait_until(lambda: all(gone(pid) for pid in everyone), 10, "a process outlived the server")
        self.process.stdout.close()
        self.log.close()
        return code


@pytest.fixture
def up(tmp_path):
    begun = []

    def start(*flags, **more):
        begun.append(Up(tmp_path, *flags, **more))
        return begun[-1]

    yield start
    for server in begun:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


@pytest.fixture
def volume(tmp_path):
    root = tmp_path / "volume"
    for n in range(200):
        path = root / "src" / f"d{n % 7}" / f"f{n:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (20_000 + n))
    return root


def _sync(server, volume, destination="volume://data/dst", **options):
    server.call("POST", "/volumes", {"name": "data", "path": str(volume)}, wanted=201)
    body = {"source": "volume://data/src", "destination": destination, "options": options}
    return server.call("POST", "/syncs", body, wanted=201)["id"]


def test_from_the_first_start_to_the_report(up, volume, tmp_path):
    server = up()
    assert server.seconds < 30
    assert server.first_token
    assert urllib.request.urlopen(f"{server.url}/healthz", timeout=5).status == 200
    ready = f"{server.url}/readyz"
    assert wait_until(lambda: json.load(urllib.request.urlopen(ready, timeout=5))["ready"])
    (volume / "dst/d0/f000/in the way").mkdir(parents=True)
    task_id = _sync(server, volume, report=True, bandwidth=1_000_000)
    server.wait(task_id, "RUNNING")
    server.call("POST", f"/tasks/{task_id}:pause")
    task = server.wait(task_id, "PAUSED")
    assert task["percent"] < 100
    token = server.token
    assert server.stop() == 0

    server = up(token=token)
    assert server.first_token == "", "shown once"
    assert server.task(task_id)["state"] == "PAUSED"
    server.call("POST", f"/tasks/{task_id}:resume")
    server.wait(task_id, "RUNNING")
    assert server.stop() == 0, "a server that stops drains its tasks"

    server = up(token=token)
    task = server.wait(task_id)
    assert task["state"] == "FAILED"
    failed = server.call("GET", f"/tasks/{task_id}/failures")["failures"]
    assert [one["key"] for one in failed] == ["d0/f000"]
    (volume / "dst/d0/f000/in the way").rmdir()
    (volume / "dst/d0/f000").rmdir()
    server.call("POST", f"/tasks/{task_id}:retry")
    task = server.wait(task_id, "SUCCEEDED")
    assert task["percent"] == 100
    lines = server.call("GET", f"/tasks/{task_id}/report", raw=True).splitlines()
    assert len(lines) == 200
    outcomes = [json.loads(line)["outcome"] for line in lines]
    assert set(outcomes) <= {"copied", "equal"}, "what was in flight at a stop is looked at again"
    assert outcomes.count("copied") > 100
    copied = {str(p.relative_to(volume / "dst")): p.read_bytes() for p in (volume / "dst").rglob("*") if p.is_file()}
    assert len(copied) == 200
    assert all(body == (volume / "src" / name).read_bytes() for name, body in copied.items())
    server.call("DELETE", f"/tasks/{task_id}", wanted=204)
    assert os.listdir(tmp_path / "data/state/reports") == []


def test_each_part_that_is_killed_comes_back(up, volume):
    server = up()
    for name in ("api-0", "zygote", "scheduler"):
        before = set(children_of(server.process.pid))
        os.kill(server.pids[name], signal.SIGKILL)
        wait_until(lambda before=before: len(set(children_of(server.process.pid)) - before) == 1)

    def answers():
        try:
            return server.call("GET", "/tasks") is not None
        except (OSError, AssertionError):
            return False

    wait_until(answers)
    assert server.wait(_sync(server, volume), "SUCCEEDED")["state"] == "SUCCEEDED"


def test_the_port_that_is_taken_and_the_settings_that_are_wrong(up, tmp_path):
    server = up()
    port = server.url.rpartition(":")[2]

    def run(*flags, **env):
        command = [sys.executable, "-m", "entrepot", "up", "--data", str(tmp_path / "other"), *flags]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, **env}, check=False
        )

    found = run("--port", port)
    assert found.returncode == 2
    assert f"cannot listen at 127.0.0.1 port {port}" in found.stderr
    assert run("--port", "x").returncode == 2
    assert "max_tasks" in run(ENTREPOT_MAX_TASKS="-1").stderr
    (tmp_path / "conf.toml").write_text("portt = 1\n")
    wrong = run("--config", str(tmp_path / "conf.toml"))
    assert (wrong.returncode, "did you mean port?" in wrong.stderr) == (2, True)
    (tmp_path / "no-directory").write_text("")
    nowhere = run("--data", str(tmp_path / "no-directory" / "x"))
    assert (nowhere.returncode, "cannot be made" in nowhere.stderr) == (2, True), nowhere
    (tmp_path / "no-key").write_text("none")
    broken = run("--port", "0", "--tls-cert", str(tmp_path / "no-key"), "--tls-key", str(tmp_path / "no-key"))
    assert (broken.returncode, "does not get ready" in broken.stderr) == (5, True), broken
    (tmp_path / "other").mkdir(exist_ok=True)
    (tmp_path / "other" / "keys.json").write_text("no keys")
    (tmp_path / "other" / "keys.json").chmod(0o600)
    damaged = run("--port", "0")
    assert (damaged.returncode, "keys.json is damaged" in damaged.stderr) == (2, True), damaged


def test_nothing_secret_stands_in_the_processes_or_files_for_others(up, tmp_path):
    server = up()
    for pid in (server.process.pid, *server.pids.values()):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            assert server.token.encode() not in file.read()
    assert os.stat(tmp_path / "data").st_mode & 0o077 == 0
    for name in ("keys.json", "ledger.db"):
        assert os.stat(tmp_path / "data" / name).st_mode & 0o077 == 0
    assert server.token not in (tmp_path / "log").read_text()
    for name in os.listdir(tmp_path / "data"):
        if os.path.isfile(tmp_path / "data" / name):
            assert server.token.encode() not in (tmp_path / "data" / name).read_bytes()


def test_the_given_first_token_is_used_and_not_shown(tmp_path, up, monkeypatch):
    probe = up()
    given = probe.token
    probe.stop()
    (tmp_path / "data").rename(tmp_path / "former")
    (tmp_path / "conf.toml").write_text(f'admin_token = "{given}"\n')
    server = up("--config", str(tmp_path / "conf.toml"), token=given)
    assert server.first_token == ""
    server.call("GET", "/tasks")
