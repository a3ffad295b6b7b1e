"""The walk of docs/datasync.md: its commands, one after the other, answer what the page shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from datasync_parts import shape_of

from parts.entrepot_server import TOKEN, EntrepotServer
from parts.program import missing
from parts.vendors import names
from parts.vendors.server import Vendor
from parts.vendors.strict import VENDORS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "datasync.md"
BLOCK = re.compile(r"```sh\n(.*?)```(?:\n\n```json\n(.*?)```)?", re.DOTALL)
MARK = "----8<----"
LASTING = (
    "state",
    "task_name",
    "type",
    "percent",
    "total_num",
    "data_sync_task",
    "page",
    "src_third_info",
    "code",
    "name",
)
"""What is the same in every run."""


def test_the_walk_answers_what_the_page_shows(tmp_path: Path) -> None:
    if not shutil.which("curl"):
        missing("curl", "install curl")
    setting, *steps = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert "export" in setting[0] and not setting[1]
    (tmp_path / "lake").mkdir()
    with Vendor(VENDORS["OSS"]) as oss:
        oss.fill({f"raw/{number:02}.pcd".encode(): os.urandom(4000) for number in range(25)})
        server = EntrepotServer(tmp_path, env=names.environment(tmp_path / "site")).start()
        try:
            variables = {
                "SERVER": server.url, "TOKEN": TOKEN, "HOST": oss.host, "AK": oss.strict.ak, "SK": oss.strict.sk,
                "DIRECTORY": str(tmp_path / "lake"),
            }  # fmt: skip
            script = "set -eu\n" + "".join(f"{commands}\necho '{MARK}'\n" for commands, _ in steps)
            done = subprocess.run(
                ["bash", "-c", script],
                env=os.environ | variables,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=100,
            )
        finally:
            server.stop()
    assert done.returncode == 0, done.stderr
    answers = done.stdout.split(f"{MARK}\n")[: len(steps)]
    assert oss.strict.sk not in done.stdout
    for (commands, shown), answer in zip(steps, answers, strict=True):
        if shown:
            assert _same(json.loads(shown), json.loads(answer.strip().splitlines()[-1])), (commands, answer)


def _same(shown: object, answered: object) -> bool:
    if shape_of(shown) != shape_of(answered):
        return False
    if isinstance(shown, dict) and isinstance(answered, dict):
        return all(_alike(name, shown[name], answered[name]) for name in LASTING if name in shown)
    return True


def _alike(name: str, shown: object, answered: object) -> bool:
    if name == "percent" and shown != 100:
        return True
    if isinstance(shown, (dict, list)):
        pairs = zip(shown, answered, strict=True) if isinstance(shown, list) else [(shown, answered)]  # type: ignore[arg-type]
        return all(_same(one, other) for one, other in pairs)
    return shown == answered


@pytest.mark.parametrize(("one", "other"), [({"state": "X"}, {"state": "Y"}), ({"a": 1}, {"a": "1"}), ({"a": 1}, {})])
def test_another_answer_is_noticed(one: object, other: object) -> None:
    assert not _same(one, other)
