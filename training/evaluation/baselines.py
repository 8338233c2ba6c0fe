"""What a recommender has to beat: simple methods, asked the very same queries.

    popular         best sellers of the last weeks
    own_purchases   what the customer has bought, most orders first, then most recent
    als, item_knn   one generator alone: matrix factorisation; neighbours of all the customer has had to do with
    tifu_knn        TIFU-KNN (Hu et al. 2020, SIGIR): 0.7 × own decayed vector + 0.3 × mean of the customers alike;
                    0.7 is the paper's weight on Ta-Feng and ValuedShopper, the vectors are decayed as `Neighbours` says
    visit_items     what this visit has touched, latest first, then its neighbours by co-visitation
    item_knn_visit, covisit_visit   one generator alone: neighbours of what this visit has touched

Every list is topped up with best sellers, so none is punished for being short.
"""

from typing import Literal

import numpy as np

from features.ranking.snapshot import Snapshot
from features.ranking.visitors import MOST_RECENT, Visitors
from models.candidates.generators import GeneratorName, Generators
from training.evaluation.seen_items import met, purchases

Baseline = Literal[
    "popular", "own_purchases", "als", "item_knn", "tifu_knn", "visit_items", "item_knn_visit", "covisit_visit"
]
OF_CUSTOMERS: tuple[Baseline, ...] = ("popular", "own_purchases", "als", "item_knn", "tifu_knn")
OF_VISITS: tuple[Baseline, ...] = ("popular", "visit_items", "item_knn_visit", "covisit_visit")
TIFU_OWN = np.float32(0.7)
_TIFU: tuple[GeneratorName, GeneratorName] = ("history", "neighbours")


def suited(visitors: Visitors) -> tuple[Baseline, ...]:
    """The baselines that have something to go by: the histories of customers, their visits, or both."""
    if not (visitors.customers >= 0).any():
        return OF_VISITS
    return (*OF_CUSTOMERS, *(name for name in OF_VISITS[1:] if len(visitors.query)))


def lists(
    name: Baseline, generators: Generators, snapshot: Snapshot, visitors: Visitors, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two int64[visitors × depth], best first: of all items, and without what is no discovery.

    -1 where the shop has no more items.
    """
    score = np.maximum(_scores(name, generators, snapshot, visitors), 0)
    best_sellers = generators.popular.best_sellers
    top = best(score, best_sellers, depth)
    score[met(snapshot, visitors)] = -1
    return top, best(score, best_sellers, depth)


def best(score: np.ndarray, order: np.ndarray, depth: int) -> np.ndarray:
    """int64[n × depth]: the items of largest `score` float32[n × items], equal ones in the order of `order`.

    Items below 0 are left out, -1 beyond the last.
    """
    placed = score[:, order]
    k = min(depth, len(order))
    bound = -np.partition(-placed, k - 1, axis=1)[:, k - 1 : k]
    above, equal = placed > bound, placed == bound
    chosen = above | (equal & (equal.cumsum(axis=1) <= k - above.sum(axis=1, keepdims=True)))
    column = np.nonzero(chosen)[1].reshape(len(placed), k)
    value = np.take_along_axis(placed, column, axis=1)
    sorting = np.argsort(-value, axis=1, kind="stable")
    value, column = (np.take_along_axis(a, sorting, axis=1) for a in (value, column))
    out = np.full((len(placed), depth), -1, np.int64)
    out[:, :k] = np.where(value >= 0, order[column], -1)
    return out


def _scores(name: Baseline, generators: Generators, snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
    """float32[visitors × items], 0 or less where a baseline has nothing to say."""
    if name == "popular":
        return np.zeros((len(visitors), len(snapshot.items)), np.float32)  # what lists are topped up with anyway
    if name == "own_purchases":
        return _own_purchases(snapshot, visitors)
    if name == "visit_items":
        return _visit_items(generators, snapshot, visitors)
    if name == "tifu_knn":
        own, alike = (_generator(g, generators, snapshot, visitors) for g in _TIFU)
        mixed: np.ndarray = TIFU_OWN * own + (1 - TIFU_OWN) * alike
        return mixed
    return _generator(name, generators, snapshot, visitors)


def _generator(name: GeneratorName, generators: Generators, snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
    said = generators.scores(name, snapshot, visitors)
    query, item = said.top(len(snapshot.items))
    out = np.zeros((len(visitors), len(snapshot.items)), np.float32)
    out[query, item] = said.at(query, item)
    return out


def _own_purchases(snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
    query, position, orders = purchases(snapshot, visitors)
    days_ago = snapshot.history.column("bought_last_days")[position]
    order = np.lexsort((days_ago, -orders, query))
    query, position = query[order], position[order]
    out = np.zeros((len(visitors), len(snapshot.items)), np.float32)
    out[query, snapshot.history.items[position]] = np.arange(len(query), 0, -1)  # only the order counts
    return out


def _visit_items(generators: Generators, snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
    out = _generator("covisit_visit", generators, snapshot, visitors)
    out /= np.maximum(out.max(axis=1, initial=0, keepdims=True), 1e-9)
    seen = np.flatnonzero(visitors.item >= 0)  # oldest first: the latest touch of an item is what stays
    out[visitors.query[seen], visitors.item[seen]] = 2.0 + MOST_RECENT - visitors.back[seen]
    return out
