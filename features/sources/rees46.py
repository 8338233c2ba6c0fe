"""Source `rees46`: REES46's "eCommerce behavior data from multi category store", as Kaggle and REES46 publish it.

CSV (also packed, as .csv.gz) or Parquet with the columns event_time, event_type, product_id,
category_id, category_code, brand, price, user_id, user_session.

- `user_id` is documented as permanent, `user_session` as changing after a long pause: the first is the
  customer, the second the visit.
- There is no order number and no quantity. Purchases of one user in one session within the same second are
  one order; every row is one piece. Equal rows are one event.
- `category_code` (electronics.smartphone) becomes a path (electronics/smartphone); where a product has
  none its `category_id` takes its place. The publisher states no currency, so there is none.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA, ROW, TIDY_RULES, Rule, conform
from features.sources.parsing.catalog import event_catalog
from features.sources.parsing.cells import coerce
from features.sources.parsing.cells.column_lists import ColumnsError
from features.sources.parsing.events.mapped import NO_ROWS
from features.sources.parsing.files import readers
from features.sources.parsing.rows import event_ids
from features.sources.parsing.rows.validate import damage_rules, raw_copier, validate_rows
from features.sources.source import Source

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
ITEM_COLUMNS = ("category_id", "category_code", "brand")  # absent in some mirrors


def read(paths: Sequence[Path], rows: int = readers.BATCH) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per batch of at most `rows` rows.

    Raises `InputError` for a file that cannot be read or lacks a column.
    """
    for path in paths:
        columns = readers.read_column_names(path, {*COLUMNS.values(), *ITEM_COLUMNS})
        if missing := [c for c in COLUMNS.values() if c not in columns]:
            raise ColumnsError(
                f"{path} is not REES46's: missing columns {', '.join(missing)}. Read other files as source `events` "
                "with a mapping",
                columns,
            )
        keys = [*COLUMNS.values(), *(c for c in ITEM_COLUMNS if c in columns)]
        parsed = (_parse(batch, offset, path.name) for offset, batch in readers.read_batches(path, rows, keys))
        yield next(parsed, NO_ROWS)
        yield from parsed


def _parse(batch: pl.DataFrame, offset: int, source: str) -> ParsedBatch:
    values = pl.DataFrame(coerce.to_event_columns({ours: batch[theirs] for ours, theirs in COLUMNS.items()}))
    item_values = [coerce.to_ids(batch[c]).alias(c) for c in ITEM_COLUMNS if c in batch.columns]
    name = values["name"].cast(pl.String)
    known = name.is_in(list(NAMES))
    events = conform(
        values.with_columns(name.replace(NAMES).alias("name"), quantity=pl.lit(1.0)), EVENT_SCHEMA
    ).with_columns(batch[c] for c in readers.ADDED if c in batch.columns)
    events = events.with_columns(item_values)
    event_id = event_ids.hash_rows(
        events.select(
            "name", "timestamp", "customer_id", "session_id", item=pl.when(name != "purchase").then("item_id")
        ),
        ["name", "timestamp", "customer_id", "session_id", "item"],
    )
    events = events.with_columns(
        event_id, order_id=pl.when(name == "purchase").then(event_id)
    ).with_row_index(ROW, offset=offset)  # fmt: skip
    unknown = Rule("unknown_event_type", pl.lit(~known & name.is_not_null()))
    unreadable = Rule("bad_price", pl.lit(coerce.is_filled(batch["price"]) & values["price"].is_null()))
    valid, rejected = validate_rows(
        events, source, raw_copier(batch, offset), (*damage_rules(batch), unknown, unreadable, *TIDY_RULES)
    )
    return ParsedBatch(
        rows_read=batch.height,
        events=valid.select(*EVENT_SCHEMA),
        rejected=rejected,
        catalog=event_catalog.from_events(_with_category(valid), (("price",), ("category",), ("brand",))),
    )


def _with_category(rows: pl.DataFrame) -> pl.DataFrame:
    code = pl.col("category_code").str.replace_all(".", "/", literal=True) if "category_code" in rows.columns else None
    number = pl.col("category_id") if "category_id" in rows.columns else None
    category = [c for c in (code, number) if c is not None]
    return rows.with_columns(pl.coalesce(category).alias("category")) if category else rows


SOURCE = Source("rees46", "REES46's data set of a multi-category store", lambda paths, _: read(paths))
