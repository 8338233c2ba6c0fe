"""Diginetica (CIKM Cup 2016): item views, split as SR-GNN does.

Visits of one click and items with fewer than five clicks are dropped, then visits that have one click left. The visits
of the last seven days are the test set; clicks on items that no training visit has are dropped from it (Wu et al.
2019, as in their published code).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.common.progress import Progress
from features.event_log.schema import TIMESTAMP
from features.sources.parsing.files import readers
from training.benchmarks import files, next_click
from training.benchmarks.benchmark import Benchmark, Outcome, Row

LEAST_CLICKS = 5
TEST_DAYS = 7
COLUMNS = ("session_id", "item_id", "timeframe", "eventdate")
PREPARED = ("session_id", "pos", "item_id", "split")
# A prepared split has no times: its training visits are spread over about as long as the data set spans.
TRAINING_DAYS = 140


def run(paths: Sequence[Path], work: Path, step: Progress) -> Outcome:
    """Run on train-item-views.csv, or on a file with SR-GNN's split: session_id, pos, item_id, split."""
    step("read", 1, None)
    notes: tuple[str, ...] = ()
    prepared = [path for path in paths if path.is_file() and set(PREPARED) <= set(readers.read_column_names(path))]
    if prepared:
        visits, split = read_prepared(prepared[0])
        notes = (f"{prepared[0].name} has no times: its training visits are spread evenly over {TRAINING_DAYS} days",)
    else:
        visits, split = read_views(files.find(paths, "train-item-views", "the file of item views"))
    outcome = next_click.run(visits, None, split, work, step)
    return Outcome(outcome.rows, outcome.queries, (*outcome.notes, *notes))


def read_views(path: Path) -> tuple[pl.DataFrame, datetime]:
    """Read train-item-views.csv; returns the visits of both sets, and the instant between them."""
    table = readers.read_table(path)
    if missing := [column for column in COLUMNS if column not in table.columns]:
        raise InputError(f"{path} is not Diginetica's file of item views: it lacks {', '.join(missing)}")
    day = pl.col("eventdate").str.to_date("%Y-%m-%d", strict=False)
    clicks = table.select(
        "session_id", "item_id", day=day, offset=pl.col("timeframe").cast(pl.Int64, strict=False)
    ).drop_nulls()  # fmt: skip
    clicks = clicks.with_columns(day=pl.col("day").last().over("session_id")).sort(
        "session_id", "offset", maintain_order=True
    )
    return split_visits(clicks)


def split_visits(clicks: pl.DataFrame) -> tuple[pl.DataFrame, datetime]:
    """Filter and split `clicks` (session_id, item_id, day, offset in ms; in order within a visit) as SR-GNN does."""
    length = pl.len().over("session_id")
    clicks = clicks.filter(length > 1)
    clicks = clicks.filter(pl.len().over("item_id") >= LEAST_CLICKS).filter(length > 1)
    if clicks.is_empty():
        raise InputError(f"no visit has two clicks on items with at least {LEAST_CLICKS}; is this the whole file?")
    last = clicks["day"].max()
    split_day = last - timedelta(days=TEST_DAYS)  # type: ignore[operator]
    train, test = clicks.filter(pl.col("day") < split_day), clicks.filter(pl.col("day") > split_day)
    test = test.join(train.select("item_id").unique(), on="item_id", how="semi", maintain_order="left").filter(
        length > 1
    )
    timed = pl.concat([train, test]).with_columns(
        timestamp=(pl.col("day").cast(pl.Datetime("us")) + pl.duration(milliseconds="offset"))
        .dt.replace_time_zone("UTC")
        .cast(TIMESTAMP)
    )
    # A visit that began before midnight belongs to its day, however long it was.
    edge = datetime(split_day.year, split_day.month, split_day.day, tzinfo=UTC)  # type: ignore[union-attr]
    in_train = pl.col("day") < split_day
    latest = edge - timedelta(seconds=1)
    timed = timed.with_columns(
        timestamp=pl.when(in_train)
        .then(pl.min_horizontal("timestamp", pl.lit(latest, TIMESTAMP)))
        .otherwise("timestamp")
    )
    return timed.select("session_id", "item_id", "timestamp"), edge


def read_prepared(path: Path) -> tuple[pl.DataFrame, datetime]:
    """Read a file with SR-GNN's split; the visits' ids rise with their dates."""
    table = readers.read_table(path).select(
        pl.col("session_id", "pos").cast(pl.Int64), pl.col("item_id", "split").cast(pl.String)
    )
    start = datetime(2016, 1, 1, tzinfo=UTC)
    edge = start + timedelta(days=TRAINING_DAYS)
    is_test = pl.col("split") == "test"
    visits = table.sort("session_id", "pos").with_columns(nth=pl.col("session_id").rank("dense").over("split") - 1)
    share = pl.col("nth") / (pl.col("nth").max().over("split") + 1)
    begins = pl.when(is_test).then(TRAINING_DAYS + share * TEST_DAYS).otherwise(share * TRAINING_DAYS)
    seconds = (begins * 86_400).floor().cast(pl.Int64) + pl.when(is_test).then(30).otherwise(0) * pl.col("pos")
    # Half a minute a click; training visits end before the test begins.
    seconds = pl.when(is_test).then(seconds).otherwise(
        pl.min_horizontal(seconds + 30 * pl.col("pos"), pl.lit(TRAINING_DAYS * 86_400 - 1))
    )  # fmt: skip
    at = pl.lit(start, TIMESTAMP) + pl.duration(seconds=seconds, microseconds=pl.col("pos"))
    # Two test visits may not share an id with a training visit: their clients would be one.
    named = pl.concat_str("split", pl.col("session_id"), separator="-")
    return visits.select(session_id=named, item_id="item_id", timestamp=at.cast(TIMESTAMP)), edge


BENCHMARK = Benchmark(
    name="diginetica",
    title="Diginetica, next click in a visit",
    protocol="SR-GNN's split: visits of the last seven days, every click but the first from those before it; percent",
    files="train-item-views.csv of CIKM Cup 2016, or a file with the split: session_id, pos, item_id, split",
    metrics=next_click.METRICS,
    published=(
        Row("GCE-GNN", {"P@20": 54.22, "MRR@20": 19.04}, "Wang et al., SIGIR 2020"),
        Row("SR-GNN", {"P@20": 50.73, "MRR@20": 17.59}, "Wu et al., AAAI 2019"),
        Row("NARM", {"P@20": 49.70, "MRR@20": 16.17}, "in Wu et al. 2019"),
        Row("STAMP", {"P@20": 45.64, "MRR@20": 14.32}, "in Wu et al. 2019"),
        Row("Item-KNN", {"P@20": 35.75, "MRR@20": 11.57}, "in Wu et al. 2019"),
    ),
    run=run,
)
