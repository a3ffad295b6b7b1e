"""Exit codes: what a script may rely on."""

from __future__ import annotations

from entrepot.model.errors import EntrepotError, FailureClass, StoreError

OK = 0
SOME_FAILED = 1
USAGE = 2
PLACE = 3
GUARD = 4
INTERNAL = 5
INTERRUPTED = 130

_BY_CLASS = {
    FailureClass.NAME: GUARD,
    FailureClass.INTERNAL: INTERNAL,
    FailureClass.CHANGED: SOME_FAILED,
    FailureClass.VANISHED: SOME_FAILED,
    FailureClass.CORRUPT: SOME_FAILED,
    FailureClass.FORMAT: SOME_FAILED,
}


def exit_code(fault: EntrepotError) -> int:
    """The exit code of an error that ended a command.

    A store's refusal of the whole command means that the place cannot be used (3); what concerns one object's
    content means that an entry failed (1).
    """
    if isinstance(fault, StoreError):
        return _BY_CLASS.get(fault.failure, PLACE)
    return fault.exit_code
