"""The audit's chain: every change, gap and cut is found."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.security.audit import FIELDS, START, Broken, canonical, link, redacted, verify

texts = st.text(max_size=12)
records = st.lists(
    st.fixed_dictionaries({"at": st.floats(0, 2e9)} | {name: texts for name in FIELDS if name not in ("id", "at")}),
    min_size=1,
    max_size=8,
)


def chain(contents: list[dict[str, Any]], first: int = 1) -> list[dict[str, Any]]:
    previous, rows = START, []
    for number, content in enumerate(contents, first):
        row = {**content, "id": number, "previous": previous}
        previous = row["hash"] = link(previous, row)
        rows.append(row)
    return rows


@given(records)
def test_an_untouched_chain_is_well(contents: list[dict[str, Any]]) -> None:
    rows = chain(contents)
    assert verify(rows) is None
    assert verify(rows, anchor=(rows[-1]["id"], rows[-1]["hash"])) is None
    assert verify(rows[1:], start=None) is None
    assert verify([]) is None


@given(records, st.data())
def test_every_change_names_its_row(contents: list[dict[str, Any]], data: st.DataObject) -> None:
    rows = chain(contents)
    place = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from([*FIELDS[1:], "previous", "hash"]))
    changed = dict(rows[place])
    changed[name] = changed[name] + 1.0 if name == "at" and changed[name] else f"{changed[name]}x"
    rows[place] = changed
    broken = verify(rows)
    assert broken is not None and broken.id == rows[place]["id"]


@given(records.filter(lambda r: len(r) > 2), st.data())
def test_gaps_swaps_and_insertions_are_found(contents: list[dict[str, Any]], data: st.DataObject) -> None:
    rows = chain(contents)
    place = data.draw(st.integers(0, len(rows) - 2))
    assert verify(rows[:place] + rows[place + 1 :]) is not None
    assert verify([*rows[:place], rows[place + 1], rows[place], *rows[place + 2 :]]) is not None
    assert verify([*rows[: place + 1], dict(rows[place]), *rows[place + 1 :]]) is not None


def test_a_cut_at_the_end_shows_against_what_was_noted_elsewhere() -> None:
    rows = chain([dict.fromkeys(FIELDS, "x") | {"at": 1.0} for _ in range(5)])
    noted = (5, rows[4]["hash"])
    assert verify(rows[:3]) is None
    assert verify(rows[:3], anchor=noted) == Broken(5, "it is missing: rows at the end were removed")
    assert verify(rows[3:], start=None, anchor=(2, rows[1]["hash"])) == Broken(2, "it is missing")


def test_a_chain_that_was_made_anew_shows_against_what_was_noted() -> None:
    contents = [dict.fromkeys(FIELDS, "x") | {"at": 1.0} for _ in range(5)]
    noted = (3, chain(contents)[2]["hash"])
    contents[1] = contents[1] | {"action": "nothing happened"}
    again = chain(contents)
    assert verify(again) is None
    assert verify(again, anchor=noted) == Broken(3, "its hash is not the one that was noted")


def test_rows_that_lack_something_are_broken_not_a_crash() -> None:
    assert verify([{"id": 1, "previous": START, "hash": "x"}]) == Broken(1, "its content was changed")


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_one_value_has_one_spelling(value: dict[str, Any]) -> None:
    mixed = list(value.items())
    random.Random(1).shuffle(mixed)
    assert canonical(dict(mixed)) == canonical(value)


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


def test_details_are_kept_without_secrets() -> None:
    text = redacted({"name": "lab", "secret_key": "hunter22", "more": {"Token": "abc", "note": "Bearer abcdefghij"}})
    assert text == '{"more":{"Token":"***","note":"Bearer ***"},"name":"lab","secret_key":"***"}'
