"""What both databases share: the values that a store holds, its errors, the protocol of a connection, common SQL."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import polars as pl

from features.common.clock import DAY
from features.event_log.schema import EVENT_SCHEMA, ITEM_EVENTS, LATER_COLUMNS, TIMESTAMP
from features.event_log.stated_answers import PREFERENCES
from features.ranking.visitors import KIND
from features.sources.event_store import COLUMNS, EVENT_LINK, EVENTS, LINKS, REFUSED_LINK
from serving.event_store.item_updates import IdempotencyKey, IdempotentAnswer, ItemChanges, ItemPatch
from serving.identity.client_ids import UNPROVEN
from serving.schemas.visitor import VisitorIds

Value = str | int | float | bool | None
Row = tuple[Value, ...]  # values in the order of the event log's columns; times are int64 microseconds

AT = {name: position for position, name in enumerate(COLUMNS)}
DEDUP_KEYS = "usual_seen"
ERASED = "usual_erased"  # hashes of erased customers, by which answers leave out what a snapshot has of them
CLOCK = "usual_clock"  # one row: the time that purging believes, see `believed_time`
DEDUP_DAYS = 7
MAX_CLOCK_STEP, CLOCK_DOUBT = 3 * DAY, DAY
MOST_ANSWERS = 50  # events `preferences` that a visit is read with
MAX_DEVICES = 20  # devices of a customer that a visit is read from where a request names none

# Kinds of links that make a device a customer's, and those by which a device is known to be used by them.
LINKING_KINDS = (EVENT_LINK, "merge")
DEVICE_KINDS = (*LINKING_KINDS, REFUSED_LINK)

UnavailableReason = Literal["down", "slow", "full", "read_only", "busy", "closed"]


class StoreUnavailable(Exception):
    """The store did not do what it was to do, and nothing was acknowledged.

    `down`: it cannot be reached or is damaged; `slow`: no answer in time; `full`: no space is left;
    `read_only`: it may not be written; `busy`: too much is waiting; `closed`: we are shutting down.
    """

    def __init__(self, reason: UnavailableReason) -> None:
        super().__init__(f"the event store is not available: {reason}")
        self.reason = reason


class UnstorableValue(Exception):
    """A value that the store cannot hold. Nothing of what came with it was stored."""


class StoredEvent(NamedTuple):
    """One event as rows of the event log: one per item, or one where it has none.

    `order_key` identifies purchases and refunds beside the event's id: of those that share it one is stored. Ids of
    events and orders are compared within `scope` alone: empty for the shop's own events, else whose they are. A `claim`
    is kept apart from the events.
    """

    rows: tuple[Row, ...]
    order_key: str | None = None
    scope: str = ""
    claim: bool = False

    @property
    def event_id(self) -> str:
        return str(self.rows[0][AT["event_id"]])


class VisitEvent(NamedTuple):
    """A row of a visitor's events. Sorted by the first three fields they have the order of training."""

    t: int  # microseconds
    event_id: str
    item_id: str | None
    name: str
    price: float | None
    question: str | None = None  # of `preferences`
    answer: str | None = None


class Link(NamedTuple):
    """A row of the event log's links: `at` in microseconds, "" where a column is empty."""

    at: int
    kind: str
    token: str
    client_id: str
    customer_id: str


@dataclass(frozen=True)
class ErasureCounts:
    """How much of a customer was removed; `shared_clients` are devices that other customers use too."""

    events: int
    links: int
    clients: int
    shared_clients: int
    claims: int = 0


