"""The datasync family over HTTP: tasks made, listed, shown, ordered about, forgotten. Nothing runs here."""

from __future__ import annotations

import json
import time

import pytest
from datasync_parts import (
    BASE,
    KEYS,
    PUBLISHED,
    SCOPE,
    add_places,
    base,
    listed,
    make,
    names_of,
    shape_of,
    third,
    wanted,
)

from entrepot.ledger import holding, legs, live, tasks
from entrepot.ledger.tasks import Owner
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskState
from entrepot.model.totals import Totals

STEPS = {
    "SCANNING": (TaskState.SCANNING,),
    "DOING": (TaskState.SCANNING, TaskState.RUNNING),
    "PAUSED": (TaskState.PAUSED,),
    "COMPLETED": (TaskState.SCANNING, TaskState.SUCCEEDED),
    "FAILED": (TaskState.SCANNING, TaskState.FAILED),
    "CANCELLED": (TaskState.CANCELLED,),
}


@pytest.fixture
def places(api, tmp_path):
    add_places(api, tmp_path)
    return api


def move(control, task_id: str, *states: TaskState, reason: str = "") -> None:
    with control.pool.write() as c:
        for state in states:
            tasks.transition(c, task_id, state, reason)


def row_of(control, task_id: str):
    with control.pool.read() as c:
        return tasks.read(c, task_id)


# -- making


def test_a_task_has_the_published_fields_and_types(places):
    made = make(places, type="THIRDTOFS", src_info=None, src_third_info=third())
    page = listed(places)
    assert page["data_sync_task"] == [made]
    assert shape_of(page) == shape_of(PUBLISHED)
    assert list(made) == list(PUBLISHED["data_sync_task"][0])
    assert places.get(f"{BASE}/tasks/{made['task_id']}").json() == made


def test_only_third_party_tasks_have_a_third_party(places):
    made = make(places)
    assert [name for name in PUBLISHED["data_sync_task"][0] if name not in made] == ["src_third_info"]


def test_what_is_queued_when_a_bucket_goes_to_a_volume(places, server):
    before = int(time.time())
    rings = server.bell.rings
    made = make(places, src_info=[{"name": "bucket1", "prefix": "/raw/2026/", "region": "r"}])
    assert server.bell.rings > rings
    volume = places.get("/api/v1/volumes/lake").json()
    assert made["src_info"] == [
        {
            "id": "bucket1", "region": "r", "prefix": "raw/2026", "name": "bucket1",
            "endpoint": "http://127.0.0.1:9", "zone": "cn-sh-01a",
        }
    ]  # fmt: skip
    assert made["dst_info"] == {
        "id": volume["id"], "region": "", "prefix": "in", "name": "lake", "endpoint": "", "zone": "cn-sh-01a",
    }  # fmt: skip
    assert (made["state"], made["percent"], made["size"], made["size_unit"]) == ("SCANNING", 0, 0, "B")
    assert (made["start"], made["end"], made["err_msg"]) == (0, 0, "")
    assert before <= made["create"] <= time.time() + 1
    assert made["tenant_id"] == "sub1"
    task = row_of(server.control, made["task_id"])
    assert task.spec.source == "default:bucket1/raw/2026/"
    assert task.spec.destination == "volume://lake/in/"
    assert (task.filing.scope, task.filing.family, task.filing.type) == (SCOPE, "datasync", "AOSSTOFS")
    assert task.filing.creator == made["user_id"]
    connection = places.get("/api/v1/connections/default").json()
    assert task.filing.source_connection == connection["id"]
    assert task.filing.destination_connection == ""


