"""LightGBM LambdaRank (Burges 2010): orders the candidates of one visitor."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from features.assemble import NAMES
from features.errors import InputError
from features.threads import THREADS

if TYPE_CHECKING:
    import lightgbm


class RankerConfig(BaseModel):
    """How the trees are grown."""

    model_config = ConfigDict(extra="forbid")

    rounds: int = 160
    """Trees; prediction time is linear in them."""
    learning_rate: float = 0.1
    """How much of each tree's advice is taken."""
    leaves: int = 31
    """Leaves a tree."""
    min_leaf: int = 100
    """Fewest candidates a leaf may stand on."""
    feature_fraction: float = 0.5
    """Share of the features each tree may look at."""
    bagging_fraction: float = 0.7
    """Share of the visitors each tree learns from."""
    truncation: int = 30
    """How deep in the list the order matters; below about three times the cut-off of the metric loses quality."""
    l2: float = 5.0
    """Weight of the squared leaf values."""
    seed: int = 7
    """Which features and visitors each tree gets."""


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
            "bagging_freq": 1,
            "bagging_by_query": True,
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

        try:
            booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise InputError(f"a ranker in the bundle is damaged ({error}); train or package it again") from error
        if booster.feature_name() != NAMES:
            raise InputError("a ranker in the bundle was trained on other features; train it again")
        return cls(booster)
