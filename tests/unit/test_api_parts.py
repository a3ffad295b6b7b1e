"""Parts of the HTTP application by themselves: page tokens, buckets, streams, options of syncs, addresses."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.api import paging
from entrepot.api.auth import address_of
from entrepot.api.limits import Buckets, Streams
from entrepot.api.shape import moment, seconds
from entrepot.control import syncoptions
from entrepot.model.errors import RequestError, TooMany
from entrepot.model.options import SyncOptions

MARKS = st.lists(
    st.one_of(st.text(st.characters(categories=["L", "N"])), st.integers(0, 1 << 61)), min_size=1, max_size=4
)


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_ANYTHING = st.recursive(_PLAIN, lambda inner: st.lists(inner, max_size=3), max_leaves=4)


@given(MARKS, st.one_of(st.none(), st.text(), st.lists(st.text())))
def test_a_page_token_gives_its_mark_back(mark: list[str | int], question: object) -> None:
    made = paging.token(mark, question)
    assert paging.mark(made, [type(part) for part in mark], question) == mark


@given(st.text(max_size=60))
def test_what_is_no_page_token_is_refused(text: str) -> None:
    if text:
        with pytest.raises(RequestError) as refused:
            paging.mark(text, (str, int))
        assert refused.value.field == "page_token"


def test_a_page_token_fits_its_list_only() -> None:
    made = paging.token(["a"], "one")
    with pytest.raises(RequestError):
        paging.mark(made, (str,), "two")
    for raw in ([1, 2], {"a": 1}, ["", "a\x00"], ["", True], ["", 1 << 70], "x", []):
        text = urlsafe_b64encode(json.dumps(raw).encode()).decode()
        with pytest.raises(RequestError):
            paging.mark(text, (str,))
    assert paging.token(None) == "" and paging.mark("", (str,)) is None


def test_a_bucket_fills_again() -> None:
    now = [0.0]
    bucket = Buckets(2.0, 3, clock=lambda: now[0])
    for _ in range(3):
        bucket.take("a")
    with pytest.raises(TooMany) as refused:
        bucket.take("a")
    assert refused.value.retry_after == pytest.approx(0.5)
    bucket.take("b")
    now[0] = 0.5
    bucket.take("a")
    assert not bucket.try_take("a")
    now[0] = 100.0
    assert [bucket.try_take("a") for _ in range(4)] == [True, True, True, False], "it holds no more than its burst"


def test_asking_whether_a_bucket_is_empty_takes_nothing() -> None:
    bucket = Buckets(1.0, 1, clock=lambda: 0.0)
    assert bucket.empty("a") == 0 and bucket.empty("a") == 0
    bucket.take("a")
    assert bucket.empty("a") == pytest.approx(1.0)


def test_no_rate_is_no_limit() -> None:
    bucket = Buckets(0.0, 1)
    assert all(bucket.try_take("a") for _ in range(100))


def test_streams_are_counted_by_name_and_in_all() -> None:
    streams = Streams(3, 2)
    with streams.one("a"), streams.one("a"):
        with pytest.raises(TooMany):
            streams.enter("a")
        with streams.one("b"), pytest.raises(TooMany):
            streams.enter("c")
    assert streams.open == 0


@given(st.floats(0, 253_402_300_000))
def test_times_go_out_and_come_in(at: float) -> None:
    assert seconds("f", moment(at) or "") == pytest.approx(at, abs=0.002)


@pytest.mark.parametrize("text", ["", "x", "2026-11-22", "2026-11-22T08:30:00", "1969-12-31T23:59:59Z", "9999999", "٢"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        seconds("f", text)


def test_options_become_those_of_the_engine() -> None:
    found = syncoptions.read(
        {
            "compare": "size", "filters": ["- *.tmp"], "include": ["*.jpg"], "exclude": ["*"], "report": True,
            "modified_after": "1970-01-01T00:00:01.5Z", "delete_max_share": 1, "preserve": ["mtime"], "verify": None,
            "list": "volume://a/b", "resource_spec": "2Core_4GiB",
        }
    )  # fmt: skip
    assert found.options == SyncOptions(
        compare="size",
        filters=("- *.tmp", "+ *.jpg", "- *"),
        report=syncoptions.REPORT,
        modified_after=1_500_000_000,
        delete_max_share=1.0,
        preserve=("mtime",),
    )
    assert (found.list, found.resource_spec) == ("volume://a/b", "2Core_4GiB")
    assert "verify" not in found.plain


@pytest.mark.parametrize(
    ("given_", "field"),
    [
        ({"nope": 1}, "nope"), ({"compare": "x"}, "compare"), ({"compare": 1}, "compare"),
        ({"min_size": -1}, "min_size"),
        ({"min_size": True}, "min_size"), ({"min_size": 2, "max_size": 1}, "min_size"), ({"fsync": 1}, "fsync"),
        ({"filters": ["x"]}, "filters.0"), ({"include": [""]}, "include.0"), ({"include": "x"}, "include"),
        ({"include": ["a\n"]}, "include.0"), ({"exclude": ["*" * 40]}, "exclude.0"),
        ({"preserve": ["acl"]}, "preserve.0"),
        ({"bandwidth_windows": ["8-9=1"]}, "bandwidth_windows.0"), ({"modified_after": "now"}, "modified_after"),
        ({"delete_excluded": True}, "delete_excluded"), ({"delete": "destination", "list": "volume://a/b"}, "delete"),
        ({"delete_max_share": float("nan")}, "delete_max_share"), ({"part_size": 1}, "part_size"),
        ({"resource_spec": "0Core_1GiB"}, "resource_spec"), ({"storage_class": "\ud800"}, "storage_class"),
        ({"modified_after": "2026-01-02T00:00:00Z", "modified_before": "2026-01-01T00:00:00Z"}, "modified_after"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(given_: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        syncoptions.read(given_)
    assert refused.value.field == f"options.{field}"


@given(st.dictionaries(st.sampled_from(syncoptions.NAMES), _ANYTHING))
def test_any_options_are_read_or_refused_by_name(values: dict[str, object]) -> None:
    try:
        found = syncoptions.read(values)
    except RequestError as refused:
        assert refused.field.startswith("options")
    else:
        assert SyncOptions.from_json(found.options.to_json()) == found.options


def test_the_address_is_the_last_one_that_is_not_a_trusted_proxy() -> None:
    def address(peer: str, forwarded: str, trusted: tuple[str, ...]) -> str:
        return address_of({"client": (peer, 1)}, {b"x-forwarded-for": forwarded.encode()}, trusted)

    assert address("10.0.0.1", "1.2.3.4", ()) == "10.0.0.1"
    assert address("9.9.9.9", "1.2.3.4", ("10.0.0.0/8",)) == "9.9.9.9"
    assert address("10.0.0.1", "6.6.6.6, 1.2.3.4", ("10.0.0.0/8",)) == "1.2.3.4"
    assert address("10.0.0.1", "1.2.3.4, 10.0.0.2", ("10.0.0.0/8",)) == "1.2.3.4"
    assert address("10.0.0.1", "<script>", ("10.0.0.0/8",)) == "10.0.0.1"
