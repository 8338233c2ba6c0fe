"""Populations of simulated customers, for tests of lifetime models."""

import numpy as np

from features.tables.lifetime_models import BgNbd, GammaGamma

# Parameters that the papers publish for CDNOW.
PUBLISHED = BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426)
PUBLISHED_VALUES = GammaGamma(p=6.25, q=3.74, v=15.44)


def simulate(model: BgNbd, ages: np.ndarray, ahead: float = 0.0, seed: int = 3) -> tuple[np.ndarray, ...]:
    """Customers one by one in time: x, t_x, T in weeks, and how many orders come in the `ahead` weeks after."""
    rng = np.random.default_rng(seed)
    n = len(ages)
    rate, stops = rng.gamma(model.r, 1 / model.alpha, n), rng.beta(model.a, model.b, n)
    x, t_x, later, now = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    going = np.arange(n)
    while len(going):
        now[going] += rng.exponential(1 / np.maximum(rate[going], 1e-9))
        going = going[now[going] <= ages[going] + ahead]
        past = going[now[going] <= ages[going]]
        x[past] += 1
        t_x[past] = now[past]
        later[going] += now[going] > ages[going]
        going = going[rng.random(len(going)) >= stops[going]]
    return x, t_x, ages, later


def simulate_values(model: GammaGamma, n: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Repeat orders and their mean value of `n` customers, drawn from `model`."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 9, n)
    return x, rng.gamma(model.p * x) / x / rng.gamma(model.q, 1 / model.v, n)
