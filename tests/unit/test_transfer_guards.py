"""What stops a run for all entries, digests of files that arrive in ranges, limits from the environment."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from entrepot.model.entry import Info
from entrepot.model.errors import CorruptError, ForbiddenError, StoreError, StoreTimeoutError, UsageError
from entrepot.model.options import SyncOptions
from entrepot.storage.crc32c import crc32c
from entrepot.transfer.access import SUSPECTS, Access
from entrepot.transfer.copy.digest import EtagLesson, WholeDigest
from entrepot.transfer.job import Batch, Job
from entrepot.work.limits import lane_options


def refusal(code: str) -> ForbiddenError:
    error = ForbiddenError("no", subject="x")
    error.code = code
    return error


def jobs(count: int) -> list[Job]:
    batch = Batch(b"z")
    batch.open = count
    return [Job(b"k%d" % n, 0, 1, batch) for n in range(count)]


def test_revoked_keys_end_it_at_once() -> None:
    access, (job,) = Access(), jobs(1)
    assert access.refused(job, refusal("InvalidAccessKeyId"))
    assert access.lost is not None
    assert (job.batch.open, job.batch.totals.failed) == (1, 0), "the entry stays undone"


def test_access_denied_never_ends_it() -> None:
    access = Access()
    assert not any(access.refused(job, refusal("AccessDenied")) for job in jobs(1000))
    assert access.lost is None


def test_refused_signatures_end_it_only_in_a_row() -> None:
    access = Access()
    first = jobs(SUSPECTS - 1)
    assert all(access.refused(job, refusal("SignatureDoesNotMatch")) for job in first)
    access.fine()
    assert first[0].batch.totals.failed == SUSPECTS - 1, "something succeeded: these have failed alone"
    then = jobs(SUSPECTS)
    assert all(access.refused(job, refusal("SignatureDoesNotMatch")) for job in then)
    assert access.lost is not None
    assert then[0].batch.totals.failed == 0


@pytest.mark.parametrize(("retryable", "ends"), [(True, False), (False, True)])
def test_a_store_out_of_reach_ends_it(retryable: bool, ends: bool) -> None:
    access, (job,) = Access(), jobs(1)
    assert access.refused(job, StoreTimeoutError("no way", retryable=retryable)) is ends
    assert (access.lost is not None) is ends


def test_other_faults_are_no_business_of_its() -> None:
    access, (job,) = Access(), jobs(1)
    assert not access.refused(job, StoreError("odd"))


@pytest.fixture
def staged(tmp_path: Path) -> tuple[int, bytes]:
    body = random.Random(1).randbytes(3_000_001)
    fd = os.open(tmp_path / "staged", os.O_RDWR | os.O_CREAT)
    os.write(fd, body)
    return fd, body


def digest_of(fd: int, info: Info, lesson: EtagLesson) -> str:
    """The proof of a file in three parts, the second of which an earlier run brought."""
    digest = WholeDigest(info, lesson)
    spans = [(0, 1_000_000), (1_000_000, 1_000_000), (2_000_000, 1_000_001)]
    for number in (3, 1):
        offset, length = spans[number - 1]
        if digest.by_parts:
            digest.part(number, crc32c(os.pread(fd, length, offset)))
    for until in (1, 700_000, 700_000, 2_999_999, 3_000_001):
        digest.advance(fd, until)
    return digest.check(info.key, fd, spans)


def test_digest_by_crc32c(staged: tuple[int, bytes]) -> None:
    fd, body = staged
    good = Info(b"k", len(body), etag=b"0" * 32, crc32c=crc32c(body))
    assert digest_of(fd, good, EtagLesson()) == "crc32c"
    with pytest.raises(CorruptError, match="CRC-32C"):
        digest_of(fd, Info(b"k", len(body), crc32c=crc32c(body) ^ 1), EtagLesson())


def test_digest_by_etag_learns_what_etags_are(staged: tuple[int, bytes]) -> None:
    fd, body = staged
    md5 = hashlib.md5(body).hexdigest().encode()
    lesson = EtagLesson()
    assert digest_of(fd, Info(b"k", len(body), etag=md5), lesson) == "md5"
    for _ in range(3):
        with pytest.raises(CorruptError, match="MD5"):
            digest_of(fd, Info(b"k", len(body), etag=b"0" * 32), lesson)
    strange = EtagLesson()
    with pytest.raises(CorruptError):
        digest_of(fd, Info(b"k", len(body), etag=b"0" * 32), strange)
    assert digest_of(fd, Info(b"k", len(body), etag=b"0" * 32), strange) == "reread"
    assert digest_of(fd, Info(b"other", len(body), etag=b"1" * 32), strange) == "size"


def test_digest_without_evidence(staged: tuple[int, bytes]) -> None:
    fd, body = staged
    assert digest_of(fd, Info(b"k", len(body), etag=b"0" * 32 + b"-3"), EtagLesson()) == "size"


def test_limits_from_the_environment() -> None:
    plain = lane_options(SyncOptions(), 2, 0.0, {})
    assert (plain.attempts, plain.stall_timeout, plain.max_requests) == (6, 30.0, 0.0)
    options = SyncOptions(concurrency=3, max_requests=10)
    found = lane_options(options, 2, 0.0, {"ENTREPOT_STALL_TIMEOUT": "1.5", "ENTREPOT_ATTEMPTS": "2"})
    assert (found.connections, found.max_requests, found.stall_timeout, found.attempts) == (3, 5.0, 1.5, 2)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_bad_limits_are_told(text: str) -> None:
    with pytest.raises(UsageError, match="ENTREPOT_RETRY_SECONDS"):
        lane_options(SyncOptions(), 1, 0.0, {"ENTREPOT_RETRY_SECONDS": text})
