"""The datasync family on a whole server: every type and every third party moves real bytes, and is listed as published.

The third parties are imitations that refuse what the real ones refuse, under the vendors' own host names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasync_parts import BASE, PUBLISHED, shape_of

from entrepot.storage.s3.thirdparty import place_for
from parts.entrepot_server import EntrepotServer
from parts.fake_actions import status
from parts.fake_s3 import FakeS3
from parts.servers import AzureServer
from parts.vendors import names
from parts.vendors.azure import make_container
from parts.vendors.server import Vendor
from parts.vendors.strict import VENDORS

ENDED = ("COMPLETED", "FAILED", "CANCELLED")
FILES = {f"d{number % 3}/f{number:02d}": os.urandom(997 * number + 1) for number in range(12)} | {
    "数据.bin": b"x" * 70_000
}
TOTAL = sum(map(len, FILES.values()))


class Tool:
    """A data-sync tool of a server, as its clients see it."""

    def __init__(self, server: EntrepotServer, lake: Path, store: FakeS3) -> None:
        self.server = server
        self.lake = lake
        self.store = store

    def ask(self, method: str, path: str, body: Any = None, wanted: int = 200) -> Any:
        code, answer = self.server.ask(method, f"{BASE}{path}", body)
        assert code == wanted, (path, code, answer)
        return answer

    def start(self, kind: str, sources: list[dict[str, str]] | None, end: dict[str, str], **more: Any) -> str:
        body = {"task_name": f"{kind.lower()}-{end['prefix']}", "type": kind, "src_info": sources, "dst_info": end}
        return str(self.ask("POST", "/tasks", body | more)["task_id"])

    def task(self, task_id: str) -> Any:
        return self.ask("GET", f"/tasks/{task_id}")

    def wait(self, task_id: str, *states: str, seconds: float = 60.0) -> Any:
        """The task in one of these states (else: ended). Its percent never falls on the way."""
        until, percent = time.monotonic() + seconds, 0
        while True:
            found = self.task(task_id)
            assert percent <= found["percent"] <= 100
            percent = found["percent"]
            if found["state"] in (states or ENDED):
                return found
            assert time.monotonic() < until and found["state"] not in ENDED, found
            time.sleep(0.05)

    def put(self, prefix: str) -> None:
        """The files, into the volume."""
        for name, data in FILES.items():
            path = self.lake / prefix / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def in_lake(self, prefix: str) -> dict[str, bytes]:
        root = self.lake / prefix
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def in_store(self, prefix: str) -> dict[str, bytes]:
        start = f"{prefix}/".encode()
        held = self.store.dump("mine")
        return {key[len(start) :].decode(): data for key, data in held.items() if key.startswith(start)}


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    """A server with the volume "lake" and the bucket "mine" of the default connection."""
    folder = tmp_path_factory.mktemp("datasync")
    lake = folder / "lake"
    lake.mkdir()
    with FakeS3() as store:
        store.make_bucket("mine")
        server = EntrepotServer(folder, env=names.environment(folder / "site")).start()
        try:
            server.volume("lake", lake)
            env = store.env()
            server.connection(
                "default", env["AWS_ENDPOINT_URL"], env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]
            )
            yield Tool(server, lake, store)
        finally:
            server.stop()
        assert not store.crashes


@pytest.fixture(autouse=True)
def vendor_names(monkeypatch: pytest.MonkeyPatch) -> None:
    names.pretend(monkeypatch)


def lake(prefix: str) -> dict[str, str]:
    return {"name": "lake", "prefix": prefix}


def mine(prefix: str) -> dict[str, str]:
    return {"name": "mine", "prefix": prefix}


def assert_done(task: dict[str, Any], copied: int = len(FILES), equal: int = 0) -> None:
    assert (task["state"], task["err_msg"]) == ("COMPLETED", ""), task
    assert (task["percent"], task["total_num"]) == (100, len(FILES))
    assert (task["complete_num"], task["exist_num"]) == (copied, equal)
    assert (task["size"], task["size_unit"]) == (round(TOTAL / 1024, 2), "KB")
    assert task["create"] <= task["start"] + 1 <= task["end"] + 1 <= time.time() + 2


# -- the types


@pytest.mark.parametrize("kind", ["AOSSTOFS", "FSTOAOSS", "AOSSTOAOSS", "FSTOFS"])
def test_each_type_between_own_places_moves_bytes(tool: Tool, kind: str) -> None:
    start, end = f"from-{kind.lower()}", f"to-{kind.lower()}"
    if kind.startswith("AOSS"):
        for name, data in FILES.items():
            tool.store.put("mine", f"{start}/{name}", data)
    else:
        tool.put(start)
    source = mine(start) if kind.startswith("AOSS") else lake(start)
    target, look = (mine(end), tool.in_store) if kind.endswith("AOSS") else (lake(end), tool.in_lake)
    assert_done(tool.wait(tool.start(kind, [source], target)))
    assert look(end) == FILES
    assert_done(tool.wait(tool.start(kind, [source], target)), copied=0, equal=len(FILES))


@pytest.fixture(params=sorted([*VENDORS, "WASB"]))
def third(request: pytest.FixtureRequest, bucket_name: str) -> Iterator[dict[str, str]]:
    """``src_third_info`` of a vendor that holds the files below ``raw``; nothing may have been refused there."""
    if request.param == "WASB":
        azurite: AzureServer = request.getfixturevalue("azurite")
        place = place_for("WASB", azurite.endpoint, azurite.account, azurite.key, f"{bucket_name}/raw")
        make_container(place.connection, bucket_name)
        _fill_container(azurite, bucket_name)
        yield {
            "type": "WASB", "host": azurite.endpoint, "ak": azurite.account, "sk": azurite.key,
            "path": f"{bucket_name}/raw",
        }  # fmt: skip
        return
    with Vendor(VENDORS[request.param]) as vendor:
        vendor.fill({f"raw/{name}".encode(): data for name, data in FILES.items()} | {b"other/x": b"no"})
        yield {
            "type": request.param, "host": vendor.host, "ak": vendor.strict.ak, "sk": vendor.strict.sk,
            "path": f"{vendor.bucket}/raw",
        }  # fmt: skip
    assert not vendor.crashes
    assert (vendor.refused, vendor.strays) == ([], [])


def _fill_container(azurite: AzureServer, container: str) -> None:
    from entrepot.model.location import parse_location
    from entrepot.storage.azure.store import AzureStore

    connection = place_for("WASB", azurite.endpoint, azurite.account, azurite.key, f"{container}/raw").connection
    store = AzureStore.open(parse_location(f"vendor:{container}/raw/"), connection)
    try:
        for name, data in FILES.items():
            store.write(name.encode(), data)
    finally:
        store.close()


@pytest.mark.parametrize("kind", ["THIRDTOFS", "THIRDTOAOSS"])
def test_each_third_party_moves_bytes_and_shows_no_key(tool: Tool, third: dict[str, str], kind: str) -> None:
    end = f"{kind.lower()}-{third['type'].lower()}"
    target, look = (mine(end), tool.in_store) if kind == "THIRDTOAOSS" else (lake(end), tool.in_lake)
    task_id = tool.start(kind, None, target, src_third_info=third)
    done = tool.wait(task_id)
    assert_done(done)
    assert look(end) == FILES
    page = tool.ask("POST", "/tasks:list", {"task_name": end, "history": True, "page": {"page": 1, "page_size": 10}})
    assert page["data_sync_task"] == [done]
    assert shape_of(page) == shape_of(PUBLISHED)
    assert list(done) == list(PUBLISHED["data_sync_task"][0])
    shown = done["src_third_info"]
    assert (shown["type"], shown["host"], shown["path"]) == (third["type"], third["host"], third["path"])
    assert (shown["sk"], shown["ak"] == third["ak"]) == ("", False)
    _assert_nowhere(tool, third["sk"])


def _assert_nowhere(tool: Tool, secret: str) -> None:
    """Neither in the ledger's file nor anywhere else in the server's directory, nor in what processes show."""
    for path in tool.server.folder.rglob("*"):
        if path.is_file() and "lake" not in path.parts:
            assert secret.encode() not in path.read_bytes(), path
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert secret.encode() not in place.read_bytes()
        except OSError:
            continue


# -- what becomes of a task


def test_several_sources_meet_below_one_destination(tool: Tool) -> None:
    tool.put("many/one")
    tool.put("many/two")
    done = tool.wait(tool.start("FSTOAOSS", [lake("many/one"), lake("many/two")], mine("met")))
    assert (done["state"], done["total_num"], done["complete_num"]) == ("COMPLETED", 2 * len(FILES), 2 * len(FILES))
    assert tool.in_store("met/one") == tool.in_store("met/two") == FILES
    assert [end["prefix"] for end in done["src_info"]] == ["many/one", "many/two"]


def test_pause_resume_cancel_and_retry(tool: Tool) -> None:
    tool.put("slow")
    slow = {"options": {"bandwidth": 4096}}
    task_id = tool.start("FSTOAOSS", [lake("slow")], mine("paused"), **slow)
    tool.wait(task_id, "DOING")
    tool.ask("POST", f"/tasks/{task_id}:pause")
    assert tool.wait(task_id, "PAUSED")["end"] == 0
    refused = tool.ask("POST", f"/tasks/{task_id}:pause", wanted=400)
    assert (refused["code"], f"{task_id} is PAUSED" in refused["message"]) == (9, True)
    assert tool.ask("POST", "/tasks:list", {"state": ["PAUSED"]})["page"]["total"] == 1
    tool.ask("POST", f"/tasks/{task_id}:resume")
    tool.wait(task_id, "DOING")
    tool.ask("POST", f"/tasks/{task_id}:cancel")
    cancelled = tool.wait(task_id)
    assert (cancelled["state"], cancelled["end"] > 0) == ("CANCELLED", True)
    assert tool.store.open_uploads() == []
    tool.ask("POST", f"/tasks/{task_id}:retry")
    assert tool.wait(task_id, "SCANNING", "DOING")["end"] == 0
    tool.ask("POST", f"/tasks/{task_id}:cancel")
    tool.wait(task_id)
    assert tool.ask("DELETE", f"/tasks/{task_id}") == {}
    tool.ask("GET", f"/tasks/{task_id}", wanted=404)


def test_failed_entries_are_listed_and_done_again(tool: Tool) -> None:
    tool.put("failing")
    rule = tool.store.rule("PUT", status(403, "AccessDenied"), key="d1/")
    task_id = tool.start("FSTOAOSS", [lake("failing")], mine("failed"))
    found = tool.wait(task_id)
    bad = {name for name in FILES if name.startswith("d1/")}
    assert (found["state"], found["err_msg"]) == ("FAILED", f"{len(bad)} of {len(FILES)} entries failed")
    assert found["complete_num"] == len(FILES) - len(bad)
    failures = tool.ask("GET", f"/tasks/{task_id}/failures")["failures"]
    assert {one["key"] for one in failures} == bad
    assert {one["class"] for one in failures} == {"forbidden"}
    assert all(one["message"] and one["attempts"] >= 1 for one in failures)
    rule.remove()
    tool.ask("POST", f"/tasks/{task_id}:retry")
    done = tool.wait(task_id, "COMPLETED")
    assert (done["complete_num"], done["err_msg"]) == (len(FILES), "")
    assert tool.in_store("failed") == FILES
    assert tool.ask("GET", f"/tasks/{task_id}/failures")["failures"] == []


def test_a_source_that_is_not_there_says_so(tool: Tool) -> None:
    found = tool.wait(tool.start("AOSSTOFS", [{"name": "no-such-bucket"}], lake("nothing")))
    assert found["state"] == "FAILED"
    assert "no-such-bucket" in found["err_msg"]
