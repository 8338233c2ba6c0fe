"""What sells now: distinct buyers of the last weeks, views where there are few buyers."""

import numpy as np

from features.snapshot import Snapshot
from features.visitors import Visitors


def popularity(snapshot: Snapshot) -> np.ndarray:
    """float32[items], above 0: buyers of four weeks; among equals those of ninety days, then views, then ever."""
    item = snapshot.item
    score = item("buyers_28d") + 1e-2 * item("buyers_90d") + 1e-3 * item("views_28d") + 1e-4 * item("buyers") + 1e-6
    return score.astype(np.float32)


def scores(snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
    """The same for everyone."""
    return np.broadcast_to(popularity(snapshot), (len(visitors), len(snapshot.items)))
