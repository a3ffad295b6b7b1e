"""``entrepot completion``: what makes a shell complete commands, options, connections and paths."""

from __future__ import annotations

import click

from entrepot.model.errors import InternalError

from .groups import Command
from .terminal import out

_HELP = """Print the completion script of SHELL.

\b
  bash:  entrepot completion bash > ~/.local/share/bash-completion/completions/entrepot
  zsh:   entrepot completion zsh > "${fpath[1]}/_entrepot"
  fish:  entrepot completion fish > ~/.config/fish/completions/entrepot.fish

For this shell only: eval "$(entrepot completion bash)".
"""


@click.command("completion", cls=Command, help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> int:
    """Print the script."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise InternalError(f"no completion for {shell}")
    text = kind(ctx.find_root().command, {}, "entrepot", "_ENTREPOT_COMPLETE").source_template
    name = "_entrepot_completion"
    out(text % {"complete_func": name, "complete_var": "_ENTREPOT_COMPLETE", "prog_name": "entrepot"})
    return 0
