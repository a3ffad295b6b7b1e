"""Fixtures for all tests: the scripted S3 server here, the real servers of ``parts.servers``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from parts.fake_s3 import FakeS3


@pytest.fixture
def fake_s3() -> Iterator[FakeS3]:
    """A fresh scripted S3 server; the test fails when the server itself crashed."""
    with FakeS3() as fake:
        yield fake
    assert not fake.crashes, fake.crashes
