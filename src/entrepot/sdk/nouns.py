"""The nouns of :class:`entrepot.Client`: methods that wait for the answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from entrepot.model.task import TaskState

from .errors import NotFound, RateLimited, StillGoing
from .requests import audit, connections, runners, schedules, syncs, tasks, tokens, usage, users, volumes, webhooks
from .saving import Target, format_of, saving
from .values import Task, TaskEvent
from .verbs import Lists, Noun, Sends

FIRST_LOOK, LONGEST_LOOK = 0.1, 2.0
STOPS = frozenset({str(TaskState.REVIEW)})
"""States in which a task waits for a person."""


class Tasks(Noun):
    """Tasks of all kinds: what goes on, and what became of it."""

    list = Lists(tasks.list_)
    get = Sends(tasks.get)
    pause = Sends(tasks.pause)
    resume = Sends(tasks.resume)
    cancel = Sends(tasks.cancel)
    retry = Sends(tasks.retry)
    approve = Sends(tasks.approve)
    reject = Sends(tasks.reject)
    delete = Sends(tasks.delete)
    failures = Lists(tasks.failures)

    def events(self, task_id: str) -> Iterator[TaskEvent]:
        """The live stream: what happened so far, then each change, until the task ends.

        Where the server has no more streams to give, looks every two seconds, and tells only of the task.
        """
        try:
            for event in self._wire.events(tasks.events(task_id)):
                if event.kind == "gone":
                    raise NotFound(f"task {task_id} is gone: it was deleted", status=404)
                yield tasks.event_of(event)
        except RateLimited:
            pass
        else:
            return
        while True:
            task = self.get(task_id)
            yield TaskEvent("end" if task.ended else "progress", task)
            if task.ended:
                return
            self._wire.sleep(LONGEST_LOOK)

    def follow(self, task_id: str) -> Iterator[Task]:
        """The task at each change, until it ends; the last one has its failures by class. Survives restarts."""
        for event in self.events(task_id):
            if event.task is not None and not event.task.ended:
                yield event.task
        yield self.get(task_id)

    def wait(self, task_id: str, timeout: float | None = None) -> Task:
        """The task when it has ended, or when it waits for approval (REVIEW).

        Raises StillGoing (a TimeoutError) after ``timeout`` seconds; the task goes on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_LOOK
        while True:
            task = self.get(task_id)
            if task.ended or task.state in STOPS:
                return task
            left = pause if end is None else min(pause, end - time.monotonic())
            if left <= 0:
                raise StillGoing(f"task {task_id} is {task.state} after {timeout:g} s", task)
            self._wire.sleep(left)
            pause = min(pause * 1.5, LONGEST_LOOK)

    def report(self, task_id: str, to: Target, format: tasks.Format | None = None) -> None:  # noqa: A002
        """Write what became of every entry to a path or an open file, as ``format`` or as the file's name ends."""
        form: Any = format_of(to, format or "")
        with saving(to) as file:
            for piece in self._wire.download(tasks.report(task_id, form)):
                file.write(piece)


class Syncs(Noun):
    """Syncs and verifications: put into the queue, or previewed."""

    create = Sends(syncs.create)
    preview = Sends(syncs.preview)


class Schedules(Noun):
    """Requests that become tasks again and again."""

    create = Sends(schedules.create)
    list = Lists(schedules.list_)
    get = Sends(schedules.get)
    update = Sends(schedules.update)
    pause = Sends(schedules.pause)
    resume = Sends(schedules.resume)
    run = Sends(schedules.run)
    delete = Sends(schedules.delete)
    preview = Sends(schedules.preview)


class Connections(Noun):
    """Stored endpoints and credentials; secrets go in and never come out."""

    create = Sends(connections.create)
    list = Lists(connections.list_)
    get = Sends(connections.get)
    update = Sends(connections.update)
    delete = Sends(connections.delete)
    test = Sends(connections.test)
    browse = Lists(connections.browse)


class Volumes(Noun):
    """Directories of the server that are opened by name."""

    create = Sends(volumes.create)
    list = Lists(volumes.list_)
    get = Sends(volumes.get)
    delete = Sends(volumes.delete)


class Users(Noun):
    """Who may come in, with which roles."""

    create = Sends(users.create)
    list = Lists(users.list_)
    get = Sends(users.get)
    me = Sends(users.me)
    update = Sends(users.update)
    delete = Sends(users.delete)


class Tokens(Noun):
    """Tokens and access keys: made, shown once, revoked."""

    create = Sends(tokens.create)
    list = Lists(tokens.list_)
    revoke = Sends(tokens.revoke)
    create_key = Sends(tokens.create_key)
    list_keys = Lists(tokens.list_keys)
    revoke_key = Sends(tokens.revoke_key)


class Webhooks(Noun):
    """Who is told of the end of tasks."""

    create = Sends(webhooks.create)
    list = Lists(webhooks.list_)
    get = Sends(webhooks.get)
    update = Sends(webhooks.update)
    delete = Sends(webhooks.delete)
    test = Sends(webhooks.test)
    deliveries = Lists(webhooks.deliveries)
    redeliver = Sends(webhooks.redeliver)


class UsageNoun(Noun):
    """What was moved, and the quotas that limit it."""

    list = Lists(usage.list_)
    quotas = Sends(usage.quotas)
    set_quota = Sends(usage.set_quota)
    delete_quota = Sends(usage.delete_quota)


class Audit(Noun):
    """Who did what, and the check that nothing of it was changed."""

    list = Lists(audit.list_)
    verify = Sends(audit.verify)

    def export(self, to: Target, **filters: Any) -> None:
        """Write the records to a path or an open file, one JSON object a line; filters as for ``list``."""
        with saving(to) as file:
            for piece in self._wire.download(audit.export(**filters)):
                file.write(piece)


class Runners(Noun):
    """Machines that lend the server their cores."""

    list = Sends(runners.list_)
