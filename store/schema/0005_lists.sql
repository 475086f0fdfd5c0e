-- What lists need: an index of every pair of state and kind, counts that are kept and not computed, and parts of names
-- and notes by three letters (FTS5's trigrams).
DROP INDEX job_by_state;
DROP INDEX job_by_kind;
CREATE INDEX job_listed ON job (state, kind, id) WHERE NOT marked;
CREATE INDEX job_queue ON job (rank, id) WHERE state = 0;
ALTER TABLE job ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0; -- that its worker needs; 0: not known

CREATE TABLE job_count (
        state INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (state, kind)
) STRICT, WITHOUT ROWID;
WITH RECURSIVE pair (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM pair WHERE i < 16 * 16 - 1) -- room for more of both
INSERT INTO job_count
SELECT i / 16, i % 16, (SELECT count(*) FROM job WHERE state = i / 16 AND kind = i % 16 AND NOT marked) FROM pair;
CREATE TABLE tag_count (
        tag TEXT PRIMARY KEY,
        n INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO tag_count SELECT tag, count(*) FROM job_tag GROUP BY tag;

CREATE TRIGGER job_counted AFTER INSERT ON job BEGIN
        UPDATE job_count SET n = n + 1 WHERE state = new.state AND kind = new.kind;
END;
CREATE TRIGGER job_moved AFTER UPDATE OF state, marked ON job BEGIN
        UPDATE job_count SET n = n - (NOT old.marked) WHERE state = old.state AND kind = old.kind;
        UPDATE job_count SET n = n + (NOT new.marked) WHERE state = new.state AND kind = new.kind;
END;
CREATE TRIGGER job_gone AFTER DELETE ON job BEGIN
        UPDATE job_count SET n = n - (NOT old.marked) WHERE state = old.state AND kind = old.kind;
END;
CREATE TRIGGER tag_counted AFTER INSERT ON job_tag BEGIN
        INSERT OR IGNORE INTO tag_count VALUES (new.tag, 0);
        UPDATE tag_count SET n = n + 1 WHERE tag = new.tag;
END;
CREATE TRIGGER tag_gone AFTER DELETE ON job_tag BEGIN
        UPDATE tag_count SET n = n - 1 WHERE tag = old.tag;
        DELETE FROM tag_count WHERE tag = old.tag AND n = 0;
END;

CREATE VIRTUAL TABLE job_text USING fts5 (name, notes, content = 'job', content_rowid = 'id', tokenize = 'trigram');
INSERT INTO job_text (rowid, name, notes) SELECT id, name, notes FROM job WHERE name || notes <> '';
-- What is in it goes as it came in, word for word, or the index is damaged; a job without name and notes is not in it.
CREATE TRIGGER job_text_new AFTER INSERT ON job WHEN new.name || new.notes <> '' BEGIN
        INSERT INTO job_text (rowid, name, notes) VALUES (new.id, new.name, new.notes);
END;
CREATE TRIGGER job_text_gone AFTER DELETE ON job WHEN old.name || old.notes <> '' BEGIN
        INSERT INTO job_text (job_text, rowid, name, notes) VALUES ('delete', old.id, old.name, old.notes);
END;
CREATE TRIGGER job_text_old BEFORE UPDATE OF name, notes ON job WHEN old.name || old.notes <> '' BEGIN
        INSERT INTO job_text (job_text, rowid, name, notes) VALUES ('delete', old.id, old.name, old.notes);
END;
CREATE TRIGGER job_text_changed AFTER UPDATE OF name, notes ON job WHEN new.name || new.notes <> '' BEGIN
        INSERT INTO job_text (rowid, name, notes) VALUES (new.id, new.name, new.notes);
END;

-- What a client called its request (Idempotency-Key), so that asking again makes no second job. For a day.
CREATE TABLE request_key (
        key TEXT PRIMARY KEY,
        digest TEXT NOT NULL, -- of the request
        job INTEGER NOT NULL, -- may be gone by now
        time_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX request_key_by_time ON request_key (time_us);
