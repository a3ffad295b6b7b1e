"""What runners and the ledger say to each other, as JSON: shards, checkpoints, orders; bytes travel as base64.

Both ends of ``runner/http_port`` use it. A message that does not have the form is a UsageError naming the part.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, cast

from entrepot.model.entry import Evidence
from entrepot.model.errors import UsageError
from entrepot.model.shard import Doomed, Failure, Orders, Partial, Phase, Progress, Shard
from entrepot.model.totals import Totals

Json = dict[str, Any]


def text_of(data: bytes | None) -> str | None:
    """Bytes as base64; None stays None (a range without an upper end)."""
    return None if data is None else b64encode(data).decode()


def bytes_of(text: Any, what: str = "key") -> bytes:
    """The reverse of :func:`text_of`. Raises UsageError."""
    try:
        return b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what}: not base64") from error


def _bytes_or_none(text: Any, what: str) -> bytes | None:
    return None if text is None else bytes_of(text, what)


def shard_out(shard: Shard) -> Json:
    """A leased shard."""
    return {
        "id": shard.id,
        "task_id": shard.task_id,
        "phase": shard.phase,
        "fence": shard.fence,
        "low": text_of(shard.low),
        "high": text_of(shard.high),
        "cursor": text_of(shard.cursor),
        "totals": shard.totals.as_dict(),
    }


def shard_in(value: Json) -> Shard:
    """The reverse of :func:`shard_out`."""
    return Shard(
        id=_number(value, "id"),
        task_id=_string(value, "task_id"),
        phase=cast(Phase, _string(value, "phase")),
        fence=_number(value, "fence"),
        low=bytes_of(value.get("low"), "low"),
        high=_bytes_or_none(value.get("high"), "high"),
        cursor=bytes_of(value.get("cursor"), "cursor"),
        totals=_totals(value),
    )


def progress_out(progress: Progress) -> Json:
    """A checkpoint of one shard."""
    return {
        "shard_id": progress.shard_id,
        "fence": progress.fence,
        "cursor": text_of(progress.cursor),
        "totals": progress.totals.as_dict(),
        "failed": progress.failed,
        "destination_entries": progress.destination_entries,
        "failures": [[text_of(f.key), str(f.failure), f.message, f.attempts, f.size] for f in progress.failures],
        "doomed": [doomed_out(doomed) for doomed in progress.doomed],
        "warnings": progress.warnings,
    }


def progress_in(value: Json) -> Progress:
    """The reverse of :func:`progress_out`."""
    return Progress(
        shard_id=_number(value, "shard_id"),
        fence=_number(value, "fence"),
        cursor=bytes_of(value.get("cursor"), "cursor"),
        totals=_totals(value),
        failed=bool(value.get("failed", False)),
        destination_entries=_number(value, "destination_entries"),
        failures=[_failure(item) for item in _list(value, "failures")],
        doomed=[doomed_in(item) for item in _list(value, "doomed")],
        warnings=[str(text) for text in _list(value, "warnings")],
    )


def _failure(item: Any) -> Failure:
    if not isinstance(item, list) or len(item) != 5:
        raise UsageError("failures: not [key, class, message, attempts, size]")
    key, failure, message, attempts, size = item
    return Failure(bytes_of(key, "failures"), str(failure), str(message), int(attempts), int(size))


def doomed_out(doomed: Doomed) -> list[Any]:
    """A journaled delete."""
    return [text_of(doomed.key), evidence_out(doomed.evidence), doomed.size]


def doomed_in(item: Any) -> Doomed:
    """The reverse of :func:`doomed_out`."""
    if not isinstance(item, list) or len(item) != 3:
        raise UsageError("doomed: not [key, evidence, size]")
    return Doomed(bytes_of(item[0], "doomed"), evidence_in(item[1]), int(item[2]))


def partial_out(partial: Partial) -> Json:
    """A half-moved object."""
    return {
        "key": text_of(partial.key),
        "size": partial.size,
        "evidence": evidence_out(partial.evidence),
        "part_size": partial.part_size,
        "upload_id": partial.upload_id,
        "staged": partial.staged,
        "done": partial.done,
        "started": partial.started,
    }


def partial_in(value: Json) -> Partial:
    """The reverse of :func:`partial_out`."""
    return Partial(
        key=bytes_of(value.get("key")),
        size=_number(value, "size"),
        evidence=evidence_in(value.get("evidence")),
        part_size=_number(value, "part_size"),
        upload_id=_string(value, "upload_id"),
        staged=_string(value, "staged"),
        done=[int(number) for number in _list(value, "done")],
        started=float(value.get("started", 0.0)),
    )


def orders_out(orders: Orders) -> Json:
    """The answer to a checkpoint."""
    return {
        "stop": orders.stop,
        "lost": list(orders.lost),
        "hungry": orders.hungry,
        "bandwidth": orders.bandwidth,
    }


def orders_in(value: Json) -> Orders:
    """The reverse of :func:`orders_out`."""
    stop = value.get("stop", "")
    if stop not in {"", "pause", "cancel"}:
        raise UsageError(f"stop: {stop!r} is no order")
    return Orders(
        stop=stop,
        lost=tuple(int(shard_id) for shard_id in _list(value, "lost")),
        hungry=_number(value, "hungry"),
        bandwidth=None if value.get("bandwidth") is None else _number(value, "bandwidth"),
    )


def evidence_out(evidence: Evidence) -> Any:
    """An etag as text, an mtime as a number, (mtime, ctime) as a list."""
    if isinstance(evidence, tuple):
        return list(evidence)
    return evidence if isinstance(evidence, int) else text_of(bytes(evidence))


def evidence_in(value: Any) -> Evidence:
    """The reverse of :func:`evidence_out`."""
    if isinstance(value, bool):
        raise UsageError("evidence: neither etag nor times")
    if isinstance(value, int):
        return value
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, int) for part in value):
        return value[0], value[1]
    return bytes_of(value, "evidence")


def _totals(value: Json) -> Totals:
    totals = value.get("totals")
    if not isinstance(totals, dict):
        raise UsageError("totals: not an object")
    try:
        return Totals.from_dict(totals)
    except (TypeError, ValueError) as error:
        raise UsageError("totals: not numbers") from error


def _number(value: Json, name: str) -> int:
    found = value.get(name, 0)
    if isinstance(found, bool) or not isinstance(found, int):
        raise UsageError(f"{name}: not a whole number")
    return found


def _string(value: Json, name: str) -> str:
    found = value.get(name, "")
    if not isinstance(found, str):
        raise UsageError(f"{name}: not a text")
    return found


def _list(value: Json, name: str) -> list[Any]:
    found = value.get(name, [])
    if not isinstance(found, list):
        raise UsageError(f"{name}: not a list")
    return found
