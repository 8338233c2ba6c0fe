"""What a visitor is judged by: items, and how much each of them counts."""

from typing import Literal

import numpy as np

from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from features.tables.history import Histories

Basis = Literal["history", "last_baskets", "visit"]


def taste(history: Histories, pairs: np.ndarray | slice = slice(None)) -> np.ndarray:
    """float32: purchases, carts and views of some pairs (default: all) as decayed purchases."""
    weight: np.ndarray = (
        history.column("bought_decayed")[pairs]
        + np.float32(0.4) * history.column("carts_decayed")[pairs]
        + np.float32(0.1) * history.column("views_decayed")[pairs]
    )
    return weight


def tastes(snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
    """float32: `taste` of all pairs of the visitors' histories, as `visitors.pairs` lists them."""
    h = snapshot.history
    return visitors.once("taste", h, lambda: taste(h, visitors.pairs(h)[1]))


# Decayed purchases that an event of the visit is worth, by its weight (`features.ranking.visitors.VISIT_EVENTS`): a view and a
# cart as in `taste`, a purchase of now is one.
_WEIGHTS, _WORTH = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0), (0.0, 0.05, 0.1, 0.25, 0.4, 1.0)


def visit_taste(visitors: Visitors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(query, item, float32 decayed purchases) of each event of the visits that says that its item is wanted."""
    wanted = np.flatnonzero((visitors.item >= 0) & (visitors.weight > 0))
    worth = np.interp(visitors.weight[wanted], _WEIGHTS, _WORTH).astype(np.float32)
    return visitors.query[wanted], visitors.item[wanted], worth


def asked(
    snapshot: Snapshot, visitors: Visitors, basis: Basis, last_baskets: float = 2, visit_decay: float = 0.8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(query, item, weight): the items a visitor is judged by.

    All they have had to do with, by decayed purchases; those of their last orders, all alike; or those of the
    visit, by kind of event and `visit_decay` for each later event.
    """
    what = basis, last_baskets, visit_decay
    return visitors.once(what, snapshot, lambda: _asked(snapshot, visitors, basis, last_baskets, visit_decay))


def _asked(
    snapshot: Snapshot, visitors: Visitors, basis: Basis, last_baskets: float, visit_decay: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if basis == "visit":
        if not len(visitors.item):
            return visitors.query, visitors.item, visitors.weight
        wanted = np.flatnonzero((visitors.item >= 0) & (visitors.weight > 0))
        weight = visitors.weight[wanted] * np.float32(visit_decay) ** visitors.back[wanted]
        return visitors.query[wanted], visitors.item[wanted], weight
    h = snapshot.history
    query, position = visitors.pairs(h)
    if basis == "last_baskets":
        keep = h.column("baskets_back")[position] < last_baskets
        query, position = query[keep], position[keep]
        return query, h.items[position], np.ones(len(position), np.float32)
    return query, h.items[position], np.log1p(tastes(snapshot, visitors))
