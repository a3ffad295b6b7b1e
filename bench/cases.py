"""The cases: what is moved from where to where on which server, and which bars hold there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """A bound on one figure of ours.

    ``figure``: ``cpu`` (our processor time over that of the best peer), ``wall`` (the best peer's time over
    ours), or the name of a figure of our own run (``rss_mib``, ``first_put``, ``heads``, …).
    """

    figure: str
    sense: str
    limit: float

    @property
    def text(self) -> str:
        """As printed."""
        return f"{self.figure} {self.sense} {self.limit:g}"

    def holds(self, value: float) -> bool:
        """Whether a value passes."""
        return value <= self.limit if self.sense == "<=" else value >= self.limit


@dataclass(frozen=True)
class Case:
    """One row of the benchmark. ``kind`` is what tools look up their command by."""

    name: str
    kind: str
    server: str
    """lows3, checksums, tls, seaweed, keys (lows3 with generated keys) or empty."""
    source: str
    target: str
    """fs, s3, or empty (listing)."""
    data: str
    bars: tuple[Bar, ...] = ()
    pinned: bool = True
    keys: str = ""
    """Which count of generated keys: many, keys or more_keys."""
    latency_us: int = 0
    buckets: tuple[str, str] = ("synthetic", "synthetic2")
    only: tuple[str, ...] = ()
    """Tools that this is measured for; empty: all that know the kind."""
    once: bool = False
    """One run is enough: nothing in it is a race."""


def _at_most(figure: str, limit: float) -> Bar:
    return Bar(figure, "<=", limit)


def _at_least(figure: str, limit: float) -> Bar:
    return Bar(figure, ">=", limit)


_ENDS = {"up": ("fs", "s3"), "down": ("s3", "fs"), "copy": ("s3", "s3"), "through": ("s3", "s3")}


def _small(server: str, faster: float) -> list[Case]:
    cases = []
    for verb, (source, target) in _ENDS.items():
        cpu = (_at_most("cpu", 0.2 if verb == "copy" else 0.4),) if server != "tls" else ()
        bars = (*cpu, _at_least("wall", faster))
        name = f"small-{verb}@{server}"
        cases.append(Case(name, verb, server, source, target, "small", bars, pinned=server != "seaweed"))
    return cases


def _large(server: str) -> list[Case]:
    cases = []
    for verb in ("up", "down", "through"):
        bars = (_at_least("wall", 1.0 if verb == "down" else 1.5), _at_most("cpu", 1.0))
        if server == "tls":
            bars = (_at_least("wall", 1.0),)
        name = f"large-{verb}@{server}"
        cases.append(Case(name, f"large-{verb}", server, *_ENDS[verb], "large", bars))
    return cases


def _noop() -> list[Case]:
    none = _at_most("heads", 0)
    return [
        Case("noop-s3", "noop-s3", "keys", "s3", "s3", "", (_at_least("wall", 3.0), none), keys="many"),
        Case("noop-up", "noop-up", "keys", "fs", "s3", "many", (_at_least("wall", 2.0), none), keys="many"),
        Case("noop-down", "noop-down", "keys", "s3", "fs", "many", (_at_least("wall", 2.0), none), keys="many"),
        Case("noop-auto-s3", "noop-auto", "keys", "s3", "s3", "", (none,), keys="many", only=("entrepot",)),
        Case("noop-auto-up", "noop-auto", "keys", "fs", "s3", "many", (none,), keys="many", only=("entrepot",)),
        Case(
            "noop-auto-down",
            "noop-auto",
            "keys",
            "s3",
            "fs",
            "many",
            (none,),
            keys="many",
            only=("entrepot",),
        ),
    ]


def _memory() -> list[Case]:
    bars = (_at_most("rss_mib", 300),)
    differs = ("synthetic", "synthetic3")
    cases = []
    for keys, tail, only in (("keys", "", ()), ("more_keys", "-5m", ("entrepot",))):
        for word, buckets in (("same", ("synthetic", "synthetic2")), ("differs", differs)):
            name = f"memory-{word}{tail}"
            cases.append(
                Case(
                    *(name, "dry-run", "keys", "s3", "s3", "", bars),
                    keys=keys, buckets=buckets, only=only, once=True,
                )
            )  # fmt: skip
    return cases


def all_cases() -> list[Case]:
    """Every case, grouped by server."""
    return [
        *_small("lows3", 2.0),
        *_large("lows3"),
        Case("start", "start", "lows3", "fs", "s3", "ten", (_at_most("first_put", 0.4),)),
        *_large("checksums"),
        *_small("tls", 1.0),
        *_large("tls"),
        *_small("seaweed", 1.3),
        *_noop(),
        Case("list", "list", "keys", "s3", "", "", (), keys="keys"),
        *_memory(),
        Case(
            *("list-far", "list-far", "keys", "s3", "", "", (_at_least("chain", 20),)),
            keys="keys", latency_us=50_000, only=("entrepot", "s5cmd"), once=True,
        ),
        Case("fs-small", "fs-small", "", "fs", "fs", "fs-small", (), pinned=False),
        Case("fs-large", "fs-large", "", "fs", "fs", "fs-large", (), pinned=False),
    ]  # fmt: skip
