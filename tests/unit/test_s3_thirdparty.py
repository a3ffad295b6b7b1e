"""Third-party sources as people enter them: every host form of the vendors' consoles and SDKs, and clear refusals."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.errors import UsageError
from entrepot.service.connections import check
from entrepot.storage.s3.profiles import resolve
from entrepot.storage.s3.thirdparty import (
    bucket_in,
    connection_for,
    endpoint_for,
    place_for,
    provider_for,
    provider_of_host,
    types,
)

AK, SK = "AKIDEXAMPLE", "top-secret-text"
KEY = "c2VjcmV0IGtleSBvZiBhbiBhY2NvdW50"

HOSTS = [
    # (type, host as entered, bucket in it, S3 host that is asked, signing region)
    ("OSS", "oss-cn-hangzhou.aliyuncs.com", "", "s3.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
    ("OSS", "http://b-1.oss-cn-beijing.aliyuncs.com/", "b-1", "s3.oss-cn-beijing.aliyuncs.com", "cn-beijing"),
    ("OSS", "oss-us-west-1-internal.aliyuncs.com", "", "s3.oss-us-west-1-internal.aliyuncs.com", "us-west-1"),
    ("OSS", "s3.oss-cn-hangzhou.aliyuncs.com", "", "s3.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
    ("OSS", "data.s3.oss-cn-hangzhou-internal.aliyuncs.com", "data", "s3.oss-cn-hangzhou-internal.aliyuncs.com",
     "cn-hangzhou"),
    ("OSS", "cn-shanghai.oss.aliyuncs.com", "", "cn-shanghai.oss.aliyuncs.com", "cn-shanghai"),
    ("OSS", "data.oss-accelerate.aliyuncs.com", "data", "oss-accelerate.aliyuncs.com", "cn-hangzhou"),
    ("COS", "cos.ap-guangzhou.myqcloud.com", "", "cos.ap-guangzhou.myqcloud.com", "ap-guangzhou"),
    ("COS", "https://data-125.cos.ap-beijing-1.myqcloud.com", "data-125", "cos.ap-beijing-1.myqcloud.com",
     "ap-beijing-1"),
    ("COS", "cos.ap-guangzhou.tencentcos.cn", "", "cos.ap-guangzhou.tencentcos.cn", "ap-guangzhou"),
    ("COS", "cos-internal.ap-guangzhou.tencentcos.cn", "", "cos-internal.ap-guangzhou.tencentcos.cn", "ap-guangzhou"),
    ("COS", "data-125.cos.accelerate.myqcloud.com", "data-125", "cos.accelerate.myqcloud.com", "ap-guangzhou"),
    ("OBS", "obs.cn-north-4.myhuaweicloud.com", "", "obs.cn-north-4.myhuaweicloud.com", "cn-north-4"),
    ("OBS", "data.obs.cn-east-3.myhuaweicloud.com:443", "data", "obs.cn-east-3.myhuaweicloud.com", "cn-east-3"),
    ("OBS", "obs.eu-west-101.myhuaweicloud.eu", "", "obs.eu-west-101.myhuaweicloud.eu", "eu-west-101"),
    ("OBS", "obs.myhuaweicloud.com", "", "obs.myhuaweicloud.com", "cn-north-4"),
    ("BOS", "bj.bcebos.com", "", "s3.bj.bcebos.com", "bj"),
    ("BOS", "data.su.bcebos.com", "data", "s3.su.bcebos.com", "su"),
    ("BOS", "http://s3.hkg.bcebos.com", "", "s3.hkg.bcebos.com", "hkg"),
    ("BOS", "data.s3.gz.bcebos.com", "data", "s3.gz.bcebos.com", "gz"),
    ("BOS", "bos.bj.bcebos.com", "", "s3.bj.bcebos.com", "bj"),
    ("S3", "", "", "s3.us-east-1.amazonaws.com", "us-east-1"),
    ("S3", "s3.amazonaws.com", "", "s3.amazonaws.com", "us-east-1"),
    ("S3", "my.data.s3.eu-west-1.amazonaws.com", "my.data", "s3.eu-west-1.amazonaws.com", "eu-west-1"),
    ("S3", "data.s3.cn-north-1.amazonaws.com.cn", "data", "s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    ("S3", "data.s3.dualstack.us-west-2.amazonaws.com", "data", "s3.dualstack.us-west-2.amazonaws.com", "us-west-2"),
    ("S3", "data.bucket.vpce-1a2b-3c4d.s3.us-east-2.vpce.amazonaws.com", "data",
     "bucket.vpce-1a2b-3c4d.s3.us-east-2.vpce.amazonaws.com", "us-east-2"),
    ("S3", "http://minio.lan:9000", "", "minio.lan", "us-east-1"),
    ("S3", "http://[::1]:9000", "", "::1", "us-east-1"),
    ("S3", "oss-cn-hangzhou.aliyuncs.com", "", "s3.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
    ("KS3", "ks3-cn-beijing.ksyuncs.com", "", "ks3-cn-beijing.ksyuncs.com", "BEIJING"),
    ("KS3", "data.ks3-cn-shanghai-internal.ksyuncs.com", "data", "ks3-cn-shanghai-internal.ksyuncs.com", "SHANGHAI"),
    ("KS3", "ks3-jr-beijing.ksyun.com", "", "ks3-jr-beijing.ksyun.com", "JR_BEIJING"),
    ("KS3", "data.kss.ksyun.com", "data", "kss.ksyun.com", "HANGZHOU"),
    ("QINIU", "s3.cn-east-1.qiniucs.com", "", "s3.cn-east-1.qiniucs.com", "cn-east-1"),
    ("QINIU", "s3-cn-south-1.qiniucs.com", "", "s3-cn-south-1.qiniucs.com", "cn-south-1"),
    ("QINIU", "data.s3.ap-southeast-1.qiniucs.com", "data", "s3.ap-southeast-1.qiniucs.com", "ap-southeast-1"),
    ("UFILE", "s3-cn-bj.ufileos.com", "", "s3-cn-bj.ufileos.com", "cn-bj"),
    ("UFILE", "http://data.cn-bj.ufileos.com", "data", "s3-cn-bj.ufileos.com", "cn-bj"),
    ("UFILE", "cn-sh2.ufileos.com", "", "s3-cn-sh2.ufileos.com", "cn-sh2"),
    ("UFILE", "data.s3-hk.ufileos.com", "data", "s3-hk.ufileos.com", "hk"),
    ("UFILE", "internal.s3-cn-bj.ufileos.com", "", "internal.s3-cn-bj.ufileos.com", "cn-bj"),
    ("UFILE", "data.internal.s3-cn-bj.ufileos.com", "data", "internal.s3-cn-bj.ufileos.com", "cn-bj"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "host", "bucket", "asked", "region"), HOSTS)
def test_hosts_as_people_copy_them(kind: str, host: str, bucket: str, asked: str, region: str) -> None:
    made = connection_for(kind, host, AK, SK)
    assert bucket_in(kind, host) == bucket
    target = resolve(made, bucket or "data")
    assert (target.endpoint_host, target.region) == (asked, region)
    assert target.tls is not host.startswith("http://")
    check(replace(made, name="x"))
    assert connection_for(kind.lower(), host, AK, SK) == made


@pytest.mark.parametrize(
    ("host", "ak", "endpoint", "container"),
    [
        ("", "acct1", "https://acct1.blob.core.windows.net", ""),
        ("acct1.blob.core.windows.net", "acct1", "https://acct1.blob.core.windows.net", ""),
        ("blob.core.chinacloudapi.cn", "acct1", "https://acct1.blob.core.chinacloudapi.cn", ""),
        ("http://acct1.blob.core.windows.net:8080/", "acct1", "http://acct1.blob.core.windows.net:8080", ""),
        ("https://acct1.dfs.core.windows.net/box", "acct1", "https://acct1.blob.core.windows.net", "box"),
        ("wasbs://box@acct1.blob.core.windows.net", "acct1", "https://acct1.blob.core.windows.net", "box"),
        ("acct1.blob.core.windows.net", "", "https://acct1.blob.core.windows.net", ""),
        ("http://127.0.0.1:10000/acct1", "acct1", "http://127.0.0.1:10000/acct1", ""),
    ],
)
def test_azure_hosts(host: str, ak: str, endpoint: str, container: str) -> None:
    made = connection_for("WASB", host, ak, KEY if ak else "")
    assert (made.provider, made.endpoint, made.access_key) == ("azure", endpoint, "acct1")
    assert bucket_in("WASB", host) == container


def test_a_sas_may_stand_for_the_account_key() -> None:
    made = connection_for("WASB", "", "acct1", "?sv=2024-11-04&sig=abc%3D")
    assert made.sas.reveal() == "?sv=2024-11-04&sig=abc%3D"
    assert not made.secret_key


def test_types_are_those_of_the_family() -> None:
    assert types() == ("OSS", "COS", "OBS", "BOS", "S3", "KS3", "QINIU", "WASB", "UFILE")
    assert [provider_for(kind) for kind in types()] == [
        "oss", "cos", "obs", "bos", "s3", "ks3", "qiniu", "azure", "ufile",
    ]  # fmt: skip


def test_no_keys_mean_a_public_bucket() -> None:
    made = connection_for("S3", "s3.us-west-2.amazonaws.com", "", "")
    assert resolve(made, "data").credentials(False).access_key == ""


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("FTP", "x", AK, SK), "type"),
        (("", "x", AK, SK), "type"),
        ((None, "x", AK, SK), "type"),
        (("OSS", "", AK, SK), "host"),
        (("OSS", "   ", AK, SK), "host"),
        (("OSS", "ftp://oss-cn-hangzhou.aliyuncs.com", AK, SK), "host"),
        (("OSS", "file:///etc/passwd", AK, SK), "host"),
        (("OSS", f"https://{AK}:{SK}@b.oss-cn-hangzhou.aliyuncs.com", AK, SK), "host"),
        (("OSS", "oss-cn-hangzhou.aliyuncs.com?x=1", AK, SK), "host"),
        (("OSS", "oss-cn-hangzhou.aliyuncs.com:99999", AK, SK), "host"),
        (("OSS", "oss cn", AK, SK), "host"),
        (("OSS", "oss\r\nX: y", AK, SK), "host"),
        (("OSS", "a" * 2000, AK, SK), "host"),
        (("OSS", None, AK, SK), "host"),
        (("COS", "oss-cn-hangzhou.aliyuncs.com", AK, SK), "host"),
        (("OBS", "acct1.blob.core.windows.net", AK, SK), "host"),
        (("S3", "acct1.blob.core.windows.net", AK, SK), "host"),
        (("QINIU", "data.bkt.clouddn.com", AK, SK), "host"),
        (("QINIU", "up-z2.qiniup.com", AK, SK), "host"),
        (("BOS", "data.cdn.bcebos.com", AK, SK), "host"),
        (("BOS", "bucket.bcebos.com", AK, SK), "host"),
        (("OSS", "oss-cn-hangzhou.aliyuncs.com", "", SK), "ak"),
        (("OSS", "oss-cn-hangzhou.aliyuncs.com", AK, ""), "sk"),
        (("OSS", "oss-cn-hangzhou.aliyuncs.com", "a\nb", SK), "ak"),
        (("OSS", "oss-cn-hangzhou.aliyuncs.com", AK, SK + "\x00"), "sk"),
        (("OSS", "oss-cn-hangzhou.aliyuncs.com", AK, None), "sk"),
        (("WASB", "acct2.blob.core.windows.net", "acct1", KEY), "ak"),
        (("WASB", "", "", ""), "ak"),
        (("WASB", "", "UPPER", KEY), "ak"),
        (("WASB", "", "acct1", "no base64!"), "sk"),
        (("WASB", "acct1.blob.core.windows.net/box/deeper", "acct1", KEY), "host"),
    ],
)
def test_refusals_name_the_field_and_hold_no_secret(arguments: tuple[Any, ...], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        connection_for(*arguments)
    assert caught.value.message.startswith(f"{field}: ")
    assert caught.value.hint
    assert SK not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("host", "path", "bucket", "prefix"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "data", "data", ""),
        ("oss-cn-hangzhou.aliyuncs.com", "/data/a/b/", "data", "a/b/"),
        ("data.oss-cn-hangzhou.aliyuncs.com", "data/a", "data", "a"),
        ("data.oss-cn-hangzhou.aliyuncs.com", "a/b", "data", "a/b"),
        ("data.oss-cn-hangzhou.aliyuncs.com", "", "data", ""),
    ],
)
def test_paths(host: str, path: str, bucket: str, prefix: str) -> None:
    place = place_for("OSS", host, AK, SK, path)
    assert (place.bucket, place.prefix) == (bucket, prefix)
    assert SK not in repr(place)


@pytest.mark.parametrize("path", ["", "/", "//x", "../x", "a\x00b/c", "b?/x", "x" * 5000, None, "d\r\n/x"])
def test_paths_that_are_none(path: Any) -> None:
    with pytest.raises(UsageError) as caught:
        place_for("OSS", "oss-cn-hangzhou.aliyuncs.com", AK, SK, path)
    assert caught.value.message.startswith("path: ")


def test_endpoints_of_regions() -> None:
    assert endpoint_for("oss", "cn-beijing") == "https://s3.oss-cn-beijing.aliyuncs.com"
    assert endpoint_for("s3", "cn-north-1") == "https://s3.cn-north-1.amazonaws.com.cn"
    assert endpoint_for("ks3", "BEIJING") == "https://ks3-cn-beijing.ksyuncs.com"
    for provider, region in (("minio", "x"), ("nobody", "x"), ("oss", "a/b"), ("oss", "")):
        with pytest.raises(UsageError):
            endpoint_for(provider, region)


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("https://b.oss-cn-hangzhou.aliyuncs.com/x", "oss"),
        ("box@acct.dfs.core.windows.net", "azure"),
        ("S3.EU-WEST-1.AMAZONAWS.COM:443", "s3"),
        ("notaliyuncs.com", "generic"),
        ("aliyuncs.com.evil.example", "generic"),
        ("blob.core.windows.net.evil.example", "generic"),
    ],
)
def test_whose_host_it_is(host: str, provider: str) -> None:
    assert provider_of_host(host) == provider


@given(
    kind=st.sampled_from(types()),
    host=st.one_of(
        st.text(max_size=60),
        st.from_regex(
            r"(https?://)?([a-z0-9.-]{0,20}\.)?(oss-[a-z]{0,9}\.aliyuncs|[a-z]{2}\.bcebos)\.com", fullmatch=True
        ),
    ),
    ak=st.text(max_size=20),
    sk=st.text(min_size=1, max_size=20).map(lambda text: f"hush{text}hush"),
    path=st.text(max_size=40),
)
def test_any_input_gives_a_usable_place_or_names_a_field(kind: str, host: str, ak: str, sk: str, path: str) -> None:
    place = None
    with contextlib.suppress(UsageError):
        place = place_for(kind, host, ak, sk, path)
    if place is None:
        with pytest.raises(UsageError) as caught:
            place_for(kind, host, ak, sk, path)
        assert caught.value.message.partition(":")[0] in {"type", "host", "ak", "sk", "path"}
        assert sk not in caught.value.message + caught.value.hint
    else:
        check(replace(place.connection, name="x"))
        if kind != "WASB":
            resolve(place.connection, place.bucket)
