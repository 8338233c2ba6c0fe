"""Purchase propensity: fit classifiers on past boundaries, from what was known of customers to who ordered after it.

Folds are split by time. The last one is the test; the latest fold whose labels were known by then calibrates; folds
whose labels were known by that one's boundary grow the trees. The classifiers that are shipped move one step on: they
are calibrated on the last fold and learn from all before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

from features.common.clock import DAY
from features.common.threads import THREADS
from features.tables.columns import names
from models.customers.propensity import HORIZONS_DAYS, INPUTS, PropensityClassifier, PropensityModel

MIN_CUSTOMERS = 20  # who order, and as many who do not, in training and in calibration: fewer are noise


class PropensityConfig(BaseModel):
    """Settings of the classifiers' trees."""

    model_config = ConfigDict(extra="forbid")

    rounds: PositiveInt = 200
    """Most trees."""
    patience: PositiveInt = 15
    """Trees without a better log loss on the calibration fold after which no more are grown."""
    learning_rate: PositiveFloat = 0.1
    """Weight of each tree."""
    leaves: int = Field(15, ge=2)
    """Most leaves of a tree."""
    min_leaf: PositiveInt = 100
    """Fewest customers in a leaf."""
    feature_fraction: float = Field(0.6, gt=0, le=1)
    """Share of the columns drawn for each tree."""
    l2: NonNegativeFloat = 5.0
    """Weight of the squared leaf values."""
    seed: NonNegativeInt = 7
    """Seed of the columns drawn for each tree."""


@dataclass(frozen=True)
class CustomerFold:
    """Customers as they were known at the boundary `at`, and their next orders.

    `matrix` float32[customers × len(INPUTS)]. `next_order_days` float64[customers]: days from `at` to the customer's
    next order, infinite where none came before `until` (microseconds).
    """

    at: int
    matrix: np.ndarray
    next_order_days: np.ndarray
    until: int

    def labels(self, days: int) -> np.ndarray:
        """int64[customers]: 1 where an order came in [at, at + days)."""
        return (self.next_order_days < days).astype(np.int64)

    def known_by(self, days: int) -> int:
        """Instant, in microseconds, from which the labels are known."""
        return self.at + days * DAY


@dataclass(frozen=True)
class ClassifierEvaluation:
    """Metrics of probabilities, on customers that nothing was fitted on.

    `tenths`: predicted, came_true (means) and customers, per tenth of the customers by prediction.
    """

    at: int
    customers: int
    base_rate: float
    auc: float
    log_loss: float
    base_log_loss: float  # of one constant probability
    brier: float
    tenths: pl.DataFrame

    @property
    def calibration_error(self) -> float:
        """Mean distance of predicted and true share over the tenths, weighted by customers."""
        t = self.tenths
        distance = np.abs(t["predicted"].to_numpy() - t["came_true"].to_numpy())
        return float(np.average(distance, weights=t["customers"].to_numpy()))

    def metrics(self) -> dict[str, float]:
        fields = ("auc", "log_loss", "base_log_loss", "brier", "base_rate", "calibration_error")
        return {name: float(getattr(self, name)) for name in fields}


@dataclass(frozen=True)
class FittedPropensity:
    """The model that is shipped, and the evaluation of the one fitted a step before it, by horizon.

    A horizon with too few folds to test on has no evaluation.
    """

    model: PropensityModel
    evaluations: dict[int, ClassifierEvaluation]


def fit(folds: Sequence[CustomerFold], config: PropensityConfig | None = None) -> FittedPropensity:
    """Fit a classifier for each of `HORIZONS_DAYS`.

    A horizon is left out without a fold to learn from and a later one to calibrate on, each with `MIN_CUSTOMERS`
    customers who ordered within it and as many who did not.
    """
    config = config or PropensityConfig()
    folds = sorted(folds, key=lambda f: f.at)
    classifiers: dict[int, PropensityClassifier] = {}
    evaluations: dict[int, ClassifierEvaluation] = {}
    for days in HORIZONS_DAYS:
        labelled = [f for f in folds if f.known_by(days) <= f.until]
        if not labelled:
            continue
        last = labelled[-1]
        before = [f for f in labelled if f.known_by(days) <= last.at]
        tested = _fit(before[:-1], before[-1], days, config) if before else None
        labels = last.labels(days)
        if tested is not None and 0 < labels.sum() < len(labels):
            share = float(np.concatenate([f.labels(days) for f in before]).mean())
            evaluations[days] = evaluate(last.at, labels, tested.predict(last.matrix), share)
        shipped = _fit(before, last, days, config)
        if shipped is not None:
            classifiers[days] = shipped
    return FittedPropensity(PropensityModel(classifiers), evaluations)


