-- What was sent to webhooks: an attempt a row, of each hook the last thousand.
CREATE TABLE delivery (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        hook TEXT NOT NULL, -- its name in the settings
        event INTEGER NOT NULL, -- id of a job_event, which may be gone
        job INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        time_us INTEGER NOT NULL,
        took_us INTEGER NOT NULL,
        code INTEGER NOT NULL, -- of the answer; 0: there was none
        detail TEXT NOT NULL -- why there was none; ''
) STRICT;
CREATE INDEX delivery_by_hook ON delivery (hook, id);
