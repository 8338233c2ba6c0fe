"""Two methods on the same queries: the mean difference, and how far chance may have moved it."""

import numpy as np

from training.evaluation.metrics import interval


def difference(a: np.ndarray, b: np.ndarray, seed: int = 7, samples: int = 1000) -> tuple[float, float, float]:
    """Mean of a − b and its 95% interval (low, high), by the paired bootstrap (Efron 1979; Sakai 2006).

    `a`, `b` float64[queries]: both methods' value of each query. A query for which either has none (NaN) is left
    out; without any left all three are 0. Whole queries are drawn, so what is hard for both cancels out.
    """
    each = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    each = each[~np.isnan(each)]
    if not len(each):
        return 0.0, 0.0, 0.0
    return float(each.mean()), *interval(each, seed, samples)
