"""The program's root: commands imported when called, and the one place where errors become exits."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, cast

import click

from entrepot import __version__
from entrepot.model.errors import EntrepotError, UsageError

from .exits import INTERNAL, INTERRUPTED, OK, USAGE, exit_code
from .groups import Verbs, near
from .terminal import complain, say

_TABLE = {
    "sync": ("sync", "Make DESTINATION hold what SOURCE holds."),
    "cp": ("copy", "Copy one object or file, or everything below a prefix."),
    "ls": ("ls", "List what lies at a place."),
    "du": ("du", "Count entries and bytes below a place."),
    "verify": ("verify", "Compare two places byte by byte."),
    "connection": ("connection", "Store and test endpoints and credentials."),
    "doctor": ("doctor", "Check this machine and what Entrepot needs."),
    "tasks": ("tasks", "Show the runs of this machine."),
    "runner": ("runner", "Lend the cores of this machine to a server."),
    "keys": ("keys", "Renew the keys that seal a server's secrets."),
    "ledger": ("ledger", "Check, recover, back up and restore the ledger."),
    "up": ("up", "Run a server."),
    "completion": ("completion", "Print the completion script of a shell."),
}
_ON_A_SERVER = {
    "schedule": ("schedules", "command", "Have syncs run again and again."),
    "volume": ("volumes", "command", "Open directories of the server by name."),
    "user": ("users", "command", "Let people and programs in, and give them roles."),
    "token": ("tokens", "command", "Make and revoke tokens."),
    "access-key": ("tokens", "access_key", "Make and revoke pairs of keys."),
    "webhook": ("webhooks", "command", "Have a receiver told of the end of tasks."),
    "usage": ("usage", "command", "Show what was moved, and set limits to it."),
    "audit": ("audit", "command", "Read and check the record of who did what."),
    "runners": ("runners", "command", "List the machines that help the server."),
}
_ON_BOTH = {"sync": "sync", "verify": "verify", "tasks": "tasks", "connection": "connections"}
"""What a server does as well as this machine, and the module that asks it."""
_OTHER_WORDS = {"task": "tasks", "connections": "connection", "schedules": "schedule", "volumes": "volume",
                "users": "user", "tokens": "token", "access-keys": "access-key", "webhooks": "webhook"}  # fmt: skip
"""Singular or plural: both are understood, one is shown."""

_OF_THE_ROOT = frozenset({"--server", "--token-file", "--local"})

_EPILOG = """\b
Places:  /a/path · s3://BUCKET/PREFIX (also oss, cos, obs, bos, ks3, qiniu, ufile, aoss, minio)
         az://CONTAINER/PREFIX · NAME:BUCKET/PREFIX of a stored connection
Exit:    0 done · 1 some entries failed · 2 wrong usage or settings · 3 place not found or not
         allowed · 4 refused by a guard · 5 internal error · 130 interrupted (run again to go on)
