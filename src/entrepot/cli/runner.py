"""``entrepot runner``: lend the cores of this machine to a server."""

from __future__ import annotations

import signal

import click

from .exits import OK
from .groups import Command
from .terminal import say


@click.command("runner", cls=Command)
@click.option("--server", required=True, envvar="ENTREPOT_SERVER", metavar="URL", help="The server to help.")
@click.option("--token-file", default="", envvar="ENTREPOT_TOKEN_FILE", metavar="FILE",
              help="File with a token of the role runner (else ENTREPOT_TOKEN).")  # fmt: skip
@click.option("--ca-file", default="", metavar="FILE", help="Certificate authorities to trust for the server.")
@click.option("--processes", type=click.IntRange(0, 1024), default=0, metavar="N", help="Processes; 0: one a core.")
@click.option("--name", default="", metavar="NAME", help="What the server calls this machine; else its host name.")
@click.option("--volume", "volumes", multiple=True, metavar="NAME=DIR",
              help="A volume of the server that this machine reaches at DIR. May be repeated.")  # fmt: skip
@click.option("--tasks", type=click.IntRange(0), default=0, metavar="N", help="Leave after N tasks; 0: never.")
def command(
    server: str, token_file: str, ca_file: str, processes: int, name: str, volumes: tuple[str, ...], tasks: int
) -> int:
    """Lend the cores of this machine to a server.

    Asks for tasks and works on their ranges beside the server's own processes, until it is told to end: Ctrl-C or
    SIGTERM give back what it holds. It is given the connections of a task with their secrets: use TLS.
    """
    from entrepot.runner.http_port import Link
    from entrepot.runner.node import Node, read_volumes
    from entrepot.sdk.token import find_token
    from entrepot.service.trade import transfer_trade

    token = find_token(file=token_file)
    reached = read_volumes(list(volumes))
    trade = transfer_trade()
    node = Node(
        lambda given: Link(server, given or token, ca_file=ca_file),
        trade.open_session,
        processes=processes,
        name=name,
        volumes=reached,
        say=say,
    )

    def leave(_number: int, _frame: object) -> None:
        node.leaving = True

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    done = node.run(tasks)
    say(f"left after {done} task{'' if done == 1 else 's'}")
    return OK
