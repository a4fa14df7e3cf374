-- Torpor ledger, format 1. seam.py says what the columns mean; times are microseconds since 1970 UTC.

CREATE TABLE meta (
  one     INTEGER PRIMARY KEY CHECK (one = 1),
  settled INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Every name that was ever given. Rows are never changed or removed, so no name is given twice.
CREATE TABLE names (
  fold TEXT PRIMARY KEY,
  name TEXT NOT NULL CHECK (name <> ''),
  id   TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL CHECK (kind IN ('agent', 'template'))
) STRICT, WITHOUT ROWID;

CREATE TRIGGER names_are_no_ids BEFORE INSERT ON names
  WHEN EXISTS (SELECT 1 FROM names WHERE id = NEW.fold OR fold = NEW.id)
  BEGIN SELECT RAISE(ABORT, 'a name is another''s id'); END;
CREATE TRIGGER names_are_final BEFORE UPDATE ON names
  BEGIN SELECT RAISE(ABORT, 'names are for ever'); END;
CREATE TRIGGER names_are_kept BEFORE DELETE ON names
  BEGIN SELECT RAISE(ABORT, 'names are for ever'); END;

CREATE TABLE agents (
  agent           INTEGER PRIMARY KEY,
  id              TEXT NOT NULL UNIQUE REFERENCES names (id),
  name            TEXT NOT NULL,
  fold            TEXT NOT NULL UNIQUE REFERENCES names (fold),
  tenant          TEXT NOT NULL,
  template        TEXT,
  state           TEXT NOT NULL
                  CHECK (state IN ('created', 'active', 'suspended', 'frozen', 'archived', 'deleted')),
  epoch           INTEGER NOT NULL CHECK (epoch >= 0),
  active          INTEGER NOT NULL,
  wake            INTEGER,
  suspend_after_s REAL CHECK (suspend_after_s > 0),
  freeze_after_s  REAL CHECK (freeze_after_s > 0),
  file            TEXT NOT NULL,
  cold            TEXT,
  archive         TEXT,
  digest          TEXT CHECK (length(digest) = 64),
  bytes           INTEGER NOT NULL CHECK (bytes >= 0),
  seq             INTEGER NOT NULL CHECK (seq >= 0),
  head            TEXT NOT NULL CHECK (length(head) IN (0, 64)),
  parent          TEXT,
  parent_seq      INTEGER,
  created         INTEGER NOT NULL,
  CONSTRAINT frozen_has_a_cold_copy CHECK ((state = 'frozen') = (cold IS NOT NULL)),
  CONSTRAINT archived_has_an_archive CHECK ((state = 'archived') = (archive IS NOT NULL)),
  CONSTRAINT a_copy_has_a_digest CHECK ((state IN ('frozen', 'archived')) = (digest IS NOT NULL)),
  CONSTRAINT the_living_have_a_file CHECK ((state = 'deleted') = (file = '')),
  CONSTRAINT a_tombstone_keeps_little CHECK (state <> 'deleted' OR (wake IS NULL AND bytes = 0 AND seq = 0 AND head = ''))
) STRICT;

CREATE UNIQUE INDEX agents_file ON agents (file) WHERE file <> '';
CREATE INDEX agents_tenant ON agents (tenant, fold);
CREATE INDEX agents_parent ON agents (parent) WHERE parent IS NOT NULL;
CREATE INDEX agents_wake ON agents (wake) WHERE wake IS NOT NULL;

CREATE TRIGGER agents_are_themselves
  BEFORE UPDATE OF agent, id, name, fold, tenant, template, parent, parent_seq, created ON agents
  BEGIN SELECT RAISE(ABORT, 'an agent stays itself'); END;
CREATE TRIGGER agents_go_forward BEFORE UPDATE ON agents
  WHEN OLD.state = 'deleted' OR NEW.epoch < OLD.epoch
  BEGIN SELECT RAISE(ABORT, 'an agent never goes back'); END;
CREATE TRIGGER agents_are_kept BEFORE DELETE ON agents
  BEGIN SELECT RAISE(ABORT, 'a deleted agent keeps its tombstone'); END;

CREATE TABLE templates (
  id              TEXT PRIMARY KEY REFERENCES names (id),
  name            TEXT NOT NULL,
  fold            TEXT NOT NULL UNIQUE REFERENCES names (fold),
  file            TEXT NOT NULL UNIQUE CHECK (file <> ''),
  bytes           INTEGER NOT NULL CHECK (bytes >= 0),
  mtime_ns        INTEGER NOT NULL,
  ctime_ns        INTEGER NOT NULL,
  inode           INTEGER NOT NULL,
  digest          TEXT NOT NULL CHECK (length(digest) = 64),
  seq             INTEGER NOT NULL CHECK (seq >= 0),
  head            TEXT NOT NULL CHECK (length(head) IN (0, 64)),
  parent          TEXT,
  parent_seq      INTEGER,
  created         INTEGER NOT NULL,
  suspend_after_s REAL CHECK (suspend_after_s > 0),
  freeze_after_s  REAL CHECK (freeze_after_s > 0)
) STRICT;

CREATE TRIGGER templates_are_final BEFORE UPDATE ON templates
  BEGIN SELECT RAISE(ABORT, 'a template never changes'); END;

CREATE TABLE history (
  move    INTEGER PRIMARY KEY,
  agent   TEXT NOT NULL REFERENCES names (id),
  verb    TEXT NOT NULL CHECK (verb <> ''),
  before  TEXT,
  after   TEXT,
  epoch   INTEGER,
  who     TEXT NOT NULL,
  why     TEXT NOT NULL,
  time    INTEGER NOT NULL,
  bytes   INTEGER NOT NULL CHECK (bytes >= 0),
  ms      REAL NOT NULL,
  details TEXT NOT NULL CHECK (json_valid(details))
) STRICT;

CREATE INDEX history_agent ON history (agent, move);

CREATE TRIGGER history_is_final BEFORE UPDATE ON history
  BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
CREATE TRIGGER history_is_kept BEFORE DELETE ON history
  BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;

-- Which agents and templates have changed, each with the number of its newest change: for replicas, which ask for
-- whatever is newer than what they have. An activity alone is no change.
CREATE TABLE changed (
  change INTEGER PRIMARY KEY,
  id     TEXT NOT NULL UNIQUE REFERENCES names (id)
) STRICT;

CREATE TRIGGER a_new_agent_is_a_change AFTER INSERT ON agents
  BEGIN INSERT OR REPLACE INTO changed (change, id)
        VALUES ((SELECT coalesce(max(change), 0) + 1 FROM changed), NEW.id); END;
CREATE TRIGGER a_move_is_a_change
  AFTER UPDATE OF state, epoch, wake, suspend_after_s, freeze_after_s, file, cold, archive, digest, bytes, seq, head ON agents
  BEGIN INSERT OR REPLACE INTO changed (change, id)
        VALUES ((SELECT coalesce(max(change), 0) + 1 FROM changed), NEW.id); END;
CREATE TRIGGER a_new_template_is_a_change AFTER INSERT ON templates
  BEGIN INSERT OR REPLACE INTO changed (change, id)
        VALUES ((SELECT coalesce(max(change), 0) + 1 FROM changed), NEW.id); END;
CREATE TRIGGER a_dropped_template_is_a_change AFTER DELETE ON templates
  BEGIN INSERT OR REPLACE INTO changed (change, id)
        VALUES ((SELECT coalesce(max(change), 0) + 1 FROM changed), OLD.id); END;

CREATE TABLE leftovers (
  place TEXT NOT NULL CHECK (place <> ''),
  agent TEXT NOT NULL,
  claim TEXT NOT NULL,
  since INTEGER NOT NULL,
  PRIMARY KEY (place, agent)
) STRICT, WITHOUT ROWID;

INSERT INTO meta (one) VALUES (1);