class Connection(Protocol):
    """A connection to a store, used by one thread at a time. All methods raise StoreUnavailable and UnstorableValue.

    A method that writes is one transaction, on disk when it returns.
    """

    def insert(self, events: Sequence[StoredEvent], now: int) -> list[bool]:
        """Store the new events; returns which were. Of events that share an id or an order only the first is new.

        Claims of an order that the shop itself has sent are removed, or not stored; to whom sent them they are new.
        """

    def visits(self, visitors: Sequence[VisitorIds], after: int, before: int, most: int) -> list[list[VisitEvent]]:
        """Read the last `most` rows of each visitor with after ≤ t < before that belong to a visit (`in_visit`).

        With them come the visitor's last `MOST_ANSWERS` events `preferences` of that time.
        """

    def link(self, links: Sequence[Link]) -> int:
        """Store links between clients and customers; returns how many were new."""

    def erase(self, customer_id: str) -> ErasureCounts:
        """Remove all that the store holds of a customer, and remember the hash of the id for `erased`."""

    def erased(self, known: int) -> list[int] | None:
        """Return the hashes of all customers that were erased (`signed_hash`); None where there are `known` still."""

    def erase_client(self, client_id: str) -> ErasureCounts:
        """Remove all that the store holds of a device."""

    def compact(self) -> bool:
        """Leave nothing of what was erased in the store's files; False where a reader holds a part of them."""

    def believe(self, now: int) -> int:
        """Return the time to purge by where the clock says `now` (`believed_time`), and remember it."""

    def purge(self, received_before: int, seen_before: int, now: int, most: int) -> int:
        """Remove at most `most` rows received before an instant, as many claims, as many deduplication keys from before
        `seen_before`, and as many answers that have expired at `now`; returns how many.

        Links that only these rows made are removed too.
        """

    def check(self) -> None:
        """Notice that the files of the store were removed, and keep what was acknowledged."""

    def patch_items(self, patches: Sequence[ItemPatch], since: int, now: int) -> ItemChanges:
        """Store patches, one per item; returns what changed after version `since`, these included."""

    def item_changes(self, since: int) -> ItemChanges:
        """Read what changed to items after version `since`."""

    def write_once(self, key: IdempotencyKey, now: int, run: Callable[[], bytes]) -> IdempotentAnswer:
        """Store what `run` writes on this connection together with its answer, or return its earlier answer."""

    def close(self) -> None: ...


class Clock(NamedTuple):
    """What a store remembers of the time, in microseconds: the last that was believed, and a jump that is not yet.

    `doubted_since`, `doubted_last`: when the jumped clock was first and last looked at; 0: there is no doubt.
    """

    believed: int
    doubted_since: int = 0
    doubted_last: int = 0


def believed_time(clock: Clock, now: int) -> Clock:
    """Return what is believed once the clock says `now`.

    A clock that is more than `MAX_CLOCK_STEP` ahead of the last look is believed only after it went on regularly for
    `CLOCK_DOUBT`: a clock that is wrong for a while must not remove what is not old. One that goes back is believed.
    """
    if now <= clock.believed + MAX_CLOCK_STEP:
        return Clock(now)
    regular = clock.doubted_since and clock.doubted_last <= now <= clock.doubted_last + MAX_CLOCK_STEP
    if regular and now >= clock.doubted_since + CLOCK_DOUBT:
        return Clock(now)
    return Clock(clock.believed, clock.doubted_since if regular else now, now)


def read_erased(execute: Callable[..., Any], known: int) -> list[int] | None:
    """Read all hashes of erased customers, unless there are as many as `known`."""
    if execute(f"SELECT count(*) FROM {ERASED}").fetchone()[0] == known:  # noqa: S608
        return None
    return [value for (value,) in execute(f"SELECT hash FROM {ERASED}").fetchall()]  # noqa: S608


def remember_time(execute: Callable[..., Any], now: int, placeholder: str = "?") -> int:
    """Return the time to purge by, and store it, within a transaction. The first look believes the oldest event."""
    p = placeholder
    stored = execute(f"SELECT believed, since, last FROM {CLOCK}").fetchall()  # noqa: S608
    if stored:
        clock = Clock(*stored[0])
    else:
        oldest = f"SELECT min(received_at) FROM {EVENTS}"  # noqa: S608
        clock = Clock(execute(oldest).fetchone()[0] or now)
    believed = believed_time(clock, now)
    if not stored:
        execute(f"INSERT INTO {CLOCK} (believed, since, last) VALUES ({p}, {p}, {p})", believed)  # noqa: S608
    else:
        execute(f"UPDATE {CLOCK} SET believed = {p}, since = {p}, last = {p}", believed)  # noqa: S608
    return believed.believed


def visit_order(event: VisitEvent) -> tuple[int, str, tuple[bool, str]]:
    """Sort key of training: by time, then ids byte by byte, events without an item first."""
    return event.t, event.event_id, (event.item_id is not None, event.item_id or "")


def latest_of_visit(events: Iterable[VisitEvent], most: int) -> list[VisitEvent]:
    """Select the last `most` events of a visit and the last `MOST_ANSWERS` of its answers, in `visit_order`."""
    ordered = sorted(events, key=visit_order)
    answers = [event for event in ordered if event.name == PREFERENCES]
    if not answers:
        return ordered[-most:]
    visit = [event for event in ordered if event.name != PREFERENCES]
    return sorted(visit[-most:] + answers[-MOST_ANSWERS:], key=visit_order)


