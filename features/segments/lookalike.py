"""Lookalikes: customers who behave like those on a list of seeds.

A ridge logistic regression separates the seeds from all other customers, both sides with the same weight, by behaviour
(the numbers of the customer table, their logarithms standardised) and preferences (see preferences.py). Its
probability is the score: 0.5 is as similar to the seeds as to the others. Its quality is measured as the AUC on
held-out seeds; others who resemble the seeds count as errors there, so it is a low estimate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from features.common.errors import InputError
from features.segments.preferences import CHUNK, PreferenceSpace
from features.tables.columns import Column, Field

FIELDS = (Field("seed", "bool", "whether the customer was on the list of seeds"),)
COLUMNS = (
    Column("lookalike_score", "0-1", "likeness to the seeds; null for a seed"),
    Column("lookalike_rank", "rank", "1 = most alike; null for a seed, and beyond as many as were asked for"),
)

FEWEST_SEEDS = 10
MOST_ROWS = 50_000  # of each side that the regression is fitted on; all customers are scored
FOLDS = 5
STRENGTH = 0.1  # inverse ridge per seed: the fewer seeds, the smaller the weight of any column
SPREAD = 5.0  # standard deviations at which values are clipped
SEED = 7


@dataclass(frozen=True)
class Lookalikes:
    """Scored customers: `scores` has customer_id, `FIELDS`, `COLUMNS`. `auc` and `auc_deviation` are over the folds."""

    scores: pl.DataFrame
    seeds: int
    unknown: int
    auc: float
    auc_deviation: float

    def text(self) -> str:
        """Summarize them in a line for people."""
        ranked = self.scores["lookalike_rank"].count()
        unknown = f" ({self.unknown:,} unknown ids ignored)" if self.unknown else ""
        return (
            f"{ranked:,} lookalikes of {self.seeds:,} seeds{unknown}; AUC on held-out seeds "
            f"{self.auc:.3f} ± {self.auc_deviation:.3f} (0.5 is chance, 1 perfect)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the counts and the AUC as JSON values."""
        return {k: getattr(self, k) for k in ("seeds", "unknown", "auc", "auc_deviation")}


def rank_lookalikes(customers: pl.DataFrame, affinities: pl.DataFrame, seeds: Sequence[str], n: int) -> Lookalikes:
    """Score all customers but the seeds and rank the `n` most similar; tables as in `features.tables.build.Tables`.

    Raises `InputError` with fewer than `FEWEST_SEEDS` known seeds or other customers.
    """
    customers = customers.sort("customer_id")
    seed_ids = pl.Series("customer_id", sorted(set(seeds)), pl.String)
    seed = customers["customer_id"].is_in(seed_ids.implode()).to_numpy()
    known, unknown = int(seed.sum()), len(seed_ids) - int(seed.sum())
    if known < FEWEST_SEEDS:
        raise InputError(
            f"{known} of the {len(seed_ids)} seeds are customers of this log before --as-of; lookalikes "
            f"need at least {FEWEST_SEEDS}: list more customers, or check that the ids are those of the log"
        )
    if (~seed).sum() < FEWEST_SEEDS:
        raise InputError(
            f"all but {(~seed).sum()} of the {len(seed)} customers are seeds, so there is nobody to compare them "
            "with; list only the customers whose lookalikes you need"
        )
    rng = np.random.default_rng(SEED)
    sides = [rng.permutation(np.flatnonzero(side))[:MOST_ROWS] for side in (seed, ~seed)]
    sample = np.sort(np.concatenate(sides))
    features = _SeedFeatures.fit(customers, affinities, sample)
    rows, labels = features.rows(sample), seed[sample]
    aucs = _cross_validate(rows, labels)
    model = _fit(rows, labels)
    parts = (features.rows(np.arange(s, min(s + CHUNK, len(seed)))) for s in range(0, len(seed), CHUNK))
    score = np.concatenate([model.predict_proba(part)[:, 1] for part in parts])
    order = np.lexsort((np.arange(len(score)), -score))
    order = order[~seed[order]][: max(0, n)]
    rank = np.full(len(score), np.nan)
    rank[order] = np.arange(1, len(order) + 1)
    scores = customers.select("customer_id").with_columns(
        pl.Series("seed", seed),
        pl.Series("lookalike_score", np.where(seed, np.nan, score)).fill_nan(None).cast(pl.Float32),
        pl.Series("lookalike_rank", rank).fill_nan(None).cast(pl.Float32),
    )
    return Lookalikes(scores, known, unknown, float(aucs.mean()), float(aucs.std()))


def _cross_validate(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the AUC of each fold, on seeds and others that its regression was not fitted on: float64[folds]."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(rows, labels)
    return np.array(
        [
            roc_auc_score(labels[test], _fit(rows[train], labels[train]).decision_function(rows[test]))
            for train, test in folds
        ]
    )


def _fit(rows: np.ndarray, labels: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression

    strength = STRENGTH * labels.sum() / len(labels)
    return LogisticRegression(C=strength, class_weight="balanced", max_iter=500).fit(rows, labels)


@dataclass(frozen=True)
class _SeedFeatures:
    """The columns of the regression, standardised by the rows that it is fitted on."""

    numbers: np.ndarray  # float64[customers × columns], NaN where not defined
    preferences: PreferenceSpace
    shares: Any
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def fit(cls, customers: pl.DataFrame, affinities: pl.DataFrame, sample: np.ndarray) -> "_SeedFeatures":
        table = customers.select(pl.selectors.float().cast(pl.Float32).fill_null(float("nan")))
        preferences = PreferenceSpace.fit(customers, affinities)
        shares = preferences.shares(customers, affinities)
        width = 2 * table.width + len(preferences.columns)
        blank = cls(table.to_numpy(), preferences, shares, np.zeros(width), np.ones(width))
        raw = blank._raw(sample)
        known = ~np.isnan(raw)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, raw, 0).sum(axis=0) / count
        deviation = np.sqrt((np.where(known, raw - mean, 0) ** 2).sum(axis=0) / count)
        return cls(blank.numbers, preferences, shares, mean, np.where(deviation > 1e-9, deviation, np.inf))

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the columns of some customers, float64[rows × columns]; a missing value is the mean, with a flag."""
        z = (self._raw(rows) - self.mean) / self.deviation
        return np.nan_to_num(np.clip(z, -SPREAD, SPREAD), nan=0.0)

    def _raw(self, rows: np.ndarray) -> np.ndarray:
        numbers = self.numbers[rows].astype(np.float64)
        missing = np.isnan(numbers)
        points = self.preferences.points(self.shares[rows].toarray())
        return np.hstack([np.sign(numbers) * np.log1p(np.abs(numbers)), missing, points])
