"""Source `online-retail`: UCI Online Retail and Online Retail II, from UCI or its mirrors (xlsx, csv, Parquet).

One invoice is one purchase event; an invoice starting with C is a refund. Prices are pounds. Times
carry no zone and are read as UTC.

A line is rejected under the first of the `RULES` that it breaks: what kind of line it is, then what it lacks.
Lines of one item in one invoice are one row: quantities added, price the mean weighted by quantity.
An event has one time, the earliest of its invoice's lines.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import ABSURD_AMOUNT, BAD_TIMESTAMP, CATALOG_SCHEMA, EVENT_SCHEMA, ROW, Rule, conform
from features.sources.parsing.cells import coerce, timestamps
from features.sources.parsing.cells.column_lists import ColumnsError
from features.sources.parsing.files import readers
from features.sources.parsing.rows.validate import damage_rules, raw_copier, validate_rows
from features.sources.source import Source

CURRENCY = "GBP"

# Ours → the names the two editions use, without spaces and case.
COLUMNS = {
    "event_id": ("invoice", "invoiceno"),
    "item_id": ("stockcode",),
    "quantity": ("quantity",),
    "timestamp": ("invoicedate",),
    "price": ("price", "unitprice"),
    "customer_id": ("customerid",),
}
OPTIONAL = {"title": ("description",), "country": ("country",), "sheet": (readers.SHEET.lower(),)}

_CANCELLED = pl.col("event_id").str.starts_with("C")
_NUMBER = pl.col("quantity").is_finite().fill_null(False)

RULES: tuple[Rule, ...] = (
    Rule("missing_event_id", pl.col("event_id").is_null()),
    BAD_TIMESTAMP,
    Rule("adjustment", pl.col("event_id").str.starts_with("A")),  # of bad debt
    Rule("missing_item_id", pl.col("item_id").is_null()),
    Rule("fee_code", ~pl.col("item_id").str.contains(r"^\d{5}")),  # postage, vouchers, samples, manual
    Rule("no_customer", pl.col("customer_id").is_null()),
    # Sales have a positive quantity, cancellations a negative one; zero is neither.
    Rule("bad_quantity", ~_NUMBER | ((pl.col("quantity") * pl.when(_CANCELLED).then(-1).otherwise(1)) <= 0)),
    Rule("bad_price", ~pl.col("price").is_finite().fill_null(False)),
    Rule("negative_price", pl.col("price") < 0),
    Rule("zero_price", pl.col("price") == 0),
    ABSURD_AMOUNT,
)

# A day with at least this many different lines, each of which occurs an even number of times, was
# published twice. On smaller days that could be chance.
DOUBLED_DAY_LINES = 10


def read(paths: Sequence[Path]) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per file. Raises `InputError` for a file that cannot be read or lacks a column."""
    for path in paths:
        yield _parse(path)


def _parse(path: Path) -> ParsedBatch:
    source = readers.read_table(path)
    rows, notes = _read_lines(source, path)
    valid, rejected = validate_rows(rows, path.name, raw_copier(source, 0), (*damage_rules(source), *RULES))
    valid = valid.with_columns(
        name=pl.when(_CANCELLED).then(pl.lit("refund")).otherwise(pl.lit("purchase")),
        quantity=pl.col("quantity").abs(),
        timestamp=pl.col("timestamp").min().over("event_id"),
    )
    lines = _drop_copies(valid)
    if copies := valid.height - lines.height:
        notes.append(f"{path.name}: {copies:,} usable rows are there twice (the sheets overlap); each counts once")
    events = _merge_lines(lines)
    return ParsedBatch(
        rows_read=source.height,
        events=events,
        rejected=rejected,
        catalog=_build_catalog(lines, events),
        merged=valid.height - events.height,
        notes=tuple(notes),
    )


def _read_lines(source: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, list[str]]:
    columns = [c for c in source.columns if c not in readers.ADDED]
    by_name = {c.lower().replace(" ", "").replace("_", ""): c for c in columns}
    names = {ours: next((by_name[t] for t in theirs if t in by_name), "") for ours, theirs in COLUMNS.items()}
    missing = [COLUMNS[ours][0] for ours, name in names.items() if not name]
    if missing:
        raise ColumnsError(
            f"{path} is not Online Retail: missing columns {', '.join(missing)}. Rename them as in UCI's file, or read "
            "it as source `events` with a mapping",
            columns,
        )
    names |= {ours: next((by_name[t] for t in theirs if t in by_name), "") for ours, theirs in OPTIONAL.items()}
    times, notes = _parse_times(source[names["timestamp"]], path)
    customer = pl.col(names["customer_id"]).cast(pl.Float64, strict=False)
    optional = [(coerce.to_text(names[c]) if names[c] else pl.lit(None, pl.String)).alias(c) for c in OPTIONAL]
    lines = source.select(
        coerce.to_ids(source[names["event_id"]]).alias("event_id"),
        coerce.to_ids(source[names["item_id"]]).alias("item_id"),
        times.alias("timestamp"),
        pl.col(names["quantity"]).cast(pl.Float64, strict=False).alias("quantity"),
        pl.col(names["price"]).cast(pl.Float64, strict=False).alias("price"),
        pl.when((customer > 0) & (customer == customer.floor()))
        .then(customer.cast(pl.Int64, strict=False).cast(pl.String))
        .alias("customer_id"),
        *optional,
        *(c for c in readers.ADDED if c in source.columns),
    )
    return lines.with_row_index(ROW), notes


