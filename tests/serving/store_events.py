"""Events for tests of the event store, and helpers that read it."""

import itertools
from typing import Any

import polars as pl

from features.common.clock import DAY
from features.sources import event_store as source
from serving.event_store import EventStore, StoredEvent, VisitorIds
from serving.event_store.protocol import COLUMNS
from serving.events.validate import order_key_of_rows

T = 1_790_000_000_000_000  # microseconds
FOR_EVER = 100_000  # days
_number = itertools.count()


def event(name: str = "view_item", t: int = T, *items: str | None, **columns: Any) -> StoredEvent:
    """An event at `t` of client d1, unless `columns` name the visitor; one row per item, by default of item i1."""
    visitor = {} if {"client_id", "customer_id"} & columns.keys() else {"client_id": "d1"}
    shared = {"event_id": f"e{next(_number)}", "name": name, "timestamp": t, "received_at": t} | visitor | columns
    rows = [dict.fromkeys(COLUMNS) | shared | {"item_id": item} for item in items or ("i1",)]
    for row in rows if name in ("purchase", "refund") else []:
        row |= {"quantity": row["quantity"] or 1.0, "price": row["price"] or 2.5}
    values = tuple(tuple(row[c] for c in COLUMNS) for row in rows)
    return StoredEvent(values, order_key_of_rows(values))


def read_events(url: str) -> pl.DataFrame:
    """Read all rows of the store at `url`, as the source `store` exports them."""
    return pl.concat([part.events for part in source.read(url)])


def visit_items(store: EventStore, visitor: VisitorIds, after: int = T, before: int = T + DAY) -> list[str | None]:
    """The items of a visitor's visit."""
    (visit,) = store.visits([visitor], after, before, 5)
    return [row.item_id for row in visit]
