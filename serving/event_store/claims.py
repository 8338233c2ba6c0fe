"""Claims: purchases and refunds that a page sent without proving whose they are.

Nothing reads them. The shop's own word on an order supersedes them: it removes the claims of its number, and keeps out
those that come later. Of one order number only a few are kept: pages could else claim it so often that the shop's order
would have to remove them for longer than it may take. One implementation for both databases, which differ in the
placeholder of a value in SQL; each function runs within a transaction that its caller has begun.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from features.sources.event_store import CLAIMS, COLUMNS
from serving.event_store.protocol import AT, DEDUP_KEYS, StoredEvent, Value, digest
from serving.identity.client_ids import UNPROVEN

Execute = Callable[..., Any]  # of a connection: a statement and its values; a cursor
ClaimRow = tuple[Value | bytes, ...]  # in the order of `CLAIM_COLUMNS`

CLAIM_COLUMNS = (*COLUMNS, "order_digest")
_MOST_VALUES = 500  # in one statement
MOST_ROWS = 50  # of one order number, beyond which no claim of it is stored: the shop's order has to remove them all

INDEXES = f"""
CREATE INDEX IF NOT EXISTS {CLAIMS}_of_orders ON {CLAIMS} (order_digest) WHERE order_digest IS NOT NULL;
CREATE INDEX IF NOT EXISTS {CLAIMS}_of_clients ON {CLAIMS} (client_id) WHERE client_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS {CLAIMS}_received ON {CLAIMS} (received_at);
"""


class ClaimTable:
    """The statements, with `placeholder` for each value: ? or %s."""

    def __init__(self, placeholder: str) -> None:
        p = placeholder
        self._placeholder = p
        self._supersede = f"DELETE FROM {CLAIMS} WHERE order_digest = {p}"  # noqa: S608
        self._erase = f"DELETE FROM {CLAIMS} WHERE client_id = {p} OR client_id = {p}"  # noqa: S608
        old = f"SELECT seq FROM {CLAIMS} WHERE received_at < {p} ORDER BY received_at LIMIT {p}"  # noqa: S608
        self._purge = f"DELETE FROM {CLAIMS} WHERE seq IN ({old})"  # noqa: S608

    def write(self, execute: Execute, events: Iterable[StoredEvent]) -> list[ClaimRow]:
        """Remove the claims that the shop's own orders among `events` supersede; returns those among them to be stored.

        `events` are new, and their ids are remembered already: claims of an order that the shop has sent are left out.
        """
        ordered = [event for event in events if event.claim or (event.order_key is not None and not event.scope)]
        if not ordered:
            return []
        numbers = {_number_digest(event) for event in ordered if not event.claim}
        for superseded in sorted(filter(None, numbers)):
            execute(self._supersede, (superseded,))
        claims = [event for event in ordered if event.claim]
        known = self._find_known(execute, {key for event in claims for key in _shop_keys(event)})
        new = [event for event in claims if known.isdisjoint(_shop_keys(event))]
        stored = self._count_rows(execute, {_number_digest(event) for event in new})
        rows = list[ClaimRow]()
        for event in new:
            if (number := _number_digest(event)) is not None:
                if stored[number] >= MOST_ROWS:
                    continue
                stored[number] += len(event.rows)
            rows += [(*row, number) for row in event.rows]
        return rows

    def erase(self, execute: Execute, clients: Iterable[str]) -> int:
        """Remove the claims of devices, proven or not; returns how many rows."""
        return sum(int(execute(self._erase, (client, UNPROVEN + client)).rowcount) for client in clients)

    def purge(self, execute: Execute, received_before: int, most: int) -> int:
        """Remove at most `most` rows received before an instant; returns how many."""
        return int(execute(self._purge, (received_before, most)).rowcount)

    def _find_known(self, execute: Execute, keys: set[bytes]) -> set[bytes]:
        query = f"SELECT key FROM {DEDUP_KEYS} WHERE key IN"  # noqa: S608
        return {bytes(key) for (key,) in self._select(execute, query, keys)}

    def _count_rows(self, execute: Execute, numbers: Iterable[bytes | None]) -> Counter[bytes]:
        """Count the claims that are stored of each order number, in rows."""
        query = f"SELECT order_digest FROM {CLAIMS} WHERE order_digest IN"  # noqa: S608
        return Counter(bytes(number) for (number,) in self._select(execute, query, filter(None, numbers)))

    def _select(self, execute: Execute, query: str, digests: Iterable[bytes]) -> Iterator[tuple[bytes]]:
        """Run `query`, which ends in IN, for some digests at a time."""
        rest = sorted(digests)
        for start in range(0, len(rest), _MOST_VALUES):
            part = rest[start : start + _MOST_VALUES]
            yield from execute(f"{query} ({', '.join([self._placeholder] * len(part))})", part)


def _shop_keys(claim: StoredEvent) -> list[bytes]:
    """The keys of which the store remembers one where the shop has sent this order, or its refund."""
    number = _number(claim)
    if number is None or claim.order_key is None:
        return []
    return [digest("order", claim.order_key), digest("order", f"purchase/{number}")]


def _number(event: StoredEvent) -> str | None:
    number = event.rows[0][AT["order_id"]]
    return None if number is None else str(number)


def _number_digest(event: StoredEvent) -> bytes | None:
    number = _number(event)
    return None if number is None else digest("number", number)
