"""What a store holds and what goes wrong with it: the terms that both kinds of store share."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import polars as pl

from features.event_log.schema import EVENT_SCHEMA, ITEM_EVENTS, TIMESTAMP
from features.ranking.visitors import KIND
from features.sources.event_store import COLUMNS, EVENTS, LINKS, REFUSED, SEEN_TOGETHER
from serving.event_store.item_updates import ItemChanges, ItemPatch, Once, Outcome

Value = str | int | float | bool | None
Row = tuple[Value, ...]  # values in the order of the event log's columns; times are int64 microseconds

AT = {name: position for position, name in enumerate(COLUMNS)}
SEEN = "usual_seen"
DEDUP_DAYS = 7
MOST_DEVICES = 20  # of a customer, that are read where a request names none

# Kinds of links that make a device a customer's, and those by which a device is known to be used by them.
TIES = (SEEN_TOGETHER, "merge")
KNOWN = (*TIES, REFUSED)

Reason = Literal["down", "slow", "full", "read_only", "busy", "closed"]


class StoreUnavailable(Exception):
    """The store did not do what was asked, and nothing was acknowledged.

    `down`: it cannot be reached or is damaged; `slow`: no answer in time; `full`: no space is left;
    `read_only`: it may not be written; `busy`: too much is waiting; `closed`: we are shutting down.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"the event store is not available: {reason}")
        self.reason = reason


class Unstorable(Exception):
    """A value that the store cannot hold. Nothing of what came with it was kept."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as rows of the event log: one per item, or one where it has none.

    `order` tells purchases and refunds apart beside the event's id: of those that share it one is kept.
    """

    rows: tuple[Row, ...]
    order: str | None = None

    @property
    def event_id(self) -> str:
        return str(self.rows[0][AT["event_id"]])


class Visitor(NamedTuple):
    """Whose events are asked for; at least one of the two."""

    customer_id: str | None
    client_id: str | None


class Touch(NamedTuple):
    """A row of a visitor's events. Sorting touches by their first three gives the order of training."""

    t: int  # microseconds
    event_id: str
    item_id: str | None
    name: str
    price: float | None


class Link(NamedTuple):
    """A row of the event log's links: `at` in microseconds, "" where a column has nothing."""

    at: int
    kind: str
    token: str
    client_id: str
    customer_id: str


@dataclass(frozen=True)
class Erased:
    """How much was removed of a customer; `shared_clients` are devices that other customers use too."""

    events: int
    links: int
    clients: int
    shared_clients: int


class Connection(Protocol):
    """A connection to a store, used by one thread at a time. All methods raise StoreUnavailable and Unstorable.

    What writes is one transaction, on disk when the method returns.
    """

    def insert(self, events: Sequence[Event], now: int) -> list[bool]:
        """Whether each was new. Of events that share an id or an order the first is."""

    def visits(self, visitors: Sequence[Visitor], after: int, before: int, most: int) -> list[list[Touch]]:
        """Of each visitor the last `most` rows with after ≤ t < before that say what a visit is about."""

    def link(self, links: Sequence[Link]) -> int:
        """Keep ties between clients and customers; how many were new."""

    def erase(self, customer_id: str) -> Erased:
        """Remove what the store holds of a customer."""

    def purge(self, received_before: int, seen_before: int, now: int, most: int) -> int:
        """Remove at most `most` rows that came before an instant, as many forgotten ids, and as many answers that at
        `now` are too old; how many went.

        Ties that only these rows made go too.
        """

    def patch_items(self, patches: Sequence[ItemPatch], since: int, now: int) -> ItemChanges:
        """Keep what is said of items, one patch for each; what changed after version `since`, with these."""

    def item_changes(self, since: int) -> ItemChanges:
        """What changed after version `since`."""

    def once(self, once: Once, now: int, run: Callable[[], bytes]) -> Outcome:
        """The answer that `run` gives by writing on this connection, or gave before: both are kept, or neither."""

    def close(self) -> None: ...


