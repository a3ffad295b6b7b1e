"""Fault cases 48 to 50 and 57 to 60: etags and checksums of every kind, archives, locks, rights and metadata.

Each test has the number of its case in the acceptance list.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parts.fake_actions import set_header, status, wrong_checksum
from parts.fake_s3 import FakeS3, Quirks
from parts.lab import Lab
from parts.servers import AzureServer, S3Server
from transfer_cases import (
    BODIES,
    DOWN,
    DST,
    MIB,
    ONE,
    SRC,
    UP,
    UP_PART,
    data,
    files,
    make_container,
    put_bodies,
    wrote_twice,
)

THROUGH = (*ONE, "--no-server-side")
SIZES = {"empty": 0, "small": 1000, "medium": 200_000, "large": 2 * UP_PART + 5}


@pytest.fixture
def src(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    for name, size in SIZES.items():
        (tmp_path / "src" / name).write_bytes(data(size))
    return tmp_path / "src"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


# ---- 48: etags that are no MD5 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksums", ["accept", "ignore", "refuse"])
@pytest.mark.parametrize("etags", ["md5", "random", "qiniu"])
def test_case_48_all_ways_over_a_store_with_strange_etags(
    store: FakeS3, lab: Lab, src: Path, out: Path, etags: str, checksums: str
) -> None:
    store.quirks.etags, store.quirks.checksum_headers = etags, checksums
    store.make_bucket("third")
    for source, target, words in (
        (src, SRC, UP),
        (SRC, out, UP),
        (SRC, DST, (*UP, "--no-server-side")),
        (SRC, "s3://third", ONE),
    ):
        lab.sync(source, target, *words, server=store, copied=4, total=4)
        store.clear_log()
        lab.sync(source, target, *words, server=store, equal=4, total=4)
        assert store.count("WRITE") == 0, "nothing is copied again"
    assert files(out) == store.dump("dst") == store.dump("third") == files(src)


@pytest.mark.parametrize(
    "headers",
    [{"x-amz-server-side-encryption": "aws:kms"}, {"x-amz-server-side-encryption-customer-algorithm": "AES256"}],
    ids=["kms", "sse-c"],
)
def test_case_48_encrypted_objects(store: FakeS3, lab: Lab, src: Path, out: Path, headers: dict[str, str]) -> None:
    """The etag looks like an MD5 and is none; the reply says so."""
    store.quirks.etags = "random"
    store.rule(["PUT", "GET", "HEAD", "PART", "CompleteMultipartUpload"], *(set_header(*h) for h in headers.items()))
    lab.sync(src, SRC, *UP, server=store, copied=4)
    assert store.dump("src") == files(src)
    lab.sync(SRC, out, *UP, server=store, copied=4)
    lab.sync(src, SRC, *UP, server=store, equal=4)
    lab.sync(SRC, out, *UP, server=store, equal=4)
    assert files(out) == files(src)


def test_case_48_objects_written_in_parts_by_others(store: FakeS3, lab: Lab, out: Path) -> None:
    body = data(11 * MIB)
    store.put("src", "f", body, parts=[4 * MIB, 4 * MIB, 3 * MIB])
    lab.sync(SRC, out, *UP, server=store, copied=1)
    lab.sync(SRC, DST, *UP, "--no-server-side", server=store, copied=1)
    assert store.object("dst", "f").etag != store.object("src", "f").etag
    for target in (out, DST):
        store.clear_log()
        lab.sync(SRC, target, *UP, "--no-server-side", server=store, equal=1)
        assert store.count(["GET", "WRITE"]) == 0
    assert files(out) == store.dump("dst") == {b"f": body}


def test_case_48_a_changed_object_of_the_same_size_is_seen(store: FakeS3, lab: Lab, out: Path) -> None:
    store.quirks.etags = "random"
    store.put("src", "f", data(1000), modified=1.7e9)
    lab.sync(SRC, DST, *THROUGH, server=store, copied=1)
    store.put("src", "f", data(1000, seed=2), modified=1.7e9 + 100)
    lab.sync(SRC, DST, *THROUGH, server=store, copied=1)
    assert store.dump("dst") == {b"f": data(1000, seed=2)}


def test_case_48_azure_etags(azurite: AzureServer, lab: Lab, src: Path, out: Path, bucket_name: str) -> None:
    place = f"az://{make_container(azurite, bucket_name)}"
    lab.sync(src, place, *UP, server=azurite, copied=4, total=4)
    lab.sync(src, place, *UP, server=azurite, equal=4, total=4)
    lab.sync(place, out, *UP, server=azurite, copied=4, total=4)
    lab.sync(place, out, *UP, server=azurite, equal=4, total=4)
    assert files(out) == files(src)


def test_case_48_seaweedfs_etags(seaweed: S3Server, lab: Lab, src: Path, out: Path, bucket_name: str) -> None:
    place = f"s3://{seaweed.make_bucket(bucket_name)}"
    other = f"s3://{seaweed.make_bucket(bucket_name + '-b')}"
    for source, target in ((src, place), (place, out), (place, other)):
        lab.sync(source, target, *UP, server=seaweed, copied=4, total=4)
        lab.sync(source, target, *UP, server=seaweed, equal=4, total=4)
    assert files(out) == files(src)


# ---- 49: stores without the new headers ------------------------------------------------------------------------------


def test_case_49_refused_checksum_headers_are_left_out_and_remembered(store: FakeS3, lab: Lab, src: Path) -> None:
    store.quirks = Quirks(checksum_headers="refuse", aws_chunked="refuse")
    lab.sync(src, DST, *UP, server=store, copied=4, total=4)
    assert store.dump("dst") == files(src)
    refused = [r for r in store.log() if r.status in (400, 501)]
    assert 1 <= len(refused) <= 20, "a few requests in flight teach the rest"
    for name in SIZES:
        os.utime(src / name, (2e9, 2e9))
    store.clear_log()
    lab.sync(src, DST, *UP, "--compare", "always", server=store, copied=4)
    assert len([r for r in store.log() if r.status in (400, 501)]) <= len(refused)
    assert store.open_uploads() == []


@pytest.mark.parametrize("code", [400, 501])
def test_case_49_headers_refused_for_parts_only(store: FakeS3, lab: Lab, src: Path, code: int) -> None:
    rule = store.rule(
        ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"],
        status(
            code, "InvalidArgument" if code == 400 else "NotImplemented", message="unsupported header x-amz-checksum"
        ),
        when=lambda r: any(name.startswith("x-amz-checksum") for name in r.headers),
    )
    lab.sync(src, DST, *UP, server=store, copied=4, total=4)
    assert rule.hits >= 1
    assert store.dump("dst") == files(src)


def test_case_49_no_conditional_write_no_batch_delete(store: FakeS3, lab: Lab, src: Path) -> None:
    store.quirks = Quirks(checksum_headers="refuse", conditional_put="refuse", batch_delete="refuse", list_v2="refuse")
    store.put("dst", "extra", b"x")
    words = (*UP, "--delete", "--delete-max-share", "1")
    lab.sync(src, DST, *words, server=store, copied=4, deleted=1, total=4)
    assert store.dump("dst") == files(src)


# ---- 50: checksums of the store that are wrong or absent -------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
def test_case_50_a_wrong_checksum_fails(store: FakeS3, lab: Lab, out: Path, name: str) -> None:
    wanted = put_bodies(store, checksums=["crc32c"])
    store.rule(["GET", "HEAD"], wrong_checksum("crc32c"), key=name)
    done = lab.sync(SRC, out, *DOWN, server=store, code=1, copied=2, failed=1, failures={name.encode(): "corrupt"})
    del wanted[name.encode()]
    assert files(out) == wanted
    (row,) = lab.failure_rows(done).values()
    assert "checksum" in row["message"]


def test_case_50_a_checksum_wrong_once_is_asked_for_again(store: FakeS3, lab: Lab, out: Path) -> None:
    wanted = put_bodies(store, checksums=["crc32c"])
    rule = store.rule("GET", wrong_checksum("crc32c"), times=1, per_key=True)
    lab.sync(SRC, out, *DOWN, server=store, copied=3)
    assert rule.hits >= 3
    assert files(out) == wanted


@pytest.mark.parametrize("etags", ["md5", "random"])
def test_case_50_an_absent_checksum_is_no_fault(store: FakeS3, lab: Lab, src: Path, out: Path, etags: str) -> None:
    store.quirks.etags = etags
    store.rule("*", *(set_header(f"x-amz-checksum-{n}", None) for n in ("crc32c", "crc64nvme", "type")))
    lab.sync(src, SRC, *UP, "--concurrency", "1", server=store, copied=4)
    lab.sync(SRC, out, *UP, server=store, copied=4)
    assert files(out) == store.dump("src") == files(src)
    taught = len(wrote_twice(store, "src"))
    assert taught <= (2 if etags == "random" else 0), "one or two objects teach what etags are worth"


@pytest.mark.parametrize("name", ["small", "medium", "large"])
def test_case_50_a_wrong_checksum_after_a_write_fails(store: FakeS3, lab: Lab, src: Path, name: str) -> None:
    store.rule(["PUT", "UploadPart"], wrong_checksum("crc32c"), key=name)
    lab.sync(src, DST, *UP, server=store, code=1, copied=3, failed=1, failures={name.encode(): "corrupt"})
    if name == "large":
        assert b"large" not in store.dump("dst")


# ---- 57: archives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", ["GLACIER", "DEEP_ARCHIVE"])
@pytest.mark.parametrize("way", ["down", "through", "server"])
@pytest.mark.parametrize("name", BODIES)
def test_case_57_archived_objects_are_told_and_the_rest_is_copied(
    store: FakeS3, lab: Lab, out: Path, tier: str, way: str, name: str
) -> None:
    wanted = put_bodies(store)
    store.put("src", name, BODIES[name], storage_class=tier)
    target, words = (out, DOWN) if way == "down" else (DST, THROUGH if way == "through" else ONE)
    done = lab.sync(SRC, target, *words, server=store, code=1, copied=2, failed=1, total=3)
    assert lab.failures(done) == {name.encode(): "archived"}
    del wanted[name.encode()]
    assert (files(out) if way == "down" else store.dump("dst")) == wanted
    (row,) = lab.failure_rows(done).values()
    assert "archive" in row["message"]
    store.object("src", name).restored = True
    lab.sync(SRC, target, *words, server=store, copied=1, equal=2, total=3)


# ---- 58: locks and versions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize("code", [(403, "AccessDenied", "protected by object lock"), (409, "FileImmutable", "")])
def test_case_58_a_locked_object_cannot_be_overwritten(
    store: FakeS3, lab: Lab, src: Path, name: str, code: tuple[int, str, str]
) -> None:
    store.lock_error = code
    store.put("dst", name, b"kept", locked=True)
    done = lab.sync(src, DST, *UP, server=store, code=1, copied=3, failed=1, failures={name.encode(): "locked"})
    assert store.dump("dst")[name.encode()] == b"kept"
    (row,) = lab.failure_rows(done).values()
    assert "locked" in row["message"]


def test_case_58_a_locked_object_cannot_be_deleted(store: FakeS3, lab: Lab, src: Path) -> None:
    store.put("dst", "extra 1", b"kept", locked=True)
    store.put("dst", "extra 2", b"goes")
    done = lab.sync(
        src, DST, *UP, "--delete", "--delete-max-share", "1", server=store, code=1, copied=4, deleted=1, failed=1
    )
    assert lab.failures(done) == {b"extra 1": "locked"}
    assert store.dump("dst") == files(src) | {b"extra 1": b"kept"}


def test_case_58_versioned_buckets_get_one_version_a_change(store: FakeS3, lab: Lab, src: Path) -> None:
    bucket = store.make_bucket("dst", versioned=True)
    lab.sync(src, DST, *UP, server=store, copied=4)
    lab.sync(src, DST, *UP, server=store, equal=4)
    (src / "small").write_bytes(data(1001))
    lab.sync(src, DST, *UP, server=store, copied=1, equal=3)
    versions = {key: len(found) for key, found in bucket.history.items()}
    assert versions == {b"empty": 1, b"small": 2, b"medium": 1, b"large": 1}
    store.put("dst", "extra", b"x")
    lab.sync(src, DST, *UP, "--delete", server=store, equal=4, deleted=1)
    assert store.dump("dst") == files(src)
    assert any(not o.marker and o.body.bytes() == b"x" for o in bucket.history[b"extra"]), "the version stays"
    lab.sync(src, DST, *UP, "--delete", server=store, equal=4)


# ---- 59: who pays, and what may not be read --------------------------------------------------------------------------


def test_case_59_requester_pays(store: FakeS3, lab: Lab, out: Path) -> None:
    wanted = put_bodies(store)
    store.rule("*", status(403, "AccessDenied"), bucket="src", when=lambda r: "x-amz-request-payer" not in r.headers)
    lab.sync(SRC, out, *DOWN, server=store, code=3, error="access denied")
    assert files(out) == {}
    lab.sync(SRC, out, *DOWN, server=store, env={"AWS_REQUEST_PAYER": "requester"}, copied=3, total=3)
    assert files(out) == wanted


def test_case_59_an_object_that_may_not_be_read(store: FakeS3, lab: Lab, out: Path) -> None:
    wanted = put_bodies(store)
    store.rule(["GET", "HEAD"], status(403, "AccessDenied"), key="medium|large")
    done = lab.sync(SRC, out, *DOWN, server=store, code=1, copied=1, failed=2, total=3)
    assert set(lab.failures(done).values()) == {"forbidden"}
    assert files(out) == {b"small": wanted[b"small"]}


def test_case_59_hundreds_of_forbidden_objects_do_not_stop_the_others(store: FakeS3, lab: Lab, out: Path) -> None:
    for number in range(300):
        store.put("src", f"{'no' if number < 290 else 'yes'}{number}", b"x")
    store.rule("GET", status(403, "AccessDenied"), key="^no")
    lab.sync(SRC, out, *DOWN, server=store, code=1, copied=10, failed=290, total=300)


def test_case_59_tags_stay_with_copies_inside_the_store(store: FakeS3, lab: Lab) -> None:
    store.put("src", "f", b"x", tags={"team": "blue"})
    lab.sync(SRC, DST, *ONE, server=store, copied=1)
    assert store.object("dst", "f").tags == {"team": "blue"}


def test_case_59_tags_that_may_not_be_read_do_not_hold_up_the_bytes(store: FakeS3, lab: Lab) -> None:
    """A copy by the store needs the right to read tags; who did not ask for tags gets the bytes another way."""
    store.put("src", "f", b"x", tags={"team": "blue"}, metadata={"colour": "red"})
    store.put("src", "g", b"y")
    rule = store.rule("CopyObject", status(403, "AccessDenied", message="not allowed: s3:GetObjectTagging"), key="^f")
    lab.sync(SRC, DST, *ONE, server=store, copied=2, total=2)
    assert rule.hits == 1
    assert store.dump("dst") == {b"f": b"x", b"g": b"y"}
    assert store.object("dst", "f").metadata["colour"] == "red"


def test_case_59_tags_that_were_asked_for_are_not_lost_in_silence(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    store.put("src", "f", b"x", tags={"team": "blue"})
    rule = store.rule("CopyObject", status(403, "AccessDenied", message="not allowed: s3:GetObjectTagging"))
    words = (*ONE, "--preserve", "mtime,metadata,tags")
    lab.sync(SRC, DST, *words, server=store, code=1, failed=1, failures={b"f": "forbidden"}, total=1)
    rule.remove()
    lab.sync(SRC, DST, *words, server=store, copied=1)
    assert store.object("dst", "f").tags == {"team": "blue"}
    for source, target, more in ((SRC, DST, "--no-server-side"), (SRC, tmp_path / "out", "--fsync")):
        lab.sync(source, target, *words, more, server=store, code=2, error="tags")


def test_case_59_a_store_that_cannot_copy_by_itself(store: FakeS3, lab: Lab) -> None:
    wanted = put_bodies(store)
    for number in range(50):
        store.put("src", f"k{number}", b"x")
    store.quirks.server_copy = "refuse"
    lab.sync(SRC, DST, *ONE, server=store, copied=53, total=53)
    assert {k: v for k, v in store.dump("dst").items() if not k.startswith(b"k")} == wanted
    assert store.count("CopyObject") <= 40, "it is not tried for every object"


# ---- 60: metadata ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, UP_PART + 1])
def test_case_60_metadata_too_large_for_the_destination(store: FakeS3, lab: Lab, size: int) -> None:
    store.put("src", "f", data(size), metadata={"long": "x" * 3000})
    store.put("src", "g", b"fine")
    done = lab.sync(SRC, DST, *UP, "--no-server-side", server=store, code=1, copied=1, failed=1, total=2)
    assert lab.failures(done) == {b"f": "format"}
    assert store.dump("dst") == {b"g": b"fine"}
    lab.sync(SRC, DST, *UP, "--no-server-side", "--preserve", "mtime", server=store, copied=1, equal=1)


@pytest.mark.parametrize("value", ["größe ☃", " blanks ", "=?UTF-8?Q?x?=", "tab\there", "ab" * 500])
def test_case_60_metadata_of_any_text_comes_through(store: FakeS3, lab: Lab, value: str) -> None:
    from entrepot.storage.s3.replies import decode_word, encode_word

    store.put("src", "f", b"x", metadata={"note": encode_word(value)})
    lab.sync(SRC, DST, *THROUGH, server=store, copied=1)
    assert decode_word(store.object("dst", "f").metadata["note"]) == value
    lab.sync(SRC, DST, *THROUGH, server=store, equal=1)


def test_case_60_standard_headers_come_through(store: FakeS3, lab: Lab) -> None:
    headers = {
        "content-type": "text/x-odd; charset=weird",
        "cache-control": "max-age=5",
        "content-disposition": 'attachment; filename="a b"',
        "content-language": "de",
    }
    store.put("src", "f", b"x", headers=headers, metadata={"a": "1", "b-c": "2"})
    lab.sync(SRC, DST, *THROUGH, server=store, copied=1)
    copy = store.object("dst", "f")
    assert copy.headers == headers
    assert {k: v for k, v in copy.metadata.items() if k != "mtime"} == {"a": "1", "b-c": "2"}


def test_case_60_a_content_type_that_the_store_refuses(store: FakeS3, lab: Lab) -> None:
    store.put("src", "f", b"x", headers={"content-type": "no type at all"})
    store.rule(
        "PUT",
        status(400, "InvalidArgument", message="invalid Content-Type"),
        when=lambda r: r.headers.get("content-type") == "no type at all",
    )
    lab.sync(SRC, DST, *THROUGH, server=store, code=1, failed=1, failures={b"f": "format"}, total=1)
    assert store.dump("dst") == {}
