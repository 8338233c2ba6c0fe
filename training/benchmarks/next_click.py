"""Next-click protocol: of every visit in the test period, each item but the first is predicted from those before it.

P@20 is the share of the examples whose item is among the first twenty, MRR@20 the mean of its reciprocal rank there,
both in percent, as SR-GNN (Wu et al. 2019) and the papers after it report them.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from features.common.clock import micros
from features.common.progress import Progress
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, TIMESTAMP, conform
from models.bundle import Bundle
from models.interface import RankingRequest
from models.recommender import BundleRecommender
from training import recipe
from training.benchmarks.benchmark import Figures, Outcome, Row
from training.recipe import Recipe
from training.train import train

DEPTH = 20
METRICS = ("P@20", "MRR@20")
BATCH = 1024  # examples per call, which bounds memory


def run(
    visits: pl.DataFrame,
    catalog: pl.DataFrame | None,
    split: datetime,
    work: Path,
    step: Progress,
    most: int | None = None,
) -> Outcome:
    """Train on the visits before `split` and predict the next clicks of those after it.

    `visits`: session_id, item_id, timestamp (UTC), one row per click in order. `catalog`: rows in `CATALOG_SCHEMA`.
    `most`: at most so many examples, drawn at random.
    """
    step("read", 1, None)
    known = visits.filter(pl.col("timestamp") < split)
    log = ingest([_to_events(known, catalog)], work).log
    bundle = train(log, fit_recipe((split - log.first).days), micros(split), step).bundle
    examples = build_examples(visits.filter(pl.col("timestamp") >= split))
    notes = []
    if most is not None and examples.height > most:
        notes.append(f"{most:,} of {examples.height:,} examples, drawn at random")
        examples = examples.sample(most, seed=7).sort("session_id", "position")
    ranks = rank_next(bundle, examples, step)
    rows = [
        Row("The Usual, predictive", score(ranks)),
        Row("the visit's own items, latest first", score(rank_own_items(examples))),
    ]
    return Outcome(rows, examples.height, notes)


def fit_recipe(days: int) -> Recipe:
    """The default recipe, with a horizon that fits a log of `days` days: training needs three of them."""
    default = recipe.load()
    if days >= 3 * default.horizon_days:
        return default
    horizon = max(1, days // 4)
    steps = {"horizon_days": horizon, "boundary_step_days": min(horizon, default.boundary_step_days)}
    return default.model_copy(update={**steps, "visit_days": min(horizon, default.visit_days)})


def _to_events(visits: pl.DataFrame, catalog: pl.DataFrame | None) -> ParsedBatch:
    events = visits.select(
        event_id=pl.concat_str("session_id", pl.int_range(pl.len()).over("session_id"), separator="-"),
        name=pl.lit("view_item"),
        timestamp=pl.col("timestamp").cast(TIMESTAMP),
        client_id="session_id",
        session_id="session_id",
        item_id="item_id",
    )
    items = pl.DataFrame(schema=CATALOG_SCHEMA) if catalog is None else conform(catalog, CATALOG_SCHEMA)
    clicked = events.group_by("item_id").agg(pl.col("timestamp").min().alias("first_seen")).join(
        items.select("item_id"), on="item_id", how="anti"
    )  # fmt: skip
    items = pl.concat([items, conform(clicked.with_columns(available=pl.lit(True)), CATALOG_SCHEMA)])
    return ParsedBatch(rows_read=events.height, events=conform(events, EVENT_SCHEMA), catalog=items)


def build_examples(visits: pl.DataFrame) -> pl.DataFrame:
    """Build one row per click that is not the first of its visit: session_id, position, item_id, past (list)."""
    lists = visits.group_by("session_id", maintain_order=True).agg("item_id")
    rows = [
        (session, position, items[position], items[:position])
        for session, items in lists.iter_rows()
        for position in range(1, len(items))
    ]
    schema: dict[str, pl.DataType] = {
        "session_id": pl.String(), "position": pl.Int64(), "item_id": pl.String(), "past": pl.List(pl.String()),
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row").sort("session_id", "position")


def rank_next(bundle: Bundle, examples: pl.DataFrame, step: Progress) -> np.ndarray:
    """int64[examples]: the rank of each example's item, from 1; 0 where it is not among the first twenty."""
    recommender = BundleRecommender(bundle)
    ranks = np.zeros(examples.height, np.int64)
    batches = -(-examples.height // BATCH)
    for n, batch in enumerate(examples.iter_slices(BATCH)):
        step(f"rank {examples.height:,} examples", n + 1, batches)
        requests = [
            RankingRequest(limit=DEPTH, recent=tuple((item, "view_item") for item in past)) for past in batch["past"]
        ]
        for i, (ranking, item) in enumerate(zip(recommender.recommend(requests), batch["item_id"], strict=True)):
            ranks[n * BATCH + i] = _rank_of(item, ranking.item_ids)
    return ranks


def rank_own_items(examples: pl.DataFrame) -> np.ndarray:
    """The same for the simplest method: the items of the visit itself, the latest first."""
    ranks = (_rank_of(item, list(dict.fromkeys(reversed(past)))) for item, past in _pairs(examples))
    return np.fromiter(ranks, np.int64, examples.height)


def _pairs(examples: pl.DataFrame) -> Iterator[tuple[str, list[str]]]:
    yield from zip(examples["item_id"].to_list(), examples["past"].to_list(), strict=True)


def _rank_of(item: str, ranking: list[str]) -> int:
    first = ranking[:DEPTH]
    return first.index(item) + 1 if item in first else 0


def score(ranks: np.ndarray) -> Figures:
    """`METRICS` in percent from the ranks of the examples' items, 0 for a miss."""
    if not len(ranks):
        return dict.fromkeys(METRICS, 0.0)
    hits = ranks > 0
    reciprocal = np.divide(1.0, ranks, out=np.zeros(len(ranks)), where=hits)
    return {"P@20": 100 * float(hits.mean()), "MRR@20": 100 * float(reciprocal.mean())}
