"""The page of the server: every setting, every flag and every order, as they are."""

from __future__ import annotations

from docs_parts import codes, rows, text

from entrepot.cli import up
from entrepot.control.settings import options
from entrepot.ledger import leader, orders
from entrepot.service import scheduler

PAGE = text("docs/server.md")


def test_every_setting_has_its_row() -> None:
    told = {codes(cells[0])[0]: cells for cells in rows(PAGE) if len(cells) == 4 and codes(cells[0])}
    known = {option.name: option for option in options()}
    assert set(told) == set(known)
    for name, option in known.items():
        _, variable, default, meaning = told[name]
        assert variable == f"`{option.variable}`"
        assert default == (f"`{option.default}`" if option.default else ""), name
        assert meaning == option.help, name


def test_every_flag_is_told() -> None:
    told = {code.split()[0] for code in codes(PAGE) if code.startswith("--")}
    assert told == {opt for option in up.command.params for opt in option.opts if opt.startswith("--")}


def test_every_order_has_its_row() -> None:
    told = {cells[0] for cells in rows(PAGE) if len(cells) == 3}
    assert {"pause", "resume", "cancel", "retry", "approve", "reject"} <= told
    assert all(hasattr(orders, name) for name in ("pause", "resume", "cancel", "retry", "approve", "reject"))


def test_figures_that_stand_in_the_code() -> None:
    assert f"not heard of for {leader.SECONDS:.0f} s" in PAGE.replace("\n  ", " ")
    assert scheduler.CRASHES_MAX == 6
    assert "dies six times in a row" in PAGE
