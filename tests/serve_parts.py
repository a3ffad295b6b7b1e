"""Parts of the tests of a server's tasks: rows in a ledger, and processes that work on them."""

from __future__ import annotations

import os
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
    return Job(task_id, task.spec, ledger.name, str(state_dir), **{"processes": 2, **more})


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
