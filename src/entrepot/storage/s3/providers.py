"""What is published of the providers of the S3 family: their hosts, and what their endpoints do and demand.

Sources: each provider's own SDK and S3 compatibility page, the provider tables of rclone's S3 backend (list version,
URL-encoding of listings, integrity headers), the object drivers of JuiceFS (KS3, UFile), and published issues of
the SDKs (checksum headers and trailers refused). Where sources disagree or nothing is published, the form that
every server has offered since the first S3 API stands (ListObjects V1, Content-MD5, no checksum header), and
``probe`` corrects it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(slots=True, frozen=True)
class Provider:
    """How a provider names its endpoints, and how its endpoints behave."""

    endpoint: str = ""
    """Endpoint host for a region (``{region}``); empty: there is no public one."""
    domains: tuple[str, ...] = ()
    """Host suffixes by which the provider is known."""
    region: str = "us-east-1"
    """Signing region where neither connection nor host names one."""
    region_in_host: tuple[str, ...] = ()
    """Patterns that find the region in an endpoint host."""
    native: tuple[tuple[str, str], ...] = ()
    """(pattern, replacement): hosts of the provider's own API, to the S3 host of the same region."""
    signing: dict[str, str] = field(default_factory=dict)
    """Regions that are signed for under another name than the one in the host."""
    global_hosts: tuple[str, ...] = ()
    """Endpoint hosts that name no region (acceleration, the first region of old)."""
    profile: dict[str, object] = field(default_factory=dict)
    """What differs from the defaults of :class:`Profile`."""


