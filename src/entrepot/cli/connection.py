"""``entrepot connection``: stored endpoints and credentials; secrets by prompt, file or environment only."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from typing import Any, get_args

import click

from entrepot.model.connection import Addressing, Connection, Provider
from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret

from .exits import OK
from .exits import PLACE as PLACE_CODE
from .groups import Verbs
from .places import stored_names
from .terminal import out, out_json, say, styled, warn
from .words import plain_text

_FORBIDDEN = (
    "--secret-key",
    "--secret",
    "--session-token",
    "--sas",
    "--password",
    "--account-key",
    "--token",
)
_SECRETISH = ("secret", "password", "passwd", "token", "sas", "private")


class Name(click.Argument):
    """The name of a stored connection, completed by the shell."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in stored_names() if name.startswith(incomplete)]


class _Connections(Verbs):
    server_verbs = frozenset({"browse"})


@click.group("connection", cls=_Connections)
def command() -> None:
    """Store and test endpoints and credentials.

    A stored connection NAME is used as NAME:BUCKET/PREFIX. Secrets are encrypted at rest, never shown,
    and never taken from the command line.
    """


def _refuse(_ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise UsageError(
            f"{param.opts[0]}: a secret on the command line can be read by every user of this machine",
            hint="use --secret-file or --secret-env, or be asked; and change the secret if it is real",
        )


def no_secrets_here(function: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse, with the reason, the options that would hold a secret."""
    for name in _FORBIDDEN:
        function = click.option(name, name.strip("-").replace("-", "_") + "_refused", hidden=True, is_eager=True,
                                expose_value=False, callback=_refuse)(function)  # fmt: skip
    return function


@command.command("add")
@click.argument("name")
@click.option(
    "--provider",
    type=click.Choice(get_args(Provider)),
    help="Whose rules the endpoint follows.  [default: told by the endpoint's host]",
)
@click.option("--endpoint", default="", metavar="URL", help="https://HOST[:PORT], without the bucket.")
@click.option("--region", default="", help="Region to sign for.")
@click.option("--access-key", default="", metavar="ID", help="Access key id (azure: the account; sftp: the user).")
@click.option("--secret-file", metavar="FILE", help="Read the secret key from FILE (- for stdin).")
@click.option("--secret-env", metavar="VARIABLE", help="Read the secret key from an environment variable.")
@click.option("--session-token-file", metavar="FILE", help="Read a session token from FILE.")
@click.option("--session-token-env", metavar="VARIABLE", help="Read a session token from a variable.")
@click.option("--sas-file", metavar="FILE", help="Read an Azure SAS from FILE.")
@click.option("--sas-env", metavar="VARIABLE", help="Read an Azure SAS from a variable.")
@click.option("--profile", default="", help="Use this profile of the AWS files instead of keys.")
@click.option("--anonymous", is_flag=True, help="Public buckets: no credentials, requests are not signed.")
@click.option(
    "--addressing",
    type=click.Choice(get_args(Addressing)),
    default="auto",
    show_default=True,
    help="Bucket in the path or in the host name.",
)
@click.option("--ca-file", default="", metavar="FILE", help="Certificate authority to trust.")
@click.option("--insecure-skip-verify", is_flag=True, help="Do not check the certificate.")
@click.option("--disable-ssl", is_flag=True, help="Plain HTTP.")
@click.option("--requester-pays", is_flag=True, help="Accept the costs of requester-pays buckets.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Provider-specific extra.")
@click.option("--replace", is_flag=True, help="Replace a connection of this name.")
@no_secrets_here
def add(name: str, **flags: Any) -> int:  # fmt: skip
    """Store the connection NAME.

    The secret key is asked for, unless --secret-file or --secret-env says where it is.

    \b
      entrepot connection add lab --provider minio --endpoint https://minio.lab:9000 --access-key AKID
      entrepot connection add open --endpoint https://data.example --anonymous
    """
    from entrepot.service.connections import ConnectionStore, check

    options = extras(flags["options"])
    flags["provider"] = flags["provider"] or provider_of(flags["endpoint"])
    if flags["anonymous"]:
        options["anonymous"] = "true"
    ca_file = os.path.abspath(os.path.expanduser(flags["ca_file"])) if flags["ca_file"] else ""
    if ca_file and not os.path.isfile(ca_file):
        raise UsageError(f"--ca-file {flags['ca_file']}: no such file")
    plain = {key: flags[key] for key in ("provider", "endpoint", "region", "addressing", "profile",
                                         "insecure_skip_verify", "disable_ssl", "requester_pays")}  # fmt: skip
    draft = Connection(name, **plain, ca_file=ca_file, options=options)
    check(draft)
    store = ConnectionStore()
    if name in store and not flags["replace"]:
        store.add(draft)
    access, secret, token, sas = credentials(flags)
    store.add(
        Connection(name, **plain, ca_file=ca_file, options=options, access_key=access, secret_key=Secret(secret),
                   session_token=Secret(token), sas=Secret(sas)),
        overwrite=flags["replace"],
    )  # fmt: skip
    say(f"connection {name} stored; try it: entrepot connection test {name} BUCKET")
    return OK


def provider_of(endpoint: str) -> str:
    """The provider that an endpoint belongs to."""
    if not endpoint:
        return "s3"
    from urllib.parse import urlsplit

    from entrepot.storage.s3.profiles import provider_of

    return provider_of(urlsplit(endpoint).hostname or "")


def extras(pairs: tuple[str, ...]) -> dict[str, str]:
    """``KEY=VALUE`` pairs. Raises UsageError, also for what looks like a secret."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError("--option: write KEY=VALUE")
        if any(word in key.lower() for word in _SECRETISH):
            raise UsageError(
                f"--option {key}: secrets are not taken from the command line",
                hint="use --secret-file or --secret-env",
            )
        found[key] = value
    return found


def credentials(flags: dict[str, Any]) -> tuple[str, str, str, str]:
    """(access key, secret key, session token, SAS), asking on a terminal for what is missing."""
    given = [
        flags["access_key"],
        flags["secret_file"],
        flags["secret_env"],
        flags["sas_file"],
        flags["sas_env"],
    ]
    if flags["anonymous"] or flags["profile"]:
        if any(given):
            raise UsageError("keys mean nothing together with --anonymous or --profile", hint="leave one out")
        return "", "", "", ""
    access: str = flags["access_key"]
    secret = read_secret("secret", flags["secret_file"], flags["secret_env"])
    token = read_secret("session-token", flags["session_token_file"], flags["session_token_env"])
    sas = read_secret("sas", flags["sas_file"], flags["sas_env"])
    if sas or (access and secret):
        return access, secret, token, sas
    if not sys.stdin.isatty():
        missing = (
            "access key and no secret key" if not access and not secret else "secret key" if access else "access key"
        )
        raise UsageError(
            f"no {missing} given, and there is no terminal to ask on",
            hint="give --access-key and --secret-file or --secret-env, or --anonymous, or --profile",
        )
    access = access or click.prompt("Access key", err=True).strip()
    secret = secret or click.prompt("Secret key (not shown)", hide_input=True, err=True).strip()
    return access, secret, token, sas


def read_secret(what: str, path: str | None, variable: str | None) -> str:
    """A secret from a file (``-``: stdin) or a variable; empty when neither is named. Raises UsageError."""
    if path and variable:
        raise UsageError(f"--{what}-file and --{what}-env exclude each other")
    if variable:
        found = os.environ.get(variable, "").strip()
        if not found:
            raise UsageError(f"--{what}-env {variable}: the variable is not set or empty", hint="export it first")
        return found
    if not path:
        return ""
    try:
        with open(0 if path == "-" else os.path.expanduser(path), encoding="utf-8", closefd=path != "-") as file:
            found = file.read(65537).strip()
            mode = os.fstat(file.fileno()).st_mode
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(f"--{what}-file {path}: {getattr(fault, 'strerror', None) or 'is no text'}") from None
    if not found or "\n" in found or len(found) > 65536:
        raise UsageError(f"--{what}-file {path}: expected one line with the secret and nothing else")
    if stat.S_ISREG(mode) and mode & 0o077:
        warn(f"{path} can be read by others", f"chmod 600 {path}, or remove it now")
    return found


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def list_(as_json: bool) -> int:
    """List the stored connections."""
    from entrepot.service.connections import ConnectionStore

    store = ConnectionStore()
    names = store.names()
    if not names and not as_json:
        say("no connections yet: entrepot connection add NAME --endpoint URL --access-key ID")
    for name in names:
        connection, held = store.describe(name)
        if as_json:
            out_json(_shown(connection, held))
        else:
            where = connection.endpoint or connection.region or "-"
            out(f"{name:<20} {connection.provider:<10} {plain_text(where):<44} {_who(connection)}".rstrip())
    return OK


@command.command("show")
@click.argument("name", cls=Name)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(name: str, as_json: bool) -> int:
    """Show the connection NAME, without its secrets."""
    from entrepot.service.connections import ConnectionStore

    shown = _shown(*ConnectionStore().describe(name))
    if as_json:
        out_json(shown)
        return OK
    for key, value in shown.items():
        if value not in ("", False, {}):
            out(f"{key:<22} {plain_text(value if isinstance(value, str) else str(value).lower())}")
    return OK


def _shown(connection: Connection, held: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": connection.name,
        "provider": connection.provider,
        "endpoint": connection.endpoint,
        "region": connection.region,
        "access_key": masked(connection.access_key),
        **{field: "set" if field in held else "" for field in ("secret_key", "session_token", "sas")},
        "profile": connection.profile,
        "addressing": connection.addressing,
        "ca_file": connection.ca_file,
        "insecure_skip_verify": connection.insecure_skip_verify,
        "disable_ssl": connection.disable_ssl,
        "requester_pays": connection.requester_pays,
        "options": connection.options,
    }


def masked(access_key: str) -> str:
    """Enough of an access key to know it again."""
    if not access_key:
        return ""
    return f"{access_key[:4]}…{access_key[-2:]}" if len(access_key) >= 12 else "…"


def _who(connection: Connection) -> str:
    if connection.options.get("anonymous"):
        return "anonymous"
    return f"profile {connection.profile}" if connection.profile else masked(connection.access_key)


@command.command("remove")
@click.argument("names", cls=Name, nargs=-1, required=True, metavar="NAME...")
def remove(names: tuple[str, ...]) -> int:
    """Forget connections and their secrets."""
    from entrepot.service.connections import ConnectionStore

    store = ConnectionStore()
    for name in names:
        store.remove(name)
        say(f"connection {name} removed")
    return OK


@command.command("rotate-key")
def rotate_key() -> int:
    """Make a new encryption key and encrypt all stored secrets with it."""
    from entrepot.service.connections import ConnectionStore

    count = ConnectionStore().rotate_key()
    say(f"new key made; {count} connection{'' if count == 1 else 's'} encrypted with it")
    return OK


@command.command("test")
@click.argument("name", cls=Name)
@click.argument("place", default="", metavar="[BUCKET[/PREFIX]]")
@click.option("--read-only", is_flag=True, help="Do not try to write and delete an object.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def test(name: str, place: str, read_only: bool, as_json: bool) -> int:
    """Test the connection NAME, step by step.

    With a bucket, also list it, and write and delete one small object with a random name below PREFIX.
    """
    from dataclasses import asdict

    from entrepot.service.connections import ConnectionStore

    from .reach import BRIDGED, check_connection

    connection = ConnectionStore().get(name)
    bucket, _, prefix = place.removeprefix(f"{name}:").strip("/").partition("/")
    below = os.fsencode(prefix) + b"/" if prefix else b""
    good = True
    for check in check_connection(connection, bucket, below, write=not read_only):
        good = good and check.verdict != "fail"
        if as_json:
            out_json(asdict(check))
        else:
            print_check(check.verdict, check.name, check.text, check.hint)
        sys.stdout.flush()
    if good and not bucket and not as_json and connection.provider not in BRIDGED:
        say(f"hint: entrepot connection test {name} BUCKET tries listing and writing too")
    return OK if good else PLACE_CODE


def print_check(verdict: str, name: str, text: str, hint: str) -> None:
    """One line of a report, and what to do where something is not well."""
    style = {"ok": "ok", "warn": "warn", "fail": "error"}[verdict]
    out(f"{styled(f'{verdict:<5}', style, sys.stdout)} {name:<22} {plain_text(text)}")
    if hint and verdict != "ok":
        out(f"{'':<28} → {plain_text(hint)}")
