"""The tables that only a server uses, in a new SQLite ledger: who, where, when, and what was done."""

from __future__ import annotations

TASK_COLUMNS = """name TEXT DEFAULT '' NOT NULL,
    scope TEXT DEFAULT '' NOT NULL,
    family VARCHAR(16) DEFAULT '' NOT NULL,
    type VARCHAR(32) DEFAULT '' NOT NULL,
    creator TEXT DEFAULT '' NOT NULL,
    request TEXT DEFAULT '' NOT NULL,
    source_connection TEXT DEFAULT '' NOT NULL,
    destination_connection TEXT DEFAULT '' NOT NULL,
    priority BIGINT DEFAULT '0' NOT NULL,
    not_before FLOAT,
    schedule_id VARCHAR(26) DEFAULT '' NOT NULL,
    parent VARCHAR(26) DEFAULT '' NOT NULL,
    percent BIGINT DEFAULT '0' NOT NULL,
    legs BIGINT DEFAULT '0' NOT NULL,
    approved BIGINT DEFAULT '0' NOT NULL"""
"""How the server files a task; all empty for a run of the command line (``family`` "")."""

_TASK_COUNT = """CREATE TABLE task_count (
    scope TEXT NOT NULL,
    family VARCHAR(16) NOT NULL,
    type VARCHAR(32) NOT NULL,
    state VARCHAR(16) NOT NULL,
    tasks BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT task_count_pk PRIMARY KEY (scope, family, type, state)
)"""

_TASK_LIVE = """CREATE TABLE task_live (
    task_id VARCHAR(26) NOT NULL,
    phase VARCHAR(8) DEFAULT '' NOT NULL,
    scanning BIGINT DEFAULT '0' NOT NULL,
    rate_bytes FLOAT DEFAULT '0' NOT NULL,
    rate_entries FLOAT DEFAULT '0' NOT NULL,
    eta FLOAT,
    seconds FLOAT DEFAULT '0' NOT NULL,
    memory BIGINT DEFAULT '0' NOT NULL,
    totals TEXT DEFAULT '' NOT NULL,
    at FLOAT NOT NULL,
    CONSTRAINT task_live_pk PRIMARY KEY (task_id)
)"""

_PRINCIPAL = """CREATE TABLE principal (
    id VARCHAR(26) NOT NULL,
    name TEXT NOT NULL,
    kind VARCHAR(16) NOT NULL,
    grants TEXT NOT NULL,
    disabled BIGINT DEFAULT '0' NOT NULL,
    created FLOAT NOT NULL,
    CONSTRAINT principal_pk PRIMARY KEY (id),
    CONSTRAINT principal_name UNIQUE (name)
)"""

_BEARER = """CREATE TABLE token (
    id VARCHAR(26) NOT NULL,
    principal_id VARCHAR(26) NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    digest VARCHAR(64) NOT NULL,
    grants TEXT DEFAULT '' NOT NULL,
    created FLOAT NOT NULL,
    expires FLOAT,
    last_used FLOAT,
    revoked FLOAT,
    CONSTRAINT token_pk PRIMARY KEY (id)
)"""

_ACCESS_KEY = """CREATE TABLE access_key (
    id VARCHAR(64) NOT NULL,
    principal_id VARCHAR(26) NOT NULL,
    secret TEXT NOT NULL,
    created FLOAT NOT NULL,
    last_used FLOAT,
    revoked FLOAT,
    CONSTRAINT access_key_pk PRIMARY KEY (id)
)"""

_CONNECTION = """CREATE TABLE connection (
    id VARCHAR(26) NOT NULL,
    name TEXT NOT NULL,
    scope TEXT DEFAULT '' NOT NULL,
    task_id VARCHAR(26) DEFAULT '' NOT NULL,
    provider VARCHAR(16) NOT NULL,
    endpoint TEXT DEFAULT '' NOT NULL,
    document TEXT NOT NULL,
    secrets TEXT NOT NULL,
    max_tasks BIGINT DEFAULT '0' NOT NULL,
    creator TEXT DEFAULT '' NOT NULL,
    created FLOAT NOT NULL,
    updated FLOAT NOT NULL,
    CONSTRAINT connection_pk PRIMARY KEY (id),
    CONSTRAINT connection_name UNIQUE (scope, name)
)"""

_VOLUME = """CREATE TABLE volume (
    id VARCHAR(26) NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    read_only BIGINT DEFAULT '0' NOT NULL,
    creator TEXT DEFAULT '' NOT NULL,
    created FLOAT NOT NULL,
    scope TEXT DEFAULT '' NOT NULL,
    CONSTRAINT volume_pk PRIMARY KEY (id),
    CONSTRAINT volume_name UNIQUE (name)
)"""

