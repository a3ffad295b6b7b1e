"""What the tests of the documentation share: the pages, their headings, tables, links and commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "entrepot"
FRONT = ("README.md", "README.zh.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^(#{1,6}) +(.+?)\s*$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Every page that people read."""
    return [ROOT / name for name in FRONT] + sorted(DOCS.rglob("*.md"))


def text(path: str | Path) -> str:
    """A page below the root."""
    return (ROOT / path).read_text(encoding="utf-8")


def prose(content: str) -> str:
    """A page without its code blocks."""
    return _FENCE.sub("", content)


def blocks(content: str, language: str = "") -> list[str]:
    """The code blocks of a page; of one language, if it is named."""
    return [body for name, body in _FENCE.findall(content) if not language or name == language]


def headings(content: str) -> list[tuple[int, str]]:
    """(level, text) of the headings."""
    return [(len(marks), words) for marks, words in _HEADING.findall(prose(content))]


def anchors(content: str) -> set[str]:
    """The anchors of a page's headings, as the usual renderers make them."""
    found: dict[str, int] = {}
    for _, words in headings(content):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", words).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found[anchor] = found.get(anchor, 0) + 1
    return {name if n == 0 else f"{name}-{n}" for name, count in found.items() for n in range(count)}


def links(content: str) -> list[str]:
    """The targets of all links."""
    return _LINK.findall(prose(content))


def rows(content: str) -> Iterator[list[str]]:
    """The cells of every row of every table, heads and rulers left out."""
    lines = prose(content).splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("|") or re.fullmatch(r"[|\s:-]+", line):
            continue
        if number + 1 < len(lines) and re.fullmatch(r"\|[|\s:-]+", lines[number + 1]):
            continue
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def codes(cell: str) -> list[str]:
    """What stands in backticks, code blocks left out."""
    return re.findall(r"`([^`]+)`", prose(cell))


def commands(content: str) -> list[list[str]]:
    """Every ``entrepot …`` command of the console blocks, as words, without pipes and comments."""
    found: list[list[str]] = []
    for block in blocks(content, "console") + blocks(content, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.removeprefix("$ ") if line.startswith("$ ") else ""
            if "entrepot " not in line:
                continue
            line = line[line.index("entrepot ") :]
            words = shlex.split(line, comments=True)
            for stop in ("|", ">", "&", "&&", ";", "||"):
                if stop in words:
                    words = words[: words.index(stop)]
            found.append(words[1:])
    return found


@dataclass(frozen=True)
class Verb:
    """One command of the program: the words that call it, and what it takes."""

    name: str
    command: click.Command

    @property
    def options(self) -> list[click.Option]:
        """Its options but help and hidden ones."""
        return [p for p in self.command.params if isinstance(p, click.Option) and not p.hidden]

    @property
    def flags(self) -> set[str]:
        """All spellings of its options."""
        return {name for option in self.options for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}


def verbs(server: str = "") -> dict[str, Verb]:
    """Every command of the program by its words (``sync``, ``connection add``); with ``server``, those that ask it."""
    from entrepot.cli.app import program

    found: dict[str, Verb] = {}

    def walk(name: str, command: click.Command) -> None:
        if name:
            found[name] = Verb(name, command)
        if isinstance(command, click.Group):
            context = click.Context(command)
            for word in command.list_commands(context):
                below = command.get_command(context, word)
                assert below is not None
                walk(f"{name} {word}".strip(), below)

    if not server:
        walk("", program)
        return found
    context = click.Context(program)
    context.params["server"] = server
    for word in sorted(program.list_commands(context)):
        if word not in LOCAL:
            below = program.get_command(context, word)
            assert below is not None
            walk(word, below)
    return found


LOCAL = frozenset({"cp", "ls", "du", "doctor", "runner", "keys", "ledger", "up", "completion"})
"""Commands that never ask a server."""
