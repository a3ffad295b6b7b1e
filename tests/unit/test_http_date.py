"""Dates in headers: the plain form by ourselves, older ones by the library, everything else refused."""

from __future__ import annotations

from email.utils import formatdate, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.storage.httpdate import unix_time


@given(st.integers(0, 253_402_300_799))
def test_reads_what_the_library_writes(seconds: int) -> None:
    text = formatdate(seconds, usegmt=True)
    assert unix_time(text) == seconds == parsedate_to_datetime(text).timestamp()


@pytest.mark.parametrize(
    "text", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 10:49:37 +0200"]
)
def test_reads_the_older_forms(text: str) -> None:
    assert unix_time(text) == 784111777


@pytest.mark.parametrize(
    "text", ["", "soon", "Sun, 06 Nov 1994", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 28:49:37 GMT"]
)
def test_refuses_what_is_no_date(text: str) -> None:
    with pytest.raises(ValueError):
        unix_time(text)