def _parse_times(values: pl.Series, path: Path) -> tuple[pl.Series, list[str]]:
    iso = timestamps.parse(values)
    if values.dtype != pl.String or timestamps.count_usable(iso) == values.len():
        return iso, []
    slashed, order = timestamps.parse_slashed(values)
    if timestamps.count_usable(slashed) <= timestamps.count_usable(iso):
        return iso, []
    example = values.filter(slashed.is_not_null()).item(0)
    return slashed, [f"{path.name}: dates such as {example} are read {order}"]


def _drop_copies(lines: pl.DataFrame) -> pl.DataFrame:
    """Drop lines that the file holds once more because its sheets overlap.

    Online Retail II has two sheets and both hold 1 to 9 December 2010. A line that one invoice truly
    repeats stays repeated, as often as in the sheet with the most of it. Mirrors that put the sheets into
    one table lost the sheet's name; there the overlap shows as whole days held twice.
    """
    content = ["event_id", "item_id", "timestamp", "quantity", "price", "customer_id", "title", "country"]
    if lines["sheet"].drop_nulls().n_unique() > 1:
        shared = pl.col("sheet").n_unique().over("event_id") > 1
        nth = lines.filter(shared).with_columns(nth=pl.int_range(pl.len()).over([*content, "sheet"]))
        return pl.concat([lines.filter(~shared), nth.unique([*content, "nth"]).drop("nth")])
    day = pl.col("timestamp").dt.date()
    counts = lines.group_by(content).len()
    doubled = counts.group_by(day.alias("day")).agg(
        twice=(pl.col("len") % 2 == 0).all() & (pl.len() >= DOUBLED_DAY_LINES)
    )
    days = doubled.filter("twice")["day"]
    if days.is_empty():
        return lines
    again = day.is_in(days.implode())
    nth = lines.filter(again).with_columns(nth=pl.int_range(pl.len()).over(content), n=pl.len().over(content))
    return pl.concat([lines.filter(~again), nth.filter(pl.col("nth") < pl.col("n") // 2).drop("nth", "n")])


def _merge_lines(lines: pl.DataFrame) -> pl.DataFrame:
    """Merge lines into one row per invoice and item, in the event schema."""
    key = ["event_id", "item_id"]
    columns = [*key, "name", "timestamp", "customer_id", "country", "quantity", "price"]
    repeated = pl.len().over(key) > 1
    # Sorted, because a sum of floats depends on the order of its terms.
    several = lines.filter(repeated).select(columns).sort(columns)
    price, quantity = pl.col("price"), pl.col("quantity")
    mean = (price * quantity).sum() / quantity.sum()
    merged = several.group_by(key, maintain_order=True).agg(
        *(pl.col(c).first() for c in ("name", "timestamp", "customer_id", "country")),
        quantity.sum(),
        pl.when(price.min() == price.max()).then(price.min()).otherwise(mean).alias("price"),
    )
    rows = pl.concat([lines.filter(~repeated).select(columns), merged.select(columns)])
    return conform(rows.with_columns(currency=pl.lit(CURRENCY), order_id="event_id"), EVENT_SCHEMA)


def _build_catalog(lines: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    titles = (
        lines.drop_nulls("title")
        .group_by("item_id", "title")
        .len()
        .sort("item_id", "len", "title", descending=[False, True, False])
        .group_by("item_id")
        .agg(pl.col("title").first())
    )
    # Refunds first: the last price paid counts, and a refunded one only where there is none.
    sold = pl.col("name") == "purchase"
    prices = events.sort(sold, "timestamp", "event_id").group_by("item_id").agg(
        pl.col("price").last(), first_seen=pl.col("timestamp").min()
    )  # fmt: skip
    items = prices.join(titles, on="item_id", how="left").sort("item_id")
    return conform(items.with_columns(currency=pl.lit(CURRENCY), available=True), CATALOG_SCHEMA)


SOURCE = Source("online-retail", "UCI Online Retail and Online Retail II", lambda paths, _: read(paths))
