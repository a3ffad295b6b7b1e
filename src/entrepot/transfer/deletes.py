"""Deletes: the journaled doomed entries of one delete shard, checked once more and removed.

A key goes only if the source still lacks it and the destination still holds what was listed; otherwise it is left and
counted as skipped.
"""

from __future__ import annotations

from collections.abc import Callable

from entrepot.model.errors import ChangedError, NotFoundError, StoreError, VanishedError
from entrepot.model.shard import Doomed, Failure, LedgerPort, Progress, Shard
from entrepot.model.totals import Totals
from entrepot.storage.base import Delete, Head, Lane
from entrepot.storage.posix.delete import delete as delete_file
from entrepot.storage.posix.root import Root

BATCH = 500


class DeleteRun:
    """Works off one delete shard, batch by batch; the cursor moves with each batch."""

    def __init__(
        self,
        shard: Shard,
        port: LedgerPort,
        source: Lane | Root | None,
        destination: Lane | Root | None,
        *,
        exists: Callable[[bytes], bool] | None,
        excluded: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.shard = shard
        self.cursor = shard.cursor
        self.totals = Totals()
        self.totals.add(shard.totals)
        self.error: StoreError | None = None
        self.over = False
        self.stopping = False
        self._port = port
        self._source = source
        self._destination = destination
        self._exists = exists
        self._excluded = excluded
        """Keys that go although the source has them: what filters exclude, where that is asked for."""
        self._failures: list[Failure] = []
        self._batch: list[Doomed] = []
        self._sure: list[Doomed] = []
        self._open = 0

    @property
    def finished(self) -> bool:
        """True when all of the shard is done, or a stop was ordered and nothing is in flight."""
        return self._open == 0 and (self.over or self.stopping)

    def work(self) -> bool:
        """Begin the next batch if none is in flight; False when there is nothing to begin."""
        if self._open or self.over or self.stopping:
            return False
        self._batch = self._port.next_doomed(_at(self.shard, self.cursor), BATCH)
        if not self._batch:
            self.over = True
            return False
        self._sure = []
        self._open = 1
        for doomed in self._batch:
            self._check(doomed)
        self._checked()
        return True

    def _check(self, doomed: Doomed) -> None:
        """Ask both sides once more."""
        if self._excluded is not None and self._excluded(doomed.key):
            self._check_destination(doomed)
            return
        if self._source is None or isinstance(self._source, Root):
            if self._exists is not None and self._exists(doomed.key):
                self._skip(doomed)
                return
            self._check_destination(doomed)
            return
        self._open += 1

        def answered(op: Head) -> None:
            if isinstance(op.error, NotFoundError):
                self._check_destination(doomed)
            elif op.error is None:
                self._skip(doomed)
            else:
                self._fail(doomed, op.error)
            self._checked()

        self._source.submit(Head(doomed.key, answered))

    def _check_destination(self, doomed: Doomed) -> None:
        if self._destination is None or isinstance(self._destination, Root):
            self._sure.append(doomed)
            return
        self._open += 1

        def answered(op: Head) -> None:
            if isinstance(op.error, NotFoundError):
                self._skip(doomed)
            elif op.error is not None or op.info is None:
                self._fail(doomed, op.error or StoreError("no answer"))
            elif op.info.size != doomed.size or _other(doomed, op):
                self._skip(doomed)
            else:
                self._sure.append(doomed)
            self._checked()

        self._destination.submit(Head(doomed.key, answered))

    def _checked(self) -> None:
        self._open -= 1
        if self._open:
            return
        if self._destination is None or isinstance(self._destination, Root):
            for doomed in self._sure:
                self._remove_file(doomed)
            self._advance()
        elif self._sure:
            self._open = 1
            self._destination.submit(Delete([d.key for d in self._sure], self._deleted))
        else:
            self._advance()

    def _remove_file(self, doomed: Doomed) -> None:
        assert isinstance(self._destination, Root)
        try:
            evidence = doomed.evidence[0] if isinstance(doomed.evidence, tuple) else doomed.evidence
            gone = delete_file(self._destination, doomed.key, (doomed.key, evidence, doomed.size), prune=True)
        except (ChangedError, NotFoundError, VanishedError):
            self._skip(doomed)
        except StoreError as error:
            self._fail(doomed, error)
        else:
            if gone:
                self._count(doomed)
            else:
                self._skip(doomed)

    def _deleted(self, op: Delete) -> None:
        self._open = 0
        refused = dict(op.failed)
        for doomed in self._sure:
            error = op.error or refused.get(doomed.key)
            if error is None:
                self._count(doomed)
            else:
                self._fail(doomed, error)
        self._advance()

    def _advance(self) -> None:
        self.cursor = self._batch[-1].key

    def _count(self, doomed: Doomed) -> None:
        self.totals.deleted += 1
        self.totals.deleted_bytes += doomed.size

    def _skip(self, doomed: Doomed) -> None:
        self.totals.skipped += 1
        self.totals.skipped_bytes += doomed.size

    def _fail(self, doomed: Doomed, error: StoreError) -> None:
        self.totals.failed += 1
        self.totals.failed_bytes += doomed.size
        self._failures.append(Failure(doomed.key, error.failure.value, error.message, 1, doomed.size))

    def progress(self) -> Progress:
        """What happened since the last call."""
        failures, self._failures = self._failures, []
        return Progress(self.shard.id, self.shard.fence, self.cursor, self.totals, failures=failures)


def _at(shard: Shard, cursor: bytes) -> Shard:
    shard.cursor = cursor
    return shard


def _other(doomed: Doomed, op: Head) -> bool:
    """True when the destination object is no longer the one that was listed."""
    info = op.info
    assert info is not None
    if isinstance(doomed.evidence, bytes):
        return info.etag != doomed.evidence
    stored = doomed.evidence if isinstance(doomed.evidence, int) else doomed.evidence[0]
    return abs(info.mtime_ns - stored) >= 2_000_000_000
