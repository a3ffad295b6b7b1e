"""The program ``entrepot``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    # Start-up makes thousands of objects that all stay: looking through them again and again finds nothing.
    gc.set_threshold(50_000, 20, 50)
    try:
        from entrepot.cli.app import run

        code = run(arguments)
    except KeyboardInterrupt:
        code = 130
    # Nor has the interpreter to look for garbage at its end: a fifth of the time of a small run.
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
