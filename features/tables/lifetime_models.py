"""BG/NBD for when customers buy and stop buying, Gamma-Gamma for what an order is worth, by maximum likelihood.

Fader, Hardie, Lee 2005, "Counting Your Customers the Easy Way"; Fader, Hardie 2013, "The Gamma-Gamma Model of Monetary
Value".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, gammaln, hyp2f1, log_expit, psi

from features.common.errors import InputError

FEWEST_REPEAT_BUYERS = 30  # with fewer the four parameters are noise
_BOUND = 8.0  # of the logarithm of a parameter, in units of the data's own scale
_CONVERGED = 1e-5  # largest slope of the mean log-likelihood in a parameter's logarithm
_NODES, _FAR = 32, 8.0
_LEGENDRE = np.polynomial.legendre.leggauss(32)


@dataclass(frozen=True)
class BgNbd:
    """Orders come at rate λ ~ Gamma(r, alpha); after each repeat order a customer stops with p ~ Beta(a, b).

    Throughout, float64[n] or scalars: `x` repeat orders, `t_x` first to last order, `T` first order to now,
    all in the unit of time of the fit; weeks here.
    """

    r: float
    alpha: float
    a: float
    b: float

    @classmethod
    def fit(cls, x: Any, t_x: Any, T: Any, weights: Any = None) -> "BgNbd | None":
        """Fit by maximum likelihood; a row of weight w counts as w rows, and the order of rows does not matter.

        Returns None with fewer than `FEWEST_REPEAT_BUYERS`, or without convergence. Where the likelihood rises without
        end (if nobody ever stops, say), a parameter ends at its bound.
        Raises `InputError` for impossible rows.
        """
        x, t_x, T = _arrays(x, t_x, T)
        possible = (x >= 0) & (t_x >= 0) & (t_x <= T) & np.isfinite(T) & ((x > 0) | (t_x == 0))
        if not possible.all():
            n = int(np.flatnonzero(~possible)[0])
            raise InputError(
                f"row {n} of the lifetime summary is impossible: {x[n]:g} repeat orders, {t_x[n]:g} from first to "
                f"last, age {T[n]:g}; expected 0 ≤ first to last ≤ age, and 0 without repeat orders"
            )
        (x, t_x, T), w = _collapse((x, t_x, T), weights)
        if w[x > 0].sum() < FEWEST_REPEAT_BUYERS or not T.max() > 0:
            return None
        scale = float(T.max())
        t_x, T = t_x / scale, T / scale
        kinds, kind = np.unique(x, return_inverse=True)  # gamma functions are slow and depend on x alone

        def slopes(theta: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
            model = cls(*map(float, np.exp(theta)))
            r, alpha, a, b = model.r, model.alpha, model.a, model.b
            odds = model._log_odds_gone(x, t_x, T)
            gone, log_now, log_last = expit(odds), np.log(alpha + T), np.log(alpha + t_x)
            return model._log_likelihood(x, T, odds, kinds, kind), (
                r * ((psi(r + kinds) - psi(r))[kind] + np.log(alpha) - log_now + gone * (log_now - log_last)),
                r - alpha * (r + x) * ((1 - gone) / (alpha + T) + gone / (alpha + t_x)),
                a * (psi(a + b) - psi(a + b + kinds))[kind] + gone,
                b
                * (
                    (psi(a + b) - psi(b) + psi(b + kinds) - psi(a + b + kinds))[kind]
                    - gone / np.where(x > 0, b + x - 1, 1.0)
                ),
            )

        best = _maximise(slopes, w, [(-1.0, -2.0, 0.0, 1.0), (0.0, 0.0, -2.0, 1.0), (0.0, -3.0, 1.0, 0.0)])
        return None if best is None else cls(best[0], best[1] * scale, best[2], best[3])

    def log_likelihood(self, x: Any, t_x: Any, T: Any) -> np.ndarray:
        """float64[n]: per customer, eq. 6 of the paper."""
        x, t_x, T = _arrays(x, t_x, T)
        return self._log_likelihood(x, T, self._log_odds_gone(x, t_x, T), *np.unique(x, return_inverse=True))

    def _log_likelihood(
        self, x: np.ndarray, T: np.ndarray, odds: np.ndarray, kinds: np.ndarray, kind: np.ndarray
    ) -> np.ndarray:
        r, a, b = self.r, self.a, self.b
        orders = gammaln(r + kinds) - gammaln(r) + r * np.log(self.alpha)
        going_on = gammaln(a + b) - gammaln(a + b + kinds) + gammaln(b + kinds) - gammaln(b)
        # ln(alive + gone) = ln(alive) + ln(1 + gone / alive)
        likelihood: np.ndarray = (orders + going_on)[kind] - (r + x) * np.log(self.alpha + T) - log_expit(-odds)
        return likelihood

    def alive(self, x: Any, t_x: Any, T: Any) -> np.ndarray:
        """float64[n]: the probability of not having stopped; 1 without repeat orders."""
        return np.asarray(expit(-self._log_odds_gone(*_arrays(x, t_x, T))))

    def no_purchase(self, horizon: float, x: Any, t_x: Any, T: Any) -> np.ndarray:
        """float64[n]: the probability of no order within `horizon`, having stopped or not.

        A customer who has not stopped has λ ~ Gamma(r + x, alpha + T), so none comes with (1 + z)^-(r + x).
        """
        x, t_x, T = _arrays(x, t_x, T)
        return 1 + self.alive(x, t_x, T) * np.expm1(-(self.r + x) * np.log1p(horizon / (self.alpha + T)))

    def expected_purchases(self, horizon: float, x: Any, t_x: Any, T: Any) -> np.ndarray:
        """float64[n]: orders expected within `horizon` from now on; eq. 10 of the paper."""
        x, t_x, T = _arrays(x, t_x, T)
        return self.alive(x, t_x, T) * self._expected_alive(horizon, x, T)

    def expected_new(self, horizon: float) -> float:
        """Repeat orders expected from a new customer within `horizon` of the first order; eq. 9 of the paper."""
        return float(self._expected_alive(horizon, np.zeros(1), np.zeros(1))[0])

    def _log_odds_gone(self, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> np.ndarray:
        """Of having stopped at the last order against going on; minus infinity without repeat orders."""
        repeat = x > 0
        odds = np.log(self.a) - np.log(np.where(repeat, self.b + x - 1, 1.0))
        return np.where(repeat, odds + (self.r + x) * (np.log(self.alpha + T) - np.log(self.alpha + t_x)), -np.inf)

    def _expected_alive(self, horizon: float, x: np.ndarray, T: np.ndarray) -> np.ndarray:
        """Orders within `horizon` of customers who have not stopped, for whom p ~ Beta(a, b + x).

        The mean over p of (1 - (1 + p z)^-(r + x)) / p, z = horizon / (alpha + T). The paper's closed form
        cancels at a = 1, has a pole at a + b + x = 1 and overflows for large x; Gauss-Jacobi quadrature, whose
        nodes and weights are positive, keeps 0 ≤ result ≤ (r + x) z and rises with the horizon.
        """
        first, row = _groups(x.ravel(), T.ravel())
        rate, z = self.r + x.ravel()[first], horizon / (self.alpha + T.ravel()[first])
        kinds, kind = np.unique(x.ravel()[first], return_inverse=True)
        nodes, masses = _beta_quadrature(self.a, self.b + kinds)
        expected = np.zeros(len(first))
        for p, mass in zip(nodes.T, masses.T, strict=True):  # elementwise: a row does not depend on the others
            expected -= mass[kind] * np.expm1(-rate * np.log1p(p[kind] * z)) / p[kind]
        # Far ahead of a short past, p near 0 matters more than the nodes resolve, unless p is never near 0.
        far = np.flatnonzero(z > _FAR) if self.a <= 4 else np.zeros(0, np.int64)
        if len(far):
            exact = self._far_ahead(rate[far], z[far])
            expected[far] = np.where(np.isfinite(exact), exact, expected[far])
        return np.clip(expected, 0, rate * z)[row].reshape(x.shape)

    def _far_ahead(self, rate: np.ndarray, z: np.ndarray) -> np.ndarray:
        """The same as an integral over v = ln(1 + z) of its derivative, after Euler's transformation."""
        a, b = self.a, self.b
        whole, sum_ = np.log1p(z), np.zeros(len(z))
        with np.errstate(all="ignore"):
            for node, mass in zip(*_LEGENDRE, strict=True):
                v = whole * (node + 1) / 2
                curve = hyp2f1(a, a + b - self.r - 1, a + b + rate - self.r, -np.expm1(-v))
                sum_ += mass / 2 * np.exp((1 - a) * v) * curve
            return np.asarray(rate * whole * sum_)


