"""The lane with a toy dialect on a scripted socket: order of events, framing, early replies, holds and spreads."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.model.errors import CorruptError, StoreError, UnexpectedReplyError
from entrepot.storage.base import FileRegion, Get, Head, Op, Put
from entrepot.storage.wire.dialect import AGAIN_MAX, Again, Dialect, Endpoint, Hold, Intake, Outgoing, Spread, Turn
from entrepot.storage.wire.lane import HttpLane
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor
from wire_parts import QUICK, Bench, Sink, nothing

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Script:
    """A server that answers each request of a connection by ``answer(request line, body, number)``.

    Bytes are sent; a list is sent piece by piece; None closes. ``early`` answers before the body is read.
    """

    def __init__(self, answer: Callable[[str, bytes, int], Any], *, early: bool = False) -> None:
        self.answer = answer
        self.early = early
        self.seen: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock: socket.socket) -> None:
        stream = sock.makefile("rb")
        try:
            while line := stream.readline():
                length = 0
                while (header := stream.readline()) not in {b"\r\n", b""}:
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                text = line.decode().strip()
                body = b"" if self.early else stream.read(length)
                self.seen.append(text)
                reply = self.answer(text, body, len(self.seen))
                if reply is None:
                    break
                for piece in [reply] if isinstance(reply, bytes) else reply:
                    sock.sendall(piece)
                    time.sleep(0.01 if not isinstance(reply, bytes) else 0)
                if self.early and length:
                    break
        except OSError:
            pass
        finally:
            if not self.early:
                stream.close()
                sock.close()

    def close(self) -> None:
        self.listener.close()
        for sock in self.open:
            sock.close()


class Toy(Dialect):
    """GET, PUT and HEAD without any signing."""

    def __init__(self, port: int) -> None:
        super().__init__(Endpoint("127.0.0.1", port))
        self.events: list[str] = []
        self.locked = False
        self.turns[Get] = Turn("get", self.ask, self.told, self.intake)
        self.turns[Put] = Turn("put", self.send, self.told)
        self.turns[Head] = Turn("head", self.look, self.told, bodyless=True)

    def ask(self, op: Get) -> Any:
        self.events.append(f"ask {op.key.decode()}")
        if op.key == b"spread":
            return Spread([Get(b"one", op.done), Get(b"two", op.done)])
        if op.key == b"held" and self.locked:
            raise Hold
        if op.key == b"refused":
            raise UnexpectedReplyError("refused here")
        return b"GET /%s HTTP/1.1\r\n\r\n" % op.key

    def look(self, op: Head) -> bytes:
        return b"HEAD /%s HTTP/1.1\r\n\r\n" % op.key

    def send(self, op: Put) -> Any:
        if isinstance(op.body, FileRegion):
            return Outgoing(b"PUT /%s HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (op.key, op.body.length), op.body)
        head = b"PUT /%s HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (op.key, len(op.body))
        return Outgoing(head, memoryview(op.body)) if len(op.body) > 1000 else head + op.body

    def intake(self, op: Get, status: int, head: bytes, length: int | None) -> Intake | None:
        note = self.note(op)
        start = max(0, note.reached)
        return Intake(op.sink, start, (length or 0) - start, start) if op.sink else None

    def told(self, op: Any, status: int, head: bytes, body: Any) -> None:
        self.events.append(f"told {op.key.decode()}")
        op.headers = head
        if status == 599:
            raise Again(StoreError("again and again"))
        if status == 598:
            self.note(op).damaged += 1
            raise CorruptError("damaged")
        if status >= 500:
            raise UnexpectedReplyError(f"HTTP {status}", retryable=True)
        if status >= 400:
            raise UnexpectedReplyError(f"HTTP {status}: {bytes(body).decode()}")
        if isinstance(op, Get) and not op.sink:
            op.body = body

    @property
    def holding(self) -> bool:
        return self.locked

    def subject(self, op: Op) -> str:
        return op.key.decode()


Make = Callable[..., tuple[Bench, Script, Toy]]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[tuple[Bench, Script]] = []

    def build(answer: Any, *, early: bool = False, **options: Any) -> tuple[Bench, Script, Toy]:
        script = Script(answer if callable(answer) else lambda *_: answer, early=early)
        reactor = Reactor()
        toy = Toy(script.port)
        bench = Bench(HttpLane(toy, reactor, LaneOptions(**{**QUICK, **options})), reactor)
        made.append((bench, script))
        return bench, script, toy

    yield build
    for bench, script in made:
        bench.lane.close()
        bench.reactor.close()
        script.close()


def reply(body: bytes, status: bytes = b"200 OK", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), extra, body)


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH:2\r\n\r\nok",
        [b"HTTP/1.1 2", b"00 OK\r\nContent-Le", b"ngth: 2\r\n\r", b"\no", b"k"],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["plain", "lower", "upper", "split", "chunked", "interim", "interim first", "close", "206"],
)
def test_replies_in_every_form(make: Make, answer: Any) -> None:
    bench, script, _ = make(answer, connections=2)
    ops = [Get(b"k%d" % i, nothing) for i in range(6)]
    bench.run(*ops)
    assert [(op.error, bytes(op.body)) for op in ops] == [(None, b"ok")] * 6
    assert len(script.seen) == 6


def test_a_body_until_close_is_taken_when_the_server_closes(make: Make) -> None:
    def answer(_line: str, _body: bytes, number: int) -> Any:
        return closing(b"HTTP/1.1 200 OK\r\n\r\nuntil close", script)

    def closing(data: bytes, server: Script) -> Any:
        sock = server.open[-1]
        sock.sendall(data)
        sock.shutdown(socket.SHUT_RDWR)

    bench, script, _ = make(answer, connections=1)
    assert bytes(bench.one(Get(b"k", nothing)).body) == b"until close"


def test_head_has_no_body_although_it_announces_one(make: Make) -> None:
    bench, script, _ = make(
        lambda line, *_: b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" if "HEAD" in line else OK, connections=1
    )
    for _ in range(3):
        bench.one(Head(b"h", nothing))
        assert bytes(bench.one(Get(b"g", nothing)).body) == b"ok"
    assert len(script.open) == 1


def test_the_next_request_leaves_before_the_finished_one_is_told(make: Make) -> None:
    bench, _, toy = make(OK, connections=1)
    names = iter([b"b", b"c"])
    finished: list[Op] = []
    bench.lane.feed = lambda: next((Get(name, finished.append) for name in names), None)
    bench.lane.submit(Get(b"a", finished.append))
    bench.until(lambda: len(finished) == 3)
    assert toy.events == ["ask a", "ask b", "told a", "ask c", "told b", "told c"]


def test_an_error_while_the_body_is_still_being_sent_is_read(make: Make) -> None:
    bench, script, _ = make(reply(b"too big", b"413 Too Large"), early=True)
    with pytest.raises(UnexpectedReplyError, match="too big"):
        bench.one(Put(b"k", bytes(30_000_000), nothing))
    assert len(script.seen) == 1


def test_a_file_that_shrinks_while_it_is_sent_is_changed(make: Make, tmp_path: Path) -> None:
    bench, _, _ = make(OK)
    file = tmp_path / "f"
    file.write_bytes(bytes(1000))
    with file.open("rb") as body:
        op = Put(b"k", FileRegion(body.fileno(), 0, 5000), nothing)
        bench.run(op)
    assert op.error is not None
    assert op.error.failure == "changed"


@pytest.mark.parametrize("status", [b"500 x", b"598 x"])
def test_faults_are_tried_again_until_the_budget(make: Make, status: bytes) -> None:
    bench, script, _ = make(reply(b"", status), attempts=4)
    op = Get(b"k", nothing)
    bench.run(op)
    assert op.error is not None
    assert (op.attempts, len(script.seen), bench.lane.retries) == (4, 4, 3)


def test_refusals_are_final(make: Make) -> None:
    bench, script, _ = make(reply(b"no", b"403 x"))
    op, early = Get(b"k", nothing), Get(b"refused", nothing)
    bench.run(op, early)
    assert (op.attempts, len(script.seen)) == (1, 1)
    assert str(early.error) == "refused here"


def test_lessons_end_too(make: Make) -> None:
    bench, script, _ = make(reply(b"", b"599 x"))
    op = Get(b"k", nothing)
    bench.run(op)
    assert str(op.error) == "again and again"
    assert len(script.seen) == AGAIN_MAX + 1


def test_garbage_and_silence_are_faults(make: Make) -> None:
    answers = iter([b"no http at all\r\n\r\n", None, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", OK])
    bench, _, _ = make(lambda *_: next(answers), connections=1, stall_timeout=0.4)
    assert bytes(bench.one(Get(b"k", nothing)).body) == b"ok"


def test_a_sink_that_fails_ends_the_operation_only(make: Make) -> None:
    class Full:
        def write(self, offset: int, piece: memoryview) -> None:
            raise StoreError("disk full")

    bench, _, _ = make(reply(bytes(500_000)), connections=1)
    bad, good = Get(b"bad", nothing, sink=Full()), Get(b"good", nothing, sink=Sink())
    bench.run(bad, good)
    assert str(bad.error) == "disk full"
    assert good.error is None


def test_spread_replaces_an_operation_by_others(make: Make) -> None:
    bench, script, _ = make(OK)
    finished: list[Op] = []
    bench.lane.submit(Get(b"spread", finished.append))
    bench.until(lambda: len(finished) == 2)
    assert {line.split()[1] for line in script.seen} == {"/one", "/two"}


def test_held_operations_wait_for_the_key(make: Make) -> None:
    bench, _, toy = make(OK)
    toy.locked = True
    finished: list[bytes] = []
    bench.lane.submit(Get(b"held", lambda op: finished.append(op.key)))
    bench.one(Get(b"free", nothing))
    assert finished == []
    toy.locked = False
    bench.one(Get(b"key", nothing))
    bench.until(lambda: finished == [b"held"])


def test_a_closed_lane_drops_what_is_in_flight(make: Make) -> None:
    bench, _, _ = make(lambda *_: time.sleep(0.3) or OK)
    finished: list[Op] = []
    bench.lane.submit(Get(b"k", finished.append))
    bench.reactor.poll(0.1)
    bench.lane.close()
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        bench.reactor.poll(0.05)
    assert finished == []
    assert bench.lane.connections == 0


def test_failures_without_a_request_do_not_pile_up_on_the_stack(make: Make) -> None:
    bench, _, _ = make(OK)
    left = [2000]

    def again(op: Op) -> None:
        left[0] -= 1
        if left[0] > 0:
            bench.lane.submit(Get(b"refused", again))

    bench.lane.submit(Get(b"refused", again))
    bench.until(lambda: left[0] == 0)


def test_counts_by_verb(make: Make) -> None:
    bench, _, _ = make(OK)
    bench.run(*(Get(b"k", nothing) for _ in range(3)), Put(b"p", b"x", nothing))
    counts = bench.lane.requests()
    assert (counts["get"], counts["put"], counts["list"]) == (3, 1, 0)


def test_patience_with_slow_work_only_where_it_is_due(make: Make) -> None:
    bench, script, toy = make(lambda *_: time.sleep(1.2) or OK, stall_timeout=0.4, slow_timeout=5.0, attempts=2)
    toy.turns[Head].patient = True
    toy.turns[Head].bodyless = False
    bench.one(Head(b"slow", nothing))
    assert len(script.seen) == 1
    op = Get(b"k", nothing)
    bench.run(op)
    assert op.error is not None
    assert op.error.failure == "timeout"


def test_one_submitted_operation_opens_one_connection(make: Make) -> None:
    bench, script, _ = make(OK)
    bench.lane.feed = lambda: None
    bench.one(Get(b"k", nothing))
    assert len(script.open) == 1


def test_a_feed_with_plenty_gets_all_connections(make: Make) -> None:
    bench, script, _ = make(lambda *_: time.sleep(0.02) or OK, connections=12)
    finished: list[Op] = []
    bench.lane.feed = lambda: Get(b"k", finished.append)
    bench.lane.submit(Get(b"k", finished.append))
    bench.until(lambda: len(finished) > 60)
    bench.lane.feed = None
    assert len(script.open) == 12