def in_visit(row: Row) -> bool:
    """Whether a row belongs to a visit: the rule of training, see `read_window` in training/dataset/queries.py."""
    name = row[AT["name"]]
    if name not in KIND or row[AT["consent"]] is False:
        return False
    return row[AT["item_id"]] is not None or name not in ITEM_EVENTS


def event_digest(event: StoredEvent) -> bytes:
    return digest(f"event{event.scope}", event.event_id)


def order_digest(event: StoredEvent) -> bytes | None:
    return None if event.order_key is None else digest(f"order{event.scope}", event.order_key)


def digest(kind: str, text: str) -> bytes:
    # Sixteen bytes for an id of any length; two of 10^12 ids share them with a chance of 10^-15.
    return hashlib.blake2b(f"{kind}/{text}".encode(), digest_size=16).digest()


def claim_new(events: Sequence[StoredEvent], claim: "Claim") -> list[bool]:
    """Which of `events` are new; `claim` stores keys for good and returns those it did not have."""
    first: dict[bytes, int] = {}
    for n, event in enumerate(events):
        first.setdefault(event_digest(event), n)
    new = sorted(first[key] for key in claim(first))
    orders: dict[bytes, int] = {}
    claimed = []
    for n in new:
        key = order_digest(events[n])
        if key is None:
            claimed.append(n)
        else:
            orders.setdefault(key, n)
    # Only for events that are new: a repeated event must not use up the order of another.
    claimed += [orders[key] for key in (claim(orders) if orders else ())]
    chosen = set(claimed)
    return [n in chosen for n in range(len(events))]


class Claim(Protocol):
    def __call__(self, keys: Iterable[bytes]) -> Iterable[bytes]: ...


def storable_links(links: Iterable[Link]) -> list[Link]:
    """Select and sort the links that may be stored: none of a client that is unproven, whose id anybody can choose."""
    return sorted(link for link in links if not link.client_id.startswith(UNPROVEN))


def links_from_rows(rows: Iterable[Row], now: int) -> list[Link]:
    """Links that follow from rows with a client and a customer; without consent, only that they were seen together."""
    client, customer, consent = AT["client_id"], AT["customer_id"], AT["consent"]
    return storable_links(
        {
            Link(now, REFUSED_LINK if r[consent] is False else EVENT_LINK, "", str(r[client]), str(r[customer]))
            for r in rows
            if r[client] is not None and r[customer] is not None
        }
    )


def sql_list(kinds: Iterable[str]) -> str:
    """Kinds of links as a list in SQL."""
    return "(" + ", ".join(f"'{kind}'" for kind in kinds) + ")"


def own_devices_sql(customer: str, kinds: Iterable[str], most: int | None = None) -> str:
    """Build the query for the devices of `customer` (SQL) that by links of these kinds are theirs alone.

    A device of several joins nobody's profile. With `most`, only so many of the latest links are looked at.
    """
    latest = "" if most is None else f"ORDER BY at DESC, client_id LIMIT {most}"
    return f"""
SELECT DISTINCT mine.client_id FROM (
    SELECT client_id, customer_id FROM {LINKS} WHERE customer_id = {customer} AND kind IN {sql_list(kinds)} {latest}
) AS mine WHERE NOT EXISTS (SELECT 1 FROM {LINKS} AS other WHERE other.client_id = mine.client_id
    AND other.customer_id NOT IN (mine.customer_id, '') AND other.kind IN {sql_list(kinds)})
"""  # noqa: S608


# Holds for a link that events made where none of these events is left.
ORPHANED_LINK = f"""
kind IN {sql_list((EVENT_LINK, REFUSED_LINK))} AND NOT EXISTS (SELECT 1 FROM {EVENTS} AS e
    WHERE e.customer_id = {LINKS}.customer_id AND e.client_id = {LINKS}.client_id
    AND (e.consent IS FALSE) = ({LINKS}.kind = '{REFUSED_LINK}'))
"""  # noqa: S608


def later_columns_sql(table: str, columns: Iterable[str], types: dict[str, str]) -> list[str]:
    """Build the statements that add to `table`, of a store of before, the columns that it lacks among `columns`."""
    present = set(columns)
    return [f"ALTER TABLE {table} ADD COLUMN {c} {types[c]}" for c in LATER_COLUMNS if c not in present]


def sql_types(text: str, integer: str, real: str, boolean: str) -> dict[str, str]:
    """Map the event log's columns to the types of a database."""
    types: dict[str, str] = {}
    for name, dtype in EVENT_SCHEMA.items():
        if dtype == TIMESTAMP or dtype.is_integer():
            types[name] = integer
        else:
            types[name] = real if dtype.is_float() else boolean if dtype == pl.Boolean else text
    return types
