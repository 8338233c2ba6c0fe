"""Purchase propensity: the probability that a customer orders within the next 7 and 28 days.

One LightGBM classifier per horizon over a snapshot's customer features, its log-odds calibrated by Platt's line (Platt
1999): two numbers, which keep the order of customers and cannot overfit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from scipy.special import expit

from features.common.arrays import Float32Array, Float64Array, Int64Array
from features.common.errors import InputError
from features.common.threads import THREADS
from features.common.yaml_config import describe_errors
from features.ranking.snapshot import CUSTOMER_COLUMNS, Snapshot
from features.tables import lifetime
from features.tables.columns import Column, names

if TYPE_CHECKING:
    import lightgbm

HORIZONS_DAYS = (7, 28)
COLUMNS = tuple(
    Column(f"propensity_{d}d", "0-1", f"probability of an order in the next {d} days") for d in HORIZONS_DAYS
)
INPUTS = (*CUSTOMER_COLUMNS, *lifetime.COLUMNS)
CHUNK = 100_000  # customers predicted at once: memory does not grow with their number


class _CalibrationLine(BaseModel):
    """Calibrated log-odds = slope × log-odds + intercept."""

    model_config = ConfigDict(extra="forbid")

    slope: FiniteFloat = Field(ge=0)
    intercept: FiniteFloat


class _PropensityManifest(BaseModel):
    """propensity.json."""

    model_config = ConfigDict(extra="forbid")

    inputs: list[str]
    horizons: dict[int, _CalibrationLine]


@dataclass(frozen=True)
class PropensityClassifier:
    """One horizon: a booster that gives log-odds, and the line that calibrates them."""

    booster: "lightgbm.Booster"
    slope: float
    intercept: float

    def predict(self, matrix: Float32Array) -> Float64Array:
        """Return probabilities, float64[n], for float32[n × len(INPUTS)]; NaN is a missing value."""
        if not len(matrix):
            return np.zeros(0)
        log_odds = np.asarray(self.booster.predict(matrix, raw_score=True, num_threads=THREADS))
        return np.asarray(expit(self.slope * log_odds + self.intercept))


@dataclass(frozen=True)
class PropensityModel:
    """The classifiers by horizon in days; without one where the log was too short to fit it."""

    classifiers: Mapping[int, PropensityClassifier] = field(default_factory=dict)

    def predict(self, snapshot: Snapshot) -> Float32Array:
        """Predict for all customers, float32[customers × len(COLUMNS)]; NaN for a horizon without classifier."""
        out = np.full((len(snapshot.customers), len(COLUMNS)), np.nan, np.float32)
        for start in range(0, len(out), CHUNK) if self.classifiers else ():
            rows = slice(start, start + CHUNK)
            matrix = input_matrix(snapshot, rows)
            for at, days in enumerate(HORIZONS_DAYS):
                if days in self.classifiers:
                    out[rows, at] = self.classifiers[days].predict(matrix)
        return out

    def save(self, path: Path) -> None:
        """Write propensity.json and a LightGBM text file per horizon to directory `path`."""
        path.mkdir(parents=True, exist_ok=True)
        for days, classifier in self.classifiers.items():
            (path / f"propensity_{days}d.txt").write_text(classifier.booster.model_to_string())
        lines = {d: _CalibrationLine(slope=c.slope, intercept=c.intercept) for d, c in self.classifiers.items()}
        manifest = _PropensityManifest(inputs=names(INPUTS), horizons=lines)
        (path / "propensity.json").write_text(manifest.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "PropensityModel":
        """Load what `save` wrote to directory `path`. Raises `InputError` where it does not fit this code."""
        import lightgbm

        try:
            manifest = _PropensityManifest.model_validate_json((path / "propensity.json").read_bytes())
        except ValidationError as error:
            raise InputError(
                f"{path / 'propensity.json'} is damaged: {describe_errors(error)}; get the bundle again"
            ) from error
        if manifest.inputs != names(INPUTS):
            difference = ", ".join(sorted(set(manifest.inputs) ^ set(names(INPUTS)))) or "their order"
            raise InputError(
                f"the propensity model {path} was trained on other columns of the customers ({difference}); train it "
                "again, or use it with the version that trained it"
            )
        return cls(
            {
                days: PropensityClassifier(
                    lightgbm.Booster(model_str=(path / f"propensity_{days}d.txt").read_text()),
                    line.slope,
                    line.intercept,
                )
                for days, line in manifest.horizons.items()
            }
        )


def input_matrix(snapshot: Snapshot, rows: slice | Int64Array = slice(None)) -> Float32Array:
    """Return the inputs of the classifiers for some customers (default: all), float32[customers × len(INPUTS)]."""
    return np.hstack([snapshot.customer_features[rows], snapshot.lifetime[rows]])
