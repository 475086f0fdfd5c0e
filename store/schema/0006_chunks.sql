-- Points in chunks of some thousand, with summaries above them (README.md). What the table point held is moved by
-- migrate.c, which drops it.

-- Points of one series and attempt whose steps do not descend; behind a step that goes back below what is in a chunk
-- another track begins. Later tracks have higher ids.
CREATE TABLE track (
        id INTEGER PRIMARY KEY,
        series INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        points INTEGER NOT NULL,
        first_step INTEGER NOT NULL,
        last_step INTEGER NOT NULL
) STRICT;
CREATE INDEX track_by_series ON track (series, attempt, id);

CREATE TABLE chunk (
        id INTEGER PRIMARY KEY, -- track << 32 | level << 29 | number
        first_step INTEGER NOT NULL,
        last_step INTEGER NOT NULL,
        cells BLOB NOT NULL, -- cells.c
        points BLOB          -- chunk.c; NULL above level 0
) STRICT;

-- What events said and is not in chunks yet: a row an event, of all of its columns (chunk.c: batch).
CREATE TABLE tail (
        attempt INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (attempt, seq)
) STRICT, WITHOUT ROWID;
ALTER TABLE attempt ADD COLUMN tail_rows INTEGER NOT NULL DEFAULT 0; -- of its events in tail
ALTER TABLE attempt ADD COLUMN tail_events INTEGER NOT NULL DEFAULT 0;

ALTER TABLE job ADD COLUMN series INTEGER NOT NULL DEFAULT 0; -- how many it has
UPDATE job SET series = (SELECT count(*) FROM series s WHERE s.job = job.id);
