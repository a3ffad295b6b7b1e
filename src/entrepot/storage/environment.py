"""The connection that a bare location means: endpoint and keys from the environment and the AWS files.

For the S3 family the AWS variables count: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_DEFAULT_REGION, AWS_PROFILE, AWS_CONFIG_FILE,
AWS_SHARED_CREDENTIALS_FILE, AWS_CA_BUNDLE, AWS_NO_SIGN_REQUEST. A scheme other than ``s3`` first looks for
variables of its own, so that two providers can meet in one command: OSS_ENDPOINT_URL, OSS_ACCESS_KEY_ID,
OSS_SECRET_ACCESS_KEY, OSS_SESSION_TOKEN, OSS_REGION, likewise COS_…, OBS_…, BOS_…, KS3_…, QINIU_…, UFILE_…,
AOSS_…, MINIO_…. Azure reads AZURE_STORAGE_… by itself (``storage.azure``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from entrepot.model.connection import Addressing, Connection, Provider
from entrepot.model.errors import PlaceError, UsageError
from entrepot.model.location import S3_SCHEMES, Location
from entrepot.model.secret import Secret

from .s3.credentials import missing_hint, nested, profile_values, truth
from .s3.profiles import provider_of


def connection_for(location: Location, environ: Mapping[str, str] | None = None) -> Connection:
    """The connection of an S3-family location without a name.

    Raises PlaceError when there are no credentials, UsageError for half a pair of them or other schemes.
    """
    if location.scheme not in S3_SCHEMES:
        raise UsageError(f"{location}: this scheme takes no S3 credentials")
    env = os.environ if environ is None else environ
    own = "" if location.scheme == "s3" else location.scheme.upper() + "_"
    profile = env.get("AWS_PROFILE") or env.get("AWS_DEFAULT_PROFILE") or ""
    values = profile_values(profile or "default", env)
    endpoint = _endpoint(own, env, values)
    access, secret, token = _keys(own, env)
    anonymous = not access and truth(env.get("AWS_NO_SIGN_REQUEST", ""))
    connection = Connection(
        name="",
        provider=_provider(location.scheme, endpoint),
        endpoint=endpoint,
        region=_region(own, env, values),
        access_key=access,
        secret_key=Secret(secret),
        session_token=Secret(token),
        addressing=_addressing(values),
        ca_file=env.get("AWS_CA_BUNDLE") or values.get("ca_bundle", ""),
        profile="" if access or anonymous else profile or ("default" if _has_keys(values) else ""),
        requester_pays=env.get("AWS_REQUEST_PAYER", "").lower() == "requester",
        options={"anonymous": "true"} if anonymous else {},
    )
    if bool(access) != bool(secret):
        found, lacking = ("access key", "secret key") if access else ("secret key", "access key")
        raise UsageError(f"{location}: the environment has the {found} but no {lacking}", hint=missing_hint(connection))
    if not access and not connection.profile and not anonymous:
        raise PlaceError(f"{location}: no credentials", hint=missing_hint(connection))
    return connection


def _keys(own: str, env: Mapping[str, str]) -> tuple[str, str, str]:
    """(access key, secret key, session token): all from one family of variables, never mixed."""
    for family in (own, "AWS_") if own else ("AWS_",):
        access, secret = env.get(f"{family}ACCESS_KEY_ID", ""), env.get(f"{family}SECRET_ACCESS_KEY", "")
        if access or secret:
            return access, secret, env.get(f"{family}SESSION_TOKEN", "")
    return "", "", ""


def _endpoint(own: str, env: Mapping[str, str], values: Mapping[str, str]) -> str:
    if own and env.get(f"{own}ENDPOINT_URL"):
        return env[f"{own}ENDPOINT_URL"]
    if own and env.get(f"{own}ACCESS_KEY_ID"):
        return ""  # keys of its own: the provider's public endpoint, never the one meant for s3://
    if truth(env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "")):
        return ""
    return env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or values.get("endpoint_url") or ""


def _region(own: str, env: Mapping[str, str], values: Mapping[str, str]) -> str:
    if own and env.get(f"{own}REGION"):
        return env[f"{own}REGION"]
    if own:
        return ""  # a region of Amazon means nothing elsewhere; the endpoint's host names it
    return env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or values.get("region") or ""


def _provider(scheme: str, endpoint: str) -> Provider:
    """What ``s3://`` means depends on the endpoint: Amazon without one, else whoever runs that host."""
    if scheme != "s3":
        return cast(Provider, scheme)
    if not endpoint:
        return "s3"
    host = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}").hostname or ""
    return cast(Provider, provider_of(host))


def _addressing(values: Mapping[str, str]) -> Addressing:
    asked = nested(values.get("s3", "")).get("addressing_style", "auto")
    return cast(Addressing, asked) if asked in {"path", "virtual"} else "auto"


def _has_keys(values: Mapping[str, str]) -> bool:
    return bool(values.get("aws_access_key_id") or values.get("credential_process"))
