-- An import has no configuration ('{}') but says what comes from where. Data sets are listed anew at every start.
ALTER TABLE job ADD COLUMN import TEXT; -- JSON; NULL: not an import
ALTER TABLE dataset ADD COLUMN mean_red REAL NOT NULL DEFAULT 0;
ALTER TABLE dataset ADD COLUMN mean_green REAL NOT NULL DEFAULT 0;
ALTER TABLE dataset ADD COLUMN mean_blue REAL NOT NULL DEFAULT 0;
ALTER TABLE dataset ADD COLUMN source TEXT NOT NULL DEFAULT ''; -- the format that it was imported from
ALTER TABLE dataset ADD COLUMN imported INTEGER NOT NULL DEFAULT 0;
