"""Names of listed tasks, kept so that a part of a name is found among a million: folded, and cut into grams.

A gram is three characters in a row (two, where one of them is not ASCII: Chinese words are that short). SQLite finds
grams by full-text search (FTS5), PostgreSQL by an inverted index (GIN). Grams are numbered by a hash, so they only
say which names *may* hold a text; whoever asks looks at the name itself too.
"""

from __future__ import annotations

import unicodedata
from zlib import crc32

from .database import Connection
from .filing import Filing

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ADD = """INSERT INTO task_label (task_id, scope, family, type, creator, name, grams)
    VALUES (:task, :scope, :family, :type, :creator, :name, :grams)"""
GRAMS_MAX = 8
"""So many grams of a text are looked for."""


def add(connection: Connection, task_id: str, filing: Filing) -> None:
    """Make a task findable. Legs of a task and runs of the command line are not listed."""
    if not filing.family or filing.parent:
        return
    name = fold(filing.name)
    about = {"scope": filing.scope, "family": filing.family, "type": filing.type, "creator": filing.creator}
    connection.change(_ADD, {"task": task_id, **about, "name": name, "grams": " ".join(grams(name))})


def fold(name: str) -> str:
    """A name as it is searched: capital or small, composed or not, it is the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def grams(folded: str) -> list[str]:
    """The grams of a folded text, sorted, each once."""
    threes = {folded[i : i + 3] for i in range(len(folded) - 2)}
    twos = {pair for i in range(len(folded) - 1) if not (pair := folded[i : i + 2]).isascii()}
    return sorted({_numbered(gram) for gram in threes | twos})


def wanted_grams(folded: str) -> list[str]:
    """Grams that every name with ``folded`` in it has: side by side, more hardly tell more. None for a short text."""
    if len(folded) < 3:
        return grams(folded)
    starts = [*range(0, len(folded) - 2, 3), len(folded) - 3][-GRAMS_MAX:]
    return sorted({_numbered(folded[start : start + 3]) for start in starts})


def like(folded: str) -> str:
    r"""The pattern of ``LIKE … ESCAPE '\'`` for names with this text in it."""
    escaped = folded.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _numbered(gram: str) -> str:
    number = crc32(gram.encode("utf-8", "surrogatepass")) % 36**3
    return _DIGITS[number // 1296] + _DIGITS[number // 36 % 36] + _DIGITS[number % 36]
