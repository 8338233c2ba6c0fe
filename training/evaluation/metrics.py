"""Ranking metrics, for all queries at once.

A list of recommendations is given as hits: bool[queries × depth], True where the item at that rank is
relevant. `relevant` int64[queries] is how many relevant items there are. Each function returns
float64[queries].
"""

from collections.abc import Callable

import numpy as np
from scipy import sparse

DEPTH = 20  # the deepest cut-off used below


def lists(query: np.ndarray, values: np.ndarray, queries: int, empty: int | bool) -> np.ndarray:
    """[queries × DEPTH] of the type of `values`: the first of each query in its row, `empty` beyond its last.

    `query` rises; `values` has one for each of it, best first.
    """
    place = np.arange(len(query)) - np.searchsorted(query, query)
    shown = place < DEPTH
    out = np.full((queries, DEPTH), empty, values.dtype)
    out[query[shown], place[shown]] = values[shown]
    return out


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


def diversity(top: np.ndarray, alike: sparse.csr_matrix) -> float:
    """Mean over lists of 1 − the mean of `alike` over a list's pairs (intra-list similarity, Ziegler et al. 2005).

    `top` int64[lists × 10], -1 = no item; lists of one item have no pairs and do not count. `alike` [items × items],
    0 to 1: the larger of both directions is taken.
    """
    first, second = np.triu_indices(top.shape[1], 1)
    a, b = top[:, first], top[:, second]
    there = (a >= 0) & (b >= 0)
    pairs = there.sum(axis=1)
    if not pairs.any():
        return 0.0
    same = np.zeros(a.shape)
    same[there] = np.maximum(_entries(alike, a[there], b[there]), _entries(alike, b[there], a[there]))
    return float(1 - (same.sum(axis=1)[pairs > 0] / pairs[pairs > 0]).mean())


def _entries(matrix: sparse.csr_matrix, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    # Looked up a million at a time: SciPy copies what it is asked for.
    parts = [np.zeros(0)]
    for start in range(0, len(row), 1_000_000):
        part = slice(start, start + 1_000_000)
        parts.append(np.asarray(matrix[row[part], column[part]], np.float64).ravel())
    return np.concatenate(parts)


def leaning(top: np.ndarray, query: np.ndarray, item: np.ndarray, value: np.ndarray) -> float:
    """Mean over queries of: mean `value` of the list, less mean `value` of what was wanted.

    `top` int64[queries × 10], -1 = no item; `query`, `item`: the wanted pairs; `value` float64[items], NaN where an
    item has none, which is left out. A query with no value on one side does not count; 0 where none is left.
    """
    padded = np.append(value, np.nan)
    row = np.repeat(np.arange(len(top)), top.shape[1])
    each = _means(row, padded[top.ravel()], len(top)) - _means(query, value[item], len(top))
    known = each[~np.isnan(each)]
    return float(known.mean()) if len(known) else 0.0


def _means(row: np.ndarray, value: np.ndarray, rows: int) -> np.ndarray:
    """float64[rows]: mean of the values of each row that are known, NaN where there is none."""
    row, value = row[~np.isnan(value)], value[~np.isnan(value)]
    count = np.bincount(row, minlength=rows)
    total = np.bincount(row, value, minlength=rows)
    return np.divide(total, count, out=np.full(rows, np.nan), where=count > 0)


def percentile(values: np.ndarray) -> np.ndarray:
    """float64[n]: the mid-rank of each value among all, 0 to 1: the share below it and half of that equal to it."""
    ordered = np.sort(values)
    both = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    found: np.ndarray = both / (2 * max(1, len(values)))
    return found


def interval(values: np.ndarray, seed: int = 7, samples: int = 1000) -> tuple[float, float]:
    """95% bootstrap interval of the mean (percentiles; Efron 1979); 0 to 0 where there is nothing to average."""
    if not len(values):
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    at_once = max(1, 1_000_000 // len(values))
    means = [
        values[rng.integers(0, len(values), (min(at_once, samples - done), len(values)))].mean(axis=1)
        for done in range(0, samples, at_once)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
