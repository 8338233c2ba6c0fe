"""Robust bounds of amounts: how large an amount may be before it says nothing of the others, on the log scale.

Median and median absolute deviation of the logarithms (Hampel 1974, "The Influence Curve and Its Role in Robust
Estimation"; the factor that makes the deviation of a normal sample its standard deviation is that of Rousseeuw & Croux
1993, "Alternatives to the Median Absolute Deviation"). Both break down only where half of the amounts are false, so a
few absurd ones do not move the bounds that they are held to. What lies outside is set to the bound (winsorised), not
left out, so no amount near a bound decides by a cent.

Of log-normal amounts five deviations leave one in 1.7 million outside. The least spread keeps a hundredfold order of a
shop whose other orders are all alike inside.
"""

from dataclasses import dataclass

import numpy as np

DEVIATIONS = 5.0
LEAST_SPREAD = 1.0  # of the logarithm: bounds are never closer to the median than a factor of e^5, 148
FEWEST = 30  # amounts; of fewer the spread is not known
_CONSISTENT = 1.4826  # 1 / the 75% quantile of the normal distribution


@dataclass(frozen=True)
class Bounds:
    """Least and most that an amount counts as."""

    low: float
    high: float


def fit_bounds(amounts: np.ndarray, deviations: float = DEVIATIONS, fewest: int = FEWEST) -> Bounds | None:
    """Fit the bounds to the positive finite ones of `amounts`, float[n]; None with fewer than `fewest` of them."""
    amounts = np.asarray(amounts, np.float64)
    positive = amounts[(amounts > 0) & np.isfinite(amounts)]
    if len(positive) < max(1, fewest):
        return None
    logs = np.log(positive)
    middle = float(np.median(logs))
    spread = max(_CONSISTENT * float(np.median(np.abs(logs - middle))), LEAST_SPREAD)
    low, high = np.exp(np.clip([middle - deviations * spread, middle + deviations * spread], -700, 700))
    return Bounds(float(low), float(high))
