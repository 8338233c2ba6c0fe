"""Ranking metrics, for all queries at once.

A list of recommendations is given as hits: bool[queries × depth], True where the item at that rank is
relevant. `relevant` int64[queries] is how many relevant items there are. Each function returns
float64[queries].
"""

from collections.abc import Callable

import numpy as np

DEPTH = 20  # the deepest cut-off used below


def ndcg_at_10(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Järvelin and Kekäläinen 2002, binary gain; the ideal list is cut at min(10, relevant)."""
    gain: np.ndarray = 1 / np.log2(np.arange(2, 12))
    ideal = np.cumsum(gain)[np.clip(relevant, 1, 10) - 1]
    score: np.ndarray = (hits[:, :10] * gain).sum(axis=1) / ideal
    return score


def recall_at_20(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    recall: np.ndarray = hits[:, :20].sum(axis=1) / np.maximum(relevant, 1)
    return recall


def map_at_12(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    precision = np.cumsum(hits[:, :12], axis=1) / np.arange(1, 13)
    score: np.ndarray = (precision * hits[:, :12]).sum(axis=1) / np.clip(relevant, 1, 12)
    return score


def hit_rate_at_10(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    return np.asarray(hits[:, :10].any(axis=1), np.float64)


def mrr(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """One over the rank of the first hit within 20, 0 without one."""
    first = hits[:, :DEPTH].argmax(axis=1)
    rank: np.ndarray = np.where(hits[:, :DEPTH].any(axis=1), 1 / (first + 1), 0.0)
    return rank


PER_QUERY: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ndcg_at_10": ndcg_at_10,
    "recall_at_20": recall_at_20,
    "map_at_12": map_at_12,
    "hit_rate_at_10": hit_rate_at_10,
    "mrr": mrr,
}


def beyond_accuracy(top: np.ndarray, popularity: np.ndarray) -> dict[str, float]:
    """Of the top 10 lists (`top` int64[queries × 10], -1 = no item) over items of `popularity` (buyers):

    coverage: share of the items that are recommended to anyone; gini: inequality of how often (0 = all
    alike, 1 = one item takes all); novelty: mean of -log2 of an item's share of buyers (Zhou et al. 2010).
    """
    shown = np.bincount(top[top >= 0], minlength=len(popularity)).astype(np.float64)
    ordered = np.sort(shown)
    n = len(ordered)
    total = ordered.sum()
    gini = float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total)) if total else 0.0
    share = (popularity + 1) / (popularity.sum() + n)
    novelty = float((shown * -np.log2(share)).sum() / total) if total else 0.0
    return {"coverage": float((shown > 0).mean()), "gini": gini, "novelty": novelty}


def interval(values: np.ndarray, seed: int = 7, samples: int = 1000) -> tuple[float, float]:
    """95% bootstrap interval of the mean (percentiles; Efron 1979); 0 to 0 where there is nothing to average."""
    if not len(values):
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(samples)])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
