"""Ctrl-C and friends while runners work: counted, never thrown into the middle of something."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """A context in which SIGINT, SIGTERM and SIGHUP only count; ``descriptor`` becomes readable at each."""

    def __init__(self) -> None:
        self.count = 0
        self.descriptor, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._former: dict[int, Any] = {}
        self._former_wakeup = -1

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                former = signal.getsignal(number)
                if number == signal.SIGHUP and former == signal.SIG_IGN:
                    continue
                self._former[number] = former
                signal.signal(number, self._note)
            self._former_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._former:
            signal.set_wakeup_fd(self._former_wakeup)
            for number, former in self._former.items():
                signal.signal(number, former)
        os.close(self.descriptor)
        os.close(self._write)
