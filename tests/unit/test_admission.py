"""Which waiting tasks begin: every limit holds, order is kept, and nobody is held up by another one's limit."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from entrepot.ledger.queue import Waiting, covers
from entrepot.service.admission import Limits, Running, admit
from entrepot.service.claim import overlaps


def waiting(name, *, scope="", connections=(), destination=("", b""), writes=True):
    return Waiting(name, scope, 0, frozenset(connections), destination, writes, "")


def running(name, *, scope="", connections=(), destination=("", b"")):
    return Running(name, scope, frozenset(connections), destination)


def ids(found):
    return [task.id for task in found]


def test_as_many_as_there_is_room_for_in_order():
    queue = [waiting(name) for name in "abcd"]
    assert ids(admit(queue, [running("x")], Limits(3))) == ["a", "b"]
    assert ids(admit(queue, [running("x")] * 3, Limits(3))) == []


def test_a_full_connection_lets_those_behind_pass():
    queue = [waiting("a", connections=["c"]), waiting("b", connections=["c", "d"]), waiting("e", connections=["d"])]
    limits = Limits(9, by_connection={"c": 1})
    assert ids(admit(queue, [], limits)) == ["a", "e"]
    assert ids(admit(queue, [running("x", connections=["c"])], limits)) == ["e"]


def test_a_quota_counts_everything_below_its_scope():
    queue = [waiting("a", scope="t/1"), waiting("b", scope="t/2"), waiting("c", scope="tt")]
    assert ids(admit(queue, [], Limits(9, by_scope={"t": 1}))) == ["a", "c"]
    assert ids(admit(queue, [running("x", scope="t")], Limits(9, by_scope={"t": 1}))) == ["c"]
    assert ids(admit(queue, [], Limits(9, by_scope={"": 2}))) == ["a", "b"]


def test_a_destination_has_one_writer():
    queue = [
        waiting("a", destination=("s3|b", b"x/")),
        waiting("b", destination=("s3|b", b"x/y/")),
        waiting("c", destination=("s3|b", b"z/")),
        waiting("d"),
    ]
    assert ids(admit(queue, [], Limits(9))) == ["a", "c", "d"]
    assert ids(admit(queue, [running("x", destination=("s3|b", b""))], Limits(9))) == ["d"]


places = st.sampled_from([("", b""), ("p", b""), ("p", b"a/"), ("p", b"a/b/"), ("q", b"a/")])
scopes = st.sampled_from(["", "a", "a/b", "a/c", "ab"])
names = st.frozensets(st.sampled_from("cde"), max_size=2)


@given(
    st.lists(st.tuples(scopes, names, places), max_size=12),
    st.lists(st.tuples(scopes, names), max_size=4),
    st.integers(1, 8),
    st.dictionaries(st.sampled_from("cde"), st.integers(1, 3)),
    st.dictionaries(scopes, st.integers(0, 4)),
)
def test_no_limit_is_ever_passed(queue, busy, most, by_connection, by_scope):
    tasks = [waiting(str(n), scope=s, connections=c, destination=d) for n, (s, c, d) in enumerate(queue)]
    going = [running(f"r{n}", scope=s, connections=c) for n, (s, c) in enumerate(busy)]
    chosen = admit(tasks, going, Limits(most, by_connection, by_scope))
    everyone = [*going, *chosen]
    assert [int(task.id) for task in chosen] == sorted(int(task.id) for task in chosen)
    assert not chosen or len(everyone) <= most
    used = Counter(name for task in everyone for name in task.connections)
    before = Counter(name for task in going for name in task.connections)
    for name, limit in by_connection.items():
        assert used[name] <= max(limit, before[name])
    for scope, limit in by_scope.items():
        count = sum(covers(scope, task.scope) for task in everyone)
        assert count <= max(limit, sum(covers(scope, task.scope) for task in going))
    known = [task.destination for task in chosen if task.destination[0]]
    assert not any(overlaps(a, b) for i, a in enumerate(known) for b in known[:i])
