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
