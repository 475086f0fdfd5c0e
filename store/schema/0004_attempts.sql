-- What a person does to a job, and what became of each attempt. stop_requested is of enum stop_reason, of which 1 is
-- what a true cancel_requested was. rank is minus the priority: ascending (rank, id) is the order of the queue.
ALTER TABLE job RENAME COLUMN cancel_requested TO stop_requested;
ALTER TABLE job ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN unmet INTEGER NOT NULL DEFAULT 0; -- jobs that it waits for and that have not succeeded
ALTER TABLE job ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE job ADD COLUMN limit_wall_s INTEGER NOT NULL DEFAULT 0; -- 0: none
ALTER TABLE job ADD COLUMN limit_steps INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN dataset TEXT NOT NULL DEFAULT ''; -- that it needs, or, of an import, makes
ALTER TABLE job ADD COLUMN notes TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN gpu INTEGER NOT NULL DEFAULT 0; -- it runs on a GPU, else on the processor
UPDATE job SET gpu = json_extract(config, '$.machine.backend') IS 'cuda' WHERE import IS NULL;
UPDATE job SET dataset = coalesce(CASE WHEN import IS NULL THEN json_extract(config, '$.data.dataset')
                                       WHEN json_extract(import, '$.what') = 'dataset' THEN json_extract(import, '$.name')
                                  END, '');

-- Jobs that are not over (queued, running, paused), by what holds up others: nothing here is ever walked whole.
CREATE INDEX job_ready ON job (gpu, rank, id) WHERE state = 0 AND unmet = 0;
CREATE INDEX job_by_source ON job (source_job, id) WHERE state IN (0, 1, 5);
CREATE INDEX job_by_dataset ON job (dataset, id) WHERE state IN (0, 1, 5);

CREATE TABLE job_after (
        job INTEGER NOT NULL REFERENCES job (id),
        dependency INTEGER NOT NULL, -- once it is met, that job may be removed
        met INTEGER NOT NULL,
        PRIMARY KEY (job, dependency)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_after_by_dependency ON job_after (dependency, met);

CREATE TABLE device_out (
        name TEXT PRIMARY KEY -- taken out of service by a person
) STRICT, WITHOUT ROWID;

ALTER TABLE attempt ADD COLUMN devices TEXT NOT NULL DEFAULT '["cpu"]'; -- JSON array of names
ALTER TABLE attempt ADD COLUMN ranks INTEGER NOT NULL DEFAULT 1;
ALTER TABLE attempt ADD COLUMN last_step INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN outcome INTEGER NOT NULL DEFAULT 0; -- enum attempt_outcome
ALTER TABLE attempt ADD COLUMN stop INTEGER NOT NULL DEFAULT 0;    -- enum stop_reason
ALTER TABLE attempt ADD COLUMN class TEXT NOT NULL DEFAULT '';
ALTER TABLE attempt ADD COLUMN blame TEXT NOT NULL DEFAULT '';
ALTER TABLE attempt ADD COLUMN detail TEXT;

-- The outcomes of what ran before, from the event log: what follows the n-th start is how the n-th attempt ended.
WITH start AS (SELECT job, id, row_number() OVER (PARTITION BY job ORDER BY id) AS number
               FROM job_event WHERE trigger = 'start'),
     ending AS (SELECT s.job, s.number, (SELECT min(e.id) FROM job_event e WHERE e.job = s.job AND e.id > s.id) AS event
                FROM start s)
UPDATE attempt SET
        (outcome, stop, detail) =
        (SELECT CASE e.trigger WHEN 'done' THEN 1 WHEN 'error' THEN 2 WHEN 'lost' THEN 2 ELSE 3 END,
                CASE e.trigger WHEN 'cancel' THEN 1 WHEN 'stop' THEN 4 ELSE 0 END, e.detail
         FROM ending n JOIN job_event e ON e.id = n.event WHERE n.job = attempt.job AND n.number = attempt.number)
WHERE EXISTS (SELECT 1 FROM ending n WHERE n.job = attempt.job AND n.number = attempt.number AND n.event IS NOT NULL);
UPDATE attempt SET (class, blame) =
        (SELECT json_extract(j.error, '$.class'), 'job' FROM job j WHERE j.id = attempt.job AND j.attempts = attempt.number)
WHERE outcome = 2 AND EXISTS (SELECT 1 FROM job j WHERE j.id = attempt.job AND j.attempts = attempt.number AND j.state = 3
                              AND json_extract(j.error, '$.class') IS NOT NULL);
