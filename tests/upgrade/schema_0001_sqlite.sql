CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE task (
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
    total BIGINT DEFAULT '0' NOT NULL,
    total_bytes BIGINT DEFAULT '0' NOT NULL,
    copied BIGINT DEFAULT '0' NOT NULL,
    copied_bytes BIGINT DEFAULT '0' NOT NULL,
    equal BIGINT DEFAULT '0' NOT NULL,
    equal_bytes BIGINT DEFAULT '0' NOT NULL,
    deleted BIGINT DEFAULT '0' NOT NULL,
    deleted_bytes BIGINT DEFAULT '0' NOT NULL,
    skipped BIGINT DEFAULT '0' NOT NULL,
    skipped_bytes BIGINT DEFAULT '0' NOT NULL,
    failed BIGINT DEFAULT '0' NOT NULL,
    failed_bytes BIGINT DEFAULT '0' NOT NULL,
    retries BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT task_pk PRIMARY KEY (id)
);

CREATE INDEX task_by_spec ON task (spec_hash, state);

CREATE INDEX task_by_state ON task (state, finished);

CREATE TABLE shard (
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
    total BIGINT DEFAULT '0' NOT NULL,
    total_bytes BIGINT DEFAULT '0' NOT NULL,
    copied BIGINT DEFAULT '0' NOT NULL,
    copied_bytes BIGINT DEFAULT '0' NOT NULL,
    equal BIGINT DEFAULT '0' NOT NULL,
    equal_bytes BIGINT DEFAULT '0' NOT NULL,
    deleted BIGINT DEFAULT '0' NOT NULL,
    deleted_bytes BIGINT DEFAULT '0' NOT NULL,
    skipped BIGINT DEFAULT '0' NOT NULL,
    skipped_bytes BIGINT DEFAULT '0' NOT NULL,
    failed BIGINT DEFAULT '0' NOT NULL,
    failed_bytes BIGINT DEFAULT '0' NOT NULL,
    retries BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT shard_pk PRIMARY KEY (id)
);

CREATE INDEX shard_by_state ON shard (task_id, state, phase, low);

CREATE INDEX shard_by_lease ON shard (lease_owner);

CREATE TABLE failure (
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
);

CREATE TABLE failure_count (
    task_id VARCHAR(26) NOT NULL,
    failure VARCHAR(16) NOT NULL,
    entries BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT failure_count_pk PRIMARY KEY (task_id, failure)
);

CREATE TABLE doomed (
    task_id VARCHAR(26) NOT NULL,
    "key" BLOB NOT NULL,
    shard_id BIGINT NOT NULL,
    etag BLOB,
    mtime_ns BIGINT,
    size BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT doomed_pk PRIMARY KEY (task_id, "key")
);

CREATE INDEX doomed_by_shard ON doomed (shard_id);

CREATE TABLE partial (
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
);

CREATE TABLE event (
    id INTEGER NOT NULL,
    task_id VARCHAR(26) NOT NULL,
    at FLOAT NOT NULL,
    kind VARCHAR(32) NOT NULL,
    text TEXT NOT NULL,
    CONSTRAINT event_pk PRIMARY KEY (id)
);

CREATE INDEX event_by_task ON event (task_id, id);

CREATE TABLE runner_stats (
    task_id VARCHAR(26) NOT NULL,
    runner_id VARCHAR(64) NOT NULL,
    stats TEXT NOT NULL,
    at FLOAT NOT NULL,
    CONSTRAINT runner_stats_pk PRIMARY KEY (task_id, runner_id)
);

INSERT INTO alembic_version (version_num) VALUES ('0001');
