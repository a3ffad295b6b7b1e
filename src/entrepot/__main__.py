"""The program ``entrepot``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    from entrepot.cli.app import run

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