def order_by_time(touch: Touch) -> tuple[int, str, tuple[bool, str]]:
    """As training sorts: by time, then ids byte by byte, no item first."""
    return touch.t, touch.event_id, (touch.item_id is not None, touch.item_id or "")


def in_visit(row: Row) -> bool:
    """Whether a row says what a visit is about: the rule of training, see `window` in training/dataset/queries.py."""
    name = row[AT["name"]]
    if name not in KIND or row[AT["consent"]] is False:
        return False
    return row[AT["item_id"]] is not None or name not in ITEM_EVENTS


def event_key(event: Event) -> bytes:
    return _digest("event", event.event_id)


def order_key(event: Event) -> bytes | None:
    return None if event.order is None else _digest("order", event.order)


def _digest(kind: str, text: str) -> bytes:
    # Sixteen bytes for an id of any length; two of 10^12 ids share them with a chance of 10^-15.
    return hashlib.blake2b(f"{kind}/{text}".encode(), digest_size=16).digest()


def fresh(events: Sequence[Event], claim: "Claim") -> list[bool]:
    """Which of `events` are new; `claim` remembers keys for good and says which it had not."""
    first: dict[bytes, int] = {}
    for n, event in enumerate(events):
        first.setdefault(event_key(event), n)
    new = sorted(first[key] for key in claim(first))
    orders: dict[bytes, int] = {}
    kept = []
    for n in new:
        key = order_key(events[n])
        if key is None:
            kept.append(n)
        else:
            orders.setdefault(key, n)
    # Only for events that are new: a repeated event must not use up the order of another.
    kept += [orders[key] for key in (claim(orders) if orders else ())]
    taken = set(kept)
    return [n in taken for n in range(len(events))]


class Claim(Protocol):
    def __call__(self, keys: Iterable[bytes]) -> Iterable[bytes]: ...


def ties(rows: Iterable[Row], now: int) -> list[Link]:
    """What rows that name a client and a customer say of the two; without consent, only that they were seen."""
    client, customer, consent = AT["client_id"], AT["customer_id"], AT["consent"]
    return sorted(
        {
            Link(now, REFUSED if r[consent] is False else SEEN_TOGETHER, "", str(r[client]), str(r[customer]))
            for r in rows
            if r[client] is not None and r[customer] is not None
        }
    )


def among(kinds: Iterable[str]) -> str:
    """`kinds` of links in SQL."""
    return "(" + ", ".join(f"'{kind}'" for kind in kinds) + ")"


def own_devices(customer: str, kinds: Iterable[str], most: int | None = None) -> str:
    """The query for the devices of `customer` (SQL) that by links of these kinds are theirs alone.

    A device of several joins nobody's profile. With `most`, only so many of the latest links are looked at.
    """
    latest = "" if most is None else f"ORDER BY at DESC, client_id LIMIT {most}"
    return f"""
SELECT DISTINCT mine.client_id FROM (
    SELECT client_id, customer_id FROM {LINKS} WHERE customer_id = {customer} AND kind IN {among(kinds)} {latest}
) AS mine WHERE NOT EXISTS (SELECT 1 FROM {LINKS} AS other WHERE other.client_id = mine.client_id
    AND other.customer_id NOT IN (mine.customer_id, '') AND other.kind IN {among(kinds)})
"""  # noqa: S608


# Of a link that events made: none of these events is left.
UNTIED = f"""
kind IN {among((SEEN_TOGETHER, REFUSED))} AND NOT EXISTS (SELECT 1 FROM {EVENTS} AS e
    WHERE e.customer_id = {LINKS}.customer_id AND e.client_id = {LINKS}.client_id
    AND (e.consent IS FALSE) = ({LINKS}.kind = '{REFUSED}'))
"""  # noqa: S608


def sql_types(text: str, integer: str, real: str, boolean: str) -> dict[str, str]:
    """The event log's columns in a database's types."""
    types: dict[str, str] = {}
    for name, dtype in EVENT_SCHEMA.items():
        if dtype == TIMESTAMP or dtype.is_integer():
            types[name] = integer
        else:
            types[name] = real if dtype.is_float() else boolean if dtype == pl.Boolean else text
    return types
