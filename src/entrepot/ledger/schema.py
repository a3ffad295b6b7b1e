"""The tables of a new SQLite ledger, as the newest migration has them. Changes go through a migration as well."""

from __future__ import annotations

from entrepot.model.totals import FIELDS

from . import server_schema

HEAD = "0006"
"""The revision that these tables correspond to: the newest file in ``migrations/versions``."""

CHILDREN = (
    "shard", "failure", "failure_count", "doomed", "partial", "event", "runner_stats", "connection", "usage_counted",
    "task_live", "task_label",
)  # fmt: skip
"""Tables whose rows belong to a task and go with it."""

STAYING = ("delivery", "runner_node")
"""Tables that name a task and outlive it: news of its end are still brought, a runner goes on to the next one."""

_COUNTS = ",\n    ".join(f"{name} BIGINT DEFAULT '0' NOT NULL" for name in FIELDS)

_TASK = f"""CREATE TABLE task (
    id VARCHAR(26) NOT NULL,
    kind VARCHAR(32) NOT NULL,
    source TEXT NOT NULL,
    destination TEXT NOT NULL,
    source_place TEXT DEFAULT '' NOT NULL,
    source_prefix BLOB NOT NULL,
    destination_place TEXT DEFAULT '' NOT NULL,
    destination_prefix BLOB NOT NULL,
    options TEXT NOT NULL,
    spec_hash VARCHAR(64) NOT NULL,
    state VARCHAR(16) NOT NULL,
    reason TEXT DEFAULT '' NOT NULL,
    stop VARCHAR(8) DEFAULT '' NOT NULL,
    created FLOAT NOT NULL,
    started FLOAT,
    finished FLOAT,
    resumed BIGINT DEFAULT '0' NOT NULL,
    owner_host TEXT DEFAULT '' NOT NULL,
    owner_boot TEXT DEFAULT '' NOT NULL,
    owner_pid BIGINT DEFAULT '0' NOT NULL,
    owner_start TEXT DEFAULT '' NOT NULL,
    owner_seen FLOAT,
    failed_before BIGINT DEFAULT '0' NOT NULL,
    failure_rows BIGINT DEFAULT '0' NOT NULL,
    warning_rows BIGINT DEFAULT '0' NOT NULL,
    late_reports BIGINT DEFAULT '0' NOT NULL,
    destination_entries BIGINT DEFAULT '0' NOT NULL,
    {_COUNTS},
    {server_schema.TASK_COLUMNS},
    CONSTRAINT task_pk PRIMARY KEY (id)
)"""

_SHARD = f"""CREATE TABLE shard (
    id INTEGER NOT NULL,
    task_id VARCHAR(26) NOT NULL,
    phase VARCHAR(8) NOT NULL,
    state VARCHAR(8) NOT NULL,
    low BLOB NOT NULL,
    high BLOB,
    cursor BLOB NOT NULL,
    fence BIGINT DEFAULT '0' NOT NULL,
    lease_owner VARCHAR(64),
    lease_until FLOAT,
    lost BIGINT DEFAULT '0' NOT NULL,
    destination_entries BIGINT DEFAULT '0' NOT NULL,
    {_COUNTS},
    CONSTRAINT shard_pk PRIMARY KEY (id)
)"""

_FAILURE = """CREATE TABLE failure (
    id INTEGER NOT NULL,
    task_id VARCHAR(26) NOT NULL,
    phase VARCHAR(8) NOT NULL,
    "key" BLOB NOT NULL,
    failure VARCHAR(16) NOT NULL,
    message TEXT NOT NULL,
    attempts BIGINT DEFAULT '0' NOT NULL,
    size BIGINT DEFAULT '0' NOT NULL,
    at FLOAT NOT NULL,
    CONSTRAINT failure_pk PRIMARY KEY (id),
    CONSTRAINT failure_once UNIQUE (task_id, phase, "key")
)"""

_FAILURE_COUNT = """CREATE TABLE failure_count (
    task_id VARCHAR(26) NOT NULL,
    failure VARCHAR(16) NOT NULL,
    entries BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT failure_count_pk PRIMARY KEY (task_id, failure)
)"""

_DOOMED = """CREATE TABLE doomed (
    task_id VARCHAR(26) NOT NULL,
    "key" BLOB NOT NULL,
    shard_id BIGINT NOT NULL,
    etag BLOB,
    mtime_ns BIGINT,
    size BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT doomed_pk PRIMARY KEY (task_id, "key")
)"""

_PARTIAL = """CREATE TABLE partial (
    task_id VARCHAR(26) NOT NULL,
    "key" BLOB NOT NULL,
    size BIGINT DEFAULT '0' NOT NULL,
    etag BLOB,
    mtime_ns BIGINT,
    part_size BIGINT DEFAULT '0' NOT NULL,
    upload_id TEXT DEFAULT '' NOT NULL,
    staged TEXT DEFAULT '' NOT NULL,
    done TEXT NOT NULL,
    started FLOAT NOT NULL,
    CONSTRAINT partial_pk PRIMARY KEY (task_id, "key")
)"""

_EVENT = """CREATE TABLE event (
    id INTEGER NOT NULL,
    task_id VARCHAR(26) NOT NULL,
    at FLOAT NOT NULL,
    kind VARCHAR(32) NOT NULL,
    text TEXT NOT NULL,
    CONSTRAINT event_pk PRIMARY KEY (id)
)"""

_RUNNER_STATS = """CREATE TABLE runner_stats (
    task_id VARCHAR(26) NOT NULL,
    runner_id VARCHAR(64) NOT NULL,
    stats TEXT NOT NULL,
    at FLOAT NOT NULL,
    CONSTRAINT runner_stats_pk PRIMARY KEY (task_id, runner_id)
)"""

_VERSION = """CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)"""

NEW_FILE = (
    _TASK,
    "CREATE INDEX task_by_spec ON task (spec_hash, state)",
    "CREATE INDEX task_by_state ON task (state, finished)",
    _SHARD,
    "CREATE INDEX shard_by_state ON shard (task_id, state, phase, low)",
    "CREATE INDEX shard_by_lease ON shard (lease_owner)",
    _FAILURE,
    "CREATE INDEX failure_by_task ON failure (task_id, id)",
    _FAILURE_COUNT,
    _DOOMED,
    "CREATE INDEX doomed_by_shard ON doomed (shard_id)",
    _PARTIAL,
    _EVENT,
    "CREATE INDEX event_by_task ON event (task_id, id)",
    _RUNNER_STATS,
    *server_schema.TABLES,
    _VERSION,
    f"INSERT INTO alembic_version VALUES ('{HEAD}')",
)
"""Statements that make an empty SQLite file a ledger."""
