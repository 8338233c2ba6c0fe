"""LightGBM LambdaRank (Burges 2010): orders the candidates of one visitor."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from features.assemble import NAMES
from features.threads import THREADS

if TYPE_CHECKING:
    import lightgbm


class RankerConfig(BaseModel):
    """How the trees are grown."""

    model_config = ConfigDict(extra="forbid")

    rounds: PositiveInt = 160
    """Trees; prediction time is linear in them."""
    learning_rate: PositiveFloat = 0.1
    """How much of each tree's advice is taken."""
    leaves: int = Field(31, ge=2)
    """Leaves a tree."""
    min_leaf: PositiveInt = 100
    """Fewest candidates a leaf may stand on."""
    feature_fraction: float = Field(0.5, gt=0, le=1)
    """Share of the features each tree may look at."""
    bagging_fraction: float = Field(0.7, gt=0, le=1)
    """Share of the candidates each tree learns from."""
    truncation: PositiveInt = 30
    """How deep in the list the order matters; below about three times the cut-off of the metric loses quality."""
    l2: NonNegativeFloat = 5.0
    """Weight of the squared leaf values."""
    seed: NonNegativeInt = 7
    """Which features and candidates each tree gets."""


@dataclass(frozen=True)
class Ranker:
    """A trained booster over the columns of `features.assemble`."""

    booster: "lightgbm.Booster"

    @classmethod
    def fit(cls, matrix: np.ndarray, labels: np.ndarray, groups: np.ndarray, config: RankerConfig) -> "Ranker":
        """`matrix` float32[n × features], `labels` 0–3 [n], `groups`: rows per query, queries one after another."""
        import lightgbm

        data = lightgbm.Dataset(matrix, labels, group=groups, feature_name=NAMES, free_raw_data=True)
        parameters = {
            "objective": "lambdarank",
            "lambdarank_truncation_level": config.truncation,
            "learning_rate": config.learning_rate,
            "num_leaves": config.leaves,
            "min_data_in_leaf": min(config.min_leaf, max(5, len(labels) // 100)),
            "feature_fraction": config.feature_fraction,
            "bagging_fraction": config.bagging_fraction,
            # Rows, not queries: with bagging_by_query two threads do not always grow the same trees from the same
            # data, `deterministic` or not (LightGBM 4.7, seen on small data).
            "bagging_freq": 1,
            "lambda_l2": config.l2,
            "seed": config.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": THREADS,
            "verbosity": -1,
        }
        return cls(lightgbm.train(parameters, data, num_boost_round=config.rounds))

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """float64[n]; only the order within one visitor means anything."""
        scores: np.ndarray = np.asarray(self.booster.predict(matrix, num_threads=THREADS))
        return scores

    def importance(self) -> dict[str, float]:
        """Total gain per feature, largest first."""
        gains = zip(self.booster.feature_name(), self.booster.feature_importance("gain"), strict=True)
        return dict(sorted(((n, float(g)) for n, g in gains), key=lambda pair: -pair[1]))

    def text(self) -> str:
        """LightGBM's own text format: it holds numbers, no code."""
        model: str = self.booster.model_to_string()
        return model

    @classmethod
    def from_text(cls, text: str) -> "Ranker":
        import lightgbm

        return cls(lightgbm.Booster(model_str=text))
