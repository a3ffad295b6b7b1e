CREATE TABLE alembic_version (
    version_num TEXT COLLATE "C" NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE task (
    id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    destination TEXT COLLATE "C" NOT NULL,
    source_place TEXT COLLATE "C" DEFAULT '' NOT NULL,
    source_prefix BYTEA NOT NULL,
    destination_place TEXT COLLATE "C" DEFAULT '' NOT NULL,
    destination_prefix BYTEA NOT NULL,
    options TEXT COLLATE "C" NOT NULL,
    spec_hash TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
    stop TEXT COLLATE "C" DEFAULT '' NOT NULL,
    created FLOAT NOT NULL,
    started FLOAT,
    finished FLOAT,
    resumed BIGINT DEFAULT '0' NOT NULL,
    owner_host TEXT COLLATE "C" DEFAULT '' NOT NULL,
    owner_boot TEXT COLLATE "C" DEFAULT '' NOT NULL,
    owner_pid BIGINT DEFAULT '0' NOT NULL,
    owner_start TEXT COLLATE "C" DEFAULT '' NOT NULL,
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
    id BIGSERIAL NOT NULL,
    task_id TEXT COLLATE "C" NOT NULL,
    phase TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    low BYTEA NOT NULL,
    high BYTEA,
    cursor BYTEA NOT NULL,
    fence BIGINT DEFAULT '0' NOT NULL,
    lease_owner TEXT COLLATE "C",
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
    id BIGSERIAL NOT NULL,
    task_id TEXT COLLATE "C" NOT NULL,
    phase TEXT COLLATE "C" NOT NULL,
    key BYTEA NOT NULL,
    failure TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL,
    attempts BIGINT DEFAULT '0' NOT NULL,
    size BIGINT DEFAULT '0' NOT NULL,
    at FLOAT NOT NULL,
    CONSTRAINT failure_pk PRIMARY KEY (id),
    CONSTRAINT failure_once UNIQUE (task_id, phase, key)
);

CREATE TABLE failure_count (
    task_id TEXT COLLATE "C" NOT NULL,
    failure TEXT COLLATE "C" NOT NULL,
    entries BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT failure_count_pk PRIMARY KEY (task_id, failure)
);

CREATE TABLE doomed (
    task_id TEXT COLLATE "C" NOT NULL,
    key BYTEA NOT NULL,
    shard_id BIGINT NOT NULL,
    etag BYTEA,
    mtime_ns BIGINT,
    size BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT doomed_pk PRIMARY KEY (task_id, key)
);

CREATE INDEX doomed_by_shard ON doomed (shard_id);

CREATE TABLE partial (
    task_id TEXT COLLATE "C" NOT NULL,
    key BYTEA NOT NULL,
    size BIGINT DEFAULT '0' NOT NULL,
    etag BYTEA,
    mtime_ns BIGINT,
    part_size BIGINT DEFAULT '0' NOT NULL,
    upload_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    staged TEXT COLLATE "C" DEFAULT '' NOT NULL,
    done TEXT COLLATE "C" NOT NULL,
    started FLOAT NOT NULL,
    CONSTRAINT partial_pk PRIMARY KEY (task_id, key)
);

CREATE TABLE event (
    id BIGSERIAL NOT NULL,
    task_id TEXT COLLATE "C" NOT NULL,
    at FLOAT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    text TEXT COLLATE "C" NOT NULL,
    CONSTRAINT event_pk PRIMARY KEY (id)
);

CREATE INDEX event_by_task ON event (task_id, id);

CREATE TABLE runner_stats (
    task_id TEXT COLLATE "C" NOT NULL,
    runner_id TEXT COLLATE "C" NOT NULL,
    stats TEXT COLLATE "C" NOT NULL,
    at FLOAT NOT NULL,
    CONSTRAINT runner_stats_pk PRIMARY KEY (task_id, runner_id)
);

INSERT INTO alembic_version (version_num) VALUES ('0001');
