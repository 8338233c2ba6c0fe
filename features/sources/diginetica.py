"""Source `diginetica`: Diginetica's data set of the CIKM Cup 2016; give its files in one command.

    train-item-views.csv      sessionId;userId;itemId;timeframe;eventdate
    train-purchases.csv       sessionId;userId;timeframe;eventdate;ordernumber;itemId
    train-queries.csv         queryId;sessionId;userId;timeframe;duration;eventdate;searchstring.tokens;categoryId;…
    train-clicks.csv          queryId;timeframe;itemId
    products.csv              itemId;pricelog2;product.name.tokens
    product-categories.csv    itemId;categoryId

They are recognized by their header; all but one of views, purchases and queries may be left out.

- `timeframe` counts milliseconds in a session: the time is `eventdate` plus that, in UTC.
- `userId` is NA for most: the session is the client, the user, where known, the customer.
- A query with search terms is a search, one of a category a view of its list; a click is one on its query's list.
- `pricelog2` is read as log2(price + 1). Events have the product's price: the set has no other.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.common import ids
from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, FILE, ROW, TIDY_RULES, Rule, conform
from features.sources.parsing.catalog import event_catalog
from features.sources.parsing.cells import timestamps
from features.sources.parsing.files import file_sets, readers
from features.sources.parsing.rows import event_ids
from features.sources.parsing.rows.validate import damage_rules, raw_copier, validate_rows
from features.sources.source import Source

HEADERS = {
    "purchases": ("sessionId", "userId", "timeframe", "eventdate", "ordernumber", "itemId"),
    "queries": ("queryId", "sessionId", "userId", "timeframe", "eventdate", "searchstring.tokens", "categoryId"),
    "views": ("sessionId", "userId", "itemId", "timeframe", "eventdate"),
    "clicks": ("queryId", "timeframe", "itemId"),
    "products": ("itemId", "pricelog2", "product.name.tokens"),
    "categories": ("itemId", "categoryId"),
}
NOTES = ("Diginetica's prices are read from pricelog2 as 2^pricelog2 − 1, in no stated currency",)
_ID = ["name", "timestamp", "client_id", "item_id", "order_id", "query", "list_id"]


def read(paths: Sequence[Path], rows: int = readers.BATCH) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per batch of at most `rows` rows; the last has the catalog.

    Raises `InputError` for a file that cannot be read or has another header, where no file has events, and for clicks
    without the queries that say whose they are.
    """
    files = file_sets.sort_files(paths, HEADERS, "Diginetica's")
    if not (files["views"] or files["purchases"] or files["queries"]):
        raise InputError(
            "none of the files is Diginetica's train-item-views.csv, train-purchases.csv or train-queries.csv"
        )
    if files["clicks"] and not files["queries"]:
        raise InputError("train-clicks.csv says only by train-queries.csv whose clicks they are; name that too")
    if files["purchases"] and not files["products"]:
        raise InputError("train-purchases.csv has no prices; name products.csv too, which has them")
    products = _read_products(files)
    prices = products.select("item_id", "price")
    queries = _index_queries(files["queries"]) if files["clicks"] else None
    for kind in ("views", "purchases", "queries", "clicks"):
        for number, path, offset, batch in file_sets.read_batches(files[kind], rows):
            yield _parse(batch, kind, number, offset, path.name, prices, queries)
    catalog = conform(products.with_columns(available=pl.lit(True)), CATALOG_SCHEMA)
    yield ParsedBatch(rows_read=0, events=pl.DataFrame(schema=EVENT_SCHEMA), catalog=catalog, notes=NOTES)


