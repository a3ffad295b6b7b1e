"""Where the token of a client comes from: as given, from a file, from the environment; never from an argument."""

from __future__ import annotations

import os

from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret


def find_token(given: str | Secret = "", file: str = "") -> Secret:
    """The token as given, else from ``file`` or ENTREPOT_TOKEN_FILE, else ENTREPOT_TOKEN; may be empty.

    Raises UsageError for a file that cannot be read.
    """
    if given:
        return given if isinstance(given, Secret) else Secret(given)
    file = file or os.environ.get("ENTREPOT_TOKEN_FILE", "")
    if not file:
        return Secret(os.environ.get("ENTREPOT_TOKEN", "").strip())
    try:
        with open(file, encoding="utf-8") as opened:
            return Secret(opened.read().strip())
    except UnicodeDecodeError:
        raise UsageError(f"the token file {file} is no text") from None
    except OSError as fault:
        raise UsageError(f"the token file {file} cannot be read: {fault.strerror}") from None
