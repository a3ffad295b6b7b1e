"""The nouns of :class:`entrepot.AsyncClient`: the same methods, to be awaited."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from .errors import NotFound, RateLimited, StillGoing
from .nouns import FIRST_LOOK, LONGEST_LOOK, STOPS
from .requests import audit, connections, runners, schedules, syncs, tasks, tokens, usage, users, volumes, webhooks
from .saving import Target, format_of, saving
from .values import Task, TaskEvent
from .verbs import AsyncLists, AsyncNoun, Awaits


class AsyncTasks(AsyncNoun):
    """Tasks of all kinds: what goes on, and what became of it."""

    list = AsyncLists(tasks.list_)
    get = Awaits(tasks.get)
    pause = Awaits(tasks.pause)
    resume = Awaits(tasks.resume)
    cancel = Awaits(tasks.cancel)
    retry = Awaits(tasks.retry)
    approve = Awaits(tasks.approve)
    reject = Awaits(tasks.reject)
    delete = Awaits(tasks.delete)
    failures = AsyncLists(tasks.failures)

    async def events(self, task_id: str) -> AsyncIterator[TaskEvent]:
        """The live stream: what happened so far, then each change, until the task ends.

        Where the server has no more streams to give, looks every two seconds, and tells only of the task.
        """
        try:
            async for event in self._wire.events(tasks.events(task_id)):
                if event.kind == "gone":
                    raise NotFound(f"task {task_id} is gone: it was deleted", status=404)
                yield tasks.event_of(event)
        except RateLimited:
            pass
        else:
            return
        while True:
            task = await self.get(task_id)
            yield TaskEvent("end" if task.ended else "progress", task)
            if task.ended:
                return
            await self._wire.sleep(LONGEST_LOOK)

    async def follow(self, task_id: str) -> AsyncIterator[Task]:
        """The task at each change, until it ends; the last one has its failures by class. Survives restarts."""
        async for event in self.events(task_id):
            if event.task is not None and not event.task.ended:
                yield event.task
        yield await self.get(task_id)

    async def wait(self, task_id: str, timeout: float | None = None) -> Task:
        """The task when it has ended, or when it waits for approval (REVIEW).

        Raises StillGoing (a TimeoutError) after ``timeout`` seconds; the task goes on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_LOOK
        while True:
            task = await self.get(task_id)
            if task.ended or task.state in STOPS:
                return task
            left = pause if end is None else min(pause, end - time.monotonic())
            if left <= 0:
                raise StillGoing(f"task {task_id} is {task.state} after {timeout:g} s", task)
            await self._wire.sleep(left)
            pause = min(pause * 1.5, LONGEST_LOOK)

    async def report(self, task_id: str, to: Target, format: tasks.Format | None = None) -> None:  # noqa: A002
        """Write what became of every entry to a path or an open file, as ``format`` or as the file's name ends."""
        form: Any = format_of(to, format or "")
        with saving(to) as file:
            async for piece in self._wire.download(tasks.report(task_id, form)):
                file.write(piece)


class AsyncSyncs(AsyncNoun):
    """Syncs and verifications: put into the queue, or previewed."""

    create = Awaits(syncs.create)
    preview = Awaits(syncs.preview)


class AsyncSchedules(AsyncNoun):
    """Requests that become tasks again and again."""

    create = Awaits(schedules.create)
    list = AsyncLists(schedules.list_)
    get = Awaits(schedules.get)
    update = Awaits(schedules.update)
    pause = Awaits(schedules.pause)
    resume = Awaits(schedules.resume)
    run = Awaits(schedules.run)
    delete = Awaits(schedules.delete)
    preview = Awaits(schedules.preview)


class AsyncConnections(AsyncNoun):
    """Stored endpoints and credentials; secrets go in and never come out."""

    create = Awaits(connections.create)
    list = AsyncLists(connections.list_)
    get = Awaits(connections.get)
    update = Awaits(connections.update)
    delete = Awaits(connections.delete)
    test = Awaits(connections.test)
    browse = AsyncLists(connections.browse)


class AsyncVolumes(AsyncNoun):
    """Directories of the server that are opened by name."""

    create = Awaits(volumes.create)
    list = AsyncLists(volumes.list_)
    get = Awaits(volumes.get)
    delete = Awaits(volumes.delete)


class AsyncUsers(AsyncNoun):
    """Who may come in, with which roles."""

    create = Awaits(users.create)
    list = AsyncLists(users.list_)
    get = Awaits(users.get)
    me = Awaits(users.me)
    update = Awaits(users.update)
    delete = Awaits(users.delete)


class AsyncTokens(AsyncNoun):
    """Tokens and access keys: made, shown once, revoked."""

    create = Awaits(tokens.create)
    list = AsyncLists(tokens.list_)
    revoke = Awaits(tokens.revoke)
    create_key = Awaits(tokens.create_key)
    list_keys = AsyncLists(tokens.list_keys)
    revoke_key = Awaits(tokens.revoke_key)


class AsyncWebhooks(AsyncNoun):
    """Who is told of the end of tasks."""

    create = Awaits(webhooks.create)
    list = AsyncLists(webhooks.list_)
    get = Awaits(webhooks.get)
    update = Awaits(webhooks.update)
    delete = Awaits(webhooks.delete)
    test = Awaits(webhooks.test)
    deliveries = AsyncLists(webhooks.deliveries)
    redeliver = Awaits(webhooks.redeliver)


class AsyncUsageNoun(AsyncNoun):
    """What was moved, and the quotas that limit it."""

    list = AsyncLists(usage.list_)
    quotas = Awaits(usage.quotas)
    set_quota = Awaits(usage.set_quota)
    delete_quota = Awaits(usage.delete_quota)


class AsyncAudit(AsyncNoun):
    """Who did what, and the check that nothing of it was changed."""

    list = AsyncLists(audit.list_)
    verify = Awaits(audit.verify)

    async def export(self, to: Target, **filters: Any) -> None:
        """Write the records to a path or an open file, one JSON object a line; filters as for ``list``."""
        with saving(to) as file:
            async for piece in self._wire.download(audit.export(**filters)):
                file.write(piece)


class AsyncRunners(AsyncNoun):
    """Machines that lend the server their cores."""

    list = Awaits(runners.list_)
