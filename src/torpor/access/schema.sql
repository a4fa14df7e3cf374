-- Torpor access, format 1. Times are microseconds since 1970 UTC.

CREATE TABLE meta (
  one    INTEGER PRIMARY KEY CHECK (one = 1),
  public TEXT NOT NULL
) STRICT;

-- API tokens that were issued. Of the token itself only its id and its signature are here.
CREATE TABLE tokens (
  id         TEXT PRIMARY KEY,
  revocation TEXT NOT NULL UNIQUE,
  label      TEXT NOT NULL CHECK (label <> ''),
  scope      TEXT NOT NULL CHECK (json_valid(scope)),
  created    INTEGER NOT NULL,
  expires    INTEGER NOT NULL,
  issuer     TEXT NOT NULL,
  parent     TEXT REFERENCES tokens (id),
  expired    INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_parent ON tokens (parent) WHERE parent IS NOT NULL;

CREATE TRIGGER tokens_stay_themselves
  BEFORE UPDATE OF id, revocation, label, scope, created, expires, issuer, parent ON tokens
  BEGIN SELECT RAISE(ABORT, 'a token stays what it is'); END;
CREATE TRIGGER tokens_never_come_back BEFORE UPDATE OF expired ON tokens WHEN OLD.expired IS NOT NULL
  BEGIN SELECT RAISE(ABORT, 'a token that has expired stays so'); END;
CREATE TRIGGER tokens_are_kept BEFORE DELETE ON tokens
  BEGIN SELECT RAISE(ABORT, 'tokens are kept'); END;

-- Signatures, in hex, of blocks of tokens: a token that has such a block is revoked.
CREATE TABLE revoked (
  revocation TEXT PRIMARY KEY,
  token      TEXT NOT NULL REFERENCES tokens (id),
  time       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER revoked_is_final BEFORE UPDATE ON revoked
  BEGIN SELECT RAISE(ABORT, 'what is revoked stays so'); END;
CREATE TRIGGER revoked_is_kept BEFORE DELETE ON revoked
  BEGIN SELECT RAISE(ABORT, 'what is revoked stays so'); END;

-- Join tokens, as SHA-256. An ended one is never open again.
CREATE TABLE joins (
  id      TEXT PRIMARY KEY,
  hash    BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  ended   INTEGER,
  how     TEXT CHECK (how IN ('used', 'replaced', 'expired')),
  token   TEXT REFERENCES tokens (id),
  CHECK ((ended IS NULL) = (how IS NULL)),
  CHECK (coalesce(how = 'used', 0) = (token IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX joins_open ON joins (id) WHERE ended IS NULL;

CREATE TRIGGER joins_end_once BEFORE UPDATE ON joins WHEN OLD.ended IS NOT NULL
  BEGIN SELECT RAISE(ABORT, 'a join token ends once'); END;
CREATE TRIGGER joins_are_kept BEFORE DELETE ON joins
  BEGIN SELECT RAISE(ABORT, 'join tokens are kept'); END;

-- The audit: append-only, without gaps, each entry with the hash of the one before in its own (audit.py).
CREATE TABLE audit (
  seq  INTEGER PRIMARY KEY,
  time INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind <> ''),
  who  TEXT NOT NULL,
  body TEXT NOT NULL CHECK (json_valid(body)),
  hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TRIGGER audit_has_no_gaps BEFORE INSERT ON audit
  WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM audit)
  BEGIN SELECT RAISE(ABORT, 'the audit has no gaps'); END;
CREATE TRIGGER audit_is_final BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
