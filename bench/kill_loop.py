"""``python -m bench.kill_loop``: kill a sync with SIGKILL at random moments, start it again, look for damage.

Each round syncs a mixed tree to an empty place. The process group is killed after a random time, several
times in a row, and the same command is run again until it exits with 0. Looked for: entries that differ (by
``rclone check --download``), files under ``.entrepot-*``, open multipart uploads, processes that outlive the
kill, and outcomes on record (in the ledger's report segments after every kill, in the report at the end) of
entries that are not there.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from .engine import say
from .kill_round import Loop, Score
from .servers import Lows3, Seaweed, Server
from .settings import SOURCE_BUCKET, Settings, Sizes


def make_tree(folder: Path, small: int, large: int, large_mib: int, rng: random.Random) -> None:
    """Small files of many sizes (some empty) in nested folders, and some that need several parts."""
    for i in range(small):
        inside = folder / f"d{i % 17:02d}" / f"e{i % 5}"
        if i < 17 * 5:
            inside.mkdir(parents=True, exist_ok=True)
        size = 0 if i % 100 == 0 else rng.randrange(1, 20_000)
        (inside / f"small {i:05d} & é.bin").write_bytes(rng.randbytes(size))
    folder.mkdir(exist_ok=True)
    for i in range(large):
        (folder / f"large-{i:02d}.bin").write_bytes(rng.randbytes((large_mib << 20) + i * 12_345))


STINT = 40
"""Rounds on one server: SeaweedFS gives the room of deleted objects back only by and by."""


def run(settings: Settings, name: str, options: argparse.Namespace, rng: random.Random) -> Score:
    """All rounds against one kind of server, which is begun anew now and then."""
    score = Score()
    while score.kills < options.kills and len(score.faults) < options.most_faults:
        _stint(settings, name, options, rng, score)
    return score


def _stint(settings: Settings, name: str, options: argparse.Namespace, rng: random.Random, score: Score) -> None:
    server: Server = Seaweed(settings)
    if name == "lows3":
        server = Lows3(settings, "checksums", keep=1 << 30)
    with server:
        loop = Loop(settings, server, options, rng, score)
        if options.direction == "down":
            for path in loop.sizes:
                body = (loop.source / path).read_bytes()
                assert loop.client.call("PUT", f"/{SOURCE_BUCKET}/tree/{path}", body=body)[0] == 200
        for _ in range(STINT):
            if score.kills >= options.kills or len(score.faults) >= options.most_faults:
                break
            loop.round(score.rounds)
            say(f"  {name}: {score.rounds} rounds, {score.kills} kills, {len(score.faults)} faults")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.kill_loop", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--kills", type=int, default=100, help="for each server")
    add("--server", choices=("lows3", "seaweed", "both"), default="both")
    add("--direction", choices=("up", "down"), default="up")
    add("--small", type=int, default=3000)
    add("--large", type=int, default=3)
    add("--large-mib", type=int, default=40)
    add("--seed", type=int, default=None)
    add("--flag", action="append", default=[], help="one more option for entrepot sync")
    add("--bin", default="")
    add("--src", default="", metavar="DIR", help="a source tree of ours to run instead of what is installed")
    add("--scratch", default="/dev/shm")
    add("--timeout", type=float, default=120)
    add("--most-faults", type=int, default=20, help="stop after so many")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    rng = random.Random(seed)
    say(f"seed {seed}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    scratch = Path(tempfile.mkdtemp(prefix="entrepot-kill-", dir=options.scratch))
    settings = Settings(scratch, Sizes(), 1, (), bin=options.bin, src=options.src, server_cpus="", client_cpus="")
    failed = False
    try:
        make_tree(scratch / "tree", options.small, options.large, options.large_mib, rng)
        for name in ("lows3", "seaweed") if options.server == "both" else (options.server,):
            score = run(settings, name, options, rng)
            print(
                f"{name}: {score.kills} kills ({score.midway} midway), {score.rounds} rounds, "
                f"{len(score.faults)} faults, seed {seed}"
            )
            print("".join(f"  {fault}\n" for fault in score.faults), end="")
            failed = failed or bool(score.faults)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
