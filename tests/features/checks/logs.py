"""Small logs to check: what is wrong with them is all that is wrong."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from features.event_log import log
from features.event_log.log import EventLog
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, conform

START = datetime(2026, 1, 1, tzinfo=UTC)
Row = dict[str, Any]


def healthy_rows(days: int = 60, customers: int = 40, items: int = 20) -> list[Row]:
    """A shop without faults: every customer looks at two items a visit, by day, and buys the second of them."""
    rows: list[Row] = []
    for day in range(days):
        for n in range(customers):
            if (day + n) % 5:
                continue
            at = START + timedelta(days=day, hours=8 + (n * 7 + day) % 14, minutes=(n * 13 + day * 5) % 60)
            first, second = (f"item-{(day * 3 + n * k) % items:03d}" for k in (7, 11))
            visitor = {"customer_id": f"{1000 + n}", "client_id": f"device-{n}"}
            price = 5.0 + int(second[-3:])
            rows.append({"name": "view_item", "timestamp": at, "item_id": first, **visitor})
            rows.append({"name": "view_item", "timestamp": at + timedelta(minutes=2), "item_id": second, **visitor})
            bought = {"item_id": second, "quantity": 1.0 + (n + day) % 3, "price": price, "currency": "EUR"}
            order = {"name": "purchase", "timestamp": at + timedelta(minutes=9), "order_id": f"o{day}-{n}"}
            rows.append(order | bought | visitor)
    return rows


def healthy_catalog(items: int = 20) -> list[Row]:
    return [
        {
            "item_id": f"item-{n:03d}", "title": f"Item {n}", "category": "Home", "brand": "Alder",
            "price": 5.0 + n, "currency": "EUR", "available": True,
        }
        for n in range(items)
    ]  # fmt: skip


def write_log(
    path: Path,
    rows: Sequence[Row] | None = None,
    catalog: Sequence[Row] | None = None,
    rejected: pl.DataFrame | None = None,
) -> EventLog:
    """Write rows as a log; each is an event of its own unless it says which. An empty `catalog`: none handed over."""
    events = [{"event_id": f"e{n}"} | row for n, row in enumerate(healthy_rows() if rows is None else rows)]
    used = {c: t for c, t in EVENT_SCHEMA.items() if any(c in e for e in events)}
    frame = conform(pl.DataFrame(events, schema=used), EVENT_SCHEMA).sort("timestamp", "event_id", "item_id")
    items = pl.DataFrame(
        healthy_catalog() if catalog is None else list(catalog), schema_overrides={"available": pl.Boolean}
    )
    empty = pl.DataFrame(schema={"source": pl.String, "row": pl.Int64, "reason": pl.String, "raw": pl.String})
    return log.write(
        path,
        frame,
        conform(items, CATALOG_SCHEMA) if items.width else conform(pl.DataFrame(schema=CATALOG_SCHEMA), CATALOG_SCHEMA),
        empty if rejected is None else rejected,
    )