def evaluate(at: int, came_true: np.ndarray, p: np.ndarray, share: float) -> ClassifierEvaluation:
    """Evaluate probabilities `p` float[n] against `came_true` int[n] (0 or 1, both at least once).

    `share` is the constant probability that `base_log_loss` is of.
    """
    positives, negatives = int(came_true.sum()), int((1 - came_true).sum())
    ranks = rankdata(p)[came_true == 1].sum() - positives * (positives + 1) / 2
    return ClassifierEvaluation(
        at=at,
        customers=len(p),
        base_rate=float(came_true.mean()),
        auc=float(ranks / (positives * negatives)),
        log_loss=_log_loss(came_true, p),
        base_log_loss=_log_loss(came_true, np.full(len(p), share)),
        brier=float(np.mean((p - came_true) ** 2)),
        tenths=tenths(p, came_true),
    )


def tenths(predicted: np.ndarray, came_true: np.ndarray) -> pl.DataFrame:
    """Group customers into tenths by prediction: predicted, came_true (means) and customers of each."""
    tenth = (10 * (rankdata(predicted, method="ordinal") - 1) // max(1, len(predicted))).astype(np.int64)
    customers = np.bincount(tenth)
    means = {
        # Added up in the order of the customers: a group_by adds in the order of its threads, and the last bit varies.
        name: np.bincount(tenth, values.astype(np.float64)) / customers
        for name, values in (("predicted", predicted), ("came_true", came_true))
    }
    return pl.DataFrame({**means, "customers": customers.astype(np.uint32)})


def _fit(
    training: Sequence[CustomerFold], calibration: CustomerFold, days: int, config: PropensityConfig
) -> PropensityClassifier | None:
    """Grow trees on the folds whose labels were known at `calibration.at` and calibrate them there; None if too few."""
    training = [f for f in training if f.known_by(days) <= calibration.at]
    labels = np.concatenate([np.zeros(0, np.int64), *(f.labels(days) for f in training)])
    later = calibration.labels(days)
    if min(labels.sum(), (1 - labels).sum(), later.sum(), (1 - later).sum()) < MIN_CUSTOMERS:
        return None
    import lightgbm

    parameters = {
        "objective": "binary",
        "metric": "binary_logloss",
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": min(config.min_leaf, max(5, len(labels) // 50)),
        "feature_fraction": config.feature_fraction,
        "lambda_l2": config.l2,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": THREADS,
        "verbosity": -1,
    }
    rows = np.concatenate([f.matrix for f in training])
    data = lightgbm.Dataset(rows, labels, feature_name=names(INPUTS))
    check = data.create_valid(calibration.matrix, later)
    stop = lightgbm.early_stopping(config.patience, verbose=False)
    booster = lightgbm.train(parameters, data, config.rounds, valid_sets=[check], callbacks=[stop])
    # Only the trees that are used: others would be shipped in the text without effect.
    booster = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))
    odds = np.asarray(booster.predict(calibration.matrix, raw_score=True, num_threads=THREADS))
    return PropensityClassifier(booster, *_line(odds, later))


def _line(odds: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Fit Platt's slope (at least 0) and intercept, with his targets a little inside 0 and 1 (Platt 1999)."""
    positives, negatives = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        z = line[0] * odds + line[1]
        error = expit(z) - target
        return float(np.mean(np.logaddexp(0, z) - target * z)), np.array([np.mean(error * odds), np.mean(error)])

    optimum: Any = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return float(optimum.x[0]), float(optimum.x[1])


def _log_loss(labels: np.ndarray, p: np.ndarray) -> float:
    p = np.clip(p, 1e-15, 1 - 1e-15)
    return float(-np.mean(labels * np.log(p) + (1 - labels) * np.log1p(-p)))
