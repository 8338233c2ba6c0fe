"""Instacart (2017): what is in each customer's last basket.

The set has no dates, only the days between two orders of a customer. They are counted back from the last order, which
is put on one common day, so that one model trained on everything before that day answers for all. Orders of the
competition's test set have no contents and are left out.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from features.common.clock import micros
from features.common.errors import InputError
from features.common.progress import Progress
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, TIMESTAMP, conform
from features.sources import instacart
from features.sources.parsing.cells.column_lists import ColumnsError
from features.sources.parsing.files import file_sets, readers
from training import recipe
from training.benchmarks import files, next_basket
from training.benchmarks.benchmark import Benchmark, Outcome, Row
from training.train import train

CUSTOMERS = 20_000
LAST_DAY = datetime(2017, 1, 1, tzinfo=UTC)
ORDERS = (*instacart.HEADERS["orders"], "eval_set")


def run(paths: Sequence[Path], work: Path, step: Progress) -> Outcome:
    """Run on orders.csv, order_products__prior.csv and order_products__train.csv, with products.csv if it is there."""
    step("read", 1, None)
    lines, catalog = read_lines(paths, CUSTOMERS)
    is_last = pl.col("back") == 0
    log = ingest([_to_events(lines.filter(~is_last), catalog)], work).log
    bundle = train(log, recipe.load(), micros(LAST_DAY), step).bundle
    return next_basket.run(bundle, lines.filter(is_last), lines.filter(~is_last), step)


def read_lines(paths: Sequence[Path], customers: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read the lines of `customers` customers whose last order is known, drawn by a hash of their ids.

    Returns (customer_id, order_id, item_id, timestamp, back: orders until the last one, 0 for it; catalog rows).
    """
    path = files.find(paths, "orders.", "the file of orders")
    columns = readers.read_column_names(path)
    if missing := [column for column in ORDERS if column not in columns]:
        raise ColumnsError(f"{path} is not Instacart's orders.csv: it lacks {', '.join(missing)}", columns)
    texts = file_sets.read_texts([path], ORDERS)
    orders = instacart.parse_orders(texts).with_columns(texts["eval_set"], pl.col("gap").fill_null(0))
    orders = orders.filter(pl.col("eval_set") != "test").drop_nulls(["order_id", "customer_id", "number", "hour"])
    with_last = orders.filter(pl.col("eval_set") == "train")["customer_id"].unique()
    drawn = with_last.to_frame().sort(pl.col("customer_id").hash(7), "customer_id").head(customers)
    orders = orders.join(drawn, on="customer_id", how="semi").sort("customer_id", "number")
    # Days from an order to the last one: what is left of the sum of the gaps.
    to_last = pl.col("gap").sum().over("customer_id") - pl.col("gap").cum_sum().over("customer_id")
    back = pl.col("number").max().over("customer_id") - pl.col("number")
    earlier = pl.duration(hours="hour") - pl.duration(days=1)  # all earlier orders are before the last day
    hour = pl.when(back == 0).then(pl.duration(hours="hour")).otherwise(earlier)
    at = pl.lit(LAST_DAY, TIMESTAMP) - pl.duration(days=to_last) + hour
    orders = orders.with_columns(timestamp=at.cast(TIMESTAMP), back=back)
    contents = files.find_all(paths, "order_products__")
    if len(contents) < 2:
        raise InputError("the contents of the orders are in order_products__prior.csv and order_products__train.csv")
    lines = instacart.parse_lines(file_sets.read_texts(contents, ("order_id", "product_id")))
    lines = lines.join(orders.select("order_id", "customer_id", "timestamp", "back"), on="order_id")
    products = file_sets.read_texts(files.find_all(paths, "products."), instacart.HEADERS["products"])
    catalog = instacart.parse_products(products).select("item_id", title="product_name", category="aisle_id")
    return lines.select("order_id", "timestamp", "back", "customer_id", "item_id"), catalog


def _to_events(lines: pl.DataFrame, catalog: pl.DataFrame) -> ParsedBatch:
    events = lines.select(
        "timestamp", "customer_id", "item_id", "order_id",
        event_id="order_id", name=pl.lit("purchase"), quantity=pl.lit(1.0), price=pl.lit(1.0),
    )  # fmt: skip
    items = events.select("item_id").unique().join(catalog, on="item_id", how="left").sort("item_id")
    items = conform(items.with_columns(available=pl.lit(True)), CATALOG_SCHEMA)
    return ParsedBatch(rows_read=events.height, events=conform(events, EVENT_SCHEMA), catalog=items)


BENCHMARK = Benchmark(
    name="instacart",
    title="Instacart, the last basket of each customer",
    protocol=f"{CUSTOMERS:,} customers drawn at random, everything before their last order known; percent",
    files="orders.csv, order_products__prior.csv, order_products__train.csv, products.csv, or their directory",
    metrics=next_basket.METRICS,
    published=(
        Row(
            "TIFU-KNN",
            {"NDCG@10": 38.25, "Recall@10": 39.52, "NDCG@20": 43.84, "Recall@20": 48.75},
            "Hu et al., SIGIR 2020",
        ),
    ),
    run=run,
    notes=("The paper drew its own customers and left rare products out: figures are near, not the same queries.",),
)
