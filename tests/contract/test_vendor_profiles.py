"""Every third-party type moves real bytes: lists, downloads, uploads, copies and deletes at a vendor that is strict.

Each vendor answers under its own host names and refuses what the real service refuses (``parts.vendors``); a test
ends with nothing refused and no other host asked for.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from entrepot.model import errors as model
from entrepot.model.connection import Connection
from entrepot.model.location import parse_location
from entrepot.service.connections import ConnectionStore
from entrepot.storage.azure.store import AzureStore
from entrepot.storage.s3.store import S3Store
from entrepot.storage.s3.thirdparty import connection_for, place_for, types
from parts.cli import Cli, Result
from parts.probe import client
from parts.servers import AzureServer
from parts.vendors import names
from parts.vendors.azure import make_container
from parts.vendors.server import Vendor
from parts.vendors.strict import VENDORS

ODD = (
    b"a b", b"a+b", b"a%2Fb", b"a&<>'\"b", b"a//b", b"a/", "é/日本".encode(), b"q?x=1&y#z", b"~tilde",
    b"semi;colon,=@:$", b"dots/../x", b"line\nbreak", b"\xf0\x9f\x98\x80", b"z" * 700,
)  # fmt: skip
"""Keys that every vendor can hold (750 bytes is the least maximum)."""
TREE = {f"d{n % 5}/f{n:03d}".encode(): os.urandom(37 * n) for n in range(40)} | {
    b"name with space.txt": b"x", "数据/é+%20.bin".encode(): b"y" * 5000,
}  # fmt: skip
MINE = replace(VENDORS["S3"], bucket="mine", ak="AKIAI44QH8DHBEXAMPLE")
"""An account of one's own at S3: where the bytes are moved to."""
MIB = 1 << 20
BIG = 17 * MIB + 5


@pytest.fixture(params=sorted(VENDORS))
def vendor(request: pytest.FixtureRequest) -> Iterator[Vendor]:
    """One vendor; at the end nothing may have been refused and nobody else asked."""
    with Vendor(VENDORS[request.param]) as found:
        yield found
    assert not found.crashes
    assert (found.refused, found.strays, found.open_uploads()) == ([], [], [])


@pytest.fixture(autouse=True)
def vendor_names(monkeypatch: pytest.MonkeyPatch) -> None:
    names.pretend(monkeypatch)


def store_of(vendor: Vendor, prefix: str = "", **change: object) -> S3Store:
    location = parse_location(f"vendor:{vendor.bucket}/{prefix}")
    return S3Store.open(location, vendor.connection(**change))


class Runner:
    """The program with stored connections, among hosts that lead to loopback."""

    def __init__(self, cli: Cli, directory: Path) -> None:
        self._cli = cli
        self._config = directory / "config"
        self._env = names.environment(directory / "site") | {"ENTREPOT_CONFIG_DIR": str(self._config)}

    def add(self, connection: Connection) -> None:
        ConnectionStore(str(self._config)).add(connection)

    def __call__(self, *words: str | Path, code: int = 0) -> Result:
        done = self._cli(*map(str, words), env=self._env)
        assert done.code == code, done.text
        return done


@pytest.fixture
def run(cli: Cli, tmp_path: Path) -> Runner:
    return Runner(cli, tmp_path)


def files(root: Path) -> dict[bytes, bytes]:
    top = os.fsencode(root)
    found = {}
    for folder, _, inside in os.walk(top):
        for name in inside:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = file.read()
    return found


