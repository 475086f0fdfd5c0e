-- On how many devices a job runs at once (job_devices), so that no configuration is parsed to say why it waits.
ALTER TABLE job ADD COLUMN devices INTEGER NOT NULL DEFAULT 1;
UPDATE job SET devices = min(json_extract(config, '$.machine.devices'), 64)
        WHERE kind IN (0, 1) AND json_extract(config, '$.machine.devices') > 1;
