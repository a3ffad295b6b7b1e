"""Fixtures for all tests: the scripted S3 server, real servers (started when first asked for), the program.

Session-wide: ``seaweed``, ``rclone_s3``, ``rclone_webdav``, ``rclone_sftp``, ``azurite``, ``low_s3`` (each gives
an object of ``parts.servers``), ``postgres``. Fresh for every test: ``fake_s3``, ``tls_s3``, ``chaos``,
``bucket_name``, ``cli``, ``postgres_ledger``, and ``ledger_place`` (on both databases).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from parts import servers
from parts.chaos import ChaosProxy
from parts.cli import Cli
from parts.fake_s3 import FakeS3

if TYPE_CHECKING:
    from parts.postgres import PostgresServer

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def parts_directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the session's servers keep data and logs."""
    return str(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session")
def seaweed(parts_directory: str) -> Iterator[servers.S3Server]:
    """SeaweedFS."""
    server = servers.start_seaweed(parts_directory)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rclone_s3(parts_directory: str) -> Iterator[servers.S3Server]:
    """rclone's S3 server."""
    server = servers.start_rclone_s3(parts_directory)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rclone_webdav(parts_directory: str) -> Iterator[servers.FileServer]:
    """rclone's WebDAV server."""
    server = servers.start_rclone_webdav(parts_directory)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rclone_sftp(parts_directory: str) -> Iterator[servers.FileServer]:
    """rclone's SFTP server."""
    server = servers.start_rclone_sftp(parts_directory)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def azurite(parts_directory: str) -> Iterator[servers.AzureServer]:
    """Azurite's blob service."""
    server = servers.start_azurite(parts_directory)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def low_s3(parts_directory: str) -> Iterator[servers.S3Server]:
    """The benchmark's C server."""
    server = servers.start_low_s3(parts_directory)
    yield server
    server.stop()


@pytest.fixture
def fake_s3() -> Iterator[FakeS3]:
    """A fresh scripted S3 server; the test fails when the server itself crashed."""
    with FakeS3() as fake:
        yield fake
    assert not fake.crashes, fake.crashes


@pytest.fixture
def tls_s3(tmp_path: Path) -> Iterator[FakeS3]:
    """A fresh scripted S3 server behind TLS; its ``env()`` names the certificate of its authority."""
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "*.localhost", "127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with FakeS3(tls=context, ca_file=str(ca_file)) as fake:
        yield fake
    assert not fake.crashes, fake.crashes


@pytest.fixture
def chaos() -> Iterator[Callable[[int], ChaosProxy]]:
    """``chaos(port)`` gives a running faulty proxy before that loopback port."""
    with contextlib.ExitStack() as stack:
        yield lambda port: stack.enter_context(ChaosProxy("127.0.0.1", port))


@pytest.fixture
def bucket_name() -> str:
    """A name that no other test of this run uses."""
    return f"test-{os.getpid()}-{next(_NUMBERS)}"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The program with a state directory of its own; see ``parts.cli``."""
    return Cli(str(tmp_path / "entrepot-state"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """PostgreSQL."""
    from parts.postgres import start_postgres

    server = start_postgres()
    yield server
    server.stop()


@pytest.fixture
def postgres_ledger(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a fresh ledger in PostgreSQL."""
    url = postgres.new_ledger()
    yield url
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new ledger is to be opened: the test runs once for each database."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    return str(request.getfixturevalue("postgres_ledger"))