def write(root: Path, objects: dict[bytes, bytes]) -> None:
    for key, data in objects.items():
        path = os.path.join(os.fsencode(root), key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def counts(done: Result) -> dict[str, int]:
    return {name: done.report[name]["entries"] for name in ("copied", "equal", "deleted", "failed", "skipped")}


def test_all_nine_types_are_imitated() -> None:
    assert {*VENDORS, "WASB"} == set(types())
    assert len(types()) == 9


# -- the store's own calls


def test_listings_page_by_page(vendor: Vendor) -> None:
    vendor.quirks.max_keys = 3
    vendor.fill({b"p/" + key: key for key in ODD} | {b"o": b"", b"q": b""})
    store = store_of(vendor, "p/")
    store.check()
    pages = list(store.pages(b"", "etag"))
    assert [row[0] for page in pages for row in page.rows] == sorted(ODD)
    assert len(pages) >= len(ODD) // 3
    for after in (b"a ", b"a//b", b"line\nbreak", b"z"):
        rows = [row[0] for page in store.pages(after) for row in page.rows]
        assert rows == sorted(key for key in ODD if key > after)
    level = [(rows, below) for rows, below in store.children(b"")]
    assert sorted(name for _, below in level for name in below) == sorted(
        {key[: key.index(b"/") + 1] for key in ODD if b"/" in key}
    )
    store.close()


def test_objects_one_by_one(vendor: Vendor) -> None:
    store = store_of(vendor, "x/")
    for key in ODD:
        store.write(key, b"bytes of " + key)
    assert vendor.held() == {b"x/" + key: b"bytes of " + key for key in ODD}
    for key in ODD:
        assert store.read(key) == b"bytes of " + key
        assert store.head(key).size == len(key) + 9
    with pytest.raises(model.NotFoundError):
        store.head(b"nothing")
    store.close()


def test_open_uploads_are_seen_and_aborted(vendor: Vendor) -> None:
    store = store_of(vendor, "u/")
    reply = store._exchange.send("POST", b"u/a b+c", [("uploads", "")])
    assert reply.status == 200
    ((key, upload, begun),) = list(store.uploads(b""))
    assert key == b"a b+c"
    assert abs(begun - time.time()) < 600
    store.abort_upload(key, upload)
    assert list(store.uploads(b"")) == []
    store.close()


def test_the_full_probe_leaves_nothing(vendor: Vendor) -> None:
    """`connection test` may be refused things: that is what it asks for."""
    store = store_of(vendor)
    findings = {finding.what: finding for finding in store.probe(write=True)}
    assert findings["write"].good
    assert findings["delete"].good
    assert findings["ranged read"].good
    v2 = vendor.strict.list_v2 is None
    assert findings["list version"].result == ("ListObjectsV2" if v2 else "ListObjects (V1)")
    assert store.target.profile.list_v1 is not v2
    assert store.target.profile.encoding_url is vendor.strict.encoding_url
    assert vendor.held() == {}
    vendor.refused.clear()
    store.write(b"after", b"1")
    assert store.read(b"after") == b"1"
    store.close()


# -- whole runs


def test_from_the_vendor_to_a_directory(vendor: Vendor, run: Runner, tmp_path: Path) -> None:
    vendor.fill({b"in/" + key: data for key, data in TREE.items()} | {b"outside": b"no"})
    vendor.put(vendor.bucket, b"in/big", os.urandom(BIG), parts=[8 * MIB, 8 * MIB, BIG - 16 * MIB])
    run.add(vendor.connection())
    out = tmp_path / "out"
    done = run("sync", f"vendor:{vendor.bucket}/in", out)
    assert counts(done) == {"copied": len(TREE) + 1, "equal": 0, "deleted": 0, "failed": 0, "skipped": 0}
    assert done.report["copied"]["bytes"] == sum(map(len, TREE.values())) + BIG
    held = {key[3:]: data for key, data in vendor.held().items() if key.startswith(b"in/")}
    assert files(out) == held
    reads = vendor.count("GET")
    assert counts(run("sync", f"vendor:{vendor.bucket}/in", out))["equal"] == len(TREE) + 1
    assert vendor.count("GET") == reads


def test_from_the_vendor_to_s3(vendor: Vendor, run: Runner) -> None:
    vendor.fill({b"in/" + key: data for key, data in TREE.items()})
    vendor.put(vendor.bucket, b"in/big", os.urandom(BIG))
    run.add(vendor.connection())
    with Vendor(MINE) as mine:
        run.add(mine.connection("mine"))
        words = ("sync", f"vendor:{vendor.bucket}/in", f"mine:{mine.bucket}/from")
        done = run(*words)
        assert counts(done) == {"copied": len(TREE) + 1, "equal": 0, "deleted": 0, "failed": 0, "skipped": 0}
        assert mine.held() == {b"from/" + key[3:]: data for key, data in vendor.held().items()}
        heads = vendor.count("HEAD") + mine.count("HEAD")
        assert counts(run(*words))["equal"] == len(TREE) + 1
        asked = vendor.count("HEAD") + mine.count("HEAD") - heads
        # Only the object in parts is in doubt, or all of them where etags are hashes of the vendor's own.
        assert asked <= (2 if vendor.strict.etags in {"md5", "upper"} else 2 * len(TREE) + 2)
        assert (mine.refused, mine.strays) == ([], [])


def test_to_the_vendor_in_parts_and_with_deletes(vendor: Vendor, run: Runner, tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source, {**TREE, b"big": os.urandom(BIG)})
    vendor.fill({b"to/old-%d" % n: b"old" for n in range(7)} | {"to/odd +&<é>".encode(): b"old"})
    run.add(vendor.connection())
    words = ("sync", source, f"vendor:{vendor.bucket}/to", "--delete", "--delete-max-share", "1")
    done = run(*words)
    assert counts(done) == {"copied": len(TREE) + 1, "equal": 0, "deleted": 8, "failed": 0, "skipped": 0}
    assert {key[3:]: data for key, data in vendor.held().items()} == files(source)
    assert vendor.count("UploadPart") >= 3
    fixed = vendor.strict.part_fixed
    sizes = [request.received for request in vendor.log("UploadPart")]
    assert not fixed or all(size == fixed or size == BIG % fixed for size in sizes)
    assert counts(run(*words))["equal"] == len(TREE) + 1


def test_copies_inside_the_vendor_are_its_own(vendor: Vendor, run: Runner) -> None:
    objects = {b"in/" + key: data for key, data in TREE.items()}
    vendor.fill(objects)
    run.add(vendor.connection())
    done = run("sync", f"vendor:{vendor.bucket}/in", f"vendor:{vendor.bucket}/copy")
    assert counts(done)["copied"] == len(TREE)
    assert vendor.count("CopyObject") == len(TREE)
    assert vendor.count(["GetObject", "PutObject"]) == 0
    assert vendor.held() == objects | {b"copy/" + key: data for key, data in TREE.items()}


# -- what may be asked of every one of them


def test_payloads_are_signed_where_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for strict in VENDORS.values():
        with Vendor(strict, signed_payload=True) as vendor:
            store = store_of(vendor)
            store.write(b"k", b"data")
            assert store.read(b"k") == b"data"
            assert {code for _, _, code in vendor.refused} == {"InvalidRequest"}
            assert len(vendor.refused) == 1
            store.close()


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_bos_is_served_in_either_style(style: str) -> None:
    no = (404, "NoSuchBucket", "The specified bucket does not exist.")
    refused = {"virtual_style": no} if style == "path" else {"path_style": no}
    with Vendor(VENDORS["BOS"], **refused) as vendor:  # type: ignore[arg-type]
        store = store_of(vendor)
        store.check()
        store.write(b"k", b"data")
        assert (store.target.style, vendor.held()) == (style, {b"k": b"data"})
        store.close()


def test_the_bucket_may_stand_in_the_host(vendor: Vendor) -> None:
    strict = vendor.strict
    vendor.put(vendor.bucket, b"pre/k", b"data")
    host = vendor.host.replace("://", f"://{vendor.bucket}.")
    for path in (f"{vendor.bucket}/pre", "pre"):
        place = place_for(strict.type, host, strict.ak, strict.sk, path)
        assert (place.bucket, place.prefix) == (vendor.bucket, "pre")
        location = parse_location(f"vendor:{place.bucket}/{place.prefix}/")
        store = S3Store.open(location, place.connection)
        assert store.read(b"k") == b"data"
        store.close()


def test_an_independent_client_is_served(vendor: Vendor) -> None:
    """The imitations are no more than strict: boto3, set up as the vendors' pages say, gets on with them."""
    style = {"addressing_style": "path" if vendor.virtual_style or vendor.strict.type == "QINIU" else "virtual"}
    config = {"s3": style, "request_checksum_calculation": "when_required"}
    boto = client(vendor, config=config)
    boto.put_object(Bucket=vendor.bucket, Key="a b+c/é", Body=b"data")
    assert boto.get_object(Bucket=vendor.bucket, Key="a b+c/é")["Body"].read() == b"data"
    assert [row["Key"] for row in boto.list_objects(Bucket=vendor.bucket)["Contents"]] == ["a b+c/é"]
    upload = boto.create_multipart_upload(Bucket=vendor.bucket, Key="big")["UploadId"]
    about = {"Bucket": vendor.bucket, "Key": "big", "UploadId": upload}
    size = vendor.strict.part_fixed or vendor.strict.part_min
    tags = [boto.upload_part(**about, PartNumber=n, Body=bytes(count))["ETag"] for n, count in ((1, size), (2, 3))]
    parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
    boto.complete_multipart_upload(**about, MultipartUpload={"Parts": parts})
    assert vendor.held()[b"big"] == bytes(size + 3)
    boto.delete_object(Bucket=vendor.bucket, Key="big")


def test_huge_objects_are_copied_by_parts_on_the_server(vendor: Vendor, run: Runner) -> None:
    size = (5 << 30) + 3
    vendor.put_virtual(vendor.bucket, b"in/huge", size)
    run.add(vendor.connection())
    done = run("sync", f"vendor:{vendor.bucket}/in", f"vendor:{vendor.bucket}/copy")
    assert counts(done)["copied"] == 1
    assert vendor.object(vendor.bucket, b"copy/huge").body.size == size
    sizes = vendor.object(vendor.bucket, b"copy/huge").part_sizes
    assert len(sizes) == vendor.count("UploadPartCopy")
    assert not vendor.strict.part_fixed or set(sizes[:-1]) == {vendor.strict.part_fixed}
    assert vendor.count(["GetObject", "UploadPart"]) == 0


def test_keys_that_a_vendor_lists_but_does_not_give_back_are_no_silent_loss(run: Runner) -> None:
    """Qiniu: they would look as if they had vanished meanwhile."""
    with Vendor(VENDORS["QINIU"]) as vendor, Vendor(MINE) as mine:
        vendor.fill({b"/slashed": b"data", b"plain": b"data"})
        run.add(vendor.connection())
        run.add(mine.connection("mine"))
        done = run("sync", f"vendor:{vendor.bucket}", f"mine:{mine.bucket}", code=1)
        assert counts(done) == {"copied": 1, "equal": 0, "deleted": 0, "failed": 1, "skipped": 0}
        assert mine.held() == {b"plain": b"data"}


def test_a_bucket_of_another_region_is_followed() -> None:
    strict = replace(
        VENDORS["OSS"], host="s3.oss-cn-shanghai.aliyuncs.com", copied="oss-cn-shanghai.aliyuncs.com",
        region="cn-shanghai",
    )  # fmt: skip
    with Vendor(strict, tells_endpoint=True) as vendor:
        store = store_of(vendor, endpoint=f"http://oss-cn-hangzhou.aliyuncs.com:{vendor.port}")
        store.write(b"k", b"data")
        assert (vendor.held(), store.target.region) == ({b"k": b"data"}, "cn-shanghai")
        assert [code for _, _, code in vendor.refused] == ["AccessDenied"]
        store.close()


def test_over_tls_the_certificate_is_for_the_bucket(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for strict in VENDORS.values():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(strict.host, f"*.{strict.host}").configure_cert(context)
        with Vendor(strict, tls=context) as vendor:
            store = store_of(vendor, ca_file=str(tmp_path / "ca.pem"))
            store.write(b"k", b"data")
            assert store.read(b"k") == b"data"
            assert (vendor.refused, vendor.strays, vendor.crashes) == ([], [], [])
            store.close()
            untrusting = store_of(vendor)
            with pytest.raises(model.StoreError, match="certificate"):
                untrusting.check()
            untrusting.close()


# -- Azure


def test_wasb_moves_bytes_both_ways(azurite: AzureServer, run: Runner, bucket_name: str, tmp_path: Path) -> None:
    place = place_for("WASB", azurite.endpoint, azurite.account, azurite.key, f"{bucket_name}/in")
    assert (place.bucket, place.prefix) == (bucket_name, "in")
    connection = replace(place.connection, name="vendor")
    make_container(connection, bucket_name)
    source, out = tmp_path / "source", tmp_path / "out"
    write(source, {**TREE, b"big": os.urandom(BIG)})
    run.add(connection)
    assert counts(run("sync", source, f"vendor:{bucket_name}/in"))["copied"] == len(TREE) + 1
    done = run("sync", f"vendor:{bucket_name}/in", out)
    assert counts(done) == {"copied": len(TREE) + 1, "equal": 0, "deleted": 0, "failed": 0, "skipped": 0}
    assert files(out) == files(source)
    with Vendor(MINE) as mine:
        run.add(mine.connection("mine"))
        assert counts(run("sync", f"vendor:{bucket_name}/in", f"mine:{mine.bucket}/"))["copied"] == len(TREE) + 1
        assert mine.held() == files(source)


def test_wasb_with_the_account_in_the_host(azurite: AzureServer, bucket_name: str) -> None:
    host = azurite.endpoint.replace("127.0.0.1", f"{azurite.account}.blob.core.windows.net").rpartition("/")[0]
    for text in (host, host.replace("http://", f"http://{bucket_name}@").replace(".blob.", ".dfs.")):
        place = place_for("WASB", text, azurite.account, azurite.key, f"{bucket_name}/in")
        assert place.connection.endpoint == host
        store = AzureStore.open(parse_location(f"vendor:{place.bucket}/{place.prefix}/"), place.connection)
        if text == host:
            make_container(place.connection, bucket_name)
            store.write(b"k", b"data")
        assert store.read(b"k") == b"data"
        store.close()


def test_wasb_refuses_a_wrong_key(azurite: AzureServer, bucket_name: str) -> None:
    wrong = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="
    connection = connection_for("WASB", azurite.endpoint, azurite.account, wrong)
    store = AzureStore.open(parse_location(f"vendor:{bucket_name}/in"), connection)
    with pytest.raises(model.ForbiddenError) as caught:
        store.check()
    assert wrong not in f"{caught.value!r} {caught.value.hint}"
    store.close()
