"""Several reads of one state of a workbook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torpor.workbook.store import Store


@contextmanager
def one_view(store: Store) -> Iterator[None]:
    """Let several reads see one state of the file: that of the transaction around them, or one of their own.

    Raises:
        TransactionEntangled: another task's transaction is open.

    """
    with store.lock:
        if store.current() is not None or store.db.in_transaction:
            yield
            return
        store.execute("BEGIN")
        try:
            yield
        finally:
            store.roll_back()  # nothing was written
