"""Fits purchase propensity on past boundaries: the table as of one, and who ordered after it.

Time decides what learns from what. With folds in time order, the last one is the test; the latest fold whose
labels were known by then calibrates; folds whose labels were known by that one's boundary grow the trees.
What is shipped moves everything on by a step: it is calibrated on the last fold and learns from all before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

from features import tables
from features.clock import DAY, iso, micros
from features.errors import InputError
from features.log import EventLog
from features.threads import THREADS
from models.propensity import HORIZONS_DAYS, Classifier, Propensity, matrix

_PROFILES = {"client_id": pl.String, "customer_id": pl.String}
BOUNDARIES = 4
FEWEST = 20  # customers who order, and who do not, in training and in calibration: with fewer it is noise


class PropensityConfig(BaseModel):
    """How the trees are grown."""

    model_config = ConfigDict(extra="forbid")

    rounds: PositiveInt = 300
    """Most trees."""
    patience: PositiveInt = 25
    """Trees without a better log loss on the calibration fold after which no more are grown."""
    learning_rate: PositiveFloat = 0.05
    """How much of each tree's advice is taken."""
    leaves: int = Field(15, ge=2)
    """Leaves a tree."""
    min_leaf: PositiveInt = 100
    """Fewest customers a leaf may stand on."""
    feature_fraction: float = Field(0.6, gt=0, le=1)
    """Share of the columns each tree may look at."""
    l2: NonNegativeFloat = 5.0
    """Weight of the squared leaf values."""
    seed: NonNegativeInt = 7
    """Which columns each tree gets."""


@dataclass(frozen=True)
class Fold:
    """The customer table as of `at`, and what came after.

    `next_order_days` float64[customers]: days from `at` to the customer's next order, infinite where none came
    before `until` (microseconds).
    """

    at: int
    customers: pl.DataFrame
    next_order_days: np.ndarray
    until: int

    def labels(self, days: int) -> np.ndarray:
        """int64[customers]: 1 where an order came in [at, at + days)."""
        return (self.next_order_days < days).astype(np.int64)

    def known_by(self, days: int) -> int:
        """When its labels were known."""
        return self.at + days * DAY


@dataclass(frozen=True)
class Evaluation:
    """One horizon on the last fold, which neither trees nor calibration have seen.

    `calibration`: predicted, ordered (means) and customers, per tenth of the customers by prediction.
    """

    at: int
    customers: int
    base_rate: float
    auc: float
    log_loss: float
    base_log_loss: float  # of telling everyone the share of the folds it was trained on
    brier: float
    calibration: pl.DataFrame

    def metrics(self) -> dict[str, float]:
        return {k: float(getattr(self, k)) for k in ("base_rate", "auc", "log_loss", "base_log_loss", "brier")}


@dataclass(frozen=True)
class Fitted:
    """What is shipped, and how the step before it did; a horizon with too few folds to test has no evaluation."""

    model: Propensity
    evaluations: dict[int, Evaluation]

    def lines(self) -> list[str]:
        """How well each horizon was told on the test fold, in words."""
        return [
            f"propensity to order within {days} days: AUC {e.auc:.3f} as of {iso(e.at)[:10]}"
            for days, e in self.evaluations.items()
        ]


def fold(
    events: pl.LazyFrame, customers: pl.DataFrame, at: int, until: int, profiles: pl.DataFrame | None = None
) -> Fold:
    """Label the table `customers`, built as of `at`, from the events in [at, until).

    `profiles` (client_id, customer_id as of `at`): whose an order without a customer_id is. Without it nobody's.
    """
    clients = pl.DataFrame(schema=_PROFILES) if profiles is None else profiles.select(_PROFILES.keys())
    t = pl.col("timestamp").dt.timestamp("us")
    bought = (
        events.filter(
            pl.col("name").cast(pl.String) == "purchase",
            pl.col("consent").fill_null(True),
            t >= at,
            t < until,
        )
        .join(clients.lazy().rename({"customer_id": "owner"}), on="client_id", how="left")
        .with_columns(pl.coalesce("customer_id", "owner"))
        .group_by("customer_id")
        .agg(next_order_days=(t.min() - at) / DAY)
        .collect()
    )
    joined = customers.select("customer_id").join(bought, on="customer_id", how="left", maintain_order="left")
    return Fold(at, customers, joined["next_order_days"].fill_null(float("inf")).to_numpy(), until)


def learn(event_log: EventLog, now: tables.Tables) -> Fitted:
    """Fit on the tables as of each of the `BOUNDARIES` before `now`, four weeks apart, as far as the log goes back."""
    folds = []
    for at in (now.as_of - n * 28 * DAY for n in range(1, BOUNDARIES + 1)):
        if at > micros(event_log.first):
            past = tables.at(event_log, at)
            folds.append(fold(event_log.scan(), past.customers, at, now.as_of, past.profiles))
    return fit(folds)


