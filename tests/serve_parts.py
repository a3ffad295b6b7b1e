"""Parts of the tests of a server's tasks: rows in a ledger, and processes that work on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from entrepot.ledger import tasks
from entrepot.ledger.filing import Filing
from entrepot.ledger.ids import new_id
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskSpec, TaskState
from entrepot.service.perform import Job


def submit(ledger, *, kind="sync", source="src", destination="dst", options=None, family="native", **filing):
    """A task in the queue, as the API creates it."""
    new = tasks.NewTask(
        id=new_id(),
        spec=TaskSpec(kind, source, destination, (options or SyncOptions()).to_json()),
        spec_hash="",
        filing=Filing(family=family, **filing),
    )
    with ledger.write() as connection:
        tasks.create(connection, new)
    return new.id


def job_of(ledger, task_id, state_dir, **more):
    task = look(ledger, task_id)
    return Job(task_id, task.spec, getattr(ledger, "place", ledger.name), str(state_dir), **{"processes": 2, **more})


def look(ledger, task_id):
    with ledger.read() as connection:
        return tasks.read(connection, task_id)


def wait_until(condition, seconds=20.0, what="it did not come"):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, what
        time.sleep(0.01)
    return found


def wait_for_state(ledger, task_id, *states, seconds=20.0):
    wanted = set(states) or {TaskState.SUCCEEDED}
    wait_until(lambda: look(ledger, task_id).state in wanted, seconds, f"still {look(ledger, task_id)}")
    return look(ledger, task_id)


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(text) for text in file.read().split()]
    except OSError:
        return []


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


def forked(work):
    """Run ``work`` in a child process; answers its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = int(work() or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def ended(pid, seconds=20.0):
    """The exit code of a child, waited for."""

    def look_for():
        found = os.waitpid(pid, os.WNOHANG)
        return found if found[0] else None

    return os.waitstatus_to_exitcode(wait_until(look_for, seconds)[1])


SERVER = """
import os, pickle, sys, threading
sys.path.insert(0, {tests!r})
from fake_trade import World
from entrepot.control.settings import Settings
from entrepot.service import up
from entrepot.service.resolving import Places
up._Server._be_api = lambda self: no_api(self)
def no_api(self):
    import signal
    os.write(self._tell_ready, b"!")
    signal.pause()
    return 0
world = World(**{world!r})
settings = Settings(data={data!r}, port=0, **{settings!r})
def ready(started):
    print("ready", flush=True)
    import json
    with open({data!r} + "/pids.new", "w") as file:
        json.dump(started.pids, file)
    os.replace({data!r} + "/pids.new", {data!r} + "/pids")
sys.exit(up.serve(settings, ready, trade=world.trade(), resolve=lambda c, task: Places()))
"""


class Running:
    """A server with a make-believe trade and no HTTP, in a process of its own."""

    def __init__(self, place, world, **settings):
        self.place = place
        self.data = place / "data"
        self.data.mkdir(exist_ok=True)
        self.log = open(place / "log", "a", encoding="utf-8")  # noqa: SIM115
        (self.data / "pids").unlink(missing_ok=True)
        code = SERVER.format(tests=os.path.dirname(__file__), world=world, data=str(self.data), settings=settings)
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=self.log)
        wait_until((self.data / "pids").exists, 20, "the server does not get ready")

    @property
    def pid(self):
        return self.process.pid

    def parts(self):
        """Pids of the parts that run now: (name by position in the tree)."""
        return children_of(self.pid)

    def zygote(self):
        return next((pid for pid in self.parts() if self._is(pid, "zygote")), 0)

    def _is(self, pid, name):
        with open(self.data / "pids", encoding="utf-8") as file:
            return json.load(file).get(name) == pid

    def conductors(self):
        return [pid for part in self.parts() for pid in children_of(part)]

    def runners(self):
        return [pid for conductor in self.conductors() for pid in children_of(conductor)]

    def everyone(self):
        parts = self.parts()
        return [self.pid, *parts, *self.conductors(), *self.runners()]

    def stop(self, number=signal.SIGTERM, seconds=30):
        """End it; its exit code."""
        everyone = self.everyone()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(seconds)
        wait_until(lambda: all(gone(pid) for pid in everyone), 10, "a process outlived the server")
        self.log.close()
        return code
