-- A job's own random identity, in its folder, spools and checkpoints, so that nothing of another run that had the same
-- number is taken for this one's; '' for jobs of before, whose files say nothing. An attempt's process is known by its
-- boot, its pid and when it started; '' and 0: not known.
ALTER TABLE job ADD COLUMN identity TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN accept_changed_data INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN boot TEXT NOT NULL DEFAULT '';
ALTER TABLE attempt ADD COLUMN start_ticks INTEGER NOT NULL DEFAULT 0;
-- Those whose process, spool and lock are still to be tidied away.
CREATE INDEX attempt_open ON attempt (id) WHERE ended_us = 0;