def fit(folds: Sequence[Fold], config: PropensityConfig | None = None) -> Fitted:
    """Classifiers for `HORIZONS_DAYS` on the float columns of the folds' tables.

    A horizon without a fold to learn from and a later one to calibrate on is left out. Raises `InputError`
    where that leaves none, or the folds' columns differ.
    """
    config = config or PropensityConfig()
    folds = sorted(folds, key=lambda f: f.at)
    columns = _columns(folds)
    classifiers: dict[int, Classifier] = {}
    evaluations: dict[int, Evaluation] = {}
    for days in HORIZONS_DAYS:
        known = [f for f in folds if f.known_by(days) <= f.until]
        if not known:
            continue
        last = known[-1]
        before = [f for f in known if f.known_by(days) <= last.at]
        trial = _fit(before[:-1], before[-1], days, columns, config) if before else None
        if trial is not None:
            evaluations[days] = evaluate(trial, last, days, columns, _share(before, days))
        shipped = _fit(before, last, days, columns, config)
        if shipped is not None:
            classifiers[days] = shipped
    if not classifiers:
        raise InputError(
            f"purchase propensity cannot be trained on {len(folds)} boundaries: it takes one to learn from and one "
            f"at least {min(HORIZONS_DAYS)} days later to calibrate on, each with at least {FEWEST} customers who "
            f"order in the {min(HORIZONS_DAYS)} days after it and {FEWEST} who do not; bring more history"
        )
    return Fitted(Propensity(columns, classifiers), evaluations)


def evaluate(classifier: Classifier, test: Fold, days: int, columns: tuple[str, ...], share: float) -> Evaluation:
    """AUC, log loss, Brier score and calibration of `classifier` on `test`; `share` is what a constant would say."""
    ordered, p = test.labels(days), classifier.predict(matrix(test.customers, columns))
    positives, negatives = int(ordered.sum()), int((1 - ordered).sum())
    ranks = rankdata(p)[ordered == 1].sum() - positives * (positives + 1) / 2
    tenth = (10 * (rankdata(p, method="ordinal") - 1) // max(1, len(p))).astype(np.int64)
    table = pl.DataFrame({"tenth": tenth, "predicted": p, "ordered": ordered.astype(np.float64)})
    return Evaluation(
        at=test.at,
        customers=len(p),
        base_rate=float(ordered.mean()),
        auc=float(ranks / (positives * negatives)) if positives and negatives else float("nan"),
        log_loss=_log_loss(ordered, p),
        base_log_loss=_log_loss(ordered, np.full(len(p), share)),
        brier=float(np.mean((p - ordered) ** 2)),
        calibration=table.group_by("tenth").agg(pl.all().mean(), customers=pl.len()).sort("tenth").drop("tenth"),
    )


def plot(evaluation: Evaluation, days: int) -> Figure:
    """Share of customers who ordered against the predicted probability, per tenth of the customers."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    table = evaluation.calibration
    top = 1.05 * max(1e-3, float(np.max(table.select("predicted", "ordered").to_numpy())))
    axes.plot([0, top], [0, top], color="#999999", linewidth=1)
    axes.plot(table["predicted"].to_numpy(), table["ordered"].to_numpy(), "o-", color="#4477aa")
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("share who ordered")
    axes.set_title(f"order within {days} days of {iso(evaluation.at)[:10]}: calibration")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _fit(
    learned: Sequence[Fold], calibrating: Fold, days: int, columns: tuple[str, ...], config: PropensityConfig
) -> Classifier | None:
    """Trees from the folds whose labels were known at `calibrating.at`, the line from that; None if it is too few."""
    learned = [f for f in learned if f.known_by(days) <= calibrating.at]
    labels = np.concatenate([np.zeros(0, np.int64), *(f.labels(days) for f in learned)])
    later = calibrating.labels(days)
    if min(labels.sum(), (1 - labels).sum(), later.sum(), (1 - later).sum()) < FEWEST:
        return None
    import lightgbm

    rows = np.concatenate([matrix(f.customers, columns) for f in learned])
    unseen = matrix(calibrating.customers, columns)
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
    data = lightgbm.Dataset(rows, labels, feature_name=list(columns))
    check = data.create_valid(unseen, later)
    stop = lightgbm.early_stopping(config.patience, verbose=False)
    booster = lightgbm.train(parameters, data, config.rounds, valid_sets=[check], callbacks=[stop])
    # Only the trees that are used: the text that is shipped says nothing of the others.
    booster = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))
    slope, intercept = _line(np.asarray(booster.predict(unseen, raw_score=True, num_threads=THREADS)), later)
    return Classifier(booster, slope, intercept)


def _line(odds: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Platt's slope (at least 0) and intercept, with his targets a little inside 0 and 1."""
    positives, negatives = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        z = line[0] * odds + line[1]
        error = expit(z) - target
        return float(np.mean(np.logaddexp(0, z) - target * z)), np.array([np.mean(error * odds), np.mean(error)])

    found: Any = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return float(found.x[0]), float(found.x[1])


def _log_loss(labels: np.ndarray, p: np.ndarray) -> float:
    p = np.clip(p, 1e-15, 1 - 1e-15)
    return float(-np.mean(labels * np.log(p) + (1 - labels) * np.log1p(-p)))


def _share(folds: Sequence[Fold], days: int) -> float:
    return float(np.concatenate([f.labels(days) for f in folds]).mean())


def _columns(folds: Sequence[Fold]) -> tuple[str, ...]:
    made = {tuple(c for c, dtype in f.customers.schema.items() if dtype.is_float()) for f in folds}
    if len(made) > 1:
        one, other, *_ = sorted(made)
        apart = ", ".join(sorted(set(one) ^ set(other))) or "their order"
        raise InputError(f"the customer tables differ in their columns: {apart}; build them with one version")
    return next(iter(made), ())
