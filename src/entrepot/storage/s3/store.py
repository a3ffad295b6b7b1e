"""A bucket of the S3 family as a store: control calls that block, and the way to its lane."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from entrepot.model.connection import Connection
from entrepot.model.entry import Info, Page, Row
from entrepot.model.errors import ForbiddenError, NotFoundError, StoreError, StoreTimeoutError, UnexpectedReplyError
from entrepot.model.location import Location
from entrepot.storage.base import Capabilities, Columns, Get, Head, Lane, List, Op, Part, Put, Store

from . import documents
from .errors import error_text, s3_error
from .exchange import Exchange, Query, Reply
from .learn import learn
from .probe import Facts, Finding, first_listing, keeps_double_slash, probe
from .profiles import canonical_endpoint, resolve
from .target import Profile, S3Target, capabilities
from .walk import walk

if TYPE_CHECKING:
    from entrepot.storage.wire.reactor import Reactor

PAUSES = (0.2, 0.6, 1.8)
"""Seconds between the tries of a control call that a busy or broken store refused."""


_NO_UPLOADS = frozenset({"NoSuchUpload", "NotImplemented", "MethodNotAllowed", "405", "501"})
"""How servers say that a bucket has no open uploads, or that they keep no list of them."""


class S3Store:
    """One location in a bucket. Not for several threads at once; every process opens its own."""

    def __init__(self, location: Location, target: S3Target, *, state_dir: str | None = None) -> None:
        self.location = location
        self.target = target
        self._facts = Facts(state_dir, target)
        self._facts.load(target)
        self._exchange = Exchange(target)
        self._reactor: Reactor | None = None
        self._lane: Lane | None = None
        self._sleep: Callable[[float], None] = time.sleep

    @classmethod
    def open(cls, location: Location, connection: Connection, *, state_dir: str | None = None) -> S3Store:
        """The store of ``location`` through ``connection``; sends nothing yet."""
        return cls(location, resolve(connection, location.bucket), state_dir=state_dir)

    @property
    def caps(self) -> Capabilities:
        """What the endpoint can do, as far as it is known by now."""
        return capabilities(self.target.profile)

    # -- the place

    def check(self) -> None:
        """One listing of one key: bucket, keys, region, list version and clock are right, or a clear error.

        Raises NotFoundError (bucket or host), ForbiddenError (keys, rights, TLS), StoreTimeoutError (no
        answer).
        """
        target = self.target
        first = target.style
        try:
            self._check_once()
        except StoreError as fault:
            if first == "path" or target.profile.addressing != "auto" or not _may_be_style(fault):
                raise
            target.use("path")
            try:
                self._check_once()
            except StoreError:
                target.use(first)
                raise fault from None
        self.remember()

    def remember(self) -> None:
        """Keep for the next run what the endpoint has shown so far (a small file in the state directory)."""
        self._facts.save(self.target)

    def probe(self, *, write: bool = False) -> Iterator[Finding]:
        """Ask the endpoint for everything it can do; ``write`` also puts and deletes one small object."""
        self.check()
        yield from probe(self._exchange, self.location.prefix, write=write)
        self.remember()

    def keeps_empty_segments(self) -> bool:
        """Whether keys such as ``a//b`` stay what they are. Asked once of an unknown store, by one small object."""
        profile = self.target.profile
        if profile.double_slash is None:
            keeps_double_slash(self._exchange, self.location.prefix)
            self.remember()
        return profile.double_slash is not False

    def identity(self) -> tuple[str, bytes]:
        """(endpoint and bucket, prefix): equal for two ways to write the same place."""
        return f"{canonical_endpoint(self.target)}/{self.target.bucket}", self.location.prefix

    def can_server_copy_from(self, source: Store) -> bool:
        """True for a store at the same endpoint under the same keys."""
        if not isinstance(source, S3Store) or not self.target.profile.copy:
            return False
        if canonical_endpoint(self.target) != canonical_endpoint(source.target):
            return False
        mine, theirs = self.target.credentials(False), source.target.credentials(False)
        return bool(mine.access_key) and mine.access_key == theirs.access_key

    def lane(self, reactor: Any, options: Any) -> Lane:
        """Open a lane; see :class:`~entrepot.storage.base.Store`."""
        from .lane import S3Lane

        lane: Lane = S3Lane(self.target, reactor=reactor, options=options, prefix=self.location.prefix)
        return lane

    def close(self) -> None:
        """Close the connections of the control calls."""
        self._exchange.close()
        if self._lane is not None:
            self._lane.close()
            self._lane = None
        if self._reactor is not None:
            self._reactor.close()
            self._reactor = None

    def buckets(self) -> list[str]:
        """The names of all buckets that the credentials may see. Raises ForbiddenError."""
        from dataclasses import replace

        exchange = Exchange(replace(self.target, bucket="", style="path"))
        try:
            reply = exchange.send("GET")
        finally:
            exchange.close()
        if reply.status != 200:
            raise s3_error(reply.status, reply.headers, reply.body, f"the buckets at {self.target.endpoint}")
        return documents.bucket_names(reply.body)

    def create_bucket(self) -> None:
        """Create the bucket, because a person asked for it. One that is ours already is fine."""
        target = self.target
        body = b""
        if target.profile.provider == "s3" and target.region != "us-east-1":
            body = (
                '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<LocationConstraint>{target.region}</LocationConstraint></CreateBucketConfiguration>"
            ).encode()
        try:
            self._ask("PUT", body=body, verb="other")
        except StoreError as fault:
            if fault.code != "BucketAlreadyOwnedByYou":
                raise

    # -- objects

    def head(self, key: bytes) -> Info:
        """One object. Raises NotFoundError."""
        op = Head(key, _nothing)
        self._run(op)
        if op.info is None:
            raise NotFoundError(f"{self._subject(key)}: not found", subject=self._subject(key))
        return op.info

    def read(self, key: bytes) -> bytes:
        """A whole small object."""
        op = Get(key, _nothing)
        self._run(op)
        return bytes(op.body)

    def write(self, key: bytes, data: bytes) -> None:
        """Write a small object."""
        self._run(Put(key, data, _nothing))

    def pages(self, after: bytes = b"", columns: Columns = "mtime") -> Iterator[Page]:
        """All rows after ``after``, sorted, page by page."""
        if not self.target.profile.ordered:
            yield from walk(lambda prefix: self._level(prefix, columns), after)
            return
        token, floor = b"", after
        while True:
            op = List(after, token, columns, _nothing)
            self._run(op)
            page = op.page
            if page.rows and after != floor and page.rows[0][0] <= after:
                raise self._again(page.rows[0][0])
            if floor and page.rows and page.rows[0][0] <= floor:
                page.rows = [row for row in page.rows if row[0] > floor]
            yield page
            if page.last:
                return
            token = page.token
            if page.rows:
                after = page.rows[-1][0]

    def children(self, prefix: bytes) -> Iterator[tuple[list[Row], list[bytes]]]:
        """One level: (rows with mtimes, sub-prefixes ending in ``/``) per page."""
        return self._level(prefix, "mtime")

    def _level(self, prefix: bytes, columns: Columns) -> Iterator[tuple[list[Row], list[bytes]]]:
        base, cut = self.location.prefix + prefix, len(self.location.prefix)
        profile, mark = self.target.profile, b""
        while True:
            query: list[tuple[str, str | bytes]] = [
                ("delimiter", "/"),
                ("prefix", base),
                ("max-keys", "1000"),
            ]
            if not profile.list_v1:
                query.append(("list-type", "2"))
            if profile.encoding_url:
                query.append(("encoding-type", "url"))
            if mark:
                query.append(("marker" if profile.list_v1 else "continuation-token", mark))
            v1 = profile.list_v1
            reply = self._ask("GET", query=query, verb="list")
            if profile.list_v1 != v1:
                mark = b""
                continue
            page = documents.level(reply.body, v1=v1, subject=str(self.location), columns=columns)
            rows = [(key[cut:], evidence, size) for key, evidence, size in page.rows]
            yield rows, [name[cut:] for name in page.prefixes]
            if not page.next:
                return
            if page.next == mark:
                raise self._again(mark)
            mark = page.next

    def _again(self, key: bytes) -> UnexpectedReplyError:
        return UnexpectedReplyError(
            f"{self.location}: the listing does not go on: {key.decode('utf-8', 'backslashreplace')!r} comes again",
            subject=str(self.location),
            hint="entrepot connection test shows which kind of listing the endpoint does",
        )

    # -- multipart uploads

    def uploads(self, prefix: bytes) -> Iterator[tuple[bytes, str, float]]:
        """(key, upload id, initiated as Unix time) of open multipart uploads below ``prefix``."""
        base, cut = self.location.prefix + prefix, len(self.location.prefix)
        marker: tuple[bytes, str] | None = None
        while True:
            query: list[tuple[str, str | bytes]] = [("uploads", ""), ("prefix", base)]
            if self.target.profile.encoding_url:
                query.append(("encoding-type", "url"))
            if marker is not None:
                query += [("key-marker", marker[0]), ("upload-id-marker", marker[1])]
            former = marker
            try:
                reply = self._ask("GET", query=query, verb="uploads")
            except StoreError as fault:
                if fault.code in _NO_UPLOADS:
                    return
                raise
            found, marker = documents.uploads(reply.body, str(self.location))
            # Some servers answer with the uploads of the whole bucket, whatever the prefix.
            yield from ((key[cut:], upload, at) for key, upload, at in found if key.startswith(base))
            if marker is None or marker == former:
                return

    def upload_parts(self, key: bytes, upload_id: str) -> list[Part]:
        """The parts that the store holds of an upload. Raises NotFoundError when the upload is gone."""
        parts: list[Part] = []
        after = ""
        while True:
            query: list[tuple[str, str | bytes]] = [("uploadId", upload_id)]
            if after:
                query.append(("part-number-marker", after))
            reply = self._ask("GET", key, query)
            found, following = documents.parts(reply.body, self._subject(key))
            parts += found
            if not following or following == after:
                return parts
            after = following

    def abort_upload(self, key: bytes, upload_id: str) -> None:
        """Drop an open upload; one that is gone already counts as done."""
        try:
            self._ask("DELETE", key, [("uploadId", upload_id)])
        except NotFoundError:
            pass

    # -- how

    def _check_once(self) -> None:
        subject = f"bucket `{self.target.bucket}` at {self.target.endpoint}"
        for pause in (*PAUSES, None):
            try:
                reply = first_listing(self._exchange, self.location.prefix)
                if reply.status == 200:
                    documents.expect(reply.body, b"ListBucketResult", subject)
                    return
                fault = s3_error(reply.status, reply.headers, reply.body, subject)
            except StoreTimeoutError as cut:
                fault = cut
            if pause is None or not fault.retryable:
                break
            self._sleep(pause)
        if isinstance(fault, NotFoundError):
            raise self._missing(error_text(reply.body)[0]) from None
        raise fault

    def _missing(self, code: str) -> NotFoundError:
        target = self.target
        fault = NotFoundError(
            f"bucket `{target.bucket}` does not exist at {target.endpoint}",
            subject=target.bucket,
            hint=self._guess() if code else "is this an S3 endpoint? Nothing of the kind answered",
        )
        fault.code = code or "404"
        return fault

    def _guess(self) -> str:
        try:
            names = self.buckets()
        except StoreError:
            names = []
        near = difflib.get_close_matches(self.target.bucket, names, n=1, cutoff=0.6)
        if near:
            return f"did you mean `{near[0]}`?"
        return "check its name, the endpoint and the region; buckets are not created by themselves"

    def _ask(
        self,
        method: str,
        key: bytes | None = None,
        query: Query = (),
        *,
        body: bytes = b"",
        verb: str = "other",
    ) -> Reply:
        """One control call, with retries and learning. Raises the StoreError that the reply means."""
        whole = b"" if key is None else self.location.prefix + key
        subject = str(self.location) if key is None else self._subject(key)
        pauses = iter(PAUSES)
        while True:
            try:
                reply = self._exchange.send(method, whole, query, body=body)
                if reply.status < 300:
                    return reply
                if learn(self.target, verb, reply.status, reply.headers, reply.body):
                    if verb == "list":
                        return self._ask(method, key, _adapted(query, self.target.profile), verb=verb)
                    continue
                fault = s3_error(reply.status, reply.headers, reply.body, subject)
            except StoreTimeoutError as cut:
                fault = cut
            pause = next(pauses, None)
            if pause is None or not fault.retryable:
                raise fault
            self._sleep(pause)

    def _run(self, op: Op) -> None:
        """Let a lane of our own do one operation. Raises its error."""
        if self._lane is None:
            from entrepot.storage.wire.options import LaneOptions
            from entrepot.storage.wire.reactor import Reactor

            self._reactor = Reactor()
            self._lane = self.lane(self._reactor, LaneOptions(connections=1, attempts=4, retry_seconds=20.0))
        assert self._reactor is not None
        finished: list[Op] = []
        op.done = finished.append
        self._lane.submit(op)
        while not finished:
            self._reactor.poll(1.0)
        if op.error is not None:
            raise op.error

    def _subject(self, key: bytes) -> str:
        return f"{self.location}{key.decode('utf-8', 'backslashreplace')}"


def _may_be_style(fault: StoreError) -> bool:
    """True when the other addressing style might cure it: no such host or bucket, no certificate for it."""
    if isinstance(fault, NotFoundError):
        return True
    return isinstance(fault, ForbiddenError) and fault.code in {"", "SignatureDoesNotMatch"}


def _adapted(query: Query, profile: Profile) -> Query:
    """A listing's query again, after the profile has changed."""
    drop = {"list-type"} if profile.list_v1 else set()
    if not profile.encoding_url:
        drop.add("encoding-type")
    return [pair for pair in query if pair[0] not in drop]


def _nothing(op: Op) -> None:
    """Completion of an operation that nobody submitted yet."""
