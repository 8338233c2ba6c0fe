"""Lines of orders as a source gives them, for tests of the log."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA, FILE, conform

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)

Line = tuple[str, str, float, float]  # order, item, quantity, price


def line_events(lines: Sequence[Line], file: int | None = 0, **values: object) -> pl.DataFrame:
    """Purchase lines; the first letter of an order's name says its day. Without `file` they have ids of their own."""
    rows = pl.DataFrame(
        {
            "event_id": [order if file is not None else f"{order}-{n}" for n, (order, *_) in enumerate(lines)],
            "timestamp": [NOON + timedelta(days=ord(order[0]) - ord("a")) for order, *_ in lines],
            "order_id": [order for order, *_ in lines],
            "item_id": [item for _, item, *_ in lines],
            "quantity": [quantity for *_, quantity, _ in lines],
            "price": [price for *_, price in lines],
        },
        schema_overrides={"timestamp": EVENT_SCHEMA["timestamp"], "quantity": pl.Float64, "price": pl.Float64},
    )
    constants = {"name": "purchase", "customer_id": "c1"} | values
    events = conform(rows.with_columns(pl.lit(v).alias(c) for c, v in constants.items()), EVENT_SCHEMA)
    return events.with_columns(pl.lit(file, pl.Int32).alias(FILE))


def line_batch(lines: Sequence[Line], number: int | None = 0, **more: object) -> ParsedBatch:
    """A batch of lines of the file of this `number`."""
    return ParsedBatch(len(lines), line_events(lines, number), **more)  # type: ignore[arg-type]


def kept_lines(events: pl.DataFrame) -> list[Line]:
    """(order, item, quantity, price) of every row, sorted."""
    return sorted(events.select("order_id", "item_id", "quantity", "price").rows())
