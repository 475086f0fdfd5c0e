-- Browsers' sessions: who opened each, not what he may, which is asked anew each time. Of a session's key its SHA-256 is
-- kept, by which it is found: 128 bits that were drawn are in no dictionary, so no salt is needed.
CREATE TABLE session (
        hash TEXT PRIMARY KEY,
        token TEXT NOT NULL, -- name of a token; ''
        uid INTEGER NOT NULL, -- of a peer on this machine; -1: not known
        until_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_by_end ON session (until_us);
CREATE INDEX session_by_token ON session (token);
