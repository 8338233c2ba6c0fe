"""Score contributions: SHAP values of LightGBM (Lundberg et al. 2020), which add up to the ranker's score, summed by
readable groups of features.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from features.common.arrays import Float32Array, Float64Array
from features.common.threads import THREADS
from features.ranking.feature_matrix import columns
from features.tables.columns import Column
from models.candidates.registry import NAMED_SCORES, GeneratorName
from models.ranker import Ranker

# The groups of features that are not a generator's, by the first prefix that fits; generators declare their own
# (`NamedScore.group`).
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("own history with the product", (
        "pair_", "order_share", "behind_last_order", "own_", "item_cycle", "order_cycle", "units_per_order",
    )),
    ("price", ("item_price", "price_to_paid", "visit_price_")),
    ("this visit", ("visit_",)),
    ("what sells and what is new", (
        "item_buyers", "item_trend", "item_views", "item_carts", "item_cart_rate", "item_buy_rate", "item_age_days",
        "item_sold_last_days",
    )),
    ("the product in general", ("item_",)),
    ("the customer in general", ("customer_",)),
    ("what the visitor said they like", ("stated_",)),
)  # fmt: skip


@cache
def feature_groups(generators: tuple[GeneratorName, ...]) -> tuple[str, ...]:
    """Return the readable group of each column of the matrix of a model with these generators."""
    scores = [NAMED_SCORES[name].group for name in generators]
    others = columns(generators)[2 * len(generators) :]
    fixed = (next(group for group, prefixes in GROUPS if c.name.startswith(prefixes)) for c in others)
    return (*scores, *scores, *fixed)  # each generator has a rank and a score


class FeatureContribution(NamedTuple):
    """A feature's part in a score; `value` is None where it is not defined."""

    name: str
    value: float | None
    unit: str
    meaning: str
    contribution: float


class ScoreContributions(NamedTuple):
    """`base` + the sum of `groups` = `score`. `groups` and `features` are sorted by falling size of contribution."""

    score: float
    base: float
    groups: dict[str, float]
    features: list[FeatureContribution]


def shap_values(ranker: Ranker, matrix: Float32Array) -> Float64Array:
    """Compute each feature's contribution to each row's score, float64[n × (features + 1)]; the last is the base.

    A row adds up to `ranker.predict` of it.
    """
    parts: Float64Array = np.asarray(ranker.booster.predict(matrix, pred_contrib=True, num_threads=THREADS))
    return parts + ranker.prior.contributions(matrix) if ranker.prior else parts


def explain_scores(
    ranker: Ranker, generators: tuple[GeneratorName, ...], matrix: Float32Array, most: int = 8
) -> list[ScoreContributions]:
    """Explain the score of each row of the ranker's matrix, with its `most` strongest features."""
    if not len(matrix):
        return []
    described, of_feature = columns(generators), feature_groups(generators)
    groups = list(dict.fromkeys(of_feature))
    member = np.array([[g == group for group in groups] for g in of_feature], float)
    parts, scores = shap_values(ranker, matrix), ranker.predict(matrix)
    sums = parts[:, :-1] @ member
    strongest = np.argsort(-np.abs(parts[:, :-1]), axis=1, kind="stable")[:, :most]
    out = []
    for n, score in enumerate(scores.tolist()):
        by_size = sorted(zip(groups, sums[n].tolist(), strict=True), key=lambda pair: -abs(pair[1]))
        features = [_feature(described[i], matrix[n, i], parts[n, i]) for i in strongest[n].tolist() if parts[n, i]]
        out.append(ScoreContributions(score, float(parts[n, -1]), dict(by_size), features))
    return out


def _feature(column: Column, value: np.float32, part: np.float64) -> FeatureContribution:
    number = None if np.isnan(value) else float(value)
    return FeatureContribution(column.name, number, column.unit, column.meaning, float(part))