@pytest.mark.parametrize(
    ("kind", "source", "destination"),
    [
        ("AOSSTOFS", "default:bucket1/a/", "volume://lake/b/"),
        ("FSTOAOSS", "volume://lake/a/", "default:bucket1/b/"),
        ("THIRDTOAOSS", "third", "default:bucket1/b/"),
        ("THIRDTOFS", "third", "volume://lake/b/"),
        ("AOSSTOAOSS", "default:bucket1/a/", "default:bucket1/b/"),
        ("FSTOFS", "volume://lake/a/", "volume://lake/b/"),
    ],
)
def test_each_type_says_what_its_ends_are(places, server, kind, source, destination):
    to_bucket, from_bucket = kind.endswith("AOSS"), kind.startswith("AOSS")
    third_party = kind.startswith("THIRD")
    made = make(
        places,
        type=kind,
        src_info=None if third_party else [{"name": "bucket1" if from_bucket else "lake", "prefix": "a"}],
        dst_info={"name": "bucket1" if to_bucket else "lake", "prefix": "b"},
        src_third_info=third() if third_party else None,
    )
    task = row_of(server.control, made["task_id"])
    assert task.spec.destination == destination
    if source == "third":
        assert task.spec.source == f"third-{task.id.lower()}:bucket2/raw/"
    else:
        assert task.spec.source == source


def test_a_bucket_is_found_by_the_endpoint_of_its_connection(places, server):
    for name, endpoint in (("one", "https://s3.example.com"), ("two", "http://minio.example.org:9000")):
        about = {"name": name, "provider": "minio", "endpoint": endpoint, **KEYS}
        assert places.post("/api/v1/connections", json=about).status_code == 201
    for endpoint, location in (
        ("https://s3.example.com", "one:bucket1/"),
        ("s3.example.com", "one:bucket1/"),
        ("https://S3.example.com/", "one:bucket1/"),
        ("bucket1.s3.example.com", "one:bucket1/"),
        ("minio.example.org:9000", "two:bucket1/"),
        ("", "default:bucket1/"),
    ):
        made = make(places, src_info=[{"name": "bucket1", "endpoint": endpoint}])
        assert row_of(server.control, made["task_id"]).spec.source == location


def test_a_bucket_without_endpoint_is_in_the_connection_that_the_tool_names(places, server):
    about = {"name": "other", "provider": "minio", "endpoint": "https://s3.example.com", **KEYS}
    assert places.post("/api/v1/connections", json=about).status_code == 201
    assert places.put(BASE, json={"properties": {"connection": "other"}}).status_code == 200
    made = make(places)
    assert row_of(server.control, made["task_id"]).spec.source == "other:bucket1/raw/2026/"


def test_without_a_default_the_only_connection_is_meant_and_of_several_none(api, tmp_path, server):
    add_places(api, tmp_path, name="alone")
    assert row_of(server.control, make(api)["task_id"]).spec.source == "alone:bucket1/raw/2026/"
    about = {"name": "second", "provider": "minio", "endpoint": "https://s3.example.com", **KEYS}
    assert api.post("/api/v1/connections", json=about).status_code == 201
    refused = api.post(f"{BASE}/tasks", json=wanted())
    assert refused.status_code == 400
    assert "src_info.0.endpoint" in refused.json()["message"]


def test_a_volume_is_found_by_its_id_too(places, server):
    volume = places.get("/api/v1/volumes/lake").json()
    for end in ({"id": volume["id"]}, {"name": volume["id"]}, {"id": volume["id"], "name": "lake"}):
        made = make(places, dst_info={**end, "prefix": "x"})
        assert made["dst_info"]["name"] == "lake"
        assert made["dst_info"]["id"] == volume["id"]
        assert row_of(server.control, made["task_id"]).spec.destination == "volume://lake/x/"