_SCHEDULE = """CREATE TABLE schedule (
    id VARCHAR(26) NOT NULL,
    name TEXT NOT NULL,
    scope TEXT DEFAULT '' NOT NULL,
    cron TEXT NOT NULL,
    zone TEXT DEFAULT 'UTC' NOT NULL,
    request TEXT NOT NULL,
    enabled BIGINT DEFAULT '1' NOT NULL,
    max_count BIGINT DEFAULT '0' NOT NULL,
    runs BIGINT DEFAULT '0' NOT NULL,
    next_due FLOAT,
    last_task VARCHAR(26) DEFAULT '' NOT NULL,
    last_error TEXT DEFAULT '' NOT NULL,
    creator TEXT DEFAULT '' NOT NULL,
    created FLOAT NOT NULL,
    overlap VARCHAR(16) DEFAULT 'skip' NOT NULL,
    waiting BIGINT DEFAULT '0' NOT NULL,
    last_run FLOAT,
    CONSTRAINT schedule_pk PRIMARY KEY (id),
    CONSTRAINT schedule_name UNIQUE (scope, name)
)"""

_WEBHOOK = """CREATE TABLE webhook (
    id VARCHAR(26) NOT NULL,
    name TEXT NOT NULL,
    scope TEXT DEFAULT '' NOT NULL,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    states TEXT NOT NULL,
    enabled BIGINT DEFAULT '1' NOT NULL,
    creator TEXT DEFAULT '' NOT NULL,
    created FLOAT NOT NULL,
    CONSTRAINT webhook_pk PRIMARY KEY (id),
    CONSTRAINT webhook_name UNIQUE (scope, name)
)"""

_DELIVERY = """CREATE TABLE delivery (
    id INTEGER NOT NULL,
    webhook_id VARCHAR(26) NOT NULL,
    task_id VARCHAR(26) NOT NULL,
    body TEXT NOT NULL,
    state VARCHAR(16) NOT NULL,
    attempts BIGINT DEFAULT '0' NOT NULL,
    next_try FLOAT,
    last_error TEXT DEFAULT '' NOT NULL,
    created FLOAT NOT NULL,
    event VARCHAR(26) DEFAULT '' NOT NULL,
    status BIGINT DEFAULT '0' NOT NULL,
    last_try FLOAT,
    CONSTRAINT delivery_pk PRIMARY KEY (id)
)"""

_AUDIT = """CREATE TABLE audit (
    id BIGINT NOT NULL,
    at FLOAT NOT NULL,
    principal TEXT NOT NULL,
    action VARCHAR(64) NOT NULL,
    subject TEXT NOT NULL,
    scope TEXT DEFAULT '' NOT NULL,
    outcome VARCHAR(16) NOT NULL,
    address TEXT DEFAULT '' NOT NULL,
    detail TEXT DEFAULT '' NOT NULL,
    previous VARCHAR(64) NOT NULL,
    hash VARCHAR(64) NOT NULL,
    CONSTRAINT audit_pk PRIMARY KEY (id)
)"""

_IDEMPOTENCY = """CREATE TABLE idempotency (
    principal_id VARCHAR(26) NOT NULL,
    route TEXT NOT NULL,
    "key" TEXT NOT NULL,
    body_hash VARCHAR(64) NOT NULL,
    status BIGINT DEFAULT '0' NOT NULL,
    answer TEXT DEFAULT '' NOT NULL,
    at FLOAT NOT NULL,
    CONSTRAINT idempotency_pk PRIMARY KEY (principal_id, route, "key")
)"""

_LEADER = """CREATE TABLE leader (
    name VARCHAR(32) NOT NULL,
    holder TEXT NOT NULL,
    until FLOAT NOT NULL,
    CONSTRAINT leader_pk PRIMARY KEY (name)
)"""

_DATASYNC = """CREATE TABLE datasync (
    id VARCHAR(36) NOT NULL,
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    creator TEXT DEFAULT '' NOT NULL,
    created FLOAT NOT NULL,
    updated FLOAT NOT NULL,
    CONSTRAINT datasync_pk PRIMARY KEY (id),
    CONSTRAINT datasync_scope UNIQUE (scope)
)"""

_QUOTA = """CREATE TABLE quota (
    scope TEXT NOT NULL,
    name VARCHAR(32) NOT NULL,
    amount BIGINT NOT NULL,
    CONSTRAINT quota_pk PRIMARY KEY (scope, name)
)"""

_USAGE = """CREATE TABLE usage (
    scope TEXT NOT NULL,
    day VARCHAR(10) NOT NULL,
    tasks BIGINT DEFAULT '0' NOT NULL,
    entries BIGINT DEFAULT '0' NOT NULL,
    bytes BIGINT DEFAULT '0' NOT NULL,
    failed BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT usage_pk PRIMARY KEY (scope, day)
)"""

