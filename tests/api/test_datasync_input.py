"""Bad input of the datasync family: each is 400, names the field, and leaves nothing behind."""

from __future__ import annotations

import json

import pytest
from datasync_parts import BASE, add_places, base, listed, make, refused_fields, third, wanted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LONG = "x" * 3000
NOT_TEXT = [7, 1.5, True, [], {}, ["a"], {"a": 1}]
CONTROL = ["a\nb", "a\0b", "\x1b[31m", "a\x7fb", "\ud800"]
TRICKS = ["../../etc", "..", "a/../../b", "/..", "a/./b"]


@pytest.fixture
def places(api, tmp_path):
    add_places(api, tmp_path)
    return api


def send(api, path: str, body):
    """As a client sends it that does not look at what it sends."""
    return api.post(path, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


def nothing_was_made(server) -> None:
    with server.control.pool.read() as c:
        for table in ("task", "task_label", "task_count", "shard"):
            assert c.value(f"SELECT count(*) FROM {table}") == 0
        assert c.value("SELECT count(*) FROM connection WHERE task_id <> ''") == 0


def end(**changes):
    return {"name": "bucket1", "prefix": "a"} | changes


def lake(**changes):
    return {"name": "lake", "prefix": "a"} | changes


def from_third(**changes):
    return wanted(type="THIRDTOFS", src_info=None, src_third_info=third(**changes))


def bad_creates():
    for value in [*NOT_TEXT, None, "", *CONTROL, LONG]:
        yield "task_name", wanted() | {"task_name": value}
    for value in [*NOT_TEXT, None, "", "aosstofs", "FSTOTHIRD", "AOSSTOFS ", LONG, "AOSS\nTOFS"]:
        yield "type", wanted() | {"type": value}
    for value in [7, "x", True, {}]:
        yield "src_info", wanted() | {"src_info": value}
    for value in [None, []]:
        yield "src_info", wanted() | {"src_info": value}
    yield "src_info", wanted(src_info=[end()] * 101)
    for value in [7, "x", None, []]:
        yield "src_info.0", wanted() | {"src_info": [value]}
    for value in [7, "x", None, []]:
        yield "dst_info", wanted() | {"dst_info": value}
    for name in ("id", "region", "prefix", "name", "endpoint", "zone"):
        for value in [*NOT_TEXT, *CONTROL, LONG]:
            yield f"src_info.0.{name}", wanted(src_info=[end(**{name: value})])
            yield f"dst_info.{name}", wanted(dst_info=lake(**{name: value}))
    for value in ["", "no-such-volume", "../lake", "lake/..", "LAKE ", "volume://lake", "/etc", "file:///etc", "."]:
        yield "dst_info.name", wanted(dst_info={"name": value})
        yield "src_info.0.name", wanted(type="FSTOFS", src_info=[{"name": value}])
    for value in TRICKS:
        yield "dst_info.prefix", wanted(dst_info=lake(prefix=value))
        yield "src_info.0.prefix", wanted(type="FSTOFS", src_info=[lake(prefix=value)])
    for value in ["", "a/b", "a?b", "a#b", "a b", "a\\b", "..", ".", "user@host"]:
        yield "src_info.0.name", wanted(src_info=[{"name": value}])
    for value in ["https://nowhere.example.com", "169.254.169.254", "file:///etc", "' OR 1=1 --", "http://"]:
        yield "src_info.0.endpoint", wanted(src_info=[end(endpoint=value)])
    yield "src_info.1", wanted(src_info=[end(prefix="a/x"), end(prefix="b/x")])
    yield "src_third_info", wanted(src_third_info=third())
    yield "src_third_info", wanted(type="THIRDTOFS", src_info=None)
    yield "src_info", wanted(type="THIRDTOFS", src_third_info=third())
    for value in [7, "x", True, []]:
        yield "src_third_info", from_third() | {"src_third_info": value}
    for value in [*NOT_TEXT, None, "", "oss", "AWS", LONG]:
        yield "src_third_info.type", from_third() | {"src_third_info": third() | {"type": value}}
    for name in ("host", "ak", "sk", "path"):
        for value in [*NOT_TEXT, *CONTROL, LONG]:
            yield f"src_third_info.{name}", from_third(**{name: value})
    yield "src_third_info.host", from_third(host="")
    for value in [
        "ftp://oss-cn-hangzhou.aliyuncs.com", "user:pass@oss-cn-hangzhou.aliyuncs.com", "cos.ap-guangzhou.myqcloud.com",
        "oss-cn-hangzhou.aliyuncs.com?x=1", "a b",
    ]:  # fmt: skip
        yield "src_third_info.host", from_third(host=value)
    yield "src_third_info.ak", from_third(ak="")
    yield "src_third_info.sk", from_third(sk="")
    yield "src_third_info.path", from_third() | {"src_third_info": third(path=None)}
    for value in ["", "/", "a", "b?x/y", "-/x"]:
        yield "src_third_info.path", from_third(path=value)
    for value in [7, "x", True, []]:
        yield "options", wanted() | {"options": value}
    for name, value in [
        ("compare", "guess"), ("compare", 7), ("verify", None), ("delete", "source"), ("delete_max_share", 2),
        ("bandwidth", -1), ("bandwidth", "fast"), ("filters", "x"), ("part_size", 1), ("max_failures", -1),
        ("list", "/etc/passwd"), ("list", "volume://lake/../x"), ("report", "/etc/x"), ("preserve", ["all"]),
    ]:  # fmt: skip
        if value is not None:
            yield f"options.{name}", wanted(options={name: value})


def bad_lists():
    for value in [7, "x", True, []]:
        yield "page", {"page": value}
    for value in [-1, 1.5, "1", True, [], 10**30]:
        yield "page.page", {"page": {"page": value}}
    for value in [0, -1, 1001, 1.5, "10", True, 10**30]:
        yield "page.page_size", {"page": {"page_size": value}}
    for value in [0, 1, "true", []]:
        yield "history", {"history": value}
    for value in [*NOT_TEXT, *CONTROL, LONG]:
        yield "task_name", {"task_name": value}
    for value in [*NOT_TEXT, "", "aosstofs", "x", LONG]:
        yield "type", {"type": value}
    for value in ["SCANNING", 7, {}]:
        yield "state", {"state": value}
    for value in [7, None, "", "QUEUED", "scanning", [], LONG]:
        yield "state.0", {"state": [value]}
    yield "state", {"state": ["SCANNING"] * 101}


def test_bad_requests_for_tasks_are_refused_by_field_and_leave_nothing(places, server):
    wrong = []
    for field, body in bad_creates():
        answer = send(places, f"{BASE}/tasks", body)
        named = refused_fields(answer) if answer.status_code == 400 else [str(answer.status_code)]
        if not any(one == field or one.startswith(f"{field}.") for one in named):
            wrong.append((field, named, json.dumps(body)[:300]))
    assert not wrong, wrong
    nothing_was_made(server)


def test_bad_requests_for_lists_are_refused_by_field(places):
    wrong = []
    for field, body in bad_lists():
        answer = send(places, f"{BASE}/tasks:list", body)
        named = refused_fields(answer) if answer.status_code == 400 else [str(answer.status_code)]
        if not any(one == field or one.startswith(f"{field}.") for one in named):
            wrong.append((field, named, json.dumps(body)[:300]))
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("at", "field"),
    [(0, "subscription_name"), (1, "resource_group_name"), (2, "zone"), (3, "data_sync_name")],
)
@pytest.mark.parametrize(
    "name", ["Upper", "1st", "-a", "a-", "a_b", "a.b", "a" * 64, "a%20b", "%E6%95%B0", "a%0A", "a'b"]
)
def test_names_in_the_path_are_those_of_the_page(places, server, at, field, name):
    names = ["sub1", "rg1", "cn-sh-01a", "tool1"]
    names[at] = name
    for answer in (
        places.post(f"{base(*names)}/tasks:list", json={}),
        places.post(f"{base(*names)}/tasks", json=wanted()),
        places.get(base(*names)),
    ):
        assert refused_fields(answer) == [field]
    nothing_was_made(server)


