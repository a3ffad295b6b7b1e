"""boto3 as an independent client for tests: made for a server, without retries, and its refusals as values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


class HasEnv(Protocol):
    """A server that tells clients their environment."""

    def env(self) -> dict[str, str]: ...


def client(server: HasEnv, *, config: dict[str, Any] | None = None, **changes: Any) -> Any:
    """An S3 client of ``server``; ``changes`` override its arguments."""
    env = server.env()
    settings: dict[str, Any] = {
        "endpoint_url": env["AWS_ENDPOINT_URL"],
        "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        "aws_session_token": env.get("AWS_SESSION_TOKEN"),
        "region_name": env["AWS_REGION"],
    }
    wire: dict[str, Any] = {"retries": {"total_max_attempts": 1}, "connect_timeout": 5, "read_timeout": 5}
    wire |= {"s3": {"addressing_style": "path"}, "signature_version": "s3v4"}
    return boto3.client("s3", config=Config(**{**wire, **(config or {})}), **{**settings, **changes})


def code_of(call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """The S3 error code that a call gets; empty when it succeeds."""
    try:
        call(*arguments, **named)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def status_of(call: Callable[..., Any], *arguments: Any, **named: Any) -> int:
    """The HTTP status that a call gets."""
    try:
        reply = call(*arguments, **named)
    except ClientError as error:
        reply = error.response
    return int(reply["ResponseMetadata"]["HTTPStatusCode"])