def test_several_sources_become_legs_that_no_list_shows(places, server):
    ends = [{"name": "bucket1", "prefix": "a/one"}, {"name": "bucket1", "prefix": "b/two"}, {"name": "bucket3"}]
    made = make(places, src_info=ends)
    assert [(end["name"], end["prefix"]) for end in made["src_info"]] == [
        ("bucket1", "a/one"), ("bucket1", "b/two"), ("bucket3", ""),
    ]  # fmt: skip
    with server.control.pool.read() as c:
        parts = [tasks.read(c, leg) for leg in legs.of(c, made["task_id"])]
    assert [(one.spec.source, one.spec.destination) for one in parts] == [
        ("default:bucket1/a/one/", "volume://lake/in/one/"),
        ("default:bucket1/b/two/", "volume://lake/in/two/"),
        ("default:bucket3/", "volume://lake/in/bucket3/"),
    ]
    assert {one.filing.parent for one in parts} == {made["task_id"]}
    assert {one.filing.scope for one in parts} == {SCOPE}
    page = listed(places)
    assert (page["page"]["total"], len(page["data_sync_task"])) == (1, 1)
    assert places.get(f"{BASE}/tasks/{parts[0].id}").status_code == 404
    assert places.post(f"{BASE}/tasks/{made['task_id']}:cancel").json()["state"] == "CANCELLED"
    assert places.delete(f"{BASE}/tasks/{made['task_id']}").json() == {}
    with server.control.pool.read() as c:
        assert c.value("SELECT count(*) FROM task") == 0


def test_options_are_those_of_a_native_sync(places, server):
    options = {"compare": "size", "delete": "destination", "delete_max_count": 5, "unheard_of": 1}
    made = make(places, options=options)
    chosen = SyncOptions.from_json(row_of(server.control, made["task_id"]).spec.options)
    assert (chosen.compare, chosen.delete, chosen.delete_max_count) == ("size", "destination", 5)


def test_fields_that_the_family_does_not_know_are_ignored(places):
    made = make(places, unheard_of={"x": 1}, dst_info={"name": "lake", "colour": "red"})
    assert made["state"] == "SCANNING"
    assert listed(places, unheard_of=True)["page"]["total"] == 1


def test_null_is_as_if_it_were_left_out(places):
    ends = [{"name": "bucket1", "prefix": None, "endpoint": None, "id": None, "region": None, "zone": None}]
    body = wanted(src_info=ends) | {"src_third_info": None, "options": None}
    assert places.post(f"{BASE}/tasks", json=body).status_code == 200
    body = {"page": None, "history": None, "task_name": None, "type": None, "state": None}
    assert listed(places, **body)["page"] == {"page": 1, "page_size": 10, "total": 1}


def test_the_same_request_with_the_same_key_is_done_once(places):
    key = {"Idempotency-Key": "abc-1"}
    one, other = (places.post(f"{BASE}/tasks", json=wanted(), headers=key) for _ in range(2))
    assert one.status_code == other.status_code == 200
    assert one.json() == other.json()
    assert listed(places)["page"]["total"] == 1
    changed = places.post(f"{BASE}/tasks", json=wanted(task_name="another"), headers=key)
    assert (changed.status_code, changed.json()["code"]) == (409, 6)
    elsewhere = places.post(f"{base('tool2')}/tasks", json=wanted(), headers=key)
    assert elsewhere.json()["task_id"] != one.json()["task_id"]


# -- keys of third parties


def test_keys_of_a_third_party_are_sealed_never_shown_and_go_with_the_task(places, server, tmp_path, caplog):
    made = make(places, type="THIRDTOFS", src_info=None, src_third_info=third())
    secrets = ("planted-third-secret", "LTAI5tPlantedKey")
    seen = [json.dumps(made), json.dumps(listed(places)), caplog.text]
    seen.append(places.get("/api/v1/connections").text)
    seen.append(places.get("/api/v1/audit").text)
    with server.control.pool.read() as c:
        hidden = c.execute("SELECT * FROM connection WHERE task_id = :id", {"id": made["task_id"]})
        seen += [str(c.execute(f"SELECT * FROM {table}")) for table in ("task", "connection", "event", "audit")]
    assert len(hidden) == 1
    assert (hidden[0].scope, hidden[0].provider) == (SCOPE, "oss")
    assert not [secret for secret in secrets if any(secret in text for text in seen)]
    assert made["src_third_info"] == {
        "type": "OSS", "host": "oss-cn-hangzhou.aliyuncs.com", "ak": "LTAI…ey", "sk": "", "path": "bucket2/raw",
    }  # fmt: skip
    task = row_of(server.control, made["task_id"])
    assert task.filing.source_connection == hidden[0].id
    assert places.get("/api/v1/connections").json()["connections"][0]["name"] == "default"
    assert len(places.get("/api/v1/connections").json()["connections"]) == 1
    move(server.control, task.id, TaskState.CANCELLED)
    assert places.delete(f"{BASE}/tasks/{task.id}").status_code == 200
    with server.control.pool.read() as c:
        assert c.value("SELECT count(*) FROM connection WHERE task_id <> ''") == 0


