"""Ranking metrics, computed for all queries at once.

The metrics of `PER_QUERY` take the lists as hits, bool[queries × depth], True where the item at that rank is relevant,
and `relevant` int64[queries], the number of relevant items of each query. They return float64[queries].
"""

from collections.abc import Callable

import numpy as np
from scipy import sparse

DEPTH = 20  # length of the lists: the deepest cut-off of a metric


def top_lists(query: np.ndarray, values: np.ndarray, queries: int, empty: int | bool) -> np.ndarray:
    """Cut ranked candidates into lists: [queries × DEPTH] of the dtype of `values`, padded with `empty`.

    `query` int64[n], ascending; `values` [n], best first within each query.
    """
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    in_list = rank < DEPTH
    out = np.full((queries, DEPTH), empty, values.dtype)
    out[query[in_list], rank[in_list]] = values[in_list]
    return out


def ndcg_at_10(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Järvelin and Kekäläinen 2002, binary gain; the ideal list is cut at min(10, relevant)."""
    gain: np.ndarray = 1 / np.log2(np.arange(2, 12))
    ideal = np.cumsum(gain)[np.clip(relevant, 1, 10) - 1]
    score: np.ndarray = (hits[:, :10] * gain).sum(axis=1) / ideal
    return score


def recall_at_20(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Share of the relevant items within the first 20."""
    recall: np.ndarray = hits[:, :20].sum(axis=1) / np.maximum(relevant, 1)
    return recall


def map_at_12(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Average precision of the first 12, over min(12, relevant)."""
    precision = np.cumsum(hits[:, :12], axis=1) / np.arange(1, 13)
    score: np.ndarray = (precision * hits[:, :12]).sum(axis=1) / np.clip(relevant, 1, 12)
    return score


def hit_rate_at_10(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """1 where a relevant item is within the first 10, else 0."""
    return np.asarray(hits[:, :10].any(axis=1), np.float64)


def mrr(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Reciprocal rank of the first relevant item within the first 20, 0 without one."""
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
    """Return coverage, gini and novelty of lists.

    `top` int64[queries × 10], -1 = no item; `popularity` float[items]: number of buyers.

    coverage: share of the items that are in any list; gini: inequality of how often items are recommended (0 = all
    equally often, 1 = one item takes all); novelty: mean of -log2 of an item's share of buyers (Zhou et al. 2010).
    """
    counts = np.bincount(top[top >= 0], minlength=len(popularity)).astype(np.float64)
    ordered = np.sort(counts)
    n = len(ordered)
    total = ordered.sum()
    gini = float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total)) if total else 0.0
    share = (popularity + 1) / (popularity.sum() + n)
    novelty = float((counts * -np.log2(share)).sum() / total) if total else 0.0
    return {"coverage": float((counts > 0).mean()), "gini": gini, "novelty": novelty}


def diversity(top: np.ndarray, similarity: sparse.csr_matrix) -> float:
    """Return 1 − the intra-list similarity (Ziegler et al. 2005), averaged over lists.

    `top` int64[lists × 10], -1 = no item; lists with fewer than two items have no pairs and do not count.
    `similarity` [items × items], 0 to 1; where it is not symmetric, the larger of both directions is taken.
    """
    first, second = np.triu_indices(top.shape[1], 1)
    a, b = top[:, first], top[:, second]
    valid = (a >= 0) & (b >= 0)
    pairs = valid.sum(axis=1)
    if not pairs.any():
        return 0.0
    pair_similarity = np.zeros(a.shape)
    pair_similarity[valid] = np.maximum(
        _entries(similarity, a[valid], b[valid]), _entries(similarity, b[valid], a[valid])
    )
    return float(1 - (pair_similarity.sum(axis=1)[pairs > 0] / pairs[pairs > 0]).mean())


def _entries(matrix: sparse.csr_matrix, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    # A million entries at a time, to bound memory: SciPy copies the index arrays.
    parts = [np.zeros(0)]
    for start in range(0, len(row), 1_000_000):
        part = slice(start, start + 1_000_000)
        parts.append(np.asarray(matrix[row[part], column[part]], np.float64).ravel())
    return np.concatenate(parts)


def list_bias(top: np.ndarray, query: np.ndarray, item: np.ndarray, value: np.ndarray) -> float:
    """Return the mean over queries of: mean `value` of the list − mean `value` of the relevant items.

    `top` int64[queries × 10], -1 = no item; `query`, `item` int64[n]: the relevant pairs; `value` float64[items], NaN
    where unknown. Unknown values are left out, as are queries without a value on either side; 0 where none is left.
    """
    padded = np.append(value, np.nan)
    row = np.repeat(np.arange(len(top)), top.shape[1])
    difference = _means(row, padded[top.ravel()], len(top)) - _means(query, value[item], len(top))
    valid = difference[~np.isnan(difference)]
    return float(valid.mean()) if len(valid) else 0.0


def _means(row: np.ndarray, value: np.ndarray, rows: int) -> np.ndarray:
    """Return float64[rows]: mean of the values of each row that are not NaN, NaN where there is none."""
    row, value = row[~np.isnan(value)], value[~np.isnan(value)]
    count = np.bincount(row, minlength=rows)
    total = np.bincount(row, value, minlength=rows)
    return np.divide(total, count, out=np.full(rows, np.nan), where=count > 0)


def percentile_ranks(values: np.ndarray) -> np.ndarray:
    """Return float64[n]: the mid-rank of each value, 0 to 1 (the share below it plus half of the share equal to it)."""
    ordered = np.sort(values)
    positions = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    ranks: np.ndarray = positions / (2 * max(1, len(values)))
    return ranks
