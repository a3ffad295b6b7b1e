"""Fixtures of the fault cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from parts.fake_s3 import FakeS3
from parts.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """The program on a machine that can be made to misbehave; see ``parts.lab``."""
    return Lab(str(tmp_path / "entrepot-state"))


@pytest.fixture
def store(fake_s3: FakeS3) -> FakeS3:
    """The scripted store with the empty buckets ``src`` and ``dst``."""
    fake_s3.make_bucket("src")
    fake_s3.make_bucket("dst")
    return fake_s3
