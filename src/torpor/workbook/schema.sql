-- Torpor workbook, format 2. SPEC.md explains every table and states the invariants.

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

CREATE TABLE events (
  seq     INTEGER PRIMARY KEY CHECK (seq >= 1),
  id      BLOB NOT NULL CHECK (length(id) = 16),
  time    INTEGER NOT NULL,
  kind    TEXT NOT NULL,
  version INTEGER NOT NULL CHECK (version >= 1),
  body    TEXT NOT NULL,
  span    TEXT,
  parent  INTEGER CHECK (parent < seq),
  key     TEXT,
  hash    BLOB NOT NULL CHECK (length(hash) = 32),
  txn     INTEGER NOT NULL CHECK (txn >= 1)
) STRICT;

CREATE INDEX events_key ON events (key) WHERE key IS NOT NULL;
CREATE INDEX events_span ON events (span, seq) WHERE span IS NOT NULL;
CREATE INDEX events_run ON events (seq) WHERE kind = 'run.started';

CREATE TRIGGER events_are_final BEFORE UPDATE ON events
  BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_kept BEFORE DELETE ON events
  BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

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

CREATE TABLE volumes (
  volume TEXT PRIMARY KEY CHECK (volume IN ('workspace', 'memory', 'tmp', 'staging', 'values', 'past')),
  quota  INTEGER NOT NULL CHECK (quota >= 0),
  used   INTEGER NOT NULL DEFAULT 0,
  CHECK (used BETWEEN 0 AND quota)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE chunks (
  file   INTEGER NOT NULL REFERENCES files (file) ON DELETE CASCADE,
  start  INTEGER NOT NULL CHECK (start >= 0),
  data   BLOB NOT NULL CHECK (length(data) BETWEEN 1 AND 65536),
  PRIMARY KEY (file, start)
) STRICT;

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

CREATE TABLE memory_aliases (
  alias TEXT PRIMARY KEY,
  entry INTEGER NOT NULL REFERENCES memory (entry) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX memory_aliases_entry ON memory_aliases (entry);

CREATE VIRTUAL TABLE memory_text USING fts5 (
  content, content = 'memory', content_rowid = 'entry', tokenize = 'porter unicode61'
);

CREATE TABLE memory_past (
  born      INTEGER PRIMARY KEY,
  retired   INTEGER NOT NULL CHECK (retired > born),
  content   TEXT NOT NULL,
  model     TEXT,
  embedding BLOB,
  created   INTEGER NOT NULL
) STRICT;

CREATE TABLE spend (
  event  INTEGER PRIMARY KEY REFERENCES events (seq),
  source TEXT NOT NULL,
  target TEXT NOT NULL CHECK (target <> source),
  unit   TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (amount > 0),
  key    TEXT NOT NULL UNIQUE
) STRICT;

CREATE TRIGGER spend_is_final BEFORE UPDATE ON spend
  BEGIN SELECT RAISE(ABORT, 'spend is append-only'); END;
CREATE TRIGGER spend_is_kept BEFORE DELETE ON spend
  WHEN NOT EXISTS (SELECT 1 FROM set_aside WHERE old.event BETWEEN first AND last)
  BEGIN SELECT RAISE(ABORT, 'spend is append-only'); END;

CREATE TABLE settings (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL CHECK (json_valid(value)),
  event INTEGER NOT NULL REFERENCES events (seq)
) STRICT, WITHOUT ROWID;

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

CREATE VIEW balances AS
  SELECT account, unit, sum(amount) AS amount
  FROM (SELECT target AS account, unit, amount FROM spend
        UNION ALL
        SELECT source, unit, -amount FROM spend)
  GROUP BY account, unit;

INSERT INTO volumes (volume, quota) VALUES
  ('workspace', 4294967296),
  ('memory',    4294967296),
  ('tmp',       4294967296),
  ('staging',   9223372036854775807),
  ('values',    9223372036854775807),
  ('past',      9223372036854775807);
