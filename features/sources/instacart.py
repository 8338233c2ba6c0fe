"""Source `instacart`: the Instacart Market Basket Analysis data set of 2017; give its files in one command.

    orders.csv                             order_id, user_id, …, order_dow, order_hour_of_day, days_since_prior_order
    order_products__prior.csv, …__train    order_id, product_id, …
    products.csv, aisles.csv, departments.csv    for the catalog; may be left out

They are recognized by their header.

- There are no dates. Each customer's first order is put into the week of `BASE`, on its `order_dow` (0 is taken as
  Sunday) and hour; the others follow after `days_since_prior_order`, of which 30 stands for "30 or more": such an
  order is moved on to its own day of the week.
- There are no prices and quantities: a line is one piece at 0.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import polars as pl

from features.common import ids
from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, FILE, ROW, TIDY_RULES, TIMESTAMP, Rule, conform
from features.sources.parsing.catalog import event_catalog
from features.sources.parsing.files import file_sets, readers
from features.sources.parsing.rows.validate import damage_rules, raw_copier, validate_rows
from features.sources.source import Source

BASE = date(2017, 1, 1)  # a Sunday
HEADERS = {
    "orders": (
        "order_id", "user_id", "order_number", "order_dow", "order_hour_of_day", "days_since_prior_order"
    ),
    "lines": ("order_id", "product_id", "add_to_cart_order", "reordered"),
    "products": ("product_id", "product_name", "aisle_id", "department_id"),
    "aisles": ("aisle_id", "aisle"),
    "departments": ("department_id", "department"),
}  # fmt: skip
NOTES = (
    f"Instacart has no dates: each customer's first order is put into the week of {BASE}, the others follow by "
    "days_since_prior_order; times of different customers mean nothing to each other",
    "Instacart has no prices and no quantities: every line is one piece at price 0, and revenue means nothing",
)


def read(paths: Sequence[Path], rows: int = readers.BATCH) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per batch of at most `rows` order lines; the last has the catalog.

    Raises `InputError` for a file that cannot be read or has another header, and where orders or lines are missing.
    """
    files = file_sets.sort_files(paths, HEADERS, "Instacart's")
    for kind, name in (("orders", "orders.csv"), ("lines", "order_products__….csv")):
        if not files[kind]:
            raise InputError(f"none of the files is Instacart's {name}, without which there are no orders; name it too")
    orders = date_orders(file_sets.read_texts(files["orders"], HEADERS["orders"]))
    for number, path, offset, batch in file_sets.read_batches(files["lines"], rows):
        yield _parse(batch, number, offset, path.name, orders)
    yield ParsedBatch(
        rows_read=0, events=pl.DataFrame(schema=EVENT_SCHEMA), catalog=_read_catalog(files), notes=NOTES
    )  # fmt: skip


def date_orders(orders: pl.DataFrame) -> pl.DataFrame:
    """Give orders times: columns order_id, customer_id, timestamp. Orders whose numbers cannot be read have none."""
    numbers = parse_orders(orders).drop_nulls(["order_id", "customer_id", "number"]).sort("customer_id", "number")
    weekday, before = pl.col("weekday"), pl.col("weekday").shift(1).over("customer_id")
    # Zero for gaps below 30; of the others up to six days, so that the day of the week is right.
    moved = ((weekday - before - pl.col("gap")) % 7).fill_null(0)
    first = pl.col("number") == pl.col("number").min().over("customer_id")
    days = pl.when(first).then(weekday.fill_null(0)).otherwise(pl.col("gap").fill_null(0) + moved)
    return numbers.with_columns(day=days.cum_sum().over("customer_id")).select(
        "order_id",
        "customer_id",
        timestamp=(pl.lit(BASE).cast(pl.Datetime("us")) + pl.duration(days="day", hours="hour"))
        .dt.replace_time_zone("UTC").cast(TIMESTAMP),
    )  # fmt: skip


def parse_orders(orders: pl.DataFrame) -> pl.DataFrame:
    """Parse the texts of orders.csv, row by row; what is no number is null.

    Returns order_id, customer_id, number (of the customer's orders), weekday (0 is taken as Sunday), hour and gap (days
    since the order before).
    """
    return orders.select(
        ids.normalize_ids(orders["order_id"], "order"),
        ids.normalize_ids(orders["user_id"], "customer").alias("customer_id"),
        number=pl.col("order_number").cast(pl.Int64, strict=False),
        weekday=pl.col("order_dow").cast(pl.Float64, strict=False).cast(pl.Int64),
        hour=pl.col("order_hour_of_day").cast(pl.Float64, strict=False).cast(pl.Int64),
        gap=pl.col("days_since_prior_order").cast(pl.Float64, strict=False).cast(pl.Int64),
    )


def parse_lines(lines: pl.DataFrame) -> pl.DataFrame:
    """Parse order_products__….csv, row by row: order_id and item_id."""
    order, item = ids.normalize_ids(lines["order_id"], "order"), ids.normalize_ids(lines["product_id"], "item")
    return pl.DataFrame({"order_id": order, "item_id": item})


def parse_products(products: pl.DataFrame) -> pl.DataFrame:
    """Add item_id to the rows of products.csv, the first of each."""
    return (
        products.with_columns(ids.normalize_ids(products["product_id"], "item").alias("item_id"))
        .drop_nulls("item_id")
        .unique("item_id", keep="first", maintain_order=True)
    )


def _parse(batch: pl.DataFrame, number: int, offset: int, source: str, orders: pl.DataFrame) -> ParsedBatch:
    lines = parse_lines(batch).with_row_index(ROW, offset=offset)
    rows = lines.join(orders, on="order_id", how="left", maintain_order="left").with_columns(
        event_id="order_id", name=pl.lit("purchase"), quantity=pl.lit(1.0), price=pl.lit(0.0)
    )
    added = [batch[c] for c in readers.ADDED if c in batch.columns]
    events = conform(rows, EVENT_SCHEMA).with_columns(rows[ROW], *added)
    unknown = Rule("order_not_in_orders_csv", pl.lit(rows["customer_id"].is_null() & rows["order_id"].is_not_null()))
    valid, rejected = validate_rows(
        events, source, raw_copier(batch, offset), (*damage_rules(batch), unknown, *TIDY_RULES)
    )
    valid = valid.select(*EVENT_SCHEMA)
    return ParsedBatch(
        rows_read=batch.height,
        events=valid.with_columns(pl.lit(number, pl.Int32).alias(FILE)),
        rejected=rejected,
        catalog=event_catalog.from_events(valid.with_columns(price=pl.lit(None, pl.Float64))),
    )


def _read_catalog(files: dict[str, list[Path]]) -> pl.DataFrame:
    products, aisles, departments = (
        file_sets.read_texts(files[kind], HEADERS[kind]) for kind in ("products", "aisles", "departments")
    )
    items = (
        parse_products(products)
        .join(aisles.unique("aisle_id"), on="aisle_id", how="left", maintain_order="left")
        .join(departments.unique("department_id"), on="department_id", how="left", maintain_order="left")
    )
    path = pl.concat_str("department", "aisle", separator="/", ignore_nulls=True)
    return conform(
        items.with_columns(title="product_name", category=pl.when(path != "").then(path), available=pl.lit(True)),
        CATALOG_SCHEMA,
    )


SOURCE = Source("instacart", "Instacart's market baskets, all files at once", lambda paths, _: read(paths))
