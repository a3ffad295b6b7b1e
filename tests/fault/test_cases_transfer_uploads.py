"""Fault cases 39 to 47: lost answers, uploads in parts and their resume, what killed runs left, and sizes.

Each test has the number of its case in the acceptance list.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from parts.fake_actions import close, error_in_200, execute_then_close, slow_down, status
from parts.fake_rules import Action
from parts.fake_s3 import FakeS3
from parts.lab import Lab, temporary_files
from transfer_cases import DST, MIB, ONE, PART, SRC, UP, UP_PART, data, do, files, settle, wrote_twice

LARGE = 2 * UP_PART + 100
"""Three parts."""
LONG = 8 * UP_PART + 100
"""Nine parts."""


@pytest.fixture
def src(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    return tmp_path / "src"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def parts_stored(store: FakeS3) -> list[int]:
    """Numbers of the parts that were stored since the log was cleared."""
    return sorted(int(r.query["partNumber"]) for r in store.log("PART") if r.status == 200)


def killed_upload(store: FakeS3, lab: Lab, src: Path, words: tuple[str, ...] = UP, parts: int = 4) -> set[int]:
    """Kill a run after some parts; the numbers of those that the store holds."""
    with lab.begin("sync", src, DST, *words, "--concurrency", "1", server=store) as run:
        assert run.kill_when(lambda: store.count("PART") >= parts)
    settle(store)
    (upload,) = store.open_uploads()
    assert upload.key not in store.dump("dst")
    store.clear_log()
    return set(upload.parts)


# ---- 39: a write whose answer is lost --------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("size", [0, 1000, 200_000, UP_PART])
def test_case_39_a_put_whose_answer_is_lost(store: FakeS3, lab: Lab, src: Path, size: int, reset: bool) -> None:
    (src / "f").write_bytes(data(size))
    rule = store.rule("PUT", execute_then_close(reset=reset), times=1)
    lab.sync(src, DST, *UP, server=store, copied=1, total=1)
    assert rule.hits == 1
    assert store.dump("dst") == files(src)
    assert store.count("PUT") <= 2
    store.clear_log()
    lab.sync(src, DST, *UP, server=store, equal=1)
    assert store.count("WRITE") == 0


def test_case_39_every_answer_lost_once(store: FakeS3, lab: Lab, src: Path) -> None:
    for number in range(40):
        (src / f"f{number}").write_bytes(data(100 + number))
    store.rule("PUT", execute_then_close(), times=1, per_key=True)
    lab.sync(src, DST, *UP, server=store, copied=40, total=40)
    assert store.dump("dst") == files(src)
    assert store.count("PUT") == 80


def test_case_39_a_store_that_never_answers_fails(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(b"x")
    store.rule("PUT", execute_then_close())
    lab.sync(src, DST, *UP, server=store, code=1, failed=1, failures={b"f": "timeout"}, total=1)
    assert store.count("PUT") <= 12
    store.clear_rules()
    lab.sync(src, DST, *UP, server=store, equal=1)


# ---- 40: completions that go wrong -----------------------------------------------------------------------------------

COMPLETIONS: dict[str, Callable[[], Action]] = {
    "error in 200": lambda: error_in_200(),
    "error in 200, but done": lambda: error_in_200(executed=True),
    "lost answer": lambda: execute_then_close(),
    "lost request": lambda: close(),
    "500": lambda: status(500),
    "503": lambda: slow_down(),
}


@pytest.mark.parametrize("kind", COMPLETIONS)
@pytest.mark.parametrize("way", ["up", "server", "through"])
def test_case_40_a_completion_goes_wrong_once(store: FakeS3, lab: Lab, src: Path, kind: str, way: str) -> None:
    rule = store.rule("CompleteMultipartUpload", COMPLETIONS[kind](), times=1)
    body = data(LARGE)
    if way == "up":
        (src / "f").write_bytes(body)
        source, words = str(src), UP
    elif way == "through":
        store.put("src", "f", body)
        source, words = SRC, (*UP, "--no-server-side")
    else:
        store.put_virtual("src", "f", 6 << 30)
        source, words = SRC, ONE
    lab.sync(source, DST, *words, server=store, copied=1, total=1)
    assert rule.hits == 1
    if way == "server":
        assert store.object("dst", "f").body.size == 6 << 30
    else:
        assert store.dump("dst") == {b"f": body}
    assert kind == "error in 200" or wrote_twice(store) == []
    assert store.count("CreateMultipartUpload") == 1


def test_case_40_lost_with_its_upload_begins_from_new_parts(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(LARGE))
    store.rule("CompleteMultipartUpload", do(store.uploads.clear), close(), nth=1)
    lab.sync(src, DST, *UP, server=store, copied=1, total=1)
    assert store.dump("dst") == files(src)
    assert store.count("CreateMultipartUpload") == 2


def test_case_40_an_older_object_is_not_taken_for_the_completed_one(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(LARGE))
    store.put("dst", "f", data(LARGE, seed=9), parts=[UP_PART, UP_PART, 100])
    store.rule("CompleteMultipartUpload", do(store.uploads.clear))
    store.rule("CompleteMultipartUpload", close(), nth=1)
    done = lab.sync(src, DST, *UP, server=store, code=1, failed=1, total=1)
    assert lab.failures(done) == {b"f": "not_found"}
    assert store.dump("dst") == {b"f": data(LARGE, seed=9)}
    assert store.count("CreateMultipartUpload") == 2, "once anew, not for ever"


def test_case_40_a_completion_that_always_fails(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(LARGE))
    rule = store.rule("CompleteMultipartUpload", error_in_200())
    lab.sync(src, DST, *UP, server=store, code=1, failed=1, failures={b"f": "internal"}, total=1,
             leaves_temporary=True)  # fmt: skip
    assert store.dump("dst") == {}
    rule.remove()
    store.clear_log()
    lab.sync(src, DST, *UP, server=store, copied=1)
    assert parts_stored(store) == [], "the parts were kept: only the completion was left to do"
    assert store.dump("dst") == files(src)


# ---- 41: copies inside the store -------------------------------------------------------------------------------------


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("size", [1000, 6 << 30])
def test_case_41_a_server_side_copy_with_an_error_in_200(store: FakeS3, lab: Lab, size: int, executed: bool) -> None:
    store.put_virtual("src", "f", size)
    store.put("src", "g", b"other")
    rule = store.rule("COPY", error_in_200(executed=executed), key="^f", times=2)
    lab.sync(SRC, DST, *ONE, server=store, copied=2, total=2)
    assert rule.hits == 2
    assert store.object("dst", "f").body.slice(0, 1000).bytes() == store.object("src", "f").body.slice(0, 1000).bytes()
    assert store.object("dst", "f").body.size == size
    assert store.count("GET") == 0
    store.clear_log()
    lab.sync(SRC, DST, *ONE, server=store, equal=2)
    assert store.count("COPY") == 0


def test_case_41_a_copy_that_always_fails(store: FakeS3, lab: Lab) -> None:
    store.put("src", "f", b"x")
    store.put("src", "g", b"y")
    rule = store.rule("COPY", error_in_200(), key="^f")
    lab.sync(SRC, DST, *ONE, server=store, code=1, copied=1, failed=1, failures={b"f": "internal"}, total=2)
    assert store.dump("dst") == {b"g": b"y"}
    assert rule.hits <= 12


# ---- 42: a part that fails for good ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "failure"), [(status(500), "internal"), (close(), "timeout")])
def test_case_42_a_part_that_keeps_failing_keeps_the_others(
    store: FakeS3, lab: Lab, src: Path, fault: Action, failure: str
) -> None:
    (src / "f").write_bytes(data(LONG))
    (src / "g").write_bytes(b"small")
    rule = store.rule("PART", fault, when=lambda r: r.query.get("partNumber") == "3")
    words = (*UP, "--concurrency", "2")
    lab.sync(src, DST, *words, server=store, code=1, copied=1, failed=1, failures={b"f": failure}, total=2,
             leaves_temporary=True)  # fmt: skip
    assert store.dump("dst") == {b"g": b"small"}, "never completed with a hole"
    assert store.count("CompleteMultipartUpload") == 0
    (upload,) = store.open_uploads()
    have = set(upload.parts)
    assert 3 not in have
    rule.remove()
    store.clear_log()
    lab.sync(src, DST, *words, server=store, copied=1, equal=1, total=2)
    assert parts_stored(store) == sorted(set(range(1, 10)) - have)
    assert store.dump("dst") == files(src)


def test_case_42_a_part_that_is_refused_undoes_the_upload(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(LARGE))
    store.rule("PART", status(403, "AccessDenied"), when=lambda r: r.query.get("partNumber") == "2")
    lab.sync(src, DST, *UP, server=store, code=1, failed=1, failures={b"f": "forbidden"}, total=1)
    assert store.dump("dst") == {}
    assert store.open_uploads() == []


# ---- 43 to 46: what an interrupted run left --------------------------------------------------------------------------


def test_case_43_resume_moves_only_the_missing_parts(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(LONG))
    have = killed_upload(store, lab, src)
    assert len(have) >= 3
    done = lab.sync(src, DST, *UP, "--concurrency", "1", server=store, copied=1, total=1)
    assert done.report["resumed"]
    assert parts_stored(store) == sorted(set(range(1, 10)) - have)
    assert store.count("CreateMultipartUpload") == 0
    assert store.dump("dst") == files(src)


@pytest.mark.parametrize("size", [LONG, LONG + 1, 100])
def test_case_43_resume_after_the_source_changed_discards_the_parts(
    store: FakeS3, lab: Lab, src: Path, size: int
) -> None:
    (src / "f").write_bytes(data(LONG))
    killed_upload(store, lab, src)
    (src / "f").write_bytes(data(size, seed=7))
    lab.sync(src, DST, *UP, server=store, copied=1, total=1)
    assert store.dump("dst") == files(src)
    assert store.count("AbortMultipartUpload") == 1


def test_case_43_resume_of_a_copy_between_stores(store: FakeS3, lab: Lab) -> None:
    store.put("src", "f", data(LONG))
    words = (*UP, "--no-server-side", "--concurrency", "1")
    with lab.begin("sync", SRC, DST, *words, server=store) as run:
        assert run.kill_when(lambda: store.count("PART") >= 4)
    settle(store)
    (upload,) = store.open_uploads()
    have = set(upload.parts)
    store.clear_log()
    lab.sync(SRC, DST, *words, server=store, copied=1, total=1)
    assert parts_stored(store) == sorted(set(range(1, 10)) - have)
    assert store.count("GET") == 9 - len(have)
    assert store.dump("dst") == {b"f": data(LONG)}


def test_case_43_resume_of_a_copy_whose_source_object_changed(store: FakeS3, lab: Lab) -> None:
    store.put("src", "f", data(LONG))
    words = (*UP, "--no-server-side", "--concurrency", "1")
    with lab.begin("sync", SRC, DST, *words, server=store) as run:
        assert run.kill_when(lambda: store.count("PART") >= 4)
    settle(store)
    store.put("src", "f", data(LONG, seed=8))
    store.clear_log()
    lab.sync(SRC, DST, *words, server=store, copied=1, total=1)
    assert store.dump("dst") == {b"f": data(LONG, seed=8)}


def test_case_43_resume_of_a_download_asks_for_the_missing_ranges(store: FakeS3, lab: Lab, out: Path) -> None:
    store.put("src", "f", data(12 * PART))
    store.latency = 0.25
    words = (*ONE, "--part-size", "256K", "--concurrency", "1")
    with lab.begin("sync", SRC, out, *words, server=store) as run:
        assert run.kill_when(lambda: store.count("GET") >= 10)
    settle(store)
    assert list(files(out)) and b"f" not in files(out)
    store.latency = 0
    store.clear_log()
    lab.sync(SRC, out, *words, server=store, copied=1, total=1)
    assert files(out) == {b"f": data(12 * PART)}
    assert 1 <= store.count("GET") <= 8, "at most the parts of the last second are moved again"


@pytest.mark.parametrize("size", [12 * PART, 12 * PART + 1, 100])
def test_case_43_resume_of_a_download_after_the_object_changed(store: FakeS3, lab: Lab, out: Path, size: int) -> None:
    store.put("src", "f", data(12 * PART))
    store.latency = 0.25
    words = (*ONE, "--part-size", "256K", "--concurrency", "1")
    with lab.begin("sync", SRC, out, *words, server=store) as run:
        assert run.kill_when(lambda: store.count("GET") >= 9)
    settle(store)
    store.latency = 0
    store.put("src", "f", data(size, seed=3))
    lab.sync(SRC, out, *words, server=store, copied=1, total=1)
    assert files(out) == {b"f": data(size, seed=3)}


def test_case_43_a_damaged_staged_file_does_not_pass(store: FakeS3, lab: Lab, out: Path) -> None:
    store.put("src", "f", data(12 * PART))
    store.latency = 0.25
    words = (*ONE, "--part-size", "256K", "--concurrency", "1")
    with lab.begin("sync", SRC, out, *words, server=store) as run:
        assert run.kill_when(lambda: store.count("GET") >= 9)
    settle(store)
    store.latency = 0
    (staged,) = out.rglob("*.part")
    with staged.open("r+b") as file:
        file.write(b"damage")
    lab.sync(SRC, out, *words, server=store, copied=1, total=1)
    assert files(out) == {b"f": data(12 * PART)}


@pytest.mark.parametrize("part_size", ["6M", "16M"])
def test_case_44_resume_with_another_part_size_keeps_what_is_there(
    store: FakeS3, lab: Lab, src: Path, part_size: str
) -> None:
    (src / "f").write_bytes(data(LONG))
    have = killed_upload(store, lab, src)
    lab.sync(src, DST, *ONE, "--part-size", part_size, server=store, copied=1, total=1)
    assert parts_stored(store) == sorted(set(range(1, 10)) - have)
    assert store.dump("dst") == files(src)
    assert store.count("CreateMultipartUpload") == 0


def test_case_44_parts_of_strange_sizes_are_not_trusted(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(LONG))
    killed_upload(store, lab, src)
    (upload,) = store.open_uploads()
    upload.parts[1].body = upload.parts[1].body.slice(0, UP_PART - 1)
    lab.sync(src, DST, *UP, server=store, copied=1, total=1)
    assert parts_stored(store) == list(range(1, 10))
    assert store.dump("dst") == files(src)


def test_case_44_a_download_goes_on_with_its_old_part_size(store: FakeS3, lab: Lab, out: Path) -> None:
    store.put("src", "f", data(12 * PART))
    store.latency = 0.25
    with lab.begin("sync", SRC, out, *ONE, "--part-size", "256K", "--concurrency", "1", server=store) as run:
        assert run.kill_when(lambda: store.count("GET") >= 10)
    settle(store)
    store.latency = 0
    store.clear_log()
    lab.sync(SRC, out, *ONE, "--part-size", "512K", server=store, copied=1, total=1)
    assert files(out) == {b"f": data(12 * PART)}
    assert store.count("GET") <= 8


def test_case_45_resume_after_the_store_dropped_the_upload(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(LONG))
    killed_upload(store, lab, src)
    store.uploads.clear()
    lab.sync(src, DST, *UP, server=store, copied=1, total=1)
    assert parts_stored(store) == list(range(1, 10))
    assert store.dump("dst") == files(src)


@pytest.mark.parametrize("way", ["up", "through"])
def test_case_45_the_upload_is_dropped_under_way(store: FakeS3, lab: Lab, src: Path, way: str) -> None:
    (src / "f").write_bytes(data(LONG))
    store.put("src", "f", data(LONG))
    store.rule("PART", do(store.uploads.clear), nth=5)
    words = (*UP, "--concurrency", "1", "--no-server-side")
    lab.sync(src if way == "up" else SRC, DST, *words, server=store, copied=1, total=1)
    assert store.dump("dst") == files(src)
    assert store.count("CreateMultipartUpload") == 2


def test_case_46_an_upload_whose_source_is_gone_is_aborted(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(LONG))
    (src / "z").write_bytes(b"z")
    killed_upload(store, lab, src)
    (src / "f").unlink()
    lab.sync(src, DST, *UP, server=store, copied=..., equal=..., total=1)
    assert store.open_uploads() == []
    assert store.dump("dst") == {b"z": b"z"}


def test_case_46_another_run_to_the_same_place_sweeps(store: FakeS3, lab: Lab, src: Path, tmp_path: Path) -> None:
    (src / "d").mkdir()
    (src / "d/f").write_bytes(data(LONG))
    killed_upload(store, lab, src)
    other = tmp_path / "other"
    other.mkdir()
    (other / "f").write_bytes(b"small now")
    (other / "g").write_bytes(b"g")
    lab.sync(other, f"{DST}/d", *UP, server=store, copied=2, total=2)
    assert store.open_uploads() == []
    assert store.dump("dst") == {b"d/f": b"small now", b"d/g": b"g"}


def test_case_46_parts_of_another_source_are_never_mixed(store: FakeS3, lab: Lab, src: Path, tmp_path: Path) -> None:
    (src / "f").write_bytes(data(LONG))
    killed_upload(store, lab, src)
    other = tmp_path / "other"
    other.mkdir()
    (other / "f").write_bytes(data(LONG, seed=2))
    state = (src / "f").stat()
    os.utime(other / "f", ns=(state.st_mtime_ns, state.st_mtime_ns))
    lab.sync(other, DST, *UP, server=store, copied=1, total=1)
    assert store.dump("dst") == files(other)


def test_case_46_uploads_of_others_are_left_alone(store: FakeS3, lab: Lab, src: Path, tmp_path: Path) -> None:
    (src / "f").write_bytes(data(LONG))
    strange = Lab(str(tmp_path / "strange-state"))
    killed_upload(store, strange, src)
    lab.sync(src, DST, *UP, server=store, copied=1, total=1, leaves_temporary=True)
    assert len(store.open_uploads()) == 1, "nobody told us that it is dead"


def test_case_46_a_crash_between_creation_and_journal(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(LONG))
    with lab.begin("sync", src, DST, *UP, server=store) as run:
        store.rule("CreateMultipartUpload", do(run.kill, after=True), nth=1)
        run.process.wait(20)
    assert len(store.open_uploads()) == 1
    lab.sync(src, DST, *UP, server=store, copied=1, total=1)
    assert store.dump("dst") == files(src)


def test_case_46_an_interrupted_run_is_cancelled(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(LONG))
    store.latency = 0.05
    with lab.begin("sync", src, DST, *UP, "--concurrency", "1", "--json", server=store) as run:
        assert run.kill_when(lambda: store.count("PART") >= 3, number=signal.SIGINT)
        stopped = run.wait()
    assert stopped.code == 130, stopped.text
    assert len(store.open_uploads()) == 1, "an interrupted run keeps its parts"
    done = lab.run("tasks", "cancel", stopped.report["task_id"], server=store)
    assert done.code == 0, done.text
    assert store.open_uploads() == []
    assert store.dump("dst") == {}


def test_case_46_a_running_upload_is_cancelled_from_outside(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "f").write_bytes(data(LONG))
    store.latency = 0.6
    with lab.begin("sync", src, DST, *UP, "--concurrency", "1", "--json", server=store) as run:
        assert run.kill_when(lambda: store.count("PART") >= 1, number=0)
        listed = lab.run("tasks", "list", "--json")
        task = listed.report["task_id"]
        assert lab.run("tasks", "cancel", task, server=store).code == 0
        stopped = run.wait()
    assert stopped.code == 130, stopped.text
    assert store.open_uploads() == []
    assert store.dump("dst") == {}


def test_case_46_a_cancelled_download_leaves_nothing(store: FakeS3, lab: Lab, out: Path) -> None:
    store.put("src", "f", data(12 * PART))
    store.latency = 0.2
    words = (*ONE, "--part-size", "256K", "--concurrency", "1", "--json")
    with lab.begin("sync", SRC, out, *words, server=store) as run:
        assert run.kill_when(lambda: store.count("GET") >= 5, number=signal.SIGINT)
        stopped = run.wait()
    assert stopped.code == 130, stopped.text
    assert temporary_files(out), "an interrupted run keeps what arrived"
    store.latency = 0
    assert lab.run("tasks", "cancel", stopped.report["task_id"], server=store).code == 0
    assert files(out) == {}
    assert temporary_files(out) == []


def test_case_46_temporary_files_of_a_killed_run_with_other_options_go(store: FakeS3, lab: Lab, out: Path) -> None:
    for number in range(4):
        store.put("src", f"f{number}", data(8 * PART, seed=number))
    store.latency = 0.1
    words = (*ONE, "--part-size", "256K")
    with lab.begin("sync", SRC, out, *words, "--concurrency", "2", server=store) as run:
        assert run.kill_when(lambda: store.count("GET") >= 3)
    settle(store)
    assert temporary_files(out)
    assert files(out).keys().isdisjoint({b"f0", b"f1"})
    store.latency = 0
    store.delete("src", "f0")
    lab.sync(SRC, out, *words, "--preserve", "none", server=store, copied=3, total=3)
    assert files(out) == {b"f%d" % n: data(8 * PART, seed=n) for n in (1, 2, 3)}


# ---- 47: sizes -------------------------------------------------------------------------------------------------------

SIZES = [0, 1, UP_PART - 1, UP_PART, UP_PART + 1, 3 * UP_PART]


def test_case_47_sizes_at_the_borders_of_parts(store: FakeS3, lab: Lab, src: Path, out: Path) -> None:
    for size in SIZES:
        (src / f"s{size:09d}").write_bytes(data(size))
    lab.sync(src, DST, *UP, server=store, copied=len(SIZES), total=len(SIZES))
    assert store.dump("dst") == files(src)
    assert store.count("CreateMultipartUpload") == 2, "one request where one is enough"
    lab.sync(DST, out, *UP, server=store, copied=len(SIZES))
    assert files(out) == files(src)
    store.make_bucket("third")
    lab.sync(DST, "s3://third", *UP, "--no-server-side", server=store, copied=len(SIZES))
    assert store.dump("third") == files(src)
    for source, target in ((src, DST), (DST, out), (DST, "s3://third")):
        lab.sync(source, target, *UP, server=store, equal=len(SIZES))


@pytest.mark.parametrize("size", [(5 << 30) - 1, 5 << 30, (5 << 30) + 1, 20 << 30])
def test_case_47_server_side_copies_around_5_gib(store: FakeS3, lab: Lab, size: int) -> None:
    store.put_virtual("src", "f", size)
    lab.sync(SRC, DST, *ONE, server=store, copied=1, total=1)
    copy, original = store.object("dst", "f").body, store.object("src", "f").body
    assert copy.size == size
    for at in (0, 1 << 29, size - 1000):
        assert copy.slice(at, 1000).bytes() == original.slice(at, 1000).bytes()
    assert store.count("CopyObject") == (1 if size <= 5 << 30 else 0)
    assert store.count("GET") == 0


def test_case_47_part_size_grows_where_the_count_would_not_suffice(store: FakeS3, lab: Lab) -> None:
    store.put_virtual("src", "f", 6 << 40)
    lab.sync(SRC, DST, *ONE, server=store, copied=1, total=1, timeout=110)
    numbers = [int(r.query["partNumber"]) for r in store.log("UploadPartCopy")]
    assert max(numbers) <= 10_000 and len(numbers) == len(set(numbers))
    assert store.object("dst", "f").body.size == 6 << 40


@pytest.mark.parametrize("server_side", [True, False])
def test_case_47_too_large_is_refused_before_anything_is_sent(store: FakeS3, lab: Lab, server_side: bool) -> None:
    store.put_virtual("src", "f", 60 << 40)
    store.put("src", "g", b"small")
    words = ONE if server_side else (*ONE, "--no-server-side")
    done = lab.sync(SRC, DST, *words, server=store, code=1, copied=1, failed=1, failures={b"f": "format"}, total=2)
    assert store.count("MULTIPART") == 0
    (row,) = lab.failure_rows(done).values()
    assert "more than the destination can take" in row["message"]


def test_case_47_memory_does_not_grow_with_the_size(store: FakeS3, lab: Lab, src: Path) -> None:
    with (src / "f").open("wb") as file:
        file.truncate(300 * MIB)
    store.rule("PART", status(403, "AccessDenied"), when=lambda r: r.query.get("partNumber") == "60")
    done = lab.sync(src, DST, *UP, server=store, code=1, failed=1, failures={b"f": "forbidden"})
    assert done.report["peak_rss_bytes"] < 200 * MIB
