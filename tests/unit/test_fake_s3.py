"""The scripted S3 server, proved with boto3 as an independent client."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config

from parts.fake_s3 import FakeS3


def client(fake: FakeS3, **changes: Any) -> Any:
    env = fake.env()
    settings: dict[str, Any] = {
        "endpoint_url": env["AWS_ENDPOINT_URL"],
        "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        "aws_session_token": env.get("AWS_SESSION_TOKEN"),
        "region_name": env["AWS_REGION"],
    }
    settings["config"] = Config(
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path"},
        connect_timeout=5,
        read_timeout=5,
        **changes.pop("config", {}),
    )
    return boto3.client("s3", **{**settings, **changes})


@pytest.fixture
def s3(fake_s3: FakeS3) -> Any:
    fake_s3.make_bucket("box")
    return client(fake_s3)


ODD_KEYS = [
    "a",
    "a b",
    "a+b",
    "a//b",
    "/lead",
    "tail/",
    "é",
    "e\u0301",
    "日本",
    "😀",
    "%2F",
    "a&b<c>\"'",
    "~x",
    "#?=",
    "a\tb",
]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_fake_round_trip_of_odd_keys(fake_s3: FakeS3, s3: Any, key: str) -> None:
    s3.put_object(Bucket="box", Key=key, Body=b"data of " + key.encode())
    assert fake_s3.dump("box") == {key.encode(): b"data of " + key.encode()}
    assert s3.get_object(Bucket="box", Key=key)["Body"].read() == b"data of " + key.encode()
    assert [o["Key"] for o in s3.list_objects_v2(Bucket="box")["Contents"]] == [key]
    assert [o["Key"] for o in s3.list_objects_v2(Bucket="box", EncodingType="url")["Contents"]] != []
    if key != "a\tb":
        s3.delete_objects(Bucket="box", Delete={"Objects": [{"Key": key}]})
        assert fake_s3.dump("box") == {}