def test_a_refused_request_leaves_no_keys_behind(places, server):
    body = wanted(type="THIRDTOFS", src_info=None, src_third_info=third(), dst_info={"name": "no-such-volume"})
    assert places.post(f"{BASE}/tasks", json=body).status_code == 400
    with server.control.pool.read() as c:
        assert c.value("SELECT count(*) FROM connection WHERE task_id <> ''") == 0
        assert c.value("SELECT count(*) FROM task") == 0


def test_a_third_party_is_not_reached_at_an_address_that_is_refused(make_server, tmp_path):
    server = make_server()
    api = server.client()
    add_places(api, tmp_path)
    for host in ("http://169.254.169.254", "http://metadata.google.internal"):
        body = wanted(type="THIRDTOFS", src_info=None, src_third_info=third(type="S3", host=host))
        refused = api.post(f"{BASE}/tasks", json=body)
        assert refused.status_code == 400
        assert refused.json()["message"].startswith("src_third_info.host")


# -- lists


def test_lists_narrow_by_history_state_type_and_a_part_of_the_name(places, server):
    for word, steps in STEPS.items():
        kind = "FSTOFS" if word in ("DOING", "FAILED") else "AOSSTOFS"
        ends = [{"name": "lake", "prefix": "a"}] if kind == "FSTOFS" else [{"name": "bucket1"}]
        made = make(places, task_name=f"Import-{word}-1", type=kind, src_info=ends)
        move(server.control, made["task_id"], *steps)
    ended, live_ones = {"COMPLETED", "FAILED", "CANCELLED"}, {"SCANNING", "DOING", "PAUSED"}

    def states(**body):
        page = listed(places, **body)
        assert page["page"]["total"] == len(page["data_sync_task"])
        return {one["state"] for one in page["data_sync_task"]}

    assert states() == ended | live_ones
    assert states(history=True) == ended
    assert states(history=False) == live_ones
    for word in STEPS:
        assert states(state=[word]) == {word}
        assert states(task_name=f"import-{word.lower()}") == {word}
        assert states(state=[word], history=word in ended) == {word}
        assert states(state=[word], history=word not in ended) == set()
    assert states(type="FSTOFS") == {"DOING", "FAILED"}
    assert states(type="FSTOFS", history=True, task_name="IMPORT-f") == {"FAILED"}
    assert states(type="AOSSTOAOSS") == set()
    assert states(task_name="nothing like it") == set()
    assert states(state=["PAUSED", "FAILED", "PAUSED"]) == {"PAUSED", "FAILED"}


def test_pages_are_newest_first_and_counted_from_one(places):
    for number in range(7):
        make(places, task_name=f"t{number}")
    first = listed(places, page={"page": 1, "page_size": 3})
    assert names_of(first) == ["t6", "t5", "t4"]
    assert first["page"] == {"page": 1, "page_size": 3, "total": 7}
    assert names_of(listed(places, page={"page": 0, "page_size": 3})) == ["t6", "t5", "t4"]
    assert names_of(listed(places, page={"page": 2, "page_size": 3})) == ["t3", "t2", "t1"]
    assert names_of(listed(places, page={"page": 3, "page_size": 3})) == ["t0"]
    beyond = listed(places, page={"page": 4, "page_size": 3})
    assert (beyond["data_sync_task"], beyond["page"]["total"]) == ([], 7)
    assert names_of(listed(places, page={"page": 1_000_000_000, "page_size": 1000})) == []
    assert len(names_of(listed(places))) == 7


