"""A group of verbs under one noun, which suggests what was probably meant."""

from __future__ import annotations

import click


class Unknown(click.UsageError):
    """A wrong word, with what was probably meant."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Command(click.Command):
    """A command whose complaints always know which command they are about."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as fault:
            fault.ctx = fault.ctx or ctx
            raise


class Verbs(click.Group):
    """A click group whose complaint about an unknown verb names the nearest one."""

    command_class = Command
    server_verbs: frozenset[str] = frozenset()
    """Verbs that only a server has: named here to say so."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = self.list_commands(ctx)
        if name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if self.get_command(ctx, name) is None:
            where = ctx.command_path.removeprefix("entrepot").strip()
            if name in self.server_verbs:
                raise Unknown(
                    f"{ctx.command_path} {name} asks a server, and none is named",
                    f"entrepot --server URL --token-file FILE {where} {name} …, or set ENTREPOT_SERVER",
                )
            raise Unknown(
                f"no such command: {f'{where} ' if where else ''}{name}",
                near(name, known, f"see {ctx.command_path} --help"),
            )
        return super().resolve_command(ctx, args)


def near(word: str, known: list[str], otherwise: str) -> str:
    """``did you mean …?``, or ``otherwise`` when nothing is close."""
    import difflib

    found = difflib.get_close_matches(word, known, n=2, cutoff=0.55)
    if found and difflib.SequenceMatcher(None, word, found[0]).ratio() > 0.8:
        found = found[:1]
    return f"did you mean {' or '.join(found)}?" if found else otherwise
