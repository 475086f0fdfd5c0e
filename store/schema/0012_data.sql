-- What an attempt was given to read, and an audit log that is added to alone also by INSERT OR REPLACE.
ALTER TABLE attempt ADD COLUMN data TEXT; -- JSON: name, digest, train and test of its data set; NULL: none, or not known
-- Where nobody says which, NEW.id is no row's before the row is there.
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) BEGIN
        SELECT raise(ABORT, 'the audit log is only added to');
END;
CREATE TRIGGER audit_goes_up AFTER INSERT ON audit WHEN NEW.id < (SELECT max(id) FROM audit) OR NEW.id < 1 BEGIN
        SELECT raise(ABORT, 'the audit log is only added to');
END;
