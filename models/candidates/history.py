"""Buy it again: what the customer has bought, carted or viewed, recent and frequent first."""

import numpy as np

from features.history import Histories
from features.snapshot import Snapshot
from features.visitors import Visitors
from models.candidates.scores import Sparse


def taste(history: Histories, pairs: np.ndarray | slice = slice(None)) -> np.ndarray:
    """float32: purchases, carts and views of some pairs (default: all) as decayed purchases."""
    weight: np.ndarray = (
        history.column("bought_decayed")[pairs]
        + np.float32(0.4) * history.column("carts_decayed")[pairs]
        + np.float32(0.1) * history.column("views_decayed")[pairs]
    )
    return weight


def scores(snapshot: Snapshot, visitors: Visitors) -> Sparse:
    """Decayed by orders since and by time since: the first is right for frequent buyers, the second for others."""
    h = snapshot.history
    query, position = h.gather(visitors.customers)
    starts = np.searchsorted(query, np.arange(len(visitors) + 1))
    value = h.column("bought_by_basket")[position] + taste(h, position)
    return Sparse(starts, h.items[position].astype(np.int64), value, len(snapshot.items))
