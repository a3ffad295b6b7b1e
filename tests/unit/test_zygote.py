"""The process that forks others: any amount of work, ends told, signals passed on, and another one in its place."""

from __future__ import annotations

import os
import signal
import time

import pytest

from entrepot.fleet.zygote import Asking, Gone, Zygote, socket_pair
from serve_parts import children_of, ended, forked, gone, wait_until


class Pair:
    """A zygote in a process of its own, and who asks it."""

    def __init__(self, main):
        self.main = main
        self.asking_end, self.zygote_end = socket_pair()
        self.asking = Asking(self.asking_end)
        self.heard = []
        self.begin()

    def begin(self):
        self.pid = forked(Zygote(self.zygote_end, self.main).run)

    def hear(self, count):
        def enough():
            self.heard += [one for one in self.asking.gone() if one.name]
            return len(self.heard) >= count

        wait_until(enough)
        return sorted(self.heard[:count], key=lambda one: one.name)

    def end(self, number=signal.SIGTERM):
        os.kill(self.pid, number)
        return ended(self.pid)


@pytest.fixture
def pair():
    begun = []

    def make(main):
        begun.append(Pair(main))
        return begun[-1]

    yield make
    for one in begun:
        if not gone(one.pid):
            one.end(signal.SIGKILL)
        one.asking_end.close()
        one.zygote_end.close()


def test_work_of_any_length_is_done_and_its_end_is_told(pair):
    one = pair(lambda work: len(work) % 100)
    for name, size in (("a", 0), ("b", 7), ("c", 9_000_042)):
        assert one.asking.start(name, b"x" * size)
    assert [(found.name, found.status) for found in one.hear(3)] == [("a", 0), ("b", 7), ("c", 42)]
    assert one.end() == 0


def test_a_child_that_fails_or_is_killed_is_told(pair):
    def main(work):
        if work == b"raise":
            raise ZeroDivisionError
        os.kill(os.getpid(), signal.SIGKILL)

    one = pair(main)
    one.asking.start("a", b"raise")
    one.asking.start("b", b"kill")
    assert [found.status for found in one.hear(2)] == [1, -9]


def test_who_is_asked_to_stop_asks_the_children_and_waits(pair, tmp_path):
    def main(work):
        def leave(_number, _frame):
            (tmp_path / work.decode()).write_text("left")
            os._exit(0)

        signal.signal(signal.SIGTERM, leave)
        (tmp_path / f"{work.decode()}-ready").write_text("")
        time.sleep(60)
        return 1

    one = pair(main)
    one.asking.start("a", b"a")
    one.asking.start("b", b"b")
    wait_until(lambda: (tmp_path / "a-ready").exists() and (tmp_path / "b-ready").exists())
    assert one.end() == 0
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "left"


def test_children_die_with_a_zygote_that_is_killed_and_another_one_takes_its_place(pair):
    def main(work):
        time.sleep(60 if work == b"long" else 0)
        return 0

    one = pair(main)
    one.asking.start("a", b"long")
    child = wait_until(lambda: children_of(one.pid))[0]
    one.end(signal.SIGKILL)
    wait_until(lambda: gone(child))
    assert one.asking.start("b", b"short"), "it waits in the socket"
    one.begin()
    assert one.hear(1) == [Gone("b", one.heard[0].pid, 0)]


def test_nobody_listening_is_said_and_holds_up_nobody(pair):
    one = pair(lambda work: 0)
    os.kill(one.pid, signal.SIGSTOP)
    begun = time.monotonic()
    answers = [one.asking.start("a", b"") for _ in range(5000)]
    assert not answers[-1]
    assert time.monotonic() - begun < 20
    os.kill(one.pid, signal.SIGCONT)
