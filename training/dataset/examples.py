"""One training boundary: everything refitted on what came before it, labelled by what came after."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from features.common.clock import DAY
from features.ranking.feature_matrix import COLUMNS, assemble
from features.ranking.snapshot import Snapshot
from features.tables import build
from models.bundle import RecommenderName
from models.candidates.generators import Generators
from models.two_stage import TwoStageConfig, chunks, propose
from training.dataset import queries
from training.dataset.queries import Queries
from training.recipe import Recipe


@dataclass(frozen=True)
class Boundary:
    """A moment between past and future. Nothing in `snapshot` or `generators` saw an event at or after `at`.

    `traffic`: customer_id, source, device, country of the customers known then.
    """

    at: int
    snapshot: Snapshot
    generators: Generators
    traffic: pl.DataFrame
    asked: dict[RecommenderName, Queries]


def boundary(
    events: pl.LazyFrame, catalog: pl.DataFrame, at: int, recipe: Recipe, links: pl.DataFrame | None = None
) -> Boundary:
    """Fit on events before `at`; queries from the `horizon_days` from there."""
    made = build.build(events, catalog, at, links)
    snapshot = Snapshot.of(made)
    return Boundary(
        at=at,
        snapshot=snapshot,
        generators=Generators.fit(snapshot, recipe.generators),
        traffic=made.customers.select("customer_id", "source", "device", "country"),
        asked=queries.after(events, snapshot, at + recipe.horizon_days * DAY, recipe),
    )


@dataclass(frozen=True)
class Examples:
    """Labelled candidates: `matrix` float32[n × features], `labels` int64[n], `groups` rows per query."""

    matrix: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    @classmethod
    def concat(cls, parts: list["Examples"]) -> "Examples":
        none = np.zeros(0, np.int64)
        parts = [cls(np.zeros((0, len(COLUMNS)), np.float32), none, none), *parts]
        return cls(
            np.concatenate([p.matrix for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.groups for p in parts]),
        )


def examples(boundary: Boundary, asked: Queries, config: TwoStageConfig, recipe: Recipe) -> Examples:
    """Candidates of the queries with a positive among them; negatives are sampled.

    A query whose candidates hold no positive has no gradient, so it is left out.
    """
    rng = np.random.default_rng([recipe.seed, boundary.at // DAY])
    snapshot = boundary.snapshot
    parts = []
    for start, batch in chunks(snapshot, asked.visitors):
        found = propose(boundary.generators, snapshot, batch, config.budgets)
        labels = asked.labels(found.query + start, found.item, len(snapshot.items))
        keep = _sample(found.query, labels, len(batch), recipe, rng)
        found, labels = found.only(keep), labels[keep]
        matrix = assemble(snapshot, batch, found.query, found.item, found.ranks, found.scores)
        groups = np.bincount(found.query, minlength=len(batch))
        parts.append(Examples(matrix, labels, groups[groups > 0]))
    return Examples.concat(parts)


def _sample(query: np.ndarray, labels: np.ndarray, n: int, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Rows to keep, in order: every positive, and up to `negatives_per_query` negatives of queries that have one."""
    has_positive = np.bincount(query, labels > 0, minlength=n) > 0
    negative = np.flatnonzero(labels == 0)
    shuffled = negative[np.lexsort((rng.random(len(negative)), query[negative]))]
    within = np.arange(len(shuffled)) - np.searchsorted(query[shuffled], query[shuffled])
    chosen = shuffled[(within < recipe.negatives_per_query) & has_positive[query[shuffled]]]
    return np.sort(np.concatenate([np.flatnonzero(labels > 0), chosen]))
