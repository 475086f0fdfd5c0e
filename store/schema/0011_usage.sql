-- Who asked for a job, more of what limits it, what its attempts used, and what is known of a checkpoint.
ALTER TABLE job ADD COLUMN owner TEXT NOT NULL DEFAULT ''; -- the token's name, else the user's; '': not known
ALTER TABLE job ADD COLUMN limit_device_seconds INTEGER NOT NULL DEFAULT 0; -- 0: none
ALTER TABLE job ADD COLUMN limit_failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN energy_j REAL; -- of its devices, from its start to its end; NULL: not known
ALTER TABLE artifact ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0; -- a person keeps it
ALTER TABLE artifact ADD COLUMN failed_starts INTEGER NOT NULL DEFAULT 0; -- attempts that began with it and crashed before a step
-- Why: '' by a person, else what the daemon found wrong with it.
ALTER TABLE device_out ADD COLUMN why TEXT NOT NULL DEFAULT '';
