-- What lists are sorted by, beside each other in the order of ids, so that all jobs can be looked through without their rows, which
-- a configuration makes long; and which jobs began with another's checkpoint.
ALTER TABLE job ADD COLUMN test_bpd REAL; -- of its result, by the images that it is of; NULL: none, or not finite
ALTER TABLE job ADD COLUMN train_bpd REAL;
UPDATE job SET (test_bpd, train_bpd) = (SELECT CASE WHEN split IS NOT 'train' THEN bpd END, CASE WHEN split IS 'train' THEN bpd END
        FROM (SELECT json_extract(result, '$.bpd') AS bpd, json_extract(result, '$.split') AS split))
WHERE json_type(result, '$.bpd') IN ('integer', 'real');
CREATE INDEX job_sorted ON job (id, kind, state, marked, step, steps, attempts, rank, created_us, started_us, ended_us, images_per_second,
        owner, test_bpd, train_bpd);
CREATE INDEX series_sorted ON series (job, name, last, min) WHERE name = 'eval/bpd' OR name = 'train/bpd';
CREATE INDEX job_by_checkpoint ON job (source_job, id) WHERE source_job > 0;