@dataclass(frozen=True)
class GammaGamma:
    """Order values are Gamma(p, ν) within a customer, ν ~ Gamma(q, v) among customers; v in currency."""

    p: float
    q: float
    v: float

    @classmethod
    def fit(cls, x: Any, mean: Any, weights: Any = None) -> "GammaGamma | None":
        """Fit by maximum likelihood to the rows with `x` > 0 repeat orders of a positive `mean` value.

        Returns None with fewer than `FEWEST_REPEAT_BUYERS` of them, or without convergence.
        """
        x, mean = _arrays(x, mean)
        usable = (x > 0) & (mean > 0) & np.isfinite(mean)
        (x, mean), w = _collapse((x[usable], mean[usable]), None if weights is None else np.asarray(weights)[usable])
        if w.sum() < FEWEST_REPEAT_BUYERS:
            return None
        scale = float(np.dot(w, mean) / w.sum())
        spent = x * mean / scale
        log_spent, log_mean = np.log(spent), np.log(mean / scale)
        kinds, kind = np.unique(x, return_inverse=True)

        def slopes(theta: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
            p, q, v = np.exp(theta)
            shape, log_sum = p * kinds + q, np.log(v + spent)
            gammas = gammaln(shape) - gammaln(p * kinds) - gammaln(q)
            return gammas[kind] + q * (np.log(v) - log_sum) + p * x * (log_spent - log_sum) - log_mean, (
                p * x * ((psi(shape) - psi(p * kinds))[kind] + log_spent - log_sum),
                q * ((psi(shape) - psi(q))[kind] + np.log(v) - log_sum),
                q - v * shape[kind] / (v + spent),
            )

        best = _maximise(slopes, w, [(1.0, 1.0, 0.0), (0.0, 0.5, 1.0), (3.0, 2.0, 0.0)])
        return None if best is None else cls(best[0], best[1], best[2] * scale)

    def expected_value(self, x: Any, mean: Any) -> np.ndarray:
        """float64[n]: the expected value of an order of a customer with `x` repeat orders of `mean` value.

        Without repeat orders it is the population's mean (`mean` is ignored). NaN where the values
        are so unequal that there is no mean: p x + q ≤ 1.
        """
        x, mean = _arrays(x, mean)
        left = self.p * x + self.q - 1
        value = self.p * (self.v + np.where(x > 0, x * mean, 0.0))
        return np.where(left > 0, value / np.where(left > 0, left, 1.0), np.nan)


def _arrays(*values: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.broadcast_arrays(*(np.asarray(v, np.float64) for v in values)))


def _groups(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group equal rows: the first row of each distinct one, in rising order, and the group of every row."""
    _, first, key = np.unique(columns[0], return_index=True, return_inverse=True)
    for column in columns[1:]:
        distinct, code = np.unique(column, return_inverse=True)
        _, first, key = np.unique(key * len(distinct) + code, return_index=True, return_inverse=True)
    return first, key


def _collapse(columns: tuple[np.ndarray, ...], weights: Any) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Distinct rows in rising order, and the sum of their weights; the same bits whatever the order of the rows."""
    first, row = _groups(*columns)
    if weights is None:
        return tuple(c[first] for c in columns), np.bincount(row, minlength=len(first)).astype(np.float64)
    w = np.asarray(weights, np.float64)
    if w.shape != row.shape or not (np.isfinite(w) & (w >= 0)).all():
        raise InputError(f"weights must be {len(row)} finite numbers of at least 0, one for each row")
    order = np.lexsort((w, row))
    return tuple(c[first] for c in columns), np.bincount(row[order], w[order], minlength=len(first))


def _maximise(
    slopes: Callable[[np.ndarray], tuple[np.ndarray, tuple[np.ndarray, ...]]],
    weights: np.ndarray,
    starts: list[tuple[float, ...]],
) -> list[float] | None:
    """Maximise the weighted mean log-likelihood from several starts: exp(theta); None without convergence."""
    share = weights / weights.sum()

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = slopes(theta)
        return -float(share @ value), -np.array([share @ g for g in gradient])

    def descend(start: Sequence[float], slope: float, steps: int) -> Any:
        options = {"ftol": 0, "gtol": slope, "maxiter": steps}
        return minimize(
            loss, start, jac=True, method="L-BFGS-B", bounds=[(-_BOUND, _BOUND)] * len(start), options=options
        )

    ends = (descend(start, 1e-3, 50) for start in starts)
    best = min((end for end in ends if np.isfinite(end.fun)), key=lambda end: float(end.fun), default=None)
    if best is None:
        return None
    best = descend(best.x, 1e-7, 500)
    # A slope that points out of the bounds is no reason to go on.
    inside = ((best.x > -_BOUND) | (best.jac < 0)) & ((best.x < _BOUND) | (best.jac > 0))
    if not np.abs(best.jac[inside]).max(initial=0) < _CONVERGED:
        return None
    return [float(v) for v in np.exp(best.x)]


def _beta_quadrature(a: float, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in (0, 1) and weights, [len(b) × nodes], for the mean over Beta(a, b): Golub & Welsch 1969.

    Eigenvalues of the Jacobi matrix of the polynomials orthogonal under Beta(a, b), written for [0, 1] so that
    nothing cancels where all the mass is near 0.
    """
    b, k = b[:, None], np.arange(1, _NODES, dtype=np.float64)
    s = a + b - 2
    matrix = np.zeros((len(b), _NODES, _NODES))
    i = np.arange(_NODES)
    matrix[:, i, i] = np.hstack([a / (a + b), (2 * k * (k + s + 1) + s * a) / ((2 * k + s) * (2 * k + s + 2))])
    j = k[1:]
    beside = j * (j + b - 1) * (j + a - 1) * (j + s) / ((2 * j + s) ** 2 * (2 * j + s + 1) * (2 * j + s - 1))
    matrix[:, i[1:], i[:-1]] = np.sqrt(np.hstack([a * b / ((a + b) ** 2 * (a + b + 1)), beside]))
    nodes, vectors = np.linalg.eigh(matrix)
    return np.clip(nodes, 1e-300, 1), vectors[:, 0, :] ** 2