PROVIDERS: dict[str, Provider] = {
    # Amazon: S3 user guide (quotas; "Checking object integrity": CRC-32C in every region; conditional
    # writes). The etag is no MD5 under SSE-KMS and SSE-C, and HEAD does not always say so: left open.
    "s3": Provider(
        endpoint="s3.{region}.amazonaws.com",
        domains=("amazonaws.com", "amazonaws.com.cn"),
        region_in_host=(
            r"^s3[.-](?:fips\.|dualstack\.|fips\.dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d+)\.amazonaws\.com",
            r"^bucket\.vpce-[a-z0-9-]+\.s3\.([a-z]{2}(?:-[a-z]+)+-\d+)\.vpce\.amazonaws\.com",
        ),
        global_hosts=("s3.amazonaws.com", "s3-accelerate.amazonaws.com", "s3-accelerate.dualstack.amazonaws.com"),
        profile={"addressing": "virtual", "checksum": "crc32c"},
    ),
    # SenseCore AOSS: hosts aoss[-internal|-external].<region>.sensecoreapi-oss.cn, path style expected by
    # its data services; checksum headers unpublished.
    "aoss": Provider(
        endpoint="aoss.{region}.sensecoreapi-oss.cn",
        domains=("sensecoreapi-oss.cn",),
        region="cn-sh-01",
        region_in_host=(r"^aoss(?:-internal|-external)?\.([a-z0-9-]+)\.sensecoreapi-oss\.cn$",),
        profile={
            "addressing": "path", "checksum": "", "content_md5_required": True, "put_conditional": False,
        },
    ),
    # Alibaba OSS: "Use Amazon S3 SDKs to access OSS" names s3.oss-<region>; path style answers
    # SecondLevelDomainForbidden; aws-chunked is refused; part 100 KB to 5 GB; batch delete wants Content-MD5;
    # etags are MD5 in capitals; keys have at most 1023 bytes and do not begin with a slash. The SDK also
    # writes <region>.oss.aliyuncs.com (both IP versions) and two acceleration hosts.
    "oss": Provider(
        endpoint="s3.oss-{region}.aliyuncs.com",
        domains=("aliyuncs.com",),
        region="cn-hangzhou",
        region_in_host=(
            r"^(?:s3\.)?(?:vpc100-)?oss-(?!accelerate|cloudbox)([a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com$",
            r"^([a-z]+(?:-[a-z]+)+(?:-\d+)?)\.oss\.aliyuncs\.com$",
        ),
        global_hosts=("oss-accelerate.aliyuncs.com", "oss-accelerate-overseas.aliyuncs.com"),
        native=((r"^(oss-(?!accelerate)[a-z0-9-]+\.aliyuncs\.com)$", r"s3.\1"),),
        profile={
            "addressing": "virtual", "checksum": "", "content_md5_required": True, "put_conditional": False,
            "part_min": 100 * KIB, "key_max": 1023, "leading_slash": False,
        },
    ),
    # Tencent COS: bucket is <name>-<APPID>; path style answers PathStyleDomainForbidden; rclone lists with V1
    # and sends no integrity headers; part 1 MB to 5 GB; keys have at most 850 bytes. The SDK writes
    # cos.<region>.tencentcos.cn, older ones myqcloud.com, and cos-internal for its own network.
    "cos": Provider(
        endpoint="cos.{region}.myqcloud.com",
        domains=("myqcloud.com", "tencentcos.cn"),
        region="ap-guangzhou",
        region_in_host=(r"^cos(?:-internal)?\.(?!accelerate)([a-z0-9-]+)\.(?:myqcloud\.com|tencentcos\.cn)$",),
        global_hosts=(
            "cos.accelerate.myqcloud.com", "cos.accelerate.tencentcos.cn", "cos-internal.accelerate.tencentcos.cn",
        ),
        profile={
            "addressing": "virtual", "list_v1": True, "checksum": "", "content_md5_required": True,
            "put_conditional": False, "part_min": MIB, "key_max": 850,
        },
    ),
    # Huawei OBS: rclone lists with V1 and without URL-encoding (file-system buckets have no V2, and with
    # URL-encoding their marker does not work: the same page comes for ever);
    # the etag is no MD5 with server-side encryption; part 100 KB to 5 GB.
    "obs": Provider(
        endpoint="obs.{region}.myhuaweicloud.com",
        domains=("myhuaweicloud.com", "myhuaweicloud.eu"),
        region="cn-north-4",
        region_in_host=(r"^obs\.([a-z0-9-]+)\.myhuaweicloud\.(?:com|eu)$",),
        global_hosts=("obs.myhuaweicloud.com",),
        profile={
            "addressing": "virtual", "list_v1": True, "encoding_url": False, "checksum": "",
            "content_md5_required": True, "put_conditional": False, "part_min": 100 * KIB,
        },
    ),
    # Baidu BOS: S3 host s3.<region>.bcebos.com, native [<bucket>.]<region>.bcebos.com (the SDK without an
    # endpoint: bos.<region>.bcebos.com); its pages offer both addressing styles and recommend the bucket in
    # the host: tried virtual first, then path.
    "bos": Provider(
        endpoint="s3.{region}.bcebos.com",
        domains=("bcebos.com",),
        region="bj",
        region_in_host=(r"^s3\.([a-z0-9]{2,3})\.bcebos\.com$",),
        native=((r"^(?:bos\.)?(?!s3\.|bos\.|cdn\.)([a-z0-9]{2,3}\.bcebos\.com)$", r"s3.\1"),),
        profile={
            "addressing": "auto", "list_v1": True, "checksum": "", "content_md5_required": True,
            "put_conditional": False,
        },
    ),
    # Kingsoft KS3: bucket in the host only ("all requests but GET Service include third-level domain names");
    # JuiceFS lists with V1 and signs for BEIJING where the host says cn-beijing. Other sources print
    # cn-beijing: that is tried when the signature is refused.
    "ks3": Provider(
        endpoint="ks3-{region}.ksyuncs.com",
        domains=("ksyuncs.com", "ksyun.com"),
        region="BEIJING",
        region_in_host=(r"^ks3-([a-z0-9-]+?)(?:-internal)?\.ksyun(?:cs)?\.com$", r"^(kss)\.ksyun\.com$"),
        signing={
            "cn-beijing": "BEIJING", "cn-shanghai": "SHANGHAI", "cn-guangzhou": "GUANGZHOU",
            "cn-qingdao": "QINGDAO", "jr-beijing": "JR_BEIJING", "jr-shanghai": "JR_SHANGHAI",
            "cn-hk-1": "HONGKONG", "rus": "RUSSIA", "sgp": "SINGAPORE", "kss": "HANGZHOU",
        },
        profile={
            "addressing": "virtual", "list_v1": True, "checksum": "", "content_md5_required": True,
            "put_conditional": False,
        },
    ),
    # Qiniu Kodo: both styles are offered, tools use the path; rclone asks for no URL-encoding; the etag of the
    # native API is a hash over 4 MiB blocks; keys have at most 750 bytes, and those that begin with a slash
    # cannot be read back through S3. Its page prints s3.<region>, older tools s3-<region>.
    "qiniu": Provider(
        endpoint="s3.{region}.qiniucs.com",
        domains=("qiniucs.com",),
        region="cn-east-1",
        region_in_host=(r"^s3[-.]([a-z0-9-]+)\.qiniucs\.com$",),
        profile={
            "addressing": "path", "encoding_url": False, "checksum": "", "content_md5_required": True,
            "put_conditional": False, "etag_is_md5": False, "leading_slash": False, "key_max": 750,
        },
    ),
    # UCloud US3 (UFile): S3 host s3-<region>.ufileos.com; parts must be 8 MiB; rclone lists with V1; the
    # native etag is a SHA-1 of its own making.
    "ufile": Provider(
        endpoint="s3-{region}.ufileos.com",
        domains=("ufileos.com",),
        region="cn-bj",
        region_in_host=(r"^(?:internal\.)?s3-([a-z0-9-]+)\.ufileos\.com$",),
        native=((r"^(?!s3-|internal\.)([a-z0-9-]+\.ufileos\.com)$", r"s3-\1"),),
        profile={
            "addressing": "virtual", "list_v1": True, "checksum": "", "content_md5_required": True,
            "put_conditional": False, "etag_is_md5": False,
            "part_min": 8 * MIB, "part_max": 8 * MIB, "part_fixed": 8 * MIB,
        },
    ),
    # MinIO: checks x-amz-checksum-crc32c in every version of the last years;
    # honours If-None-Match: *.
    "minio": Provider(profile={"addressing": "path", "checksum": "crc32c", "etag_is_md5": True}),
    # SeaweedFS, as seen in version 4.48: checks every checksum header, honours If-None-Match: *, folds a//b
    # into a/b. It lists directory by directory in the order of bare names (a/1, a-b, a.txt), and
    # start-after means that order: after "a.t" it leaves out a/1, which sorts behind it. So neither may be
    # relied on.
    "seaweedfs": Provider(
        profile={
            "addressing": "path", "checksum": "crc32c", "etag_is_md5": True, "double_slash": False,
            "ordered": False, "start_after": False,
        }
    ),
    # Anything else that speaks S3. The checksum header is ignored where it is unknown, and a refusal (400,
    # 501) is answered by leaving it out.
    "generic": Provider(profile={"addressing": "auto", "checksum": "crc32c"}),
}  # fmt: skip
