"""What a replica knows of a home's ledger.

The node puts into its replica what changes in the ledger, as whole records, a moment after it changed. All of it
together is the ledger as it was at last. What the replica has of an agent may be newer than that.
"""

from __future__ import annotations

from typing import Final

import msgspec

from torpor.base.errors import ReplicaDamaged
from torpor.heartbeat.catalog import Catalog
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import NOBODY, Kind
from torpor.ledger import Changes, together

_decode: Final = msgspec.msgpack.Decoder(Changes).decode


def known_in(reader: Reader, catalog: Catalog | None = None) -> Changes:
    """Return what a replica knows of the ledger; nothing where it has nothing.

    Args:
        reader: the replica.
        catalog: of the replica, where the caller has read it already.

    Raises:
        ReplicaDamaged, StoreUnreachable: it can't be read.

    """
    pieces = (catalog or reader.catalog()).pieces.get(NOBODY, [])
    try:
        return together(_decode(record.payload) for record in reader.records(pieces) if record.kind is Kind.LEDGER)
    except msgspec.MsgspecError as error:
        reason = f"what it has of the ledger can't be read: {error}"
        raise ReplicaDamaged(place=reader.url, offset=0, reason=reason) from error
