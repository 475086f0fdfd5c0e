-- Who may ask, and who did. A token's secret is kept as a salted hash alone.
CREATE TABLE token (
        name TEXT PRIMARY KEY,
        role INTEGER NOT NULL, -- enum role
        salt TEXT NOT NULL,
        hash TEXT NOT NULL, -- SHA-256 of salt and secret
        created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Each change that somebody asked for, in the transaction that made it. Rows are added, and that is all.
CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time_us INTEGER NOT NULL,
        uid INTEGER, -- of a peer on this machine; NULL: not known
        user TEXT NOT NULL, -- its name; ''
        token TEXT NOT NULL, -- name of the token; ''
        address TEXT NOT NULL,
        request TEXT NOT NULL, -- its id
        action TEXT NOT NULL, -- method and path
        job INTEGER NOT NULL -- that it was about, or made; 0: none. May be gone by now
) STRICT;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN
        SELECT raise(ABORT, 'the audit log is only added to');
END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit BEGIN
        SELECT raise(ABORT, 'the audit log is only added to');
END;
