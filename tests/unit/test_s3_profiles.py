"""Targets of every provider: hosts, regions, addressing, and the rules of parts and listings."""

from __future__ import annotations

from typing import get_args

import pytest

from entrepot.model.connection import Connection, Provider
from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret
from entrepot.storage.s3.profiles import canonical_endpoint, move, new_profile, provider_of, resolve
from entrepot.storage.s3.providers import PROVIDERS
from entrepot.storage.s3.target import S3Target

NOT_S3 = {"azure", "gcs", "webdav", "sftp", "hdfs"}


def target(provider: str, endpoint: str = "", bucket: str = "data", **more: object) -> S3Target:
    values = {"name": "c", "access_key": "AK", "secret_key": Secret("SK"), **more}
    return resolve(Connection(provider=provider, endpoint=endpoint, **values), bucket)  # type: ignore[arg-type]


def test_every_provider_of_the_s3_family_has_a_profile() -> None:
    assert set(PROVIDERS) == set(get_args(Provider)) - NOT_S3
    for name in PROVIDERS:
        profile = new_profile(name)
        assert profile.provider == name
        assert profile.part_min <= profile.part_max


@pytest.mark.parametrize(
    ("provider", "region", "host", "signs"),
    [
        ("s3", "eu-west-1", "data.s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3", "", "data.s3.us-east-1.amazonaws.com", "us-east-1"),
        ("s3", "cn-north-1", "data.s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("aoss", "cn-sh-01", "aoss.cn-sh-01.sensecoreapi-oss.cn", "cn-sh-01"),
        ("oss", "cn-beijing", "data.s3.oss-cn-beijing.aliyuncs.com", "cn-beijing"),
        ("cos", "ap-shanghai", "data.cos.ap-shanghai.myqcloud.com", "ap-shanghai"),
        ("obs", "cn-east-3", "data.obs.cn-east-3.myhuaweicloud.com", "cn-east-3"),
        ("bos", "gz", "data.s3.gz.bcebos.com", "gz"),
        ("ks3", "cn-shanghai", "data.ks3-cn-shanghai.ksyuncs.com", "SHANGHAI"),
        ("qiniu", "cn-south-1", "s3.cn-south-1.qiniucs.com", "cn-south-1"),
        ("ufile", "cn-sh2", "data.s3-cn-sh2.ufileos.com", "cn-sh2"),
    ],
)
def test_public_endpoints(provider: str, region: str, host: str, signs: str) -> None:
    found = target(provider, region=region)
    assert (found.host, found.port, found.tls, found.region) == (host, 443, True, signs)
    assert found.host_header == host.encode()
    assert found.path_prefix == (b"/" if host.startswith("data.") else b"/data/")


@pytest.mark.parametrize(
    ("provider", "endpoint", "host", "region"),
    [
        ("oss", "https://oss-cn-hangzhou.aliyuncs.com", "data.s3.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        (
            "oss",
            "https://oss-cn-hangzhou-internal.aliyuncs.com",
            "data.s3.oss-cn-hangzhou-internal.aliyuncs.com",
            "cn-hangzhou",
        ),
        ("oss", "https://data.oss-cn-hangzhou.aliyuncs.com", "data.s3.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ("bos", "https://bj.bcebos.com", "data.s3.bj.bcebos.com", "bj"),
        ("bos", "https://data.su.bcebos.com", "data.s3.su.bcebos.com", "su"),
        ("bos", "https://s3.bj.bcebos.com", "data.s3.bj.bcebos.com", "bj"),
        ("ufile", "https://data.cn-bj.ufileos.com", "data.s3-cn-bj.ufileos.com", "cn-bj"),
        ("ufile", "https://s3-hk.ufileos.com", "data.s3-hk.ufileos.com", "hk"),
        ("s3", "https://data.s3.eu-west-3.amazonaws.com", "data.s3.eu-west-3.amazonaws.com", "eu-west-3"),
        ("s3", "https://s3.dualstack.us-west-2.amazonaws.com", "data.s3.dualstack.us-west-2.amazonaws.com",
         "us-west-2"),
        ("cos", "cos.ap-guangzhou.myqcloud.com", "data.cos.ap-guangzhou.myqcloud.com", "ap-guangzhou"),
    ],
)  # fmt: skip
def test_endpoints_as_people_write_them(provider: str, endpoint: str, host: str, region: str) -> None:
    found = target(provider, endpoint)
    assert (found.host, found.region) == (host, region)


def test_a_region_of_the_connection_wins_over_the_one_in_the_host() -> None:
    assert target("ks3", "https://ks3-cn-beijing.ksyuncs.com").region == "BEIJING"
    assert target("ks3", "https://ks3-cn-beijing.ksyuncs.com", region="cn-beijing").region == "cn-beijing"
    assert target("ks3", region="BEIJING").host == "data.ks3-cn-beijing.ksyuncs.com"


@pytest.mark.parametrize(
    ("provider", "bucket", "endpoint", "more", "style"),
    [
        ("s3", "a.b.c", "", {}, "path"),  # 54: no wildcard certificate covers the dots
        ("s3", "a.b.c", "", {"disable_ssl": True}, "virtual"),
        ("s3", "Upper_Case", "", {}, "path"),
        ("s3", "data", "", {"addressing": "path"}, "path"),
        ("s3", "data", "http://127.0.0.1:9000", {}, "path"),
        ("oss", "data", "http://[::1]:9000", {"addressing": "virtual"}, "path"),
        ("minio", "data", "https://minio.example.org", {}, "path"),
        ("minio", "data", "https://minio.example.org", {"addressing": "virtual"}, "virtual"),
        ("generic", "data", "http://localhost:9000", {"addressing": "virtual"}, "virtual"),
        ("generic", "data", "https://store.example.org", {}, "path"),
        ("bos", "data", "", {}, "virtual"),
    ],
)
def test_addressing(provider: str, bucket: str, endpoint: str, more: dict[str, object], style: str) -> None:
    assert target(provider, endpoint, bucket, **more).style == style


def test_styles_write_host_and_path() -> None:
    found = target("generic", "http://store.example.org:9000/base/", "data")
    assert (found.host, found.host_header) == ("store.example.org", b"store.example.org:9000")
    assert found.path_prefix == b"/base/data/"
    found.use("virtual")
    assert (found.host, found.host_header) == ("data.store.example.org", b"data.store.example.org:9000")
    assert found.path_prefix == b"/base/"
    assert found.endpoint == "http://store.example.org:9000/base"
    assert target("generic", "http://[::1]:9000").host_header == b"[::1]:9000"


def test_part_rules() -> None:
    ufile = new_profile("ufile")
    assert (ufile.part_min, ufile.part_max, ufile.part_fixed) == (8 << 20, 8 << 20, 8 << 20)
    assert new_profile("oss").part_min == 100 << 10
    assert new_profile("cos").part_min == 1 << 20
    assert new_profile("s3").part_max == 5 << 30


def test_listings_and_checksums_begin_careful() -> None:
    for name in ("cos", "obs", "bos", "ks3", "ufile"):
        assert new_profile(name).list_v1, name
    for name in ("obs", "qiniu"):
        assert not new_profile(name).encoding_url, name
    for name in ("oss", "cos", "obs", "bos", "ks3", "qiniu", "ufile", "aoss"):
        assert new_profile(name).checksum == "", name  # 49
    for name in ("qiniu", "ufile"):
        assert new_profile(name).etag_is_md5 is False, name  # 48


def test_profiles_are_not_shared() -> None:
    first, second = target("minio", "http://127.0.0.1:1"), target("minio", "http://127.0.0.1:1")
    first.profile.checksum = ""
    assert second.profile.checksum == "crc32c"


@pytest.mark.parametrize(
    "endpoint", ["https://user:hunter2@host", "ftp://host", "https://", "https://host?x=1", "https://host:port"]
)
def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(UsageError) as caught:
        target("generic", endpoint)
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_an_endpoint_is_needed_where_there_is_no_public_one() -> None:
    with pytest.raises(UsageError, match="no endpoint"):
        target("minio")


def test_moving_to_another_region() -> None:
    found = target("s3", region="us-east-1")
    move(found, "eu-north-1")
    assert (found.region, found.host) == ("eu-north-1", "data.s3.eu-north-1.amazonaws.com")
    local = target("generic", "http://127.0.0.1:9000")
    move(local, "eu-north-1")
    assert (local.region, local.host) == ("eu-north-1", "127.0.0.1")


def test_providers_are_known_by_their_hosts() -> None:
    assert provider_of("s3.oss-cn-beijing.aliyuncs.com") == "oss"
    assert provider_of("s3.eu-west-1.amazonaws.com") == "s3"
    assert provider_of("aliyuncs.com.example.org") == "generic"
    assert provider_of("127.0.0.1") == "generic"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("s3", ""), ("s3", "https://s3.eu-west-1.amazonaws.com")),
        (("oss", "https://oss-cn-beijing.aliyuncs.com"), ("oss", "http://s3.oss-cn-beijing-internal.aliyuncs.com")),
        (("generic", "http://localhost:9000"), ("generic", "http://127.0.0.1:9000/")),
    ],
)  # fmt: skip
def test_one_place_written_in_two_ways_has_one_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert canonical_endpoint(target(*one)) == canonical_endpoint(target(*other))


def test_two_places_have_two_names() -> None:
    assert canonical_endpoint(target("generic", "http://127.0.0.1:1")) != canonical_endpoint(
        target("generic", "http://127.0.0.1:2")
    )