def test_names_of_63_characters_are_good(places):
    name = "a" * 62 + "9"
    assert places.post(f"{base(name, name, name, name)}/tasks:list", json={}).status_code == 200


@pytest.mark.parametrize("task_id", ["x", "01", "I" * 26, "0" * 27, "%2e%2e", "a'--", "0" * 25 + "%00"])
def test_ids_that_are_none(places, task_id):
    path = f"{BASE}/tasks/{task_id}"
    for answer in (places.get(path), places.delete(path), places.post(f"{path}:pause"), places.get(f"{path}/failures")):
        assert answer.status_code in (400, 404)


def test_an_id_of_nothing_is_not_found(places):
    path = f"{BASE}/tasks/{'0' * 26}"
    answers = [places.get(path), places.delete(path), places.get(f"{path}/failures")]
    answers += [places.post(f"{path}:{verb}") for verb in ("pause", "resume", "cancel", "retry")]
    assert [(one.status_code, one.json()["code"]) for one in answers] == [(404, 5)] * 7


def test_tokens_and_sizes_of_failure_pages(places):
    path = f"{BASE}/tasks/{make(places)['task_id']}/failures"
    for query, field in (
        ({"page_size": 0}, "page_size"),
        ({"page_size": 1001}, "page_size"),
        ({"page_size": "x"}, "page_size"),
        ({"page_token": "x"}, "page_token"),
        ({"page_token": "y" * 5000}, "page_token"),
    ):
        assert refused_fields(places.get(path, params=query)) == [field]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"{}" * 2, b"[" * 100_000])
