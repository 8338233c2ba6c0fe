"""REES46's "eCommerce behavior data from multi category store", as Kaggle and REES46 publish it.

CSV (also packed, as .csv.gz) or Parquet with the columns event_time, event_type, product_id,
category_id, category_code, brand, price, user_id, user_session.

- `user_id` is documented as permanent, `user_session` as changing after a long pause: the first is the
  customer, the second the visit.
- There is no order number and no quantity. What one user buys in one session within the same second is
  one order; every row is one piece. Rows that say exactly the same are one event.
- `category_code` (electronics.smartphone) becomes a path (electronics/smartphone); where a product has
  none its `category_id` stands in. The publisher names no currency, so there is none.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.event_log.ingest import Parsed
from features.event_log.schema import EVENT_SCHEMA, ROW, TIDY_RULES, Rule, conform
from features.sources.parsing import catalogs, coerce, event_ids, readers
from features.sources.parsing.mapped import NOTHING
from features.sources.parsing.validate import damage, raw_of, screened

NAMES = {
    "view": "view_item",
    "cart": "add_to_cart",
    "remove_from_cart": "remove_from_cart",
    "purchase": "purchase",
}
COLUMNS = {
    "timestamp": "event_time",
    "name": "event_type",
    "item_id": "product_id",
    "price": "price",
    "customer_id": "user_id",
    "session_id": "user_session",
}
DESCRIBED = ("category_id", "category_code", "brand")  # absent in some mirrors


def read(paths: Sequence[Path], rows: int = readers.BATCH) -> Iterator[Parsed]:
    """One `Parsed` per batch of at most `rows` rows. Raises `InputError` for a file that cannot be read or
    lacks a column."""
    for path in paths:
        found = readers.columns(path, {*COLUMNS.values(), *DESCRIBED})
        if missing := [c for c in COLUMNS.values() if c not in found]:
            raise InputError(
                f"{path} is not REES46's: missing columns {', '.join(missing)}; found {', '.join(found) or 'none'}. "
                "Read other files as source `events` with a mapping"
            )
        keys = [*COLUMNS.values(), *(c for c in DESCRIBED if c in found)]
        parsed = (_parse(batch, offset, path.name) for offset, batch in readers.batches(path, rows, keys))
        yield next(parsed, NOTHING)
        yield from parsed


def _parse(batch: pl.DataFrame, offset: int, source: str) -> Parsed:
    values = pl.DataFrame(coerce.values({ours: batch[theirs] for ours, theirs in COLUMNS.items()}))
    described = [coerce.identifiers(batch[c]).alias(c) for c in DESCRIBED if c in batch.columns]
    name = values["name"].cast(pl.String)
    known = name.is_in(list(NAMES))
    events = conform(
        values.with_columns(name.replace(NAMES).alias("name"), quantity=pl.lit(1.0)), EVENT_SCHEMA
    ).with_columns(batch[c] for c in readers.ADDED if c in batch.columns)
    events = events.with_columns(described)
    event_id = event_ids.ids(
        events.select(
            "name", "timestamp", "customer_id", "session_id", item=pl.when(name != "purchase").then("item_id")
        ),
        ["name", "timestamp", "customer_id", "session_id", "item"],
    )
    events = events.with_columns(
        event_id, order_id=pl.when(name == "purchase").then(event_id)
    ).with_row_index(ROW, offset=offset)  # fmt: skip
    unknown = Rule("unknown_event_type", pl.lit(~known & name.is_not_null()))
    unread = Rule("bad_price", pl.lit(coerce.says(batch["price"]) & values["price"].is_null()))
    kept, rejected = screened(events, source, raw_of(batch, offset), (*damage(batch), unknown, unread, *TIDY_RULES))
    return Parsed(
        rows_read=batch.height,
        events=kept.select(*EVENT_SCHEMA),
        rejected=rejected,
        catalog=catalogs.from_events(_described(kept), (("price",), ("category",), ("brand",))),
    )


def _described(rows: pl.DataFrame) -> pl.DataFrame:
    code = pl.col("category_code").str.replace_all(".", "/", literal=True) if "category_code" in rows.columns else None
    number = pl.col("category_id") if "category_id" in rows.columns else None
    category = [c for c in (code, number) if c is not None]
    return rows.with_columns(pl.coalesce(category).alias("category")) if category else rows
