"""REES46's multi-category shop: the next click of the visits on the last day of the files.

Visits are those of `user_session`, and as in `diginetica.py` visits of one click, items with fewer than five clicks,
and clicks on items that were not clicked before the last day are left out.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.common.progress import Progress
from features.event_log.schema import TIMESTAMP
from features.sources import rees46 as source
from training.benchmarks import next_click
from training.benchmarks.benchmark import Benchmark, Outcome

LEAST_CLICKS = 5
EXAMPLES = 50_000


def run(paths: Sequence[Path], work: Path, step: Progress) -> Outcome:
    """Run on 2019-Oct.csv.gz and the like, in any number."""
    step("read", 1, None)
    clicks, catalog = read_clicks(paths)
    visits, split = split_last_day(clicks)
    return next_click.run(visits, catalog, split, work, step, EXAMPLES)


def read_clicks(paths: Sequence[Path]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read the views (session_id, item_id, timestamp) and the catalog's rows."""
    views, catalogs = [], []
    for batch in source.read(paths):
        events = batch.events.filter(pl.col("name") == "view_item", pl.col("session_id").is_not_null())
        views.append(events.select("session_id", "item_id", "timestamp"))
        catalogs.append(batch.catalog)
    items = pl.concat(catalogs, how="diagonal").sort("updated_at").unique("item_id", keep="last", maintain_order=True)
    return pl.concat(views).sort("session_id", "timestamp", "item_id"), items.with_columns(updated_at=None)


def split_last_day(clicks: pl.DataFrame) -> tuple[pl.DataFrame, datetime]:
    """Filter and split `clicks`; a visit belongs to the day it begins on. Returns the visits and the split."""
    if clicks.is_empty():
        raise InputError("the files hold no view with a session; name files of REES46's multi-category shop")
    length = pl.len().over("session_id")
    clicks = clicks.filter(length > 1).filter(pl.len().over("item_id") >= LEAST_CLICKS).filter(length > 1)
    begins = pl.col("timestamp").min().over("session_id")
    clicks = clicks.with_columns(begins=begins)
    latest = clicks["begins"].max()
    if not isinstance(latest, datetime) or latest.date() == clicks["begins"].min().date():  # type: ignore[union-attr]
        raise InputError("the files span one day or less; the last day is the test, so name at least a month's file")
    edge = datetime(latest.year, latest.month, latest.day, tzinfo=UTC)
    known, test = clicks.filter(pl.col("begins") < edge), clicks.filter(pl.col("begins") >= edge)
    known = known.filter(pl.col("timestamp") < edge)
    test = test.join(known.select("item_id").unique(), on="item_id", how="semi", maintain_order="left").filter(
        length > 1
    )
    both = pl.concat([known, test]).select("session_id", "item_id", pl.col("timestamp").cast(TIMESTAMP))
    return both, edge


BENCHMARK = Benchmark(
    name="rees46",
    title="REES46 multi-category shop, next click in a visit",
    protocol=f"visits of the last day, every click but the first from those before it, at most {EXAMPLES:,}; percent",
    files="2019-Oct.csv.gz and other months, as CSV or Parquet",
    metrics=next_click.METRICS,
    published=(),
    run=run,
    notes=("No published figure is known to us for this split; the simple method is measured on the same examples.",),
)
