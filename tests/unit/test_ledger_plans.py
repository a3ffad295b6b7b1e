"""The scheduler's questions stay cheap among very many tasks: each is answered from an index made for it."""

from __future__ import annotations

import re
import sqlite3

import pytest

from entrepot.ledger import holding, legs, queue, tasks
from entrepot.ledger.database import open_ledger
from entrepot.ledger.dialect import for_sqlite

QUESTIONS = {
    "driven": (tasks._DRIVEN, "task_held"),
    "driven_here": (tasks._DRIVEN_HERE, "task_queue"),
    "unfinished": (tasks._UNFINISHED, "task_by_place"),
    "left_over": (tasks._LEFT_OVER, "sqlite_autoindex_task_1"),
    "held": (holding._HELD, "task_held"),
    "waiting": (queue._WAITING + queue._IN_ORDER, "task_waiting"),
    "waiting_behind": (queue._WAITING + queue._BEHIND + queue._IN_ORDER, "task_waiting"),
    "parents": (legs._PARENTS, "task_parents"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_of_the_scheduler_has_its_index(tmp_path, name):
    open_ledger(str(tmp_path / "ledger.db")).close()
    query, index = QUESTIONS[name]
    sql = for_sqlite(query)
    params = dict.fromkeys(re.findall(r":(\w+)", sql), 1)
    with sqlite3.connect(tmp_path / "ledger.db") as raw:
        plan = [row[3] for row in raw.execute("EXPLAIN QUERY PLAN " + sql, params)]
    assert index in plan[0], plan