def test_a_tool_shows_its_own_tasks_only(places):
    made = make(places)
    other = places.post(f"{base('tool2')}/tasks", json=wanted(task_name="other")).json()
    assert names_of(listed(places)) == ["nightly"]
    assert made["uid"] != other["uid"]
    assert places.get(f"{base('tool2')}/tasks/{made['task_id']}").status_code == 404
    assert places.delete(f"{base('tool2')}/tasks/{made['task_id']}").status_code == 404
    assert places.post(f"{base('tool2')}/tasks/{made['task_id']}:cancel").status_code == 404


# -- how tasks look


def test_counters_sizes_and_times_of_a_task(places, server):
    made = make(places)
    move(server.control, made["task_id"], TaskState.SCANNING, TaskState.RUNNING)
    figures = {"total": 10, "total_bytes": 5 * 1024**3 + 1, "copied": 4, "copied_bytes": 3 * 1024**2, "equal": 3}
    with server.control.pool.write() as c:
        c.change(
            "UPDATE task SET total = 10, total_bytes = :total_bytes, copied = 4, copied_bytes = :copied_bytes, "
            "equal = 3, failed = 3, started = started - 3723, percent = 42 WHERE id = :id",
            {"id": made["task_id"], **figures},
        )
        live.save(c, made["task_id"], live.Live(rate_bytes=118.4 * 1024**2, totals=Totals(total=10, copied=5)))
    shown = listed(places)["data_sync_task"][0]
    assert (shown["state"], shown["percent"]) == ("DOING", 42)
    assert (shown["size"], shown["size_unit"]) == (5, "GB")
    assert (shown["total_num"], shown["complete_num"], shown["exist_num"]) == (10, 5, 3)
    assert shown["rate"] == "118.4 MB/s"
    assert shown["time_cost"] in ("1h02m03s", "1h02m04s")
    assert (shown["start"] > 0, shown["end"]) == (True, 0)
    move(server.control, made["task_id"], TaskState.FAILED, reason="3 entries failed")
    with server.control.pool.write() as c:
        c.change("UPDATE task SET finished = started + 3 WHERE id = :id", {"id": made["task_id"]})
    shown = places.get(f"{BASE}/tasks/{made['task_id']}").json()
    assert (shown["state"], shown["err_msg"]) == ("FAILED", "3 entries failed")
    assert (shown["rate"], shown["time_cost"]) == ("1.0 MB/s", "3s")
    assert shown["end"] - shown["start"] in (3, 4)


def test_a_task_that_waits_for_a_review_says_why(places, server):
    made = make(places)
    move(server.control, made["task_id"], TaskState.REVIEW, reason="it would delete 9 of 10 entries")
    shown = listed(places, history=False)["data_sync_task"][0]
    assert (shown["state"], shown["err_msg"]) == ("PAUSED", "it would delete 9 of 10 entries")
    refused = places.post(f"{BASE}/tasks/{made['task_id']}:resume")
    assert (refused.status_code, refused.json()["code"]) == (400, 9)
    assert "PAUSED" in refused.json()["message"]
    assert places.post(f"{BASE}/tasks/{made['task_id']}:cancel").json()["state"] == "CANCELLED"


# -- orders

ALLOWED = {
    "pause": {"SCANNING": "PAUSED", "DOING": "PAUSED"},
    "resume": {"PAUSED": "SCANNING"},
    "cancel": {"SCANNING": "CANCELLED", "DOING": "CANCELLED", "PAUSED": "CANCELLED"},
    "retry": {"FAILED": "SCANNING", "CANCELLED": "SCANNING"},
}


