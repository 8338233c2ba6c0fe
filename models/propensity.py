"""Purchase propensity: how likely a customer orders in the next 7 and 28 days.

One LightGBM classifier a horizon over the columns of the customer table, its log-odds calibrated by
Platt's line (Platt 1999): two numbers, which keep the order of customers and cannot be learnt by heart.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from scipy.special import expit

from features.columns import Column
from features.errors import InputError
from features.threads import THREADS
from features.yaml_file import faults

if TYPE_CHECKING:
    import lightgbm

HORIZONS_DAYS = (7, 28)
COLUMNS = tuple(
    Column(f"propensity_{d}d", "0-1", f"probability of an order in the next {d} days") for d in HORIZONS_DAYS
)
FORMAT = 1


class _Line(BaseModel):
    """Calibrated log-odds = slope × log-odds + intercept."""

    model_config = ConfigDict(extra="forbid")

    slope: FiniteFloat = Field(ge=0)
    intercept: FiniteFloat
    sha256: str  # of the classifier's file: a damaged one is refused before LightGBM parses it


class _Manifest(BaseModel):
    """propensity.json."""

    model_config = ConfigDict(extra="forbid")

    format: int
    columns: list[str]
    horizons: dict[int, _Line]


@dataclass(frozen=True)
class Classifier:
    """One horizon: a booster that gives log-odds, and the line that calibrates them."""

    booster: "lightgbm.Booster"
    slope: float
    intercept: float

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """float64[n]: probabilities for float32[n × columns]; NaN is a missing value."""
        if not len(matrix):
            return np.zeros(0)
        odds = np.asarray(self.booster.predict(matrix, raw_score=True, num_threads=THREADS))
        return np.asarray(expit(self.slope * odds + self.intercept))


@dataclass(frozen=True)
class Propensity:
    """The classifiers by horizon in days, and the customer columns they read, in order."""

    columns: tuple[str, ...]
    classifiers: Mapping[int, Classifier]

    def predict(self, customers: pl.DataFrame) -> pl.DataFrame:
        """customer_id and `COLUMNS` (float32); null for a horizon without classifier.

        Raises `InputError` where a column is missing.
        """
        rows = matrix(customers, self.columns)
        found = (
            pl.Series(column.name, self.classifiers[days].predict(rows), pl.Float32)
            if days in self.classifiers
            else pl.lit(None, pl.Float32).alias(column.name)
            for days, column in zip(HORIZONS_DAYS, COLUMNS, strict=True)
        )
        return customers.select("customer_id").with_columns(*found)

    def save(self, path: Path) -> None:
        """propensity.json and a LightGBM text file per horizon, in directory `path`."""
        path.mkdir(parents=True, exist_ok=True)
        lines = {}
        for days, classifier in self.classifiers.items():
            text = classifier.booster.model_to_string().encode()
            (path / f"propensity_{days}d.txt").write_bytes(text)
            sha256 = hashlib.sha256(text).hexdigest()
            lines[days] = _Line(slope=classifier.slope, intercept=classifier.intercept, sha256=sha256)
        manifest = _Manifest(format=FORMAT, columns=list(self.columns), horizons=lines)
        (path / "propensity.json").write_text(json.dumps(manifest.model_dump(), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Propensity":
        """What `save` wrote to directory `path`. Raises `InputError` where it is damaged or of another format."""
        import lightgbm

        try:
            manifest = _Manifest.model_validate_json((path / "propensity.json").read_bytes())
        except OSError as error:
            raise InputError(f"{path} holds no propensity model: {error}; train it again") from error
        except ValidationError as error:
            raise InputError(
                f"the propensity model {path} is damaged: propensity.json: {faults(error)}; get it again"
            ) from error
        if manifest.format != FORMAT:
            raise InputError(
                f"the propensity model {path} has format {manifest.format}, this version reads format {FORMAT}; "
                "train it again"
            )
        classifiers = {}
        for days, line in manifest.horizons.items():
            file = path / f"propensity_{days}d.txt"
            text = file.read_bytes() if file.is_file() else None
            if text is None or hashlib.sha256(text).hexdigest() != line.sha256:
                fault = "missing" if text is None else "not what was saved"
                raise InputError(f"the propensity model {path} is damaged: {file.name} is {fault}; get it again")
            classifiers[days] = Classifier(lightgbm.Booster(model_str=text.decode()), line.slope, line.intercept)
        return cls(tuple(manifest.columns), classifiers)


def matrix(customers: pl.DataFrame, columns: tuple[str, ...]) -> np.ndarray:
    """float32[customers × columns], null as NaN. Raises `InputError` naming the columns that are missing."""
    missing = [c for c in columns if c not in customers.columns]
    if missing:
        raise InputError(
            f"the customer table lacks {', '.join(missing)}, which the propensity model reads; build the table with "
            "the version that trained the model, or train it again"
        )
    values = customers.select(pl.col(c).cast(pl.Float32).fill_null(float("nan")) for c in columns).to_numpy()
    return np.ascontiguousarray(values, np.float32)