def _parse(
    batch: pl.DataFrame, kind: str, number: int, offset: int, source: str, prices: pl.DataFrame,
    queries: pl.DataFrame | None,
) -> ParsedBatch:  # fmt: skip
    columns = {c: _to_text(batch[c]) for c in HEADERS[kind]}
    rows = pl.DataFrame(columns).with_row_index(ROW, offset=offset)
    if kind == "clicks" and queries is not None:
        rows = rows.join(queries, on="queryId", how="left", maintain_order="left")
    rows = rows.with_columns(_to_times(rows).alias("timestamp"), *_build_columns(kind))
    # The set's ids are numbers, of which 0 may be one; NA, for none, is null already.
    rows = rows.with_columns(
        ids.normalize_ids(rows[c], "item") for c in ("customer_id", "client_id", "item_id", "order_id")
    )
    rows = rows.join(prices, on="item_id", how="left", maintain_order="left").with_columns(session_id="client_id")
    alone = pl.col("name") != "purchase"  # the lines of an order are one event
    hashed = rows.with_columns(pl.when(alone).then("item_id").alias("item_id"))
    rows = rows.with_columns(event_ids.hash_rows(hashed, _ID))
    added = [batch[c] for c in readers.ADDED if c in batch.columns]
    unknown = Rule("query_not_in_queries", pl.lit(rows["client_id"].is_null() & (kind == "clicks")))
    valid, rejected = validate_rows(
        conform(rows, EVENT_SCHEMA).with_columns(rows[ROW], *added),
        source, raw_copier(batch, offset), (*damage_rules(batch), unknown, *TIDY_RULES),
    )  # fmt: skip
    events = valid.select(*EVENT_SCHEMA)
    line = pl.when(pl.col("name") == "purchase").then(pl.lit(number, pl.Int32)).alias(FILE)
    return ParsedBatch(
        rows_read=batch.height, events=events.with_columns(line), rejected=rejected,
        catalog=event_catalog.from_events(events),
    )  # fmt: skip


def _build_columns(kind: str) -> list[pl.Expr]:
    names = {"views": "view_item", "purchases": "purchase", "clicks": "select_item"}
    searched = pl.col("searchstring.tokens").is_not_null() if kind == "queries" else pl.lit(False)
    name = pl.when(searched).then(pl.lit("search")).otherwise(pl.lit(names.get(kind, "view_item_list")))
    nothing = pl.lit(None, pl.String)
    return [
        name.alias("name"),
        pl.col("userId").alias("customer_id"),
        pl.col("sessionId").alias("client_id"),
        (nothing if kind == "queries" else pl.col("itemId")).alias("item_id"),
        (pl.col("ordernumber") if kind == "purchases" else nothing).alias("order_id"),
        (pl.col("searchstring.tokens") if kind == "queries" else nothing).alias("query"),
        (pl.col("categoryId") if kind in ("queries", "clicks") else nothing).alias("list_id"),
        pl.when(kind == "purchases").then(1.0).alias("quantity"),
    ]


def _to_text(values: pl.Series) -> pl.Series:
    text = values.cast(pl.String).str.strip_chars()
    return text.set(text.is_in(["", "NA"]), None)


def _to_times(rows: pl.DataFrame) -> pl.Series:
    day = timestamps.parse(rows["eventdate"])
    frame = rows.select(day.alias("day"), ms=pl.col("timeframe").cast(pl.Float64, strict=False).cast(pl.Int64))
    return frame.select(pl.col("day") + pl.duration(milliseconds="ms")).to_series()


def _index_queries(paths: Sequence[Path]) -> pl.DataFrame:
    columns = ["queryId", "sessionId", "userId", "eventdate", "categoryId"]
    parts = [
        pl.DataFrame([_to_text(batch[c]) for c in columns]) for path in paths for _, batch in readers.read_batches(path)
    ]
    return pl.concat(parts).drop_nulls("queryId").unique("queryId", keep="first", maintain_order=True)


def _read_products(files: dict[str, list[Path]]) -> pl.DataFrame:
    """Read item_id, price and category."""
    products = file_sets.read_texts(files["products"], ("itemId", "pricelog2"))
    categories = file_sets.read_texts(files["categories"], HEADERS["categories"])
    prices = products.select(
        ids.normalize_ids(products["itemId"], "item").alias("item_id"),
        price=(2.0 ** pl.col("pricelog2").cast(pl.Float64, strict=False) - 1).round(2),
    )
    paths = categories.select(ids.normalize_ids(categories["itemId"], "item").alias("item_id"), category="categoryId")
    first = [t.drop_nulls("item_id").unique("item_id", keep="first", maintain_order=True) for t in (prices, paths)]
    return first[0].join(first[1], on="item_id", how="full", coalesce=True, maintain_order="left_right")


SOURCE = Source(
    "diginetica", "Diginetica's sessions of the CIKM Cup 2016, all files at once", lambda paths, _: read(paths)
)