@pytest.mark.parametrize("word", STEPS)
@pytest.mark.parametrize("verb", ALLOWED)
def test_orders_are_taken_in_the_states_of_the_table(places, server, word, verb):
    made = make(places)
    move(server.control, made["task_id"], *STEPS[word])
    answer = places.post(f"{BASE}/tasks/{made['task_id']}:{verb}")
    if word in ALLOWED[verb]:
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == ALLOWED[verb][word]
        assert answer.json()["task_id"] == made["task_id"]
    else:
        body = answer.json()
        assert (answer.status_code, body["code"]) == (400, 9)
        assert f"{made['task_id']} is {word}" in body["message"]
        assert places.get(f"{BASE}/tasks/{made['task_id']}").json()["state"] == word


@pytest.mark.parametrize("word", STEPS)
def test_only_ended_tasks_are_deleted(places, server, word):
    made = make(places)
    move(server.control, made["task_id"], *STEPS[word])
    answer = places.delete(f"{BASE}/tasks/{made['task_id']}")
    if word in ("COMPLETED", "FAILED", "CANCELLED"):
        assert (answer.status_code, answer.json()) == (200, {})
        assert places.get(f"{BASE}/tasks/{made['task_id']}").status_code == 404
        assert listed(places)["page"]["total"] == 0
    else:
        assert (answer.status_code, answer.json()["code"]) == (400, 9)
        assert word in answer.json()["message"]


def test_a_pause_that_was_not_obeyed_yet_can_be_taken_back(places, server):
    made = make(places)
    move(server.control, made["task_id"], TaskState.SCANNING, TaskState.RUNNING)
    with server.control.pool.write() as c:
        tasks.own(c, made["task_id"], Owner("host", "boot", 4242, "1"))
    assert places.post(f"{BASE}/tasks/{made['task_id']}:pause").json()["state"] == "DOING"
    assert row_of(server.control, made["task_id"]).stop == "pause"
    assert places.post(f"{BASE}/tasks/{made['task_id']}:resume").status_code == 200
    with server.control.pool.write() as c:
        assert holding.leave(c, made["task_id"], TaskState.PAUSED) is TaskState.QUEUED


# -- failures


def test_failures_are_paged_over_all_legs(places, server):
    made = make(places, src_info=[{"name": "bucket1", "prefix": "a"}, {"name": "bucket1", "prefix": "b"}])
    with server.control.pool.write() as c:
        for leg in legs.of(c, made["task_id"]):
            for number in range(3):
                c.change(
                    'INSERT INTO failure (task_id, phase, "key", failure, message, attempts, size, at) '
                    "VALUES (:task, 'scan', :key, 'forbidden', 'it said no', 4, 12, now())",
                    {"task": leg, "key": f"{leg[-2:]}-{number}-\udcff".encode("utf-8", "surrogateescape")},
                )
    found, token = [], ""
    while True:
        query = {"page_size": 4, "page_token": token}
        page = places.get(f"{BASE}/tasks/{made['task_id']}/failures", params=query).json()
        found += page["failures"]
        token = page["next_page_token"]
        if not token:
            break
    assert len({one["key"] for one in found}) == len(found) == 6
    assert found[0]["key"].endswith("-2-\\xff")
    assert {tuple(one.items())[1:] for one in found} == {
        (("class", "forbidden"), ("message", "it said no"), ("attempts", 4), ("size", 12))
    }


# -- the tool


def test_a_tool_is_made_by_its_first_use(api, server):
    with server.control.pool.read() as c:
        assert c.value("SELECT count(*) FROM datasync") == 0
    assert listed(api)["page"]["total"] == 0
    shown = api.get(BASE).json()
    assert (shown["name"], shown["zone"], shown["tenant_id"]) == ("tool1", "cn-sh-01a", "sub1")
    assert api.get(BASE).json()["uid"] == shown["uid"]


