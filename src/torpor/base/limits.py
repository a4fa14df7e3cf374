"""Every cap in one place, each with its unit."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

EVENT_BODY_MAX = 256 * KIB
"""Bytes of UTF-8 in one event's body; larger values go to chunks."""

KIND_MAX = 100
"""Characters in an event's kind."""

LABEL_MAX = 512
"""Characters in a span or in an idempotency key."""

PATH_MAX = 1024
"""Bytes of UTF-8 in a path inside a volume."""

SEGMENT_MAX = 255
"""Bytes of UTF-8 between two slashes of such a path, as in most file systems."""

CHUNK_MAX = 64 * KIB
"""Bytes in one chunk of a file's content."""

CHUNK_MERGE_MAX = 4 * KIB
"""A last chunk of up to this many bytes is rewritten, not followed, by an append: many small appends stay few rows."""

VOLUME_QUOTA_DEFAULT = 4 * GIB
"""Bytes that one volume holds unless its quota says otherwise."""

MEMORY_CONTENT_MAX = 1 * MIB
"""Bytes of UTF-8 in one memory entry."""

EVENTS_PAGE = 500
"""Events read from the file at a time while iterating."""

WAL_KEEP_MAX = 16 * MIB
"""Bytes that the write-ahead log keeps on disk after a checkpoint."""

FEED_BYTES_MAX = 16 * MIB
"""Bytes read from one source, after decompression."""

FEED_ITEMS_MAX = 10_000
"""Items taken from one source, newest first in the source's own order."""

FETCH_SECONDS_MAX = 20.0
"""Seconds for one source, redirects included."""

FETCH_AT_ONCE = 8
"""Sources fetched at the same time."""

REDIRECTS_MAX = 5
"""Redirects followed for one source."""

MODEL_SECONDS_MAX = 60.0
"""Seconds for one answer of a model over HTTP."""

MODEL_ANSWER_BYTES_MAX = 4 * MIB
"""Bytes read of one answer of a model over HTTP."""

MODEL_TEXT_CHARS_MAX = 100_000
"""Characters of one text that a model is shown; what follows is left out."""

SUMMARY_CHARS_MAX = 1_200
"""Characters in a summary that passed the membrane."""

SUMMARY_ANSWER_CHARS_MAX = 20_000
"""Characters in an answer that was asked for a few sentences; more is no summary."""

ITEM_TEXT_MAX = 20_000
"""Characters of plain text kept of one feed item's body."""

ITEM_LINE_MAX = 300
"""Characters kept of one feed item's title or author."""

ITEM_MARKUP_MAX = 1024 * 1024
"""Characters of markup looked at for one field of one feed item."""

# --- the heartbeat's log ---

LOG_SEGMENT_BYTES = 16 * MIB
"""Bytes in one segment of the heartbeat; a record that is larger gets a segment of its own size."""

LOG_RECORD_MAX = 2 * GIB - 64 * KIB
"""Bytes in the payload of one record of the heartbeat: its length must fit into one write of the system."""

LOG_PENDING_BYTES_MAX = 32 * MIB
"""Bytes of records that wait to be synced; whoever wants to add more waits."""

LOG_STALL_SECONDS = 30.0
"""Seconds that a commit waits for the heartbeat's sync before its caller is told that the device has stalled."""

LOG_SPARES = 2
"""Segments kept for use again when nobody needs what is in them."""

LOG_KEEP_BYTES = 64 * MIB
"""Bytes of the heartbeat that are kept before the agents which need the oldest of them are settled."""

# --- records of commits ---

COMMIT_RECORD_MAX = 16 * MIB
"""Bytes of changed rows in the record of one transaction; one that changes more is kept by a snapshot instead."""

COMMIT_ROWS_MAX = 500_000
"""Rows of one table that the record of one transaction names; likewise."""

# --- the replica ---

SNAPSHOT_INLINE_MAX = 4 * MIB
"""Bytes of a compressed snapshot that is a record of its own; a larger one is an object beside the packs."""

PACK_BYTES = 4 * MIB
"""Bytes of records that are shipped without waiting for the beat."""

MERGE_PACKS = 64
"""Packs of the sequence that are merged into one."""

MERGE_BYTES = 64 * MIB
"""Bytes of packs that are merged into one: it is made in memory."""

RETENTION_SECONDS = 7 * 86_400.0
"""Seconds that every moment of an agent can be restored."""

# --- the inspector ---

INSPECT_ROWS_MAX = 200
"""Agents that one answer of the inspector tells of one by one; and owners, and processes."""

INSPECT_TASKS_MAX = 50
"""Tasks of one agent that are told of one by one."""

INSPECT_CHILDREN_MAX = 1_000
"""Child processes that are looked at for one answer."""

INSPECT_SECONDS_MAX = 60.0
"""Seconds of one sampling window."""

STACK_FRAMES_MAX = 64
"""Frames of one stack that are looked at."""

CGROUPS_MAX = 64
"""Control groups that one answer of the inspector tells of."""

KERNEL_FILE_MAX = 256 * KIB
"""Bytes read of one file of /proc or of a control group."""

# --- access ---

JOIN_SECONDS = 600.0
"""Seconds for which a join token can be used."""

TOKEN_SECONDS_DEFAULT = 30 * 86_400.0
"""Seconds for which an API token holds unless it is said otherwise."""

TOKEN_SECONDS_MAX = 366 * 86_400.0
"""Seconds for which an API token can hold at most."""

TOKEN_SKEW_SECONDS = 300.0
"""Seconds by which the clock may be behind the moment that a token was issued at."""

TOKEN_CHARS_MAX = 8 * KIB
"""Characters of a token that are looked at; a longer one is none."""

TOKEN_BLOCKS_MAX = 8
"""Blocks of a token: the one that was issued, and those by which its holders have narrowed it."""

TOKEN_AGENTS_MAX = 64
"""Agents that one token can be limited to."""

TOKEN_LABEL_MAX = 100
"""Characters in the name of a token."""

TOKENS_KEPT = 1_024
"""Accepted tokens whose signatures needn't be verified again."""

ACCESS_PEERS_MAX = 10_000
"""Peers whose attempts are counted at a time."""

AUDIT_BODY_MAX = 16 * KIB
"""Bytes of UTF-8 in what an entry of the audit says."""
