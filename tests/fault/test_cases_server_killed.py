"""Case 68 on a whole server: kill -9 of any of its processes at random, with real bytes moving all the while.

The long form is ``python -m bench.serve_kill --kills 1000``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parts.program import need_program
from parts.servers import ROOT


@pytest.mark.parametrize("seed", [1, 2])
def test_case_68_a_server_killed_at_random_loses_doubles_and_forgets_nothing(tmp_path: Path, seed: int) -> None:
    need_program("cc", "apt-get install gcc libc6-dev libssl-dev")
    command = [
        sys.executable, "-m", "bench.serve_kill", "--kills", "12", "--objects", "200", "--seed", str(seed),
        "--src", os.path.join(ROOT, "src"), "--scratch", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 faults" in done.stdout