def test_bodies_that_are_no_object(places, server, body):
    for path in ("/tasks:list", "/tasks"):
        answer = places.post(f"{BASE}{path}", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, (path, body[:20], answer.text)
    nothing_was_made(server)


def test_bad_tools(places):
    for field, body in (
        ("display_name", {"display_name": 7}),
        ("display_name", {"display_name": "x" * 256}),
        ("description", {"description": "a\0b"}),
        ("tags", {"tags": ["a"]}),
        ("tags.a", {"tags": {"a": 7}}),
        ("tags", {"tags": {str(number): "x" for number in range(51)}}),
        ("properties", {"properties": "x"}),
        ("properties.connection", {"properties": {"connection": 7}}),
        ("properties.connection", {"properties": {"connection": "no-such"}}),
    ):
        assert refused_fields(places.put(BASE, json=body)) == [field], body


def test_secrets_are_not_in_refusals(places):
    for body in (
        from_third(host="no host", sk="planted-secret-9"),
        from_third(sk=["planted-secret-9"]),
        from_third(sk="planted-secret-9\n"),
        from_third(path="", sk="planted-secret-9"),
        {"sk": "planted-secret-9"},
    ):
        answer = send(places, f"{BASE}/tasks", body)
        assert answer.status_code == 400
        assert "planted" not in answer.text


def values():
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=20), st.sampled_from(["AOSSTOFS", "THIRDTOFS", "lake", "bucket1", "OSS", "../x", "' --"]),
    )  # fmt: skip
    names = st.sampled_from(
        ["task_name", "type", "src_info", "dst_info", "src_third_info", "options", "name", "prefix", "host", "ak", "sk",
         "path", "page", "page_size", "history", "state", "compare", "x"]
    )  # fmt: skip
    return st.recursive(
        leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=6)),
        max_leaves=20,
    )  # fmt: skip


def test_no_body_makes_the_server_fail(places):
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(body=values(), path=st.sampled_from(["/tasks:list", "/tasks"]))
    def check(body, path):
        answer = send(places, f"{BASE}{path}", body)
        assert answer.status_code in (200, 400), answer.text
        if isinstance(body, dict) and path == "/tasks":
            mixed = send(places, f"{BASE}{path}", wanted() | body)
            assert mixed.status_code in (200, 400), mixed.text

    check()
    assert listed(places)["page"]["total"] >= 0
