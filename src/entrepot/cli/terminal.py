"""What a command says and where: results on stdout, all else on stderr, colour only where it is welcome."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

from .words import plain_text

_STYLES = {"error": "31;1", "warn": "33", "ok": "32", "dim": "2", "bold": "1"}


def coloured(stream: TextIO) -> bool:
    """True when ``stream`` is a terminal and nobody asked for plain text (NO_COLOR, TERM=dumb)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def styled(text: str, style: str, stream: TextIO) -> str:
    """``text`` in one of the few styles, or as it is."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if coloured(stream) else text


def out(text: str) -> None:
    """One line of the result."""
    sys.stdout.write(text + "\n")


def out_lines(lines: list[str]) -> None:
    """Many lines of the result in one write."""
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")


def out_json(value: Any) -> None:
    """One JSON object on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def say(text: str) -> None:
    """One line beside the result."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def complain(message: str, hint: str = "") -> None:
    """What went wrong and what to do: ``entrepot: …`` and ``hint: …``."""
    say(styled("entrepot:", "error", sys.stderr) + " " + plain_text(message))
    if hint:
        say(styled("hint:", "bold", sys.stderr) + " " + plain_text(hint))


def warn(message: str, hint: str = "") -> None:
    """Something worth knowing that stops nothing."""
    say(styled("entrepot: warning:", "warn", sys.stderr) + " " + plain_text(message))
    if hint:
        say(styled("hint:", "bold", sys.stderr) + " " + plain_text(hint))
