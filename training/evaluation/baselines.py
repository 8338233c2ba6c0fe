"""Baselines: simple methods that a recommender has to beat on the same queries.

    popular         best sellers of the last weeks
    own_purchases   items the customer has bought, most orders first, then most recent
    als, item_knn   one generator alone: matrix factorisation; neighbours of all items in the customer's history
    tifu_knn        TIFU-KNN (Hu et al. 2020, SIGIR): 0.7 × own decayed vector + 0.3 × mean of the most similar
                    customers; 0.7 is the paper's weight on Ta-Feng and ValuedShopper, the decay is that of `UserKnn`
    visit_items     items this visit has touched, latest first, then their neighbours by co-visitation
    item_knn_visit, covisit_visit   one generator alone: neighbours of the items this visit has touched

Every list is filled up with best sellers, so that no baseline is penalised for short lists.
"""

from typing import Literal

import numpy as np

from features.ranking.snapshot import Snapshot
from features.ranking.visitors import MOST_RECENT, Visitors
from models.candidates.generators import Generators
from models.candidates.popular import Popular
from models.candidates.registry import GeneratorName
from training.evaluation.seen_items import find_seen_items, gather_purchases

Baseline = Literal[
    "popular", "own_purchases", "als", "item_knn", "tifu_knn", "visit_items", "item_knn_visit", "covisit_visit"
]
CUSTOMER_BASELINES: tuple[Baseline, ...] = ("popular", "own_purchases", "als", "item_knn", "tifu_knn")
VISIT_BASELINES: tuple[Baseline, ...] = ("popular", "visit_items", "item_knn_visit", "covisit_visit")
TIFU_OWN_WEIGHT = np.float32(0.7)
_TIFU: tuple[GeneratorName, GeneratorName] = ("history", "neighbours")


def select_baselines(visitors: Visitors) -> tuple[Baseline, ...]:
    """Select the baselines that apply to the visitors: those based on customer histories, on visits, or both."""
    if not (visitors.customers >= 0).any():
        return VISIT_BASELINES
    return (*CUSTOMER_BASELINES, *(name for name in VISIT_BASELINES[1:] if len(visitors.query)))


def rank(
    name: Baseline, generators: Generators, snapshot: Snapshot, visitors: Visitors, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rank items by a baseline: two int64[visitors × depth], best first, of all items and without seen items.

    -1 where the shop has no more items. Seen items: `training.evaluation.seen_items.find_seen_items`.
    """
    score = np.maximum(_scores(name, generators, snapshot, visitors), 0)
    best_sellers = generators[Popular].best_sellers
    top = rank_scores(score, best_sellers, depth)
    score[find_seen_items(snapshot, visitors)] = -1
    return top, rank_scores(score, best_sellers, depth)


def rank_scores(score: np.ndarray, order: np.ndarray, depth: int) -> np.ndarray:
    """Return int64[n × depth]: the items with the largest `score` float32[n × items], ties in the order of `order`.

    Items with a score below 0 are left out; rows are padded with -1.
    """
    ordered = score[:, order]
    k = min(depth, len(order))
    bound = -np.partition(-ordered, k - 1, axis=1)[:, k - 1 : k]
    above, equal = ordered > bound, ordered == bound
    chosen = above | (equal & (equal.cumsum(axis=1) <= k - above.sum(axis=1, keepdims=True)))
    column = np.nonzero(chosen)[1].reshape(len(ordered), k)
    value = np.take_along_axis(ordered, column, axis=1)
    sorting = np.argsort(-value, axis=1, kind="stable")
    value, column = (np.take_along_axis(a, sorting, axis=1) for a in (value, column))
    out = np.full((len(ordered), depth), -1, np.int64)
    out[:, :k] = np.where(value >= 0, order[column], -1)
    return out


def _scores(name: Baseline, generators: Generators, snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
    """Return float32[visitors × items]: the baseline's scores, 0 or less where it has none."""
    if name == "popular":
        return np.zeros((len(visitors), len(snapshot.items)), np.float32)  # ties are ranked by sales
    if name == "own_purchases":
        return _own_purchases(snapshot, visitors)
    if name == "visit_items":
        return _visit_items(generators, snapshot, visitors)
    if name == "tifu_knn":
        own, neighbours = (_generator(g, generators, snapshot, visitors) for g in _TIFU)
        mixed: np.ndarray = TIFU_OWN_WEIGHT * own + (1 - TIFU_OWN_WEIGHT) * neighbours
        return mixed
    return _generator(name, generators, snapshot, visitors)


def _generator(name: GeneratorName, generators: Generators, snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
    scores = generators.scores(name, snapshot, visitors)
    query, item = scores.top(len(snapshot.items))
    out = np.zeros((len(visitors), len(snapshot.items)), np.float32)
    out[query, item] = scores.at(query, item)
    return out


def _own_purchases(snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
    query, position, orders = gather_purchases(snapshot, visitors)
    days_ago = snapshot.history.column("bought_last_days")[position]
    order = np.lexsort((days_ago, -orders, query))
    query, position = query[order], position[order]
    out = np.zeros((len(visitors), len(snapshot.items)), np.float32)
    out[query, snapshot.history.items[position]] = np.arange(len(query), 0, -1)  # only the order matters
    return out


def _visit_items(generators: Generators, snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
    out = _generator("covisit_visit", generators, snapshot, visitors)
    out /= np.maximum(out.max(axis=1, initial=0, keepdims=True), 1e-9)
    touched = np.flatnonzero(visitors.item >= 0)  # oldest first: the latest touch of an item is what stays
    out[visitors.query[touched], visitors.item[touched]] = 2.0 + MOST_RECENT - visitors.back[touched]
    return out
