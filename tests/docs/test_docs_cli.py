"""Every command and option is documented, as it is, and nothing is documented that is not there."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import click
import pytest
from docs_parts import ROOT, Verb, blocks, codes, commands, pages, rows, text, verbs

from entrepot.model.options import SyncOptions

VERBS = verbs()
THERE = verbs("http://server.example")
"""What asks a server; ``sync`` and others are in both."""
PAGES = {
    "sync": "docs/moving-data.md",
    "cp": "docs/moving-data.md",
    "verify": "docs/moving-data.md",
    "ls": "docs/moving-data.md",
    "du": "docs/moving-data.md",
    "connection": "docs/locations-and-connections.md",
    "tasks": "docs/resume-and-state.md",
    "doctor": "docs/operations.md",
    "up": "docs/server.md",
    "runner": "docs/remote-runners.md",
    "keys": "docs/security.md",
    "ledger": "docs/operations.md",
    "completion": "docs/operations.md",
    **dict.fromkeys(
        ("schedule", "volume", "user", "token", "access-key", "webhook", "usage", "audit", "runners"), "docs/client.md"
    ),
}
SECTIONS = {"sync", "cp", "verify", "ls", "du"}


def _section(name: str) -> str:
    """What the documentation says about one command."""
    content = text(PAGES[name.split(maxsplit=1)[0]])
    if name == "schedule add":
        # It takes the options of a sync, and says so.
        return content + _section("sync")
    if name not in SECTIONS:
        return content
    start = content.index(f"\n## `{name}`")
    end = content.find("\n## ", start + 1)
    return content[start : end if end > 0 else len(content)]


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_command_is_documented(name: str) -> None:
    assert name.split(maxsplit=1)[0] in PAGES, f"say in PAGES which page is about `entrepot {name}`"
    assert f"entrepot {name}" in _section(name) or name in SECTIONS or name == "completion"


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_option_is_documented_under_all_its_names(name: str) -> None:
    found = {word.split()[0] for code in codes(_section(name)) for word in [code] if code.startswith("-")}
    missing = [opt for option in VERBS[name].options for opt in option.opts if not _told(opt, option, found)]
    assert not missing, f"{PAGES[name.split(maxsplit=1)[0]]} does not tell `entrepot {name}` options {missing}"


def _told(opt: str, option: click.Option, found: set[str]) -> bool:
    """The long name must stand there; a short one too, in the table of ``sync`` or the command's own."""
    if opt in found:
        return True
    return not opt.startswith("--") and any(long in found for long in option.opts if long.startswith("--"))


def _option_rows() -> dict[str, list[str]]:
    """Rows of the tables of ``sync`` by their long option."""
    found: dict[str, list[str]] = {}
    for cells in rows(_section("sync")):
        for code in codes(cells[0]):
            if code.startswith("--"):
                found[code.split()[0]] = cells
    return found


def test_the_tables_of_sync_hold_each_option_with_its_metavar_and_default() -> None:
    table = _option_rows()
    for option in VERBS["sync"].options:
        long = next(opt for opt in option.opts if opt.startswith("--"))
        assert long in table, f"{long} has no row"
        named, _, default, _ = table[long]
        short = [opt for opt in option.opts if not opt.startswith("--")]
        assert set(short) <= {code.split()[0] for code in codes(named)}, f"{long} is also {short}"
        if option.metavar:
            assert f"`{long} {option.metavar}`" in named, f"{long} takes {option.metavar}"
        assert default == _default(option), f"{long}: the default is {_default(option)}, not {default}"
    flags = VERBS["sync"].flags
    unknown = [name for name in table if name not in flags]
    assert not unknown, f"documented, but no options of sync: {unknown}"


def _default(option: click.Option) -> str:
    if option.name == "preserve":
        return f"`{','.join(SyncOptions().preserve)}`"
    if option.is_flag:
        return "off"
    if option.multiple or option.default in (None, "") or type(option.default).__name__ == "Sentinel":
        return "none"
    return f"`{option.default}`"


def test_every_field_of_the_options_is_in_the_tables_of_sync() -> None:
    told = {code for cells in _option_rows().values() for code in codes(cells[1])}
    assert told == {field.name for field in fields(SyncOptions)}


def test_every_choice_of_an_option_is_documented() -> None:
    for name, verb in VERBS.items():
        page = text(PAGES[name.split()[0]]) + (_section(name) if name == "schedule add" else "")
        told = set(codes(page)) | {code.rstrip(":/") for code in codes(page)} | set(re.findall(r"[{|](\w+)", page))
        for option in verb.options:
            if isinstance(option.type, click.Choice):
                missing = [c for c in option.type.choices if c not in told]
                assert not missing, f"`entrepot {name}` {option.opts[0]}: {missing} are not told"


def test_what_cp_and_verify_take_is_told_exactly() -> None:
    sync = VERBS["sync"].flags
    for name in ("cp", "verify"):
        told = {c.split()[0] for c in codes(_section(name)) if c.startswith("--")}
        wrong = told & sync - VERBS[name].flags
        assert not wrong, f"`entrepot {name}` takes no {wrong}"


@pytest.mark.parametrize("page", [str(path.relative_to(ROOT)) for path in pages()])
def test_commands_in_the_pages_exist_with_their_options(page: str) -> None:
    for words in commands(text(page)):
        verb = _verb_of(words)
        if verb is None:
            continue
        for word in words:
            if re.fullmatch(r"--?[a-zA-Z0][\w-]*(=.*)?", word):
                flag = word.partition("=")[0]
                assert flag in _flags(verb.name), f"{page}: entrepot {' '.join(words)}: no option {flag}"


def _flags(name: str) -> set[str]:
    return {flag for known in (VERBS, THERE) if name in known for flag in known[name].flags}


def _verb_of(words: list[str]) -> Verb | None:
    plain = [word for word in words if not word.startswith("-")]
    for count in (2, 1):
        name = " ".join(plain[:count])
        found = VERBS.get(name) or THERE.get(name)
        if found and not (len(plain) > count and isinstance(found.command, click.Group)):
            return found
    assert not plain or plain[0].startswith("{"), f"no such command: entrepot {' '.join(words)}"
    return None


def test_every_option_of_sync_has_an_example() -> None:
    used = {word for words in commands(_section("sync")) if words[0] == "sync" for word in words}
    for option in VERBS["sync"].options:
        shown = [opt for opt in option.opts if opt in used]
        assert shown, f"no example uses {option.opts[-1]}"


def test_examples_are_accepted_by_the_program() -> None:
    """Each example of ``sync`` and ``cp`` parses, values too."""
    seen = 0
    for name in ("sync", "cp"):
        for words in commands(_section(name)):
            if words[0] != name or "[OPTIONS]" in words:
                continue
            context = VERBS[name].command.make_context(name, list(words[1:]))
            assert context.params["source"]
            seen += 1
    assert seen > 20


def test_the_json_of_a_run_is_shown_as_it_is() -> None:
    from entrepot.cli.summary import as_json
    from entrepot.model.task import TaskState
    from entrepot.model.totals import Totals
    from entrepot.service.request import Snapshot

    shown = json.loads(blocks(_section("sync"), "json")[0])
    real = as_json(Snapshot("t", TaskState.SUCCEEDED, Totals()))
    assert list(shown) == list(real)
    assert list(shown["requests"]) == list(real["requests"])


def test_a_line_of_a_report_is_shown_as_it_is() -> None:
    from entrepot.service.report import COLUMNS

    shown = json.loads(blocks(text("docs/reports-and-manifests.md"), "json")[0])
    assert tuple(shown) == COLUMNS
