"""How strict each imitated vendor is: hosts, signing, listings, parts, etags, and its own words for every refusal.

Where a vendor's behaviour is not published the imitation takes the harder of the possibilities (``docs/providers.md``
says which ones those are), so that a client which passes here asks nothing of the real service that it may not offer.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20

Refusal = tuple[int, str, str]
"""(status, code, message) of an error document."""

NOT_IMPLEMENTED: Refusal = (
    501,
    "NotImplemented",
    "A header you provided implies functionality that is not implemented.",
)
BAD_SIGNATURE: Refusal = (
    403,
    "SignatureDoesNotMatch",
    "The request signature we calculated does not match the signature you provided.",
)
MD5_MISSING: Refusal = (400, "InvalidRequest", "Missing required header for this request: Content-MD5")


@dataclass(frozen=True, slots=True)
class Strict:
    """One vendor. ``None`` for a refusal means that the vendor accepts it."""

    type: str
    copied: str
    """The host as its console shows it."""
    host: str
    """The host that speaks S3."""
    region: str
    """The signing region."""
    bucket: str = "data"
    ak: str = "AKIAIOSFODNN7EXAMPLE"
    sk: str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    path_style: Refusal | None = None
    virtual_style: Refusal | None = None
    wrong_region: Refusal = BAD_SIGNATURE
    list_v2: Refusal | str | None = None
    """``ignore``: ``list-type=2`` is overlooked and answered as V1."""
    encoding_url: bool = True
    """False: ``encoding-type=url`` is overlooked, keys come as XML text."""
    encoding_breaks_marker: bool = False
    """With ``encoding-type=url`` the marker is overlooked: the same page for ever."""
    aws_chunked: Refusal | None = NOT_IMPLEMENTED
    checksum_headers: Refusal | str | None = NOT_IMPLEMENTED
    """``ignore``: neither looked at nor repeated."""
    delete_without_md5: Refusal | None = MD5_MISSING
    conditional_put: str = "ignore"
    anonymous: Refusal = (403, "AccessDenied", "Access Denied")
    part_min: int = 5 * MIB
    part_fixed: int = 0
    etags: str = "md5"
    """md5, upper (MD5 in capitals), qetag, us3."""
    key_max: int = 1024
    leading_slash: bool = True
    server: str = ""
    hours: int = 0
    """Times of open uploads are told in this zone (hours east of UTC)."""
    page_max: int = 1000


VENDORS: dict[str, Strict] = {
    "S3": Strict(
        type="S3",
        copied="s3.eu-west-1.amazonaws.com",
        host="s3.eu-west-1.amazonaws.com",
        region="eu-west-1",
        wrong_region=(
            400,
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region '{signed}' is wrong; expecting '{region}'",
        ),
        aws_chunked=None,
        checksum_headers=None,
        conditional_put="accept",
        server="AmazonS3",
    ),
    "OSS": Strict(
        type="OSS",
        copied="oss-cn-hangzhou.aliyuncs.com",
        host="s3.oss-cn-hangzhou.aliyuncs.com",
        region="cn-hangzhou",
        ak="LTAI5tExampleExampleExam",
        sk="Example0Example0Example0Exampl",
        path_style=(403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access."),
        wrong_region=(400, "InvalidArgument", "Invalid signing region in Authorization header."),
        aws_chunked=(
            400,
            "InvalidArgument",
            "aws-chunked encoding is not supported with the specified x-amz-content-sha256 value.",
        ),
        checksum_headers="ignore",
        delete_without_md5=(400, "MissingArgument", "Missing Some Required Arguments."),
        part_min=100 * KIB,
        etags="upper",
        key_max=1023,
        leading_slash=False,
        server="AliyunOSS",
    ),
    "COS": Strict(
        type="COS",
        copied="cos.ap-guangzhou.myqcloud.com",
        host="cos.ap-guangzhou.myqcloud.com",
        region="ap-guangzhou",
        bucket="data-1250000000",
        ak="AKIDExampleExampleExampleExampleExam",
        path_style=(
            403,
            "PathStyleDomainForbidden",
            "The bucket you are attempting to access must be addressed using COS virtual-styled domain.",
        ),
        list_v2="ignore",
        part_min=MIB,
        key_max=850,
        server="tencent-cos",
    ),
    "OBS": Strict(
        type="OBS",
        copied="obs.cn-north-4.myhuaweicloud.com",
        host="obs.cn-north-4.myhuaweicloud.com",
        region="cn-north-4",
        ak="EXAMPLEEXAMPLEEXAMPL",
        path_style=(405, "VirtualHostDomainRequired", "Please use virtual-host-style access."),
        list_v2=(405, "FsNotSupport", "ListObjectsV2 is not supported by a file system bucket."),
        encoding_url=False,
        encoding_breaks_marker=True,
        part_min=100 * KIB,
        server="OBS",
    ),
    "BOS": Strict(
        type="BOS",
        copied="bj.bcebos.com",
        host="s3.bj.bcebos.com",
        region="bj",
        ak="0123456789abcdef0123456789abcdef",
        sk="fedcba9876543210fedcba9876543210",
        list_v2="ignore",
        server="BceBos",
    ),
    "KS3": Strict(
        type="KS3",
        copied="ks3-cn-beijing.ksyuncs.com",
        host="ks3-cn-beijing.ksyuncs.com",
        region="BEIJING",
        ak="AKLTExampleExampleExampl",
        path_style=(403, "AccessDenied", "Second level domain is forbidden, use the third level domain of the bucket."),
        list_v2=NOT_IMPLEMENTED,
        server="Tengine",
        hours=8,
    ),
    "QINIU": Strict(
        type="QINIU",
        copied="s3.cn-east-1.qiniucs.com",
        host="s3.cn-east-1.qiniucs.com",
        region="cn-east-1",
        ak="Example_-0Example_-0Example_-0Example_-0",
        sk="0-_elpmaxE0-_elpmaxE0-_elpmaxE0-_elpmaxE",
        wrong_region=(
            400,
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region is wrong; expecting '{region}'.",
        ),
        encoding_url=False,
        etags="qetag",
        key_max=750,
        leading_slash=False,
        server="nginx",
    ),
    "UFILE": Strict(
        type="UFILE",
        copied="cn-bj.ufileos.com",
        host="s3-cn-bj.ufileos.com",
        region="cn-bj",
        ak="ucloudexample@example.com1414411423000=",
        sk="4f9ef5df2abab2c6fccd1e9515cb7e2df8c6bb65",
        list_v2="ignore",
        part_min=8 * MIB,
        part_fixed=8 * MIB,
        etags="us3",
        server="openresty",
    ),
}
"""All third-party types but WASB, which Azurite stands in for."""
