"""``entrepot doctor``: what Entrepot needs and whether this machine has it, line by line, with what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict

import click

from .connection import print_check
from .exits import OK, USAGE
from .groups import Command
from .reach import Check
from .terminal import out_json
from .words import count_text, size_text

GIB = 1 << 30
FILES_WANTED = 4096
EXTRAS = {"pyarrow": "parquet", "fsspec": "bridge", "gcsfs": "bridge", "sshfs": "bridge", "webdav4": "bridge"}
_REMOTE_FS = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "lustre", "gpfs")


@click.command("doctor", cls=Command)
@click.option("--state-dir", default="", envvar="ENTREPOT_STATE_DIR", metavar="DIR", help="Where runs are remembered.")
@click.option("--offline", is_flag=True, help="Do not contact the stored endpoints.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def command(state_dir: str, offline: bool, as_json: bool) -> int:
    """Check this machine, the state directory, the ledger, the stored connections.

    Every line is ok, warn or fail; what is not ok says what to do. Exit 2 when anything fails.
    """
    from entrepot.service.statedir import state_directory

    place = state_directory(state_dir)
    groups: list[Callable[[], Iterator[Check]]] = [
        machine,
        lambda: state(place),
        lambda: ledger(place),
        lambda: leftovers(place),
        extras,
        lambda: connections(offline),
    ]
    good = True
    for group in groups:
        for check in _guarded(group):
            good = good and check.verdict != "fail"
            if as_json:
                out_json(asdict(check))
            else:
                print_check(check.verdict, check.name, check.text, check.hint)
            sys.stdout.flush()
    return OK if good else USAGE


def _guarded(group: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """A check that itself breaks is a line of the report, not the end of it."""
    from entrepot.model.errors import EntrepotError

    try:
        yield from group()
    except EntrepotError as fault:
        yield Check("check", "fail", fault.message, fault.hint)
    except (OSError, ImportError) as fault:
        yield Check("check", "fail", str(fault))


def machine() -> Iterator[Check]:
    """Python, kernel, cores, memory, descriptors."""
    import platform
    import resource

    from entrepot import __version__

    yield Check("entrepot", "ok", __version__)
    version = platform.python_version()
    enough = sys.version_info >= (3, 11)
    yield Check("python", "ok" if enough else "fail", f"{version} ({sys.executable})", "install Python 3.11 or newer")
    release = platform.release()
    yield _kernel(platform.system(), release)
    cores = len(os.sched_getaffinity(0))
    limit = _cpu_quota()
    text = f"{cores} usable" + (f", but a quota of {limit:.1f} (container)" if limit and limit < cores else "")
    verdict = "warn" if limit and limit < cores else "ok"
    yield Check("cores", verdict, text, f"run with --processes {max(1, round(limit or 1))}")
    yield _memory()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fine = soft >= FILES_WANTED or soft == resource.RLIM_INFINITY
    yield Check(
        "open files",
        "ok" if fine else "warn",
        f"{count_text(soft)} (at most {count_text(hard)})",
        f"ulimit -n {FILES_WANTED}",
    )


def _kernel(system: str, release: str) -> Check:
    if system != "Linux":
        return Check("kernel", "fail", f"{system} {release}", "Entrepot needs Linux")
    numbers = release.split("-", maxsplit=1)[0].split(".")
    try:
        fresh = (int(numbers[0]), int(numbers[1])) >= (5, 6)
    except (ValueError, IndexError):
        fresh = True
    return Check("kernel", "ok" if fresh else "warn", f"Linux {release}", "5.6 or newer has everything that is used")


def _cpu_quota() -> float | None:
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _memory() -> Check:
    values: dict[str, int] = {}
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                name, _, rest = line.partition(":")
                values[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return Check("memory", "warn", "unknown: /proc/meminfo cannot be read")
    free = values.get("MemAvailable", 0)
    text = f"{size_text(free)} available of {size_text(values.get('MemTotal', 0))}"
    return Check("memory", "ok" if free >= GIB // 2 else "warn", text, "run with fewer --processes")


def state(place: str) -> Iterator[Check]:
    """The state directory and the file system that it lies on."""
    if not os.path.isdir(place):
        above = place
        while not os.path.exists(above):
            above = os.path.dirname(above)
        can = os.access(above, os.W_OK | os.X_OK)
        text = f"{place} (not there yet)" if can else f"{place} cannot be made: {above} may not be written"
        yield Check("state directory", "ok" if can else "fail", text, "set ENTREPOT_STATE_DIR to a directory of yours")
        place = above
    else:
        can = os.access(place, os.W_OK | os.X_OK)
        yield Check("state directory", "ok" if can else "fail", place, "it must be writable; set ENTREPOT_STATE_DIR")
    kind = _file_system(place)
    remote = kind.startswith(_REMOTE_FS)
    yield Check(
        "its file system",
        "warn" if remote else "ok",
        kind or "unknown",
        "SQLite wants a local disk: set ENTREPOT_STATE_DIR",
    )
    about = os.statvfs(place)
    free = about.f_bavail * about.f_frsize
    verdict = "ok" if free >= GIB else "warn" if free >= GIB // 20 else "fail"
    yield Check(
        "its free space", verdict, size_text(free), "make room: a run of millions of failures needs some hundred MB"
    )


def _file_system(path: str) -> str:
    """Type of the file system that ``path`` lies on."""
    real = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                parts = line.split()
                mount = parts[1].encode("latin-1", "backslashreplace").decode("unicode_escape", "replace")
                inside = real == mount or real.startswith(mount.rstrip("/") + "/")
                if inside and len(mount) >= len(best):
                    best, kind = mount, parts[2]
    except (OSError, IndexError):
        return ""
    return kind


def ledger(place: str) -> Iterator[Check]:
    """Schema and integrity of the ledger, looked at without changing it."""
    from entrepot.service.statedir import ledger_place

    path = ledger_place(place)
    if not os.path.exists(path):
        yield Check("ledger", "ok", "none yet")
        return
    import sqlite3

    from entrepot.ledger.schema import HEAD

    try:
        raw = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            found = raw.execute("SELECT version_num FROM alembic_version").fetchone()
            stamp = str(found[0]) if found else "?"
            damage = raw.execute("PRAGMA quick_check(1)").fetchone()[0]
            count = raw.execute("SELECT count(*) FROM task").fetchone()[0]
        finally:
            raw.close()
    except sqlite3.Error as fault:
        hint = "entrepot ledger recover saves what can be read; or move the file away: the places are compared anew"
        yield Check("ledger", "fail", f"{path}: {fault}", hint)
        return
    older = "it is brought up to date by the next run" if stamp < HEAD else "it belongs to a newer Entrepot: upgrade"
    yield Check("ledger schema", "ok" if stamp == HEAD else "warn" if stamp < HEAD else "fail", stamp, older)
    whole = damage == "ok"
    yield Check(
        "ledger integrity",
        "ok" if whole else "fail",
        f"{size_text(os.path.getsize(path))}, {count_text(count)} tasks" if whole else str(damage),
        "entrepot ledger recover saves what can be read; or move the file away: the places are compared anew",
    )


def leftovers(place: str) -> Iterator[Check]:
    """Tasks that stopped half-way, and staging directories at their destinations."""
    from entrepot.service.statedir import ledger_place

    if not os.path.exists(ledger_place(place)):
        return
    from entrepot.model.location import parse_location
    from entrepot.model.task import END_STATES
    from entrepot.service import tasks
    from entrepot.service.owner import is_running
    from entrepot.storage.posix.names import STAGING_PREFIX

    stopped = []
    destinations: set[bytes] = set()
    for task in tasks.list_tasks(place, 1000):
        if task.state not in END_STATES and not is_running(task):
            stopped.append(task.id)
        location = parse_location(task.spec.destination)
        if location.is_file:
            destinations |= {location.prefix, os.path.dirname(location.prefix)}
        if is_running(task) and location.is_file:
            destinations -= {location.prefix, os.path.dirname(location.prefix)}
    if stopped:
        shown = ", ".join(stopped[:3]) + (" …" if len(stopped) > 3 else "")
        yield Check(
            "stopped tasks",
            "warn",
            f"{len(stopped)}: {shown}",
            "go on by the same command, or: entrepot tasks cancel ID",
        )
    else:
        yield Check("stopped tasks", "ok", "none")
    left = [os.path.join(path, name) for path in sorted(destinations) for name in _staging(path, STAGING_PREFIX)]
    if left:
        shown = ", ".join(os.fsdecode(path) for path in left[:3]) + (" …" if len(left) > 3 else "")
        yield Check("staging leftovers", "warn", shown, "they go with the next run or cancel of their task")
    else:
        yield Check("staging leftovers", "ok", "none")


def _staging(path: bytes, prefix: bytes) -> list[bytes]:
    try:
        return [name for name in os.listdir(path) if name.startswith(prefix)]
    except OSError:
        return []


def extras() -> Iterator[Check]:
    """Optional packages."""
    from importlib.util import find_spec

    missing: dict[str, list[str]] = {}
    for module, extra in EXTRAS.items():
        if find_spec(module) is None:
            missing.setdefault(extra, []).append(module)
    for extra in sorted(set(EXTRAS.values())):
        lacking = missing.get(extra, [])
        text = (
            f"not installed: {', '.join(lacking)} (pip install 'entrepot[{extra}]' if you need it)"
            if lacking
            else "there"
        )
        yield Check(f"extra {extra}", "ok", text)


def connections(offline: bool) -> Iterator[Check]:
    """The file of connections, and each endpoint: network, TLS, clock."""
    from entrepot.model.errors import EntrepotError
    from entrepot.service.connections import ConnectionStore

    store = ConnectionStore()
    names = store.names()
    yield Check("connections", "ok", f"{len(names)} in {store.path}" if names else f"none in {store.path}")
    for name in names:
        try:
            connection = store.get(name)
        except EntrepotError as fault:
            yield Check(name, "fail", fault.message, fault.hint)
            continue
        if offline:
            continue
        from .reach import reach_connection

        for check in reach_connection(connection):
            yield Check(f"{name}: {check.name}", check.verdict, check.text, check.hint)
