"""A visitor's profile: the items that say what they want, and how much each of them counts."""

from typing import Literal

import numpy as np

from features.common.arrays import Float32Array, FloatArray, Int64Array, IntArray
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from features.tables.history import Histories

Basis = Literal["history", "last_baskets", "visit"]
"""Where a profile's items come from."""

ProfileItems = tuple[Int64Array, IntArray, FloatArray]
"""query (rising), item, weight: one entry per visitor and item, or per event of a visit.

Items of a history are int32, weights of a visit that `visit_decay` was applied to float64."""


def pair_weights(history: Histories, pairs: Int64Array | slice = slice(None)) -> Float32Array:
    """Weigh purchases, carts and views of some pairs (default: all) as decayed purchases."""
    weight: Float32Array = (
        history.column("bought_decayed")[pairs]
        + np.float32(0.4) * history.column("carts_decayed")[pairs]
        + np.float32(0.1) * history.column("views_decayed")[pairs]
    )
    return weight


def visitor_pair_weights(snapshot: Snapshot, visitors: Visitors) -> Float32Array:
    """Return `pair_weights` of the visitors' histories, in the order of `visitors.pairs`."""
    h = snapshot.history
    return visitors.once("pair_weights", h, lambda: pair_weights(h, visitors.pairs(h)[1]))


# Decayed purchases that an event of the visit is worth, by its weight (`features.ranking.visitors.VISIT_EVENTS`): a
# view and a cart as in `pair_weights`, a purchase made just now is one.
_EVENT_WEIGHTS, _WORTH = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0), (0.0, 0.05, 0.1, 0.25, 0.4, 1.0)


def visit_weights(visitors: Visitors) -> ProfileItems:
    """Weigh the events of the visits as decayed purchases; those that show no interest in an item are left out."""
    rows = np.flatnonzero((visitors.item >= 0) & (visitors.weight > 0))
    worth = np.interp(visitors.weight[rows], _EVENT_WEIGHTS, _WORTH).astype(np.float32)
    return visitors.query[rows], visitors.item[rows], worth


def profile_items(
    snapshot: Snapshot, visitors: Visitors, basis: Basis, last_baskets: float = 2, visit_decay: float = 0.8
) -> ProfileItems:
    """Collect the items of the visitors' profiles.

    `history`: all items of the customer's history, by the logarithm of decayed purchases. `last_baskets`: the items
    of the last orders, with equal weights. `visit`: the items of the visit, by kind of event, times `visit_decay` for
    each later event. Computed once per batch for all generators that share the arguments.
    """
    arguments = basis, last_baskets, visit_decay
    return visitors.once(
        arguments, snapshot, lambda: _profile_items(snapshot, visitors, basis, last_baskets, visit_decay)
    )


def _profile_items(
    snapshot: Snapshot, visitors: Visitors, basis: Basis, last_baskets: float, visit_decay: float
) -> ProfileItems:
    if basis == "visit":
        if not len(visitors.item):
            return visitors.query, visitors.item, visitors.weight
        rows = np.flatnonzero((visitors.item >= 0) & (visitors.weight > 0))
        weight = visitors.weight[rows] * np.float32(visit_decay) ** visitors.back[rows]
        return visitors.query[rows], visitors.item[rows], weight
    h = snapshot.history
    query, position = visitors.pairs(h)
    if basis == "last_baskets":
        keep = h.column("baskets_back")[position] < last_baskets
        query, position = query[keep], position[keep]
        return query, h.items[position], np.ones(len(position), np.float32)
    return query, h.items[position], np.log1p(visitor_pair_weights(snapshot, visitors))
