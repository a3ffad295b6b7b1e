"""Access: tells what ends all work (revoked credentials, a store out of reach, no room) from faults of single objects.

Each of these would fail every entry that is left, one by one. Instead, the entries concerned stay undone, and the run
stops with one clear line (fault cases 53, 56, 61).
"""

from __future__ import annotations

from entrepot.model.errors import ForbiddenError, QuotaError, StoreError, StoreTimeoutError

from .job import Job

REVOKED = frozenset(
    {
        "InvalidAccessKeyId", "InvalidAccessKey", "NoSuchAccessKey", "ExpiredToken", "TokenRefreshRequired",
        "ExpiredTokenException", "RequestExpired", "InvalidToken", "InvalidSecurityToken", "InvalidClientTokenId",
        "UnrecognizedClientException", "AccountProblem", "AllAccessDisabled", "UserDisable", "NotSignedUp",
        "InArrearOrInsufficientBalance", "AccountArrears", "Arrearage", "AccountIsDisabled",
    }
)  # fmt: skip
"""Codes that speak of the keys or the account: no other request will fare better."""

SUSPECT = frozenset({"SignatureDoesNotMatch", "InvalidSignature", "AuthenticationFailed", "401"})
"""Codes that may also come from one odd key: believed after SUSPECTS of them in a row."""

SUSPECTS = 8

FULL = 4
"""Entries in a row that find no room at the destination: then it is full, and no other will (fault case 61)."""


class Access:
    """What the movers of one session learn about their credentials and the way to the stores."""

    __slots__ = ("_full", "_row", "held", "lost")

    def __init__(self) -> None:
        self.lost: StoreError | None = None
        """Why nothing more can be done; the session stops with it."""
        self.held: list[tuple[Job, StoreError]] = []
        """Refused entries that wait for the verdict."""
        self._row = 0
        self._full = 0

    def refused(self, job: Job, error: StoreError) -> bool:
        """True when ``job`` must stay undone, because ``error`` (may) concern all."""
        if isinstance(error, QuotaError):
            return self._no_room(job, error)
        if not isinstance(error, ForbiddenError | StoreTimeoutError):
            return False
        self.look(error)
        if self.lost is not None:
            return True
        if error.code not in SUSPECT:
            return False
        self.held.append((job, error))
        return True

    def _no_room(self, job: Job, error: StoreError) -> bool:
        self._full += 1
        if self._full >= FULL:
            self.lost = self.lost or error
            self.held.clear()
        else:
            self.held.append((job, error))
        return True

    def look(self, error: StoreError) -> None:
        """Judge the refusal of a request that is no entry's (a listing)."""
        if error.code in SUSPECT:
            self._row += 1
        # A lane gives this up only when no connection at all could be made for its retry_seconds.
        out_of_reach = isinstance(error, StoreTimeoutError) and not error.retryable
        if error.code in REVOKED or self._row >= SUSPECTS or out_of_reach:
            self.lost = self.lost or error
            self.held.clear()

    def fine(self) -> None:
        """Something succeeded: the refusals so far concern their entries alone."""
        self._row = self._full = 0
        self.settle()

    def settle(self) -> None:
        """Nothing else is under way that could tell: what is held has failed."""
        held, self.held = self.held, []
        for job, error in held:
            job.batch.failed(job, error)