_USAGE_COUNTED = """CREATE TABLE usage_counted (
    task_id VARCHAR(26) NOT NULL,
    day VARCHAR(10) NOT NULL,
    entries BIGINT DEFAULT '0' NOT NULL,
    bytes BIGINT DEFAULT '0' NOT NULL,
    failed BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT usage_counted_pk PRIMARY KEY (task_id)
)"""

_RUNNER_NODE = """CREATE TABLE runner_node (
    id VARCHAR(64) NOT NULL,
    name TEXT NOT NULL,
    token_id VARCHAR(26) DEFAULT '' NOT NULL,
    processes BIGINT DEFAULT '0' NOT NULL,
    task_id VARCHAR(26) DEFAULT '' NOT NULL,
    waiting BIGINT DEFAULT '0' NOT NULL,
    started FLOAT NOT NULL,
    seen FLOAT NOT NULL,
    CONSTRAINT runner_node_pk PRIMARY KEY (id)
)"""

_TASK_LABEL = """CREATE TABLE task_label (
    id INTEGER NOT NULL,
    task_id VARCHAR(26) NOT NULL,
    scope TEXT NOT NULL,
    family TEXT NOT NULL,
    type TEXT NOT NULL,
    creator TEXT NOT NULL,
    name TEXT NOT NULL,
    grams TEXT NOT NULL,
    CONSTRAINT task_label_pk PRIMARY KEY (id),
    CONSTRAINT task_label_once UNIQUE (task_id)
)"""

_TASK_GRAM = (
    "CREATE VIRTUAL TABLE task_gram USING fts5(grams, content='task_label', content_rowid='id', "
    "detail='none', columnsize=0, tokenize='ascii')",
    "CREATE TRIGGER task_label_added AFTER INSERT ON task_label BEGIN "
    "INSERT INTO task_gram (rowid, grams) VALUES (new.id, new.grams); END",
    "CREATE TRIGGER task_label_removed AFTER DELETE ON task_label BEGIN "
    "INSERT INTO task_gram (task_gram, rowid, grams) VALUES ('delete', old.id, old.grams); END",
)

TABLES = (
    "CREATE INDEX task_queue ON task (state, family, priority, id)",
    "CREATE INDEX task_by_scope ON task (scope, family, id)",
    "CREATE INDEX task_by_scope_state ON task (scope, family, state, id)",
    "CREATE INDEX task_by_scope_type ON task (scope, family, type, state, id)",
    "CREATE INDEX task_by_name ON task (scope, family, name, id)",
    "CREATE INDEX task_by_parent ON task (parent, id)",
    "CREATE INDEX task_by_creator ON task (creator, family, id)",
    _TASK_LABEL,
    *_TASK_GRAM,
    _TASK_COUNT,
    _PRINCIPAL,
    _BEARER,
    "CREATE INDEX token_by_principal ON token (principal_id)",
    _ACCESS_KEY,
    "CREATE INDEX access_key_by_principal ON access_key (principal_id)",
    _CONNECTION,
    "CREATE INDEX connection_by_task ON connection (task_id)",
    _VOLUME,
    _SCHEDULE,
    "CREATE INDEX schedule_by_due ON schedule (enabled, next_due)",
    _WEBHOOK,
    _DELIVERY,
    "CREATE INDEX delivery_due ON delivery (state, next_try)",
    "CREATE INDEX delivery_by_task ON delivery (task_id)",
    "CREATE INDEX delivery_by_webhook ON delivery (webhook_id, id)",
    "CREATE INDEX task_by_schedule ON task (schedule_id, state)",
    _AUDIT,
    _IDEMPOTENCY,
    "CREATE INDEX idempotency_by_age ON idempotency (at)",
    _LEADER,
    _DATASYNC,
    _QUOTA,
    _USAGE,
    _USAGE_COUNTED,
    _RUNNER_NODE,
    "CREATE INDEX task_waiting ON task (priority DESC, id) WHERE state || '' = 'QUEUED' AND family <> '' AND legs = 0",
    """CREATE INDEX task_held ON task (id) WHERE family <> '' AND legs = 0
        AND (owner_pid <> 0 OR stop <> '' OR state IN ('SCANNING', 'RUNNING'))""",
    """CREATE INDEX task_parents ON task (id)
        WHERE legs > 0 AND state || '' IN ('QUEUED', 'SCANNING', 'RUNNING', 'PAUSED', 'REVIEW')""",
    "CREATE INDEX task_by_place ON task (destination_place, id) WHERE state <> 'SUCCEEDED'",
    _TASK_LIVE,
)
"""Statements that a new SQLite ledger needs besides the tables of the engine."""
