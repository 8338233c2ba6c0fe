"""Source `dunnhumby`: The Complete Journey, dunnhumby's data set of households; give its files in one command.

    transaction_data.csv    household_key, BASKET_ID, DAY, PRODUCT_ID, QUANTITY, SALES_VALUE, TRANS_TIME, …
    product.csv             PRODUCT_ID, DEPARTMENT, COMMODITY_DESC, …; for the catalog, may be left out

They are recognized by their header; the set's other files (campaigns, coupons, demographics) are not read.

- There are no dates: `DAY` 1 is `BASE`. `TRANS_TIME` is the time of day, 1631 for 16:31.
- `SALES_VALUE` is what the shop received for the line: the price is that by the piece. Lines without a quantity,
  coupons and returns of bottles, are rejected.
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
from features.sources.parsing.cells import coerce
from features.sources.parsing.files import file_sets, readers
from features.sources.parsing.rows.validate import damage_rules, raw_copier, validate_rows
from features.sources.source import Source

BASE = date(2017, 1, 1)
CURRENCY = "USD"
HEADERS = {
    "lines": ("household_key", "BASKET_ID", "DAY", "PRODUCT_ID", "QUANTITY", "SALES_VALUE", "TRANS_TIME"),
    "products": ("PRODUCT_ID", "DEPARTMENT", "COMMODITY_DESC", "SUB_COMMODITY_DESC", "BRAND", "MANUFACTURER"),
}
NOTES = (f"The Complete Journey has no dates: DAY 1 is taken as {BASE}",)


def read(paths: Sequence[Path], rows: int = readers.BATCH) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per batch of at most `rows` rows; the last has the catalog.

    Raises `InputError` for a file that cannot be read or has another header, and where there are no transactions.
    """
    files = file_sets.sort_files(paths, HEADERS, "The Complete Journey's")
    if not files["lines"]:
        raise InputError("none of the files is dunnhumby's transaction_data.csv; name it beside the others")
    for number, path, offset, batch in file_sets.read_batches(files["lines"], rows):
        yield _parse(batch, number, offset, path.name)
    yield ParsedBatch(
        rows_read=0, events=pl.DataFrame(schema=EVENT_SCHEMA), catalog=_read_catalog(files["products"]), notes=NOTES
    )


def _parse(batch: pl.DataFrame, number: int, offset: int, source: str) -> ParsedBatch:
    number_of = {
        c: batch[c].cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False).alias(c)
        for c in ("DAY", "QUANTITY", "SALES_VALUE", "TRANS_TIME")
    }
    day, clock = pl.col("DAY").cast(pl.Int64), pl.col("TRANS_TIME").cast(pl.Int64)
    hour, minute = clock // 100, clock % 100
    time = pl.lit(BASE).cast(pl.Datetime("us")) + pl.duration(days=day - 1, hours=hour, minutes=minute)
    usable = (day >= 1) & hour.is_between(0, 23) & minute.is_between(0, 59)
    rows = pl.DataFrame([
        ids.normalize_ids(batch["household_key"], "customer").alias("customer_id"),
        ids.normalize_ids(batch["BASKET_ID"], "order").alias("order_id"),
        ids.normalize_ids(batch["PRODUCT_ID"], "item").alias("item_id"),
        *number_of.values(),
    ]).with_columns(
        event_id="order_id", name=pl.lit("purchase"), currency=pl.lit(CURRENCY), quantity="QUANTITY",
        timestamp=pl.when(usable).then(time.dt.replace_time_zone("UTC").cast(TIMESTAMP)),
        price=pl.when(pl.col("QUANTITY") > 0).then(pl.col("SALES_VALUE") / pl.col("QUANTITY")),
    ).with_row_index(ROW, offset=offset)  # fmt: skip
    added = [batch[c] for c in readers.ADDED if c in batch.columns]
    unreadable = [
        Rule(reason, pl.lit(coerce.is_filled(batch[c]) & number_of[c].is_null()))
        for c, reason in (("QUANTITY", "bad_quantity"), ("SALES_VALUE", "bad_price"))
    ]
    valid, rejected = validate_rows(
        conform(rows, EVENT_SCHEMA).with_columns(rows[ROW], *added),
        source, raw_copier(batch, offset), (*damage_rules(batch), *unreadable, *TIDY_RULES),
    )  # fmt: skip
    events = valid.select(*EVENT_SCHEMA)
    return ParsedBatch(
        rows_read=batch.height,
        events=events.with_columns(pl.lit(number, pl.Int32).alias(FILE)),
        rejected=rejected,
        catalog=event_catalog.from_events(events),
    )


def _read_catalog(paths: Sequence[Path]) -> pl.DataFrame:
    products = file_sets.read_texts(paths, HEADERS["products"])
    items = products.with_columns(ids.normalize_ids(products["PRODUCT_ID"], "item").alias("item_id")).drop_nulls(
        "item_id"
    )
    path = pl.concat_str("DEPARTMENT", "COMMODITY_DESC", separator="/", ignore_nulls=True)
    return conform(
        items.unique("item_id", keep="first", maintain_order=True).with_columns(
            title="SUB_COMMODITY_DESC", category=pl.when(path != "").then(path),
            # The set names no brands: National or Private, and the number of the manufacturer.
            brand=pl.concat_str("BRAND", "MANUFACTURER", separator=" ", ignore_nulls=True),
            available=pl.lit(True),
        ),
        CATALOG_SCHEMA,
    )  # fmt: skip


SOURCE = Source("dunnhumby", "dunnhumby's The Complete Journey, its files at once", lambda paths, _: read(paths))
