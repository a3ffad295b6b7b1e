"""What a runner on another machine says survives the wire, and what is no such message is refused by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.ledger import port_json
from entrepot.model.errors import FailureClass, UsageError
from entrepot.model.shard import Doomed, Failure, Orders, Partial, Progress, Shard
from entrepot.model.totals import FIELDS, Totals

KEYS = st.binary(max_size=40)
COUNTS = st.integers(0, 1 << 62)
TOTALS = st.builds(lambda values: Totals(*values), st.lists(COUNTS, min_size=len(FIELDS), max_size=len(FIELDS)))
EVIDENCE = st.one_of(st.binary(max_size=40), COUNTS, st.tuples(COUNTS, COUNTS))
FAILURES = st.builds(Failure, KEYS, st.sampled_from(list(FailureClass)), st.text(), COUNTS, COUNTS)
DOOMED = st.builds(Doomed, KEYS, EVIDENCE, COUNTS)
PROGRESS = st.builds(
    Progress,
    shard_id=COUNTS,
    fence=COUNTS,
    cursor=KEYS,
    totals=TOTALS,
    failed=st.booleans(),
    destination_entries=COUNTS,
    failures=st.lists(FAILURES, max_size=3),
    doomed=st.lists(DOOMED, max_size=3),
    warnings=st.lists(st.text(), max_size=3),
)
SHARDS = st.builds(
    Shard,
    id=COUNTS,
    task_id=st.text("ABC123", min_size=1),
    phase=st.sampled_from(["scan", "verify", "delete"]),
    fence=COUNTS,
    low=KEYS,
    high=st.none() | KEYS,
    cursor=KEYS,
    totals=TOTALS,
)
PARTIALS = st.builds(
    Partial,
    key=KEYS,
    size=COUNTS,
    evidence=EVIDENCE,
    part_size=COUNTS,
    upload_id=st.text(),
    staged=st.text(),
    done=st.lists(COUNTS, max_size=5),
    started=st.floats(0, 1e12),
)
ORDERS = st.builds(
    Orders,
    stop=st.sampled_from(["", "pause", "cancel"]),
    lost=st.lists(COUNTS, max_size=4).map(tuple),
    hungry=COUNTS,
    bandwidth=st.none() | COUNTS,
)


def _over_the_wire(value):
    return json.loads(json.dumps(value))


@given(PROGRESS)
def test_a_checkpoint_survives(progress):
    assert port_json.progress_in(_over_the_wire(port_json.progress_out(progress))) == progress


@given(SHARDS)
def test_a_shard_survives(shard):
    assert port_json.shard_in(_over_the_wire(port_json.shard_out(shard))) == shard


@given(PARTIALS)
def test_a_half_moved_object_survives(partial):
    assert port_json.partial_in(_over_the_wire(port_json.partial_out(partial))) == partial


@given(ORDERS)
def test_orders_survive(orders):
    assert port_json.orders_in(_over_the_wire(port_json.orders_out(orders))) == orders


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cursor": "?"}, "cursor"),
        ({"cursor": None}, "cursor"),
        ({"shard_id": "1"}, "shard_id"),
        ({"fence": True}, "fence"),
        ({"totals": []}, "totals"),
        ({"totals": {"copied": "x"}}, "totals"),
        ({"failures": {}}, "failures"),
        ({"failures": [["a"]]}, "failures"),
        ({"doomed": [["AA==", {}, 1]]}, "evidence"),
        ({"doomed": [["AA==", True, 1]]}, "evidence"),
        ({"doomed": "x"}, "doomed"),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_name(change, named):
    good = port_json.progress_out(Progress(1, 1, b"k", Totals()))
    with pytest.raises(UsageError, match=named):
        port_json.progress_in({**good, **change})
