"""Seen items: what a customer has bought, or a visit has touched, before the query.

Metrics that begin with `new_` or `unseen_` leave these items out: recommending them is no discovery.
"""

import numpy as np

from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors

Pairs = tuple[np.ndarray, np.ndarray]
"""(query, item): two int64 arrays of one length."""


def gather_purchases(snapshot: Snapshot, visitors: Visitors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (query, position in the history, number of orders) of every purchase of the visitors.

    int64[n], int64[n] and float32[n]; empty where the snapshot has no history.
    """
    if not len(snapshot.history.items):
        none = np.zeros(0, np.int64)
        return none, none, none
    query, position = snapshot.history.gather(visitors.customers)
    orders = snapshot.history.column("orders")[position]
    return query[orders > 0], position[orders > 0], orders[orders > 0]


def find_purchases(snapshot: Snapshot, visitors: Visitors) -> Pairs:
    """Return the items that the visitors have bought."""
    query, position, _ = gather_purchases(snapshot, visitors)
    return query, snapshot.history.items[position].astype(np.int64)


def find_seen_items(snapshot: Snapshot, visitors: Visitors) -> Pairs:
    """Return the items that customers have bought; if all visitors are anonymous, those their visits have touched."""
    if (visitors.customers >= 0).any():
        return find_purchases(snapshot, visitors)
    has_item = visitors.item >= 0
    return visitors.query[has_item], visitors.item[has_item]


def mask_pairs(pairs: Pairs, query: np.ndarray, item: np.ndarray, items: int) -> np.ndarray:
    """Return bool[len(query)]: whether each (query, item) is among `pairs`. `items`: number of items in the catalog."""
    pair_query, pair_item = pairs
    return np.isin(query.astype(np.int64) * items + item, pair_query.astype(np.int64) * items + pair_item)