"""


class Commands(Verbs):
    """A group that imports a command's module when the command is called, and not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_TABLE, *_ON_A_SERVER]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = _OTHER_WORDS.get(cmd_name, cmd_name)
        if cmd_name in _ON_A_SERVER:
            module, attribute, _ = _ON_A_SERVER[cmd_name]
            found: click.Command = getattr(_remote(module), attribute)
            return found
        if cmd_name not in _TABLE:
            return None
        if ctx.params.get("server"):
            if cmd_name in _ON_BOTH:
                return cast(click.Command, _remote(_ON_BOTH[cmd_name]).command)
            _check_local(ctx, cmd_name)
        command: click.Command = import_module(f"{__package__}.{_TABLE[cmd_name][0]}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _TABLE.items()])
        with formatter.section("On a server, beside sync, verify, tasks and connection"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _ON_A_SERVER.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        texts = {name: entry[-1] for name, entry in {**_TABLE, **_ON_A_SERVER}.items()}
        return [CompletionItem(name, help=text) for name, text in texts.items() if name.startswith(incomplete)]


def _remote(module: str) -> Any:
    return import_module(f"{__package__}.remote.{module}")


def _check_local(ctx: click.Context, name: str) -> None:
    """Raise UsageError for a server that was typed, and means nothing to the command."""
    if name == "runner" or ctx.get_parameter_source("server") is not click.core.ParameterSource.COMMANDLINE:
        return
    raise UsageError(f"entrepot {name} acts on this machine alone", hint="leave out --server")


def _no_token_here(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise UsageError(
            "--token: a secret on the command line can be read by every user of this machine",
            hint="use --token-file, ENTREPOT_TOKEN_FILE or ENTREPOT_TOKEN; and revoke the token if it is real",
        )


def _unless_local(ctx: click.Context, _param: click.Parameter, server: str) -> str:
    if not ctx.params.get("local"):
        return server
    if ctx.get_parameter_source("server") is click.core.ParameterSource.COMMANDLINE:
        raise UsageError("--server and --local exclude each other")
    return ""


class ReaderGone(Exception):
    """Whoever read our output has enough. (click would answer a BrokenPipeError with an exit code of its own.)"""


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.option(
    "--server",
    default="",
    envvar="ENTREPOT_SERVER",
    metavar="URL",
    callback=_unless_local,
    help="Ask this server, instead of acting here (ENTREPOT_SERVER).",
)
@click.option(
    "--token-file",
    default="",
    envvar="ENTREPOT_TOKEN_FILE",
    metavar="FILE",
    help="File with the token for the server (ENTREPOT_TOKEN_FILE; else ENTREPOT_TOKEN).",
)
@click.option(
    "--ca-file",
    default="",
    envvar="ENTREPOT_CA_FILE",
    metavar="FILE",
    help="Certificate authority to trust for the server (ENTREPOT_CA_FILE).",
)
@click.option("--local", is_flag=True, is_eager=True, help="Act here, though ENTREPOT_SERVER is set.")
@click.option("--token", hidden=True, is_eager=True, expose_value=False, callback=_no_token_here)
@click.version_option(__version__, prog_name="entrepot", message="%(prog)s %(version)s")
@click.pass_context
def program(ctx: click.Context, /, server: str, token_file: str, ca_file: str, **_local: bool) -> None:
    """Move, check and look at data in object stores and file systems: here, or on a server."""
    if server:
        ctx.default_map = {"runner": {"server": server, "token_file": token_file, "ca_file": ca_file}}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program and answer its exit code; no exception leaves, except with ENTREPOT_DEBUG=1."""
    debug = os.environ.get("ENTREPOT_DEBUG", "") not in {"", "0"}
    _safe_streams()
    try:
        args = None if arguments is None else list(arguments)
        code = program.main(args=args, prog_name="entrepot", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except (BrokenPipeError, ReaderGone):
        _forget_stdout()
        return OK
    except (KeyboardInterrupt, click.Abort):
        say("")
        complain("interrupted")
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as fault:
        say(fault.format_message())
        return USAGE
    except click.ClickException as fault:
        complain(*_usage_words(fault))
        return USAGE
    except EntrepotError as fault:
        if debug:
            raise
        complain(fault.message, fault.hint)
        return exit_code(fault)
    except Exception as fault:
        if debug:
            raise
        if isinstance(fault, OSError) and fault.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
            where = f": {os.fsdecode(fault.filename)}" if fault.filename else " where the output goes"
            complain(f"{fault.strerror}{where}", "make room, or choose another place")
            return INTERNAL
        complain(
            f"internal error: {type(fault).__name__}: {fault}",
            "run again with ENTREPOT_DEBUG=1 for the details, and report it",
        )
        return INTERNAL


def _usage_words(fault: click.ClickException) -> tuple[str, str]:
    """Click's complaints in our own form: (message, hint)."""
    context = getattr(fault, "ctx", None)
    path = context.command_path if context is not None else "entrepot"
    see = f"see {path} --help"
    if isinstance(fault, click.NoSuchOption):
        names = [n for p in context.command.params for n in p.opts] if context is not None else []
        if context is not None and context.parent is not None and fault.option_name in _OF_THE_ROOT:
            return (
                f"no such option: {fault.option_name}",
                f"it stands before the command: entrepot {fault.option_name} …",
            )
        return f"no such option: {fault.option_name}", near(fault.option_name, names, see)
    param = getattr(fault, "param", None)
    if param is not None:
        name = param.opts[0] if param.param_type_name == "option" else param.human_readable_name
        if isinstance(fault, click.MissingParameter):
            return f"{name} is missing", see
        if isinstance(fault, click.BadParameter):
            return f"{name}: {fault.message.rstrip('.')}", see
    message = fault.format_message().strip().rstrip(".")
    return message[:1].lower() + message[1:], getattr(fault, "hint", "") or see


def _safe_streams() -> None:
    """A key or message that the locale cannot show must not stop a run; nor must a closed stream."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """The reader has gone (``| head``): nothing more to say, nor complaints when the interpreter ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
