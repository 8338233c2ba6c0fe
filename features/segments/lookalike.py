"""Lookalikes: who behaves like the customers on a list.

A ridge logistic regression tells the seeds from everybody else, both sides weighing the same, on what customers do
(the numbers of the customer table, by their logarithm, standardised) and lean to (`features.segments.preferences`). Its
probability is the score: 0.5 is as much like the seeds as like the others. How good it is, is told by the AUC on
seeds it was not fitted on; others who are like the seeds count as errors there, so it is rather too low.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.common.errors import InputError
from features.segments.preferences import CHUNK, Leanings
from features.tables.columns import Column, Field

FIELDS = (Field("seed", "bool", "whether the customer was on the list of seeds"),)
COLUMNS = (
    Column("lookalike_score", "0-1", "likeness to the seeds; null for a seed"),
    Column("lookalike_rank", "rank", "1 = most alike; null for a seed, and beyond as many as were asked for"),
)

FEWEST_SEEDS = 10
MOST_ROWS = 50_000  # of each side that the regression is fitted on; everybody is scored
FOLDS = 5
STRENGTH = 0.1  # inverse ridge per seed: the fewer seeds, the less any column may say
SPREAD = 5.0  # standard deviations beyond which a value says no more
SEED = 7


@dataclass(frozen=True)
class Lookalikes:
    """`scores`: customer_id, `FIELDS`, `COLUMNS`, one row per customer. `auc` and `auc_deviation` over the folds."""

    scores: pl.DataFrame
    seeds: int
    unknown: int
    auc: float
    auc_deviation: float

    def text(self) -> str:
        asked = self.scores["lookalike_rank"].count()
        lost = f" ({self.unknown:,} unknown ids passed over)" if self.unknown else ""
        return (
            f"{asked:,} lookalikes of {self.seeds:,} seeds{lost}; AUC on held-out seeds "
            f"{self.auc:.3f} ± {self.auc_deviation:.3f} (0.5 is chance, 1 perfect)"
        )

    def as_dict(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in ("seeds", "unknown", "auc", "auc_deviation")}


def read_seeds(path: Path) -> list[str]:
    """Customer ids of a file: Parquet or CSV with a column customer_id, else one id a line. Raises `InputError`."""
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path)
        elif path.suffix == ".csv":
            table = pl.read_csv(path, infer_schema=False)
        else:
            lines = [line.strip() for line in path.read_text().splitlines()]
            table = pl.DataFrame({"customer_id": [line for line in lines if line]}, schema={"customer_id": pl.String})
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise InputError(f"the seeds {path} cannot be read: {error}") from error
    if "customer_id" not in table.columns:
        raise InputError(f"the seeds {path} have no column customer_id; they have {', '.join(table.columns)}")
    return table["customer_id"].cast(pl.String).drop_nulls().unique().sort().to_list()


def find(customers: pl.DataFrame, affinities: pl.DataFrame, seeds: Sequence[str], n: int) -> Lookalikes:
    """Score everybody but the seeds and rank the `n` most alike; tables as in `features.tables.build.Tables`.

    Raises `InputError` with fewer than `FEWEST_SEEDS` known seeds or other customers.
    """
    customers = customers.sort("customer_id")
    wanted = pl.Series("customer_id", sorted(set(seeds)), pl.String)
    seed = customers["customer_id"].is_in(wanted.implode()).to_numpy()
    known, unknown = int(seed.sum()), len(wanted) - int(seed.sum())
    if known < FEWEST_SEEDS:
        raise InputError(
            f"{known} of the {len(wanted)} seeds are customers of this log before the time asked for; lookalikes "
            f"need at least {FEWEST_SEEDS}: list more customers, or check that the ids are those of the log"
        )
    if (~seed).sum() < FEWEST_SEEDS:
        raise InputError(
            f"all but {(~seed).sum()} of the {len(seed)} customers are seeds, so there is nobody to compare them "
            "with; list only those who are to be found again"
        )
    draw = np.random.default_rng(SEED)
    sides = [draw.permutation(np.flatnonzero(side))[:MOST_ROWS] for side in (seed, ~seed)]
    chosen = np.sort(np.concatenate(sides))
    columns = _Matrix.fit(customers, affinities, chosen)
    rows, labels = columns.rows(chosen), seed[chosen]
    aucs = _held_out(rows, labels)
    model = _fit(rows, labels)
    parts = (columns.rows(np.arange(s, min(s + CHUNK, len(seed)))) for s in range(0, len(seed), CHUNK))
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


def _held_out(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64[folds]: AUC on seeds and others that the regression has not seen."""
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
class _Matrix:
    """The columns of the regression, standardised by what was fitted on."""

    numbers: np.ndarray  # float64[customers × columns], NaN where not defined
    leanings: Leanings
    shares: Any
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def fit(cls, customers: pl.DataFrame, affinities: pl.DataFrame, chosen: np.ndarray) -> "_Matrix":
        table = customers.select(pl.selectors.float().cast(pl.Float32).fill_null(float("nan")))
        leanings = Leanings.fit(customers, affinities)
        shares = leanings.shares(customers, affinities)
        width = 2 * table.width + len(leanings.columns)
        blank = cls(table.to_numpy(), leanings, shares, np.zeros(width), np.ones(width))
        raw = blank._raw(chosen)
        known = ~np.isnan(raw)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, raw, 0).sum(axis=0) / count
        deviation = np.sqrt((np.where(known, raw - mean, 0) ** 2).sum(axis=0) / count)
        return cls(blank.numbers, leanings, shares, mean, np.where(deviation > 1e-9, deviation, np.inf))

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """float64[chosen × columns]: what is not defined lies at the mean, and has a column that says so."""
        z = (self._raw(chosen) - self.mean) / self.deviation
        return np.nan_to_num(np.clip(z, -SPREAD, SPREAD), nan=0.0)

    def _raw(self, chosen: np.ndarray) -> np.ndarray:
        numbers = self.numbers[chosen].astype(np.float64)
        missing = np.isnan(numbers)
        points = self.leanings.points(self.shares[chosen].toarray())
        return np.hstack([np.sign(numbers) * np.log1p(np.abs(numbers)), missing, points])