def test_a_tool_is_not_made_by_who_may_not(server):
    reader = server.client("reader")
    assert reader.get(BASE).status_code == 404
    assert reader.post(f"{BASE}/tasks:list", json={}).status_code == 404
    editor = server.client("editor")
    assert editor.get(BASE).status_code == 200
    assert reader.post(f"{BASE}/tasks:list", json={}).status_code == 200


def test_what_is_said_about_a_tool_stays_until_it_is_said_anew(places):
    about = {"display_name": "数据", "description": "d", "tags": {"a": "b"}, "properties": {"connection": "default"}}
    shown = places.put(BASE, json={**about, "state": "GONE", "uid": "x"}).json()
    assert {name: shown[name] for name in about} == about
    assert (shown["state"], shown["uid"] != "x") == ("ACTIVE", True)
    again = places.put(BASE, json={"description": "e"}).json()
    assert {name: again[name] for name in about} == {**about, "description": "e"}
    assert again["uid"] == shown["uid"]


def test_a_tool_goes_with_its_ended_tasks_and_not_before_the_live_ones(places, server):
    made = make(places)
    refused = places.delete(BASE)
    assert (refused.status_code, refused.json()["code"]) == (400, 9)
    move(server.control, made["task_id"], TaskState.CANCELLED)
    assert places.delete(BASE).json() == {}
    assert server.client("reader").get(BASE).status_code == 404
    with server.control.pool.read() as c:
        assert c.value("SELECT count(*) FROM task") == 0
        assert c.value("SELECT coalesce(sum(tasks), 0) FROM task_count") == 0
    assert places.delete(BASE).status_code == 404


# -- rights


def test_what_each_role_may(places, server):
    made = make(places)
    path = f"{BASE}/tasks/{made['task_id']}"
    reader = server.client("reader")
    assert reader.get(path).status_code == 200
    for refused in (
        reader.post(f"{BASE}/tasks", json=wanted()),
        reader.post(f"{path}:pause"),
        reader.delete(path),
        reader.put(BASE, json={}),
        reader.delete(BASE),
    ):
        assert (refused.status_code, refused.json()["code"]) == (403, 7)
    elsewhere = server.client("editor", "ads/sub2")
    for refused in (
        elsewhere.post(f"{BASE}/tasks:list", json={}),
        elsewhere.get(path),
        elsewhere.post(f"{path}:cancel"),
        elsewhere.get(BASE),
    ):
        assert refused.status_code == 403
    nobody = server.client(token="-")
    assert nobody.post(f"{BASE}/tasks:list", json={}).status_code == 401
    inside = server.client("editor", "ads/sub1")
    assert inside.get(path).status_code == 200


def test_who_may_not_use_a_connection_cannot_have_it_used(places, server):
    """An editor of one tool does not reach connections and volumes of other scopes through it."""
    about = {"name": "theirs", "provider": "minio", "endpoint": "https://s3.theirs.example", "scope": "team", **KEYS}
    assert places.post("/api/v1/connections", json=about).status_code == 201
    editor = server.client("editor", SCOPE)
    body = wanted(src_info=[{"name": "bucket1", "endpoint": "https://s3.theirs.example"}])
    assert "src_info.0.endpoint" in editor.post(f"{BASE}/tasks", json=body).json()["message"]


def test_every_change_is_in_the_audit(places, server):
    made = make(places)
    places.post(f"{BASE}/tasks/{made['task_id']}:cancel")
    places.delete(f"{BASE}/tasks/{made['task_id']}")
    with server.control.pool.read() as c:
        rows = c.execute(
            "SELECT action, subject, outcome FROM audit WHERE scope = :scope ORDER BY id", {"scope": SCOPE}
        )
    noted = [(row.action, row.subject.split()[0], row.outcome) for row in rows]
    assert ("task.create", "task", "done") in noted
    assert ("task.control", "cancel", "done") in noted
    assert ("task.delete", "task", "done") in noted
