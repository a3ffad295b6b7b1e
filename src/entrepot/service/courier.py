"""Brings news of ended tasks to webhooks, in threads of its own: a slow receiver holds up nobody else.

The ledger has the queue; a delivery is claimed for a while, so that it is taken up again when this process dies.
Receivers may get the same event twice and never lose one: they tell it by its event id.
"""

from __future__ import annotations

import logging
import queue
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from entrepot import __version__
from entrepot.ledger import deliveries, hooks
from entrepot.ledger.database import Connection
from entrepot.ledger.deliveries import DEAD, DELIVERED, PENDING, Parcel
from entrepot.ledger.dialect import LedgerError
from entrepot.ledger.pool import LedgerPool
from entrepot.model.errors import EntrepotError
from entrepot.model.signature import ATTEMPT_HEADER, DELIVERY_HEADER, EVENT_HEADER, HEADER, sign
from entrepot.security.keyring import Keyring

from .posting import Dial, NotDelivered, Post, post

LOG = logging.getLogger("entrepot.courier")

TRIES: Final = 14
"""The first one and those after 5 s, 15 s, 45 s … at most 4 h: the last one a day later."""
_FIRST_DELAY: Final = 5.0
_LONGEST_DELAY: Final = 4 * 3600.0
_JITTER: Final = 0.2
SECONDS: Final = 10.0
"""The longest time for one try."""
THREADS: Final = 16
EACH: Final = 2
"""Messages on their way to one receiver at once."""
_POLL: Final = 1.0
KEEP_DAYS: Final = 14
"""So long it can be seen what became of a message, and it can be sent again."""
_TIDY_SECONDS: Final = 3600.0
_BATCH: Final = 1000


def delay(attempt: int, chance: Callable[[], float]) -> float | None:
    """Seconds to wait after the failed try number ``attempt`` (1 is the first); None: give up."""
    if attempt >= TRIES:
        return None
    return min(_FIRST_DELAY * 3.0 ** (attempt - 1), _LONGEST_DELAY) * (1 + _JITTER * (2 * chance() - 1))


class Courier:
    """Runs beside the scheduler that holds the leader lease. ``ring`` after tasks ended; it looks by itself too."""

    def __init__(
        self,
        pool: LedgerPool,
        keyring: Callable[[], Keyring],
        dial: Dial,
        *,
        tls: ssl.SSLContext | None = None,
        seconds: float = SECONDS,
        threads: int = THREADS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._pool = pool
        self._keyring = keyring
        self._dial = dial
        self._tls = tls or ssl.create_default_context()
        self._seconds = seconds
        self._chance = chance
        self._threads = threads
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()
        self._ready: queue.SimpleQueue[Parcel | None] = queue.SimpleQueue()
        self._tidy_at = 0.0
        self._workers: list[threading.Thread] = []
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in threads that do not keep the process alive."""
        self._thread = threading.Thread(target=self.run, name="courier", daemon=True)
        self._thread.start()

    def ring(self) -> None:
        """There may be something new."""
        self._bell.set()

    def stop(self, seconds: float = 2.0) -> None:
        """Begin no more deliveries. What is on its way is brought again later when it does not end in time."""
        self._stopping.set()
        self._bell.set()
        end = time.monotonic() + seconds
        if self._thread is not None:
            self._thread.join(seconds)
        for _ in self._workers:
            self._ready.put(None)
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))

    def run(self) -> None:
        """Bring what is due until stopped."""
        while not self._stopping.is_set():
            self._bell.clear()
            try:
                self._tidy()
                idle = self._hand_out() == 0
            except LedgerError as error:
                LOG.warning("deliveries wait for the ledger: %s", error.message)
                idle = True
            except Exception:
                LOG.exception("deliveries could not be handed out")
                idle = True
            if idle:
                self._bell.wait(_POLL)

    def _tidy(self) -> None:
        """Forget what is old, a piece at a time."""
        if time.monotonic() < self._tidy_at:
            return
        forgotten = self._pool.settle(lambda connection: deliveries.prune(connection, KEEP_DAYS * 86400.0))
        self._tidy_at = time.monotonic() + (0.0 if forgotten else _TIDY_SECONDS)

    def _hand_out(self) -> int:
        """Claim what is due and somebody is free for, at most ``EACH`` of a receiver; how many."""
        with self._lock:
            free = self._threads - self._busy.total()
            full = {webhook for webhook, count in self._busy.items() if count >= EACH}
        if free <= 0:
            return 0
        with self._pool.read() as connection:
            due = deliveries.due(connection, _BATCH)
        chosen = [delivery for webhook, delivery in due if webhook not in full][:free]
        if not chosen:
            return 0
        claimed = self._pool.settle(lambda connection: [deliveries.claim(connection, one) for one in chosen])
        parcels = [parcel for parcel in claimed if parcel is not None]
        for parcel in parcels:
            with self._lock:
                self._busy[parcel.webhook_id] += 1
            self._ready.put(parcel)
        while len(self._workers) < min(self._threads, self._busy.total()):
            worker = threading.Thread(target=self._work, name=f"courier-{len(self._workers)}", daemon=True)
            self._workers.append(worker)
            worker.start()
        return len(parcels)

    def _work(self) -> None:
        while True:
            parcel = self._ready.get()
            if parcel is None:
                return
            try:
                self._bring(parcel)
            except LedgerError as error:
                # Nothing is lost: the claim runs out and the event is brought again.
                LOG.warning("the outcome of delivery %s was not kept: %s", parcel.id, error.message)
            except Exception:
                LOG.exception("delivery %s failed in an unexpected way", parcel.id)
            finally:
                with self._lock:
                    self._busy[parcel.webhook_id] -= 1
                    if not self._busy[parcel.webhook_id]:
                        del self._busy[parcel.webhook_id]
                self._bell.set()

    def _bring(self, parcel: Parcel) -> None:
        status, error = self._send(parcel)
        if not error:
            self._settle(parcel, DELIVERED, status=status)
            return
        wait = delay(parcel.attempt, self._chance)
        if wait is None:
            LOG.warning("event %s is given up after %d tries: %s", parcel.event, parcel.attempt, error)
            self._settle(parcel, DEAD, status=status, error=error)
        else:
            self._settle(parcel, PENDING, status=status, error=error, delay=wait)

    def _send(self, parcel: Parcel) -> tuple[int, str]:
        """(status, what went wrong)."""
        body = parcel.body.encode()
        try:
            secret = self._keyring().open(parcel.secret, hooks.place(parcel.webhook_id))
            headers = {
                "Content-Type": "application/json",
                "User-Agent": f"entrepot/{__version__}",
                EVENT_HEADER: parcel.event,
                DELIVERY_HEADER: str(parcel.id),
                ATTEMPT_HEADER: str(parcel.attempt),
                HEADER: sign(secret, int(parcel.clock), body),
            }
            return post(Post(parcel.url, headers, body), self._dial, self._tls, seconds=self._seconds), ""
        except NotDelivered as fault:
            return fault.status, str(fault)
        except EntrepotError as fault:
            return 0, fault.message

    def _settle(self, parcel: Parcel, state: str, *, status: int = 0, error: str = "", delay: float = 0.0) -> None:
        def outcome(connection: Connection) -> bool:
            return deliveries.settle(connection, parcel, state, status=status, error=error, delay=delay)

        self._pool.settle(outcome)
