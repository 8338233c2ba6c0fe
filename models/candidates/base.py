"""What candidate generators share."""

import numpy as np

Arrays = dict[str, np.ndarray]  # what a generator has learnt; shipped as .npy files


def top(scores: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """The `budget` best items of each row with a score above 0: (row int64[m], item int64[m])."""
    n = scores.shape[1]
    if budget < n:
        # The smallest of the negated scores: most scores are 0, and partitioning at the far side of so many
        # equal values takes ten times as long.
        items = np.argpartition(-scores, budget - 1, axis=1)[:, :budget]
    else:
        items = np.broadcast_to(np.arange(n), scores.shape)
    rows = np.repeat(np.arange(len(scores)), items.shape[1])
    flat = items.ravel()
    good = scores[rows, flat] > 0
    return rows[good], flat[good]
