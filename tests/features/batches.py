"""Batches of small events, as a source yields them."""

from datetime import UTC, datetime, timedelta

import polars as pl

from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA, conform

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def events(*rows: tuple[str, float] | tuple[str, float, float]) -> pl.DataFrame:
    """An event per (id, days after noon, price)."""
    frame = pl.DataFrame(
        [(r[0], NOON + timedelta(days=r[1]), float(r[2]) if len(r) > 2 else 1.0) for r in rows],
        schema={c: EVENT_SCHEMA[c] for c in ("event_id", "timestamp", "price")},
        orient="row",
    )
    frame = frame.with_columns(name=pl.lit("view_item"), item_id=pl.lit("i"), client_id=pl.lit("d"))
    return conform(frame, EVENT_SCHEMA)


def batch(rows: pl.DataFrame) -> ParsedBatch:
    return ParsedBatch(rows.height, rows)
