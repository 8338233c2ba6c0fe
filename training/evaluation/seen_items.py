"""What is no discovery: items a customer has bought, or a visit has touched, before it is asked for."""

import numpy as np

from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors

Pairs = tuple[np.ndarray, np.ndarray]
"""(query, item): two int64 arrays of one length."""


def purchases(snapshot: Snapshot, visitors: Visitors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(query, position in the history, orders) of what the visitors have bought."""
    if not len(snapshot.history.items):
        none = np.zeros(0, np.int64)
        return none, none, none
    query, position = snapshot.history.gather(visitors.customers)
    orders = snapshot.history.column("orders")[position]
    return query[orders > 0], position[orders > 0], orders[orders > 0]


def bought(snapshot: Snapshot, visitors: Visitors) -> Pairs:
    """What the visitors have bought."""
    query, position, _ = purchases(snapshot, visitors)
    return query, snapshot.history.items[position].astype(np.int64)


def met(snapshot: Snapshot, visitors: Visitors) -> Pairs:
    """What customers have bought; where all are people nobody knows, what their visits have touched so far."""
    if (visitors.customers >= 0).any():
        return bought(snapshot, visitors)
    seen = visitors.item >= 0
    return visitors.query[seen], visitors.item[seen]


def among(pairs: Pairs, query: np.ndarray, item: np.ndarray, items: int) -> np.ndarray:
    """bool[len(query)]: whether each (query, item) is one of the pairs; `items`: how many there are in all."""
    whose, what = pairs
    return np.isin(query.astype(np.int64) * items + item, whose.astype(np.int64) * items + what)
