"""What a whole benchmark run is set to: sizes of the data, places of programs, pinning, scratch room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ACCESS_KEY, SECRET_KEY, REGION = "benchkey", "benchsecret", "us-east-1"
SOURCE_BUCKET, TARGET_BUCKET = "bench1", "bench2"
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Sizes:
    """How much each data set holds."""

    small: int = 20_000
    small_bytes: int = 4096
    large: int = 4
    large_mib: int = 1024
    many: int = 200_000
    fs_small: int = 50_000
    fs_large_mib: int = 4096
    keys: int = 1_000_000
    more_keys: int = 5_000_000


QUICK = Sizes(small=200, large=1, large_mib=24, many=3000, fs_small=300, fs_large_mib=16, keys=20_000, more_keys=40_000)


@dataclass
class Settings:
    """Everything the command line decides."""

    scratch: Path
    """On tmpfs, removed at the end."""
    sizes: Sizes
    runs: int
    tools: tuple[str, ...]
    bin: str = ""
    src: str = ""
    """A source tree of ours to run; empty: what is installed, else this checkout."""
    server_cpus: str = "0"
    client_cpus: str = "1"
    timeout: float = 300.0
    connections: int = 64
    large_connections: int = 4
    state_on_disk: str = ""
    """A folder on a disk for our ledger; empty: on tmpfs, in scratch."""
