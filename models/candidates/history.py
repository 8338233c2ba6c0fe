"""Buy it again: what the customer has bought, carted or viewed, recent and frequent first."""

import numpy as np

from features.history import Histories
from features.snapshot import Snapshot
from features.visitors import Visitors


def taste(history: Histories, pairs: np.ndarray | slice = slice(None)) -> np.ndarray:
    """float32: purchases, carts and views of some pairs (default: all) as decayed purchases."""
    weight: np.ndarray = (
        history.column("bought_decayed")[pairs]
        + np.float32(0.4) * history.column("carts_decayed")[pairs]
        + np.float32(0.1) * history.column("views_decayed")[pairs]
    )
    return weight


def scores(snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
    """Decayed by orders since and by time since: the first is right for frequent buyers, the second for others."""
    out = np.zeros((len(visitors), len(snapshot.items)), np.float32)
    query, position = snapshot.history.gather(visitors.customers)
    h = snapshot.history
    out[query, h.items[position]] = h.column("bought_by_basket")[position] + taste(h, position)
    return out
