"""Claims: purchases and refunds that a page sent without proving whose they are.

Nothing reads them. The shop's own word on an order supersedes them: it removes the claims of its number, and keeps out
those that come later. One implementation for both databases, which differ in the placeholder of a value in SQL; each
function runs within a transaction that its caller has begun.
"""

from collections.abc import Callable, Iterable
from typing import Any

from features.sources.event_store import CLAIMS, COLUMNS
from serving.event_store.protocol import AT, DEDUP_KEYS, StoredEvent, digest
from serving.identity.client_ids import UNPROVEN

Execute = Callable[..., Any]  # of a connection: a statement and its values; a cursor

INDEXES = f"""
CREATE INDEX IF NOT EXISTS {CLAIMS}_of_orders ON {CLAIMS} (order_digest) WHERE order_digest IS NOT NULL;
CREATE INDEX IF NOT EXISTS {CLAIMS}_of_clients ON {CLAIMS} (client_id) WHERE client_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS {CLAIMS}_received ON {CLAIMS} (received_at);
"""


class ClaimTable:
    """The statements, with `placeholder` for each value: ? or %s."""

    def __init__(self, placeholder: str) -> None:
        p = placeholder
        columns = (*COLUMNS, "order_digest")
        self._insert = f"INSERT INTO {CLAIMS} ({', '.join(columns)}) VALUES ({', '.join([p] * len(columns))})"  # noqa: S608
        self._is_seen = f"SELECT 1 FROM {DEDUP_KEYS} WHERE key = {p} OR key = {p}"  # noqa: S608
        self._supersede = f"DELETE FROM {CLAIMS} WHERE order_digest = {p}"  # noqa: S608
        self._erase = f"DELETE FROM {CLAIMS} WHERE client_id = {p} OR client_id = {p}"  # noqa: S608
        old = f"SELECT seq FROM {CLAIMS} WHERE received_at < {p} ORDER BY received_at LIMIT {p}"  # noqa: S608
        self._purge = f"DELETE FROM {CLAIMS} WHERE seq IN ({old})"  # noqa: S608

    def write(self, cursor: Any, events: Iterable[StoredEvent]) -> None:
        """Store the claims among `events`, all new, and remove those that the shop's own orders among them supersede.

        The ids of `events` are remembered already, so that claims of the same orders are not stored.
        """
        ordered = [event for event in events if event.claim or (event.order_key is not None and not event.scope)]
        if not ordered:
            return
        claims = [event for event in ordered if event.claim and not self._is_superseded(cursor, event)]
        if rows := [(*row, _number_digest(event)) for event in claims for row in event.rows]:
            cursor.executemany(self._insert, rows)
        numbers = {number for event in ordered if not event.claim and (number := _number_digest(event)) is not None}
        if numbers:
            cursor.executemany(self._supersede, [(number,) for number in sorted(numbers)])

    def erase(self, execute: Execute, clients: Iterable[str]) -> int:
        """Remove the claims of devices, proven or not; returns how many rows."""
        return sum(int(execute(self._erase, (client, UNPROVEN + client)).rowcount) for client in clients)

    def purge(self, execute: Execute, received_before: int, most: int) -> int:
        """Remove at most `most` rows received before an instant; returns how many."""
        return int(execute(self._purge, (received_before, most)).rowcount)

    def _is_superseded(self, cursor: Any, claim: StoredEvent) -> bool:
        number = _number(claim)
        if number is None or claim.order_key is None:
            return False
        keys = (digest("order", claim.order_key), digest("order", f"purchase/{number}"))
        return cursor.execute(self._is_seen, keys).fetchone() is not None


def _number(event: StoredEvent) -> str | None:
    number = event.rows[0][AT["order_id"]]
    return None if number is None else str(number)


def _number_digest(event: StoredEvent) -> bytes | None:
    number = _number(event)
    return None if number is None else digest("number", number)
