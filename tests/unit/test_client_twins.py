"""Both clients are one: same nouns, same methods, same parameters; and nothing is loaded before it is needed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import entrepot
from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret
from entrepot.sdk import anouns, nouns, values
from entrepot.sdk.reading import moment, plain, reader, text_of
from entrepot.sdk.requests import audit, connections, schedules, syncs, tasks
from entrepot.sdk.requests.paths import path
from entrepot.sdk.verbs import AsyncLists, Awaits, Lists, Sends

NOUNS = (
    "tasks", "syncs", "schedules", "connections", "volumes", "users", "tokens", "webhooks", "usage", "audit", "runners",
)  # fmt: skip


def _methods(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


def _pairs() -> list[tuple[type, type]]:
    found = [value for value in vars(nouns).values() if isinstance(value, type) and issubclass(value, nouns.Noun)]
    return [(kind, getattr(anouns, f"Async{kind.__name__}")) for kind in found if kind is not nouns.Noun]


def test_every_noun_has_a_twin() -> None:
    assert len(_pairs()) == len(NOUNS)
    with entrepot.Client("http://127.0.0.1:1") as client:
        other = entrepot.AsyncClient("http://127.0.0.1:1")
        pairs = {(type(getattr(client, name)), type(getattr(other, name))) for name in NOUNS}
        assert pairs == set(_pairs())


@pytest.mark.parametrize(("one", "other"), _pairs(), ids=lambda kind: kind.__name__)
def test_twins_have_the_same_methods_over_the_same_requests(one: type, other: type) -> None:
    mine, theirs = _methods(one), _methods(other)
    assert list(mine) == list(theirs)
    for name, method in mine.items():
        twin = theirs[name]
        if isinstance(method, Sends):
            assert isinstance(twin, Awaits) and twin.build is method.build, name
        elif isinstance(method, Lists):
            assert isinstance(twin, AsyncLists) and twin.build is method.build, name
        else:
            _check_written_twice(name, method, twin)


def _check_written_twice(name: str, method: Any, twin: Any) -> None:
    signature, other = inspect.signature(method), inspect.signature(twin)
    assert signature.parameters == other.parameters, name
    assert method.__doc__ == twin.__doc__, name
    assert inspect.iscoroutinefunction(twin) or inspect.isasyncgenfunction(twin), name
    mine, theirs = get_type_hints(method)["return"], get_type_hints(twin)["return"]
    if get_origin(mine) is Iterator:
        assert get_origin(theirs) is AsyncIterator and get_args(mine) == get_args(theirs), name
    else:
        assert mine == theirs, name


def test_the_clients_themselves_are_made_alike() -> None:
    assert inspect.signature(entrepot.Client) == inspect.signature(entrepot.AsyncClient)


def test_a_method_shows_how_it_is_called() -> None:
    with entrepot.Client("http://127.0.0.1:1") as client:
        method = client.tasks.list
        assert method.__name__ == "list"
        assert "newest first" in (method.__doc__ or "")
        assert {"state", "kind", "page_size"} <= set(inspect.signature(method).parameters)


def test_options_are_those_that_the_server_reads() -> None:
    from entrepot.control.syncoptions import NAMES

    assert frozenset(NAMES) == syncs.OPTIONS


def test_options_on_their_way() -> None:
    call = syncs.create(
        "a:b", "c:d", compare="size", exclude=("*.tmp",), modified_after=datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert call.body["options"] == {
        "compare": "size", "exclude": ["*.tmp"], "modified_after": "2026-01-02T00:00:00.000Z",
    }  # fmt: skip
    assert call.key and call.key != syncs.create("a:b", "c:d").key
    assert syncs.create("a:b", "c:d", idempotency_key="mine").key == "mine"
    wrong: Any = {"comparison": "size"}
    with pytest.raises(TypeError, match="comparison"):
        syncs.create("a:b", "c:d", **wrong)


def test_export_takes_the_filters_of_the_list() -> None:
    listed = [name for name in inspect.signature(audit.list_).parameters if name != "page_size"]
    assert list(inspect.signature(audit.export).parameters) == listed


def test_unknown_fields_are_ignored_and_missing_ones_empty() -> None:
    task = reader(values.Task)({"id": "x", "state": "NEWER", "hologram": 3, "totals": {"total": {"entries": 2}}})
    assert (task.id, task.state, task.totals.total.entries, task.totals.failed.bytes) == ("x", "NEWER", 2, 0)
    assert task.created is None and task.leg_tasks == () and not task.ended
    with pytest.raises(TypeError):
        reader(values.Task)([])


def test_secrets_do_not_print() -> None:
    token = reader(values.FreshToken)({"id": "1", "token": "ent_very_secret"})
    assert token.token.reveal() == "ent_very_secret"
    assert "very_secret" not in repr(token)
    assert plain(token)["token"] == "***"
    client = entrepot.Client("http://127.0.0.1:1", "ent_very_secret")
    assert "very_secret" not in repr(client) + repr(vars(client))
    client.close()
    call = connections.create("lab", "s3", secret_key=Secret("hush"))
    assert call.body["secret_key"] == "hush"


@given(st.datetimes(min_value=datetime(1971, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=5.5))])))
def test_times_come_back_to_the_millisecond(at: datetime) -> None:
    text = text_of(at)
    assert text is not None and text.endswith("Z")
    assert abs(moment(text) - at) < timedelta(milliseconds=1)


@given(st.text(min_size=1))
def test_a_name_stays_one_part_of_a_path(name: str) -> None:
    try:
        found = path("tasks", name)
    except (UsageError, UnicodeEncodeError):
        assert name in {".", ".."} or any("\ud800" <= c <= "\udfff" for c in name)
        return
    assert found.count("/") == 4
    assert not set(found) & set("?# %".replace("%", "")) and found.isascii()


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_means_nothing_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="names nothing"):
        tasks.get(name)
    with pytest.raises(UsageError):
        schedules.delete(name)


def python(code: str) -> str:
    source = str(Path(entrepot.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path.insert(0, {source!r})\n{code}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_naming_the_package_loads_no_client() -> None:
    code = "import entrepot\nprint(sorted(m for m in sys.modules if 'httpx' in m or 'entrepot.' in m))"
    assert python(code) == "[]"


def test_without_httpx_the_client_says_what_to_install() -> None:
    code = (
        "sys.modules['httpx'] = None\nimport entrepot\n"
        "try: entrepot.Client('http://127.0.0.1:1')\n"
        "except Exception as fault: print(type(fault).__name__, fault.message, fault.hint)"
    )
    assert python(code) == "UsageError the client needs httpx pip install 'entrepot[client]'"
    with pytest.raises(AttributeError, match="Klient"):
        entrepot.Klient  # noqa: B018


@pytest.mark.parametrize(
    ("server", "message", "hint"),
    [
        ("", "no server is named", "ENTREPOT_SERVER"),
        ("port.example:8400", "no address", "write https://port.example:8400"),
        ("ftp://port.example", "no address", "https://HOST"),
        ("https://", "no address", "https://HOST"),
        ("https://h:99999", "no address", "https://HOST"),
        ("https://me:pw@h", "user or password", "token"),
        ("https://h/?a=1", "query", "https://HOST"),
    ],
)
def test_addresses_that_are_none(server: str, message: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENTREPOT_SERVER", raising=False)
    with pytest.raises(UsageError, match=message) as caught:
        entrepot.Client(server)
    assert hint in caught.value.hint
    assert "pw@" not in caught.value.message


def test_server_and_token_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("ent_from_a_file\n")
    monkeypatch.setenv("ENTREPOT_SERVER", "http://127.0.0.1:1/below/")
    monkeypatch.setenv("ENTREPOT_TOKEN_FILE", str(tmp_path / "token"))
    with entrepot.Client() as client:
        assert client.server == "http://127.0.0.1:1/below"
    with pytest.raises(UsageError, match="cannot be read"):
        entrepot.Client(token_file=str(tmp_path / "none"))
    with pytest.raises(UsageError, match="certificate file"):
        entrepot.Client("https://127.0.0.1:1", "t", ca_file=str(tmp_path / "none"))
