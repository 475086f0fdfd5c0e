-- The first schema. Times are wall microseconds, 0 where there is none; states and kinds are the enums of store.h.
-- Long texts stand last in job, so that listing does not read the pages that they overflow to.
CREATE TABLE job (
        id INTEGER PRIMARY KEY AUTOINCREMENT, -- an id is never used twice: links to a removed job stay dead
        kind INTEGER NOT NULL,
        state INTEGER NOT NULL,
        marked INTEGER NOT NULL DEFAULT 0, -- being removed: no reader sees it
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        created_us INTEGER NOT NULL,
        started_us INTEGER NOT NULL DEFAULT 0,
        ended_us INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        step INTEGER NOT NULL DEFAULT 0,
        steps INTEGER NOT NULL DEFAULT 0,
        images_per_second REAL, -- NULL: unknown
        seconds_left REAL,
        source_job INTEGER NOT NULL DEFAULT 0, -- may be gone by now
        source_step INTEGER NOT NULL DEFAULT 0,
        name TEXT NOT NULL,
        config_name TEXT NOT NULL,
        tags TEXT NOT NULL,   -- JSON array of strings
        config TEXT NOT NULL, -- JSON, whole
        result TEXT,
        error TEXT
) STRICT;
CREATE INDEX job_by_state ON job (state, id);
CREATE INDEX job_by_kind ON job (kind, id);
CREATE INDEX job_by_mark ON job (id) WHERE marked;

CREATE TABLE job_tag (
        tag TEXT NOT NULL,
        job INTEGER NOT NULL REFERENCES job (id),
        PRIMARY KEY (tag, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_tag_by_job ON job_tag (job);

-- Every transition, in the transaction that made it.
CREATE TABLE job_event (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL REFERENCES job (id),
        time_us INTEGER NOT NULL,
        from_state INTEGER, -- NULL: submitted
        to_state INTEGER NOT NULL,
        trigger TEXT NOT NULL,
        detail TEXT
) STRICT;
CREATE INDEX job_event_by_job ON job_event (job, id);

CREATE TABLE attempt (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL REFERENCES job (id),
        number INTEGER NOT NULL,
        started_us INTEGER NOT NULL,
        ended_us INTEGER NOT NULL DEFAULT 0,
        first_step INTEGER NOT NULL,
        last_seq INTEGER NOT NULL DEFAULT 0,
        checkpoints INTEGER NOT NULL DEFAULT 0,
        pid INTEGER NOT NULL DEFAULT 0,
        UNIQUE (job, number)
) STRICT;

-- Summary of the points that are not superseded: min and max of the finite ones, NULL when there is none;
-- last NULL: not a number.
CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL REFERENCES job (id),
        name TEXT NOT NULL,
        points INTEGER NOT NULL DEFAULT 0,
        last_step INTEGER NOT NULL DEFAULT 0,
        last REAL,
        min REAL,
        max REAL,
        UNIQUE (job, name)
) STRICT;

-- value NULL: not a number. ordinal keeps points of one step in order of arrival. No foreign keys here: the writer has
-- just looked both up, and a check for each point would double the work.
CREATE TABLE point (
        series INTEGER NOT NULL,
        step INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        value REAL,
        PRIMARY KEY (series, step, attempt, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE artifact (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL REFERENCES job (id),
        attempt INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        marked INTEGER NOT NULL DEFAULT 0, -- its file is being removed: no reader sees it
        step INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        created_us INTEGER NOT NULL,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        metric REAL, -- NULL: none
        UNIQUE (job, name)
) STRICT;
CREATE INDEX artifact_by_job ON artifact (job, id);
CREATE INDEX artifact_by_mark ON artifact (id) WHERE marked;

CREATE TABLE dataset (
        name TEXT PRIMARY KEY,
        path TEXT NOT NULL,
        format TEXT NOT NULL,
        digest TEXT NOT NULL,
        n_train INTEGER NOT NULL,
        n_test INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
