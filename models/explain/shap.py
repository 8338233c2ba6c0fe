"""What the ranker made of a candidate's features: SHAP values by LightGBM (Lundberg et al. 2020), which add up to
the score, and what they come to by groups that a person can read.
"""

from typing import NamedTuple

import numpy as np

from features.common.threads import THREADS
from features.ranking.feature_matrix import COLUMNS, NAMES
from models.ranker import Ranker

# The first prefix that fits decides.
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("own history with the product", (
        "history_", "pair_", "order_share", "behind_last_order", "own_", "item_cycle", "order_cycle",
        "units_per_order",
    )),
    ("price", ("item_price", "price_to_paid", "visit_price_")),
    ("this visit", ("visit_", "item_knn_visit_", "covisit_visit_", "content_visit_")),
    ("what goes with their products", ("item_knn_", "covisit_last_")),
    ("what similar customers take", ("neighbours_", "als_")),
    ("likeness of the description", ("content_",)),
    ("what sells and what is new", (
        "popular_", "arrivals_", "item_buyers", "item_trend", "item_views", "item_carts", "item_cart_rate",
        "item_buy_rate", "item_age_days", "item_sold_last_days",
    )),
    ("the product in general", ("item_",)),
    ("the customer in general", ("customer_",)),
)  # fmt: skip


def group_of(feature: str) -> str:
    """The readable group that a feature belongs to."""
    return next(group for group, prefixes in GROUPS if feature.startswith(prefixes))


GROUP_OF = tuple(group_of(name) for name in NAMES)


class Feature(NamedTuple):
    """A feature's part in a score; `value` is None where it is not defined."""

    name: str
    value: float | None
    unit: str
    meaning: str
    contribution: float


class Contributions(NamedTuple):
    """`base` + all of `groups` = `score`. `groups` and `features` come by falling size of their contribution."""

    score: float
    base: float
    groups: dict[str, float]
    features: list[Feature]


def shap(ranker: Ranker, matrix: np.ndarray) -> np.ndarray:
    """float64[n × (features + 1)]: each feature's contribution to each row's score, at the end what all rows share.

    A row adds up to `ranker.predict` of it.
    """
    parts: np.ndarray = np.asarray(ranker.booster.predict(matrix, pred_contrib=True, num_threads=THREADS))
    return parts + ranker.prior.contributions(matrix) if ranker.prior else parts


def contributions(ranker: Ranker, matrix: np.ndarray, most: int = 8) -> list[Contributions]:
    """For each row of the ranker's matrix, with its `most` strongest features."""
    if not len(matrix):
        return []
    groups = list(dict.fromkeys(GROUP_OF))
    member = np.array([[g == group for group in groups] for g in GROUP_OF], float)
    parts, scores = shap(ranker, matrix), ranker.predict(matrix)
    sums = parts[:, :-1] @ member
    strongest = np.argsort(-np.abs(parts[:, :-1]), axis=1, kind="stable")[:, :most]
    out = []
    for n, score in enumerate(scores.tolist()):
        by_size = sorted(zip(groups, sums[n].tolist(), strict=True), key=lambda pair: -abs(pair[1]))
        features = [_feature(matrix[n], parts[n], i) for i in strongest[n].tolist() if parts[n, i]]
        out.append(Contributions(score, float(parts[n, -1]), dict(by_size), features))
    return out


def _feature(values: np.ndarray, parts: np.ndarray, i: int) -> Feature:
    column, value = COLUMNS[i], float(values[i])
    return Feature(column.name, None if np.isnan(value) else value, column.unit, column.meaning, float(parts[i]))
