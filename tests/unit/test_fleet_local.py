"""Child processes as runners: started, watched, ended, and never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from entrepot.fleet.local import LocalFleet


class Joined(dict):
    def __call__(self, runner_id, pipe):
        self[runner_id] = pipe


def _echo(pipe):
    while data := pipe.recv(100):
        pipe.sendall(data)
    return 7


def _fleet(main=_echo):
    joined = Joined()
    return LocalFleet(main, joined), joined


def _wait(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.002)


def test_runners_talk_and_end_with_their_pipe():
    fleet, joined = _fleet()
    fleet.launch("a")
    fleet.launch("b")
    for pipe in joined.values():
        pipe.sendall(b"hello")
        assert pipe.recv(100) == b"hello"
    fleet.stop("a")
    joined["b"].close()
    ended = []
    _wait(lambda: ended.extend(fleet.observe()) or len(ended) == 2)
    assert {(e.runner_id, e.status) for e in ended} == {("a", 7), ("b", 7)}
    assert fleet.logs("a") == "exit code 7"


def test_one_runner_does_not_keep_the_pipe_of_another_open():
    fleet, joined = _fleet()
    fleet.launch("a")
    fleet.launch("b")
    fleet.stop("a")
    _wait(lambda: [e.runner_id for e in fleet.observe()] == ["a"])
    fleet.stop("b")
    fleet.end()
    assert joined["b"].fileno() == -1


def test_a_killed_runner_is_seen():
    fleet, joined = _fleet()
    fleet.launch("a")
    fleet.stop("a", force=True)
    assert joined["a"].recv(10) == b""
    ended = []
    _wait(lambda: ended.extend(fleet.observe()) or ended)
    assert ended[0].status == -signal.SIGKILL
    assert fleet.logs("a") == "killed by signal 9"
    joined["a"].close()


def test_runners_ignore_the_signals_of_the_terminal():
    fleet, joined = _fleet()
    fleet.launch("a")
    joined["a"].sendall(b"1")
    joined["a"].recv(10)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(fleet.pids["a"], number)
    joined["a"].sendall(b"still there")
    assert joined["a"].recv(100) == b"still there"
    fleet.stop("a")
    fleet.end()


def test_the_end_leaves_no_process_behind():
    def stubborn(pipe):
        time.sleep(60)
        return 0

    fleet, joined = _fleet(stubborn)
    fleet.launch("a")
    pid = fleet.pids["a"]
    fleet.stop("a")
    start = time.monotonic()
    fleet.end(patience=0.05)
    assert time.monotonic() - start < 2
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert joined["a"].fileno() == -1


def test_an_error_in_the_child_never_reaches_the_parents_code():
    def broken(pipe):
        os.close(2)
        raise ZeroDivisionError

    fleet, joined = _fleet(broken)
    fleet.launch("a")
    ended = []
    _wait(lambda: ended.extend(fleet.observe()) or ended)
    assert ended[0].status == 1
    joined["a"].close()


def test_children_die_with_their_parent():
    code = """
import os, signal, sys, time
from entrepot.fleet.local import LocalFleet
def main(pipe):
    pipe.sendall(b"x")
    time.sleep(60)
    return 0
pipes = []
fleet = LocalFleet(main, lambda name, pipe: pipes.append(pipe))
fleet.launch("a"); fleet.launch("b")
for pipe in pipes:
    pipe.recv(1)
print(*fleet.pids.values(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)
    pids = [int(text) for text in done.stdout.split()]
    assert len(pids) == 2
    _wait(lambda: not any(_alive(pid) for pid in pids))


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def test_capacity_is_the_cores_we_may_use():
    assert _fleet()[0].capacity() == len(os.sched_getaffinity(0))


def test_a_pipe_pair_is_private_to_each_runner():
    def numbers(pipe):
        pipe.sendall(b"%d" % len([fd for fd in os.listdir("/proc/self/fd") if _is_socket(int(fd))]))
        pipe.recv(1)
        return 0

    fleet, joined = _fleet(numbers)
    for name in "abc":
        fleet.launch(name)
    counts = {pipe.recv(10) for pipe in joined.values()}
    assert len(counts) == 1, "later runners hold no more sockets than earlier ones"
    for name in "abc":
        fleet.stop(name)
    fleet.end()


def _is_socket(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    except OSError:
        return False


def test_main_gets_its_end_of_the_pipe():
    def check(pipe):
        return 0 if isinstance(pipe, socket.socket) else 3

    fleet, joined = _fleet(check)
    fleet.launch("a")
    ended = []
    _wait(lambda: ended.extend(fleet.observe()) or ended)
    assert ended[0].status == 0
    joined["a"].close()
