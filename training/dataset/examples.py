"""Training examples: the labelled candidates of a fold's queries, as a ranker learns from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.common.clock import DAY
from features.ranking import feature_matrix
from features.ranking.feature_matrix import assemble
from models.bundle import RecommenderName
from models.two_stage import TwoStageConfig, chunks, propose
from training.dataset.folds import Fold
from training.dataset.queries import Queries
from training.recipe import Recipe

MIN_QUERIES = 20  # a ranker fitted on fewer would overfit


@dataclass(frozen=True)
class Examples:
    """Labelled candidates: `matrix` float32[n × features], `labels` int64[n], `groups` rows per query.

    `features` are the names of the matrix's columns.
    """

    matrix: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    features: tuple[str, ...]

    @classmethod
    def empty(cls, features: tuple[str, ...]) -> "Examples":
        """No examples, of these features."""
        none = np.zeros(0, np.int64)
        return cls(np.zeros((0, len(features)), np.float32), none, none, features)

    @classmethod
    def concat(cls, parts: Sequence["Examples"]) -> "Examples":
        """Stack examples of the same features."""
        return cls(
            np.concatenate([p.matrix for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.groups for p in parts]),
            parts[0].features,
        )


def sample_examples(fold: Fold, name: RecommenderName, config: TwoStageConfig, recipe: Recipe) -> Examples:
    """Build the examples of at most `queries_per_boundary` of a recommender's queries."""
    return build_examples(fold, fold.queries[name].sample(recipe.queries_per_boundary), config, recipe)


def build_examples(fold: Fold, queries: Queries, config: TwoStageConfig, recipe: Recipe) -> Examples:
    """Label the candidates of `queries`, and sample negatives.

    A query without a positive among its candidates has no gradient, so it is left out.
    """
    rng = np.random.default_rng([recipe.seed, fold.at // DAY])
    snapshot = fold.snapshot
    features = feature_matrix.names(fold.generators.names)
    parts = [Examples.empty(features)]
    for start, batch in chunks(snapshot, queries.visitors):
        candidates = propose(fold.generators, snapshot, batch, config.budgets)
        labels = queries.labels(candidates.query + start, candidates.item, len(snapshot.items))
        rows = _sample(candidates.query, labels, len(batch), recipe, rng)
        candidates, labels = candidates.only(rows), labels[rows]
        c, stated = candidates, feature_matrix.STATED in fold.generators.names
        matrix = assemble(snapshot, batch, c.query, c.item, c.ranks, c.scores, stated)
        groups = np.bincount(candidates.query, minlength=len(batch))
        parts.append(Examples(matrix, labels, groups[groups > 0], features))
    return Examples.concat(parts)


def _sample(query: np.ndarray, labels: np.ndarray, n: int, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Rows to keep, in order: every positive, and up to `negatives_per_query` negatives of queries that have one."""
    has_positive = np.bincount(query, labels > 0, minlength=n) > 0
    negative = np.flatnonzero(labels == 0)
    shuffled = negative[np.lexsort((rng.random(len(negative)), query[negative]))]
    place = np.arange(len(shuffled)) - np.searchsorted(query[shuffled], query[shuffled])
    sample = shuffled[(place < recipe.negatives_per_query) & has_positive[query[shuffled]]]
    return np.sort(np.concatenate([np.flatnonzero(labels > 0), sample]))
