"""Bootstrap confidence intervals of a mean, and of the mean difference of two methods on the same queries."""

import numpy as np


def mean_interval(values: np.ndarray, seed: int = 7, samples: int = 1000) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the mean of `values` float64[n] (percentile method; Efron 1979).

    (0, 0) without values.
    """
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


def paired_difference(a: np.ndarray, b: np.ndarray, seed: int = 7, samples: int = 1000) -> tuple[float, float, float]:
    """Return the mean of a − b and its 95% interval (low, high), by the paired bootstrap (Efron 1979; Sakai 2006).

    `a`, `b` float64[queries]: the value of each method for each query. Queries for which either is NaN are left out;
    without any left all three numbers are 0. Whole queries are resampled, so that how hard a query is for both methods
    cancels out.
    """
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return 0.0, 0.0, 0.0
    return float(differences.mean()), *mean_interval(differences, seed, samples)
