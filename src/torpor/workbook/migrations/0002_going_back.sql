-- Rewinds: what is replaced or removed is kept, events can be set aside, and every file and memory entry knows the
-- events that made it. What was before is not kept, so the horizon is the present. `migrate.py` fills in the births.

-- A table that gets another form is renamed, made anew and filled from the old one, row by row and in the file, however
-- large it is. With this pragma the tables that refer to it go on doing so by its name.
PRAGMA legacy_alter_table = ON;

DROP VIEW runs;
DROP TRIGGER spend_is_kept;
DROP INDEX events_key;
DROP INDEX memory_expiry;
DROP INDEX memory_kind;

ALTER TABLE meta RENAME TO old_meta;
CREATE TABLE meta (
  one          INTEGER PRIMARY KEY CHECK (one = 1),
  format       INTEGER NOT NULL CHECK (format >= 1),
  agent        TEXT NOT NULL,
  created      INTEGER NOT NULL,
  parent_agent TEXT,
  parent_seq   INTEGER CHECK ((parent_seq IS NULL) = (parent_agent IS NULL)),
  txn          INTEGER NOT NULL DEFAULT 0 CHECK (txn >= 0),
  horizon      INTEGER NOT NULL DEFAULT 0 CHECK (horizon >= 0)
) STRICT;
INSERT INTO meta
  SELECT one, 2, agent, created, parent_agent, parent_seq,
         1 + max(txn, coalesce((SELECT txn FROM events ORDER BY seq DESC LIMIT 1), 0)),
         coalesce((SELECT max(seq) FROM events), 0)
  FROM old_meta;
DROP TABLE old_meta;

CREATE INDEX events_key ON events (key) WHERE key IS NOT NULL;

CREATE TABLE rewinds (
  event  INTEGER PRIMARY KEY REFERENCES events (seq),
  target INTEGER NOT NULL CHECK (target BETWEEN 0 AND event - 1)
) STRICT;

CREATE TABLE set_aside (
  first INTEGER PRIMARY KEY CHECK (first >= 1),
  last  INTEGER NOT NULL CHECK (last >= first)
) STRICT;

CREATE VIEW line AS
  SELECT * FROM events
  WHERE seq > coalesce((SELECT last FROM set_aside WHERE first <= seq ORDER BY first DESC LIMIT 1), 0);

ALTER TABLE volumes RENAME TO old_volumes;
CREATE TABLE volumes (
  volume TEXT PRIMARY KEY CHECK (volume IN ('workspace', 'memory', 'tmp', 'staging', 'values', 'past')),
  quota  INTEGER NOT NULL CHECK (quota >= 0),
  used   INTEGER NOT NULL DEFAULT 0,
  CHECK (used BETWEEN 0 AND quota)
) STRICT, WITHOUT ROWID;
INSERT INTO volumes SELECT * FROM old_volumes;
INSERT INTO volumes (volume, quota) VALUES ('past', 9223372036854775807);
DROP TABLE old_volumes;

ALTER TABLE files RENAME TO old_files;
CREATE TABLE files (
  file   INTEGER PRIMARY KEY,
  volume TEXT NOT NULL REFERENCES volumes (volume),
  path   TEXT NOT NULL CHECK (substr(path, 1, 1) = '/'),
  mode   INTEGER NOT NULL CHECK (mode BETWEEN 0 AND 511),
  size   INTEGER NOT NULL CHECK (size >= 0),
  mtime  INTEGER NOT NULL,
  born   INTEGER CHECK ((born IS NULL) = (volume IN ('tmp', 'staging', 'values'))),
  grown  INTEGER CHECK ((grown IS NULL) = (born IS NULL)),
  UNIQUE (volume, path)
) STRICT;
INSERT INTO files SELECT *, 0, 0 FROM old_files WHERE volume IN ('workspace', 'memory');
INSERT INTO files SELECT *, NULL, NULL FROM old_files WHERE volume NOT IN ('workspace', 'memory');
DROP TABLE old_files;

ALTER TABLE memory RENAME TO old_memory;
CREATE TABLE memory (
  entry     INTEGER PRIMARY KEY,
  kind      TEXT NOT NULL,
  content   TEXT NOT NULL,
  source    TEXT UNIQUE,
  metadata  TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
  model     TEXT,
  embedding BLOB CHECK ((embedding IS NULL) = (model IS NULL)),
  created   INTEGER NOT NULL,
  expires   INTEGER,
  born      INTEGER NOT NULL
) STRICT;
CREATE INDEX memory_expiry ON memory (expires) WHERE expires IS NOT NULL;
CREATE INDEX memory_kind ON memory (kind, entry);
INSERT INTO memory SELECT *, 0 FROM old_memory;
DROP TABLE old_memory;

CREATE TABLE memory_past (
  born      INTEGER PRIMARY KEY,
  retired   INTEGER NOT NULL CHECK (retired > born),
  content   TEXT NOT NULL,
  model     TEXT,
  embedding BLOB,
  created   INTEGER NOT NULL
) STRICT;

CREATE TRIGGER spend_is_kept BEFORE DELETE ON spend
  WHEN NOT EXISTS (SELECT 1 FROM set_aside WHERE old.event BETWEEN first AND last)
  BEGIN SELECT RAISE(ABORT, 'spend is append-only'); END;

CREATE VIEW runs AS
  SELECT started.span AS run,
         started.seq  AS started,
         started.time AS started_time,
         json_extract(started.body, '$.message') AS message,
         last.seq     AS last,
         last.time    AS last_time,
         substr(last.kind, 5) AS state
  FROM line AS started
  JOIN events AS last ON last.seq = (
    SELECT max(seq) FROM line
    WHERE span = started.span AND span IS NOT NULL AND kind GLOB 'run.*')
  WHERE started.kind = 'run.started';

PRAGMA legacy_alter_table = OFF;
