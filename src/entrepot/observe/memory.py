"""How much memory this process has used at most."""

from __future__ import annotations

import resource


def peak_memory() -> int:
    """The most resident memory so far, in bytes.

    From the process table: what getrusage tells counts the program that started this one, too.
    """
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
