"""LightGBM LambdaRank (Burges 2010): orders the candidates of one visitor."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from features.assemble import NAMES
from features.threads import THREADS
from models.space import Between

if TYPE_CHECKING:
    import lightgbm


class RankerConfig(BaseModel):
    """How the trees are grown."""

    model_config = ConfigDict(extra="forbid")

    rounds: PositiveInt = 160
    """Most trees; prediction time is linear in them."""
    patience: PositiveInt = 30
    """Trees without a better NDCG@10 on the validation window after which no more are grown."""
    learning_rate: Annotated[PositiveFloat, Between(0.03, 0.2, log=True)] = 0.1
    """How much of each tree's advice is taken."""
    leaves: Annotated[int, Between(7, 63, log=True)] = Field(31, ge=2)
    """Leaves a tree."""
    min_leaf: Annotated[PositiveInt, Between(20, 500, log=True)] = 100
    """Fewest candidates a leaf may stand on."""
    feature_fraction: Annotated[float, Between(0.2, 1.0)] = Field(0.5, gt=0, le=1)
    """Share of the features each tree may look at."""
    bagging_fraction: Annotated[float, Between(0.4, 1.0)] = Field(0.7, gt=0, le=1)
    """Share of the candidates each tree learns from."""
    truncation: Annotated[PositiveInt, Between(15, 100, log=True)] = 30
    """How deep in the list the order matters; below about three times the cut-off of the metric loses quality."""
    l2: Annotated[NonNegativeFloat, Between(0.1, 50.0, log=True)] = 5.0
    """Weight of the squared leaf values."""
    seed: NonNegativeInt = 7
    """Which features and candidates each tree gets."""


class Grouped(Protocol):
    """Candidates with labels: `matrix` float32[n × features], `labels` 0–3 [n], `groups` rows per query, in order."""

    @property
    def matrix(self) -> np.ndarray: ...

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def groups(self) -> np.ndarray: ...


def parameters(config: RankerConfig, rows: int) -> dict[str, Any]:
    """LightGBM's own settings, for `rows` candidates to learn from."""
    return {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [10],
        "lambdarank_truncation_level": config.truncation,
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": min(config.min_leaf, max(5, rows // 100)),
        "feature_fraction": config.feature_fraction,
        "bagging_fraction": config.bagging_fraction,
        # Rows, not queries: with bagging_by_query two threads do not always grow the same trees from the same
        # data, `deterministic` or not (LightGBM 4.7, seen on small data).
        "bagging_freq": 1,
        "lambda_l2": config.l2,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        # Features that no leaf of `min_leaf` candidates can split would be thrown out with the data. Tuning tries
        # smaller leaves on the same data, and a recipe must give the same trees there and in a training run.
        "feature_pre_filter": False,
        "num_threads": THREADS,
        "verbosity": -1,
    }


@dataclass(frozen=True)
class Ranker:
    """A trained booster over the columns of `features.assemble`."""

    booster: "lightgbm.Booster"
    history: tuple[float, ...] = field(default=(), compare=False, repr=False)
    """NDCG@10 on the validation window after each tree, where there was one; not saved."""

    @classmethod
    def fit(cls, examples: Grouped, config: RankerConfig, validation: Grouped | None = None) -> "Ranker":
        """As many trees as `config.rounds`, or as few as do best on `validation`."""
        import lightgbm

        data = lightgbm.Dataset(examples.matrix, examples.labels, group=examples.groups, feature_name=NAMES)
        settings = parameters(config, len(examples.labels))
        if validation is None or not len(validation.groups):
            return cls(lightgbm.train(settings, data, num_boost_round=config.rounds))
        unseen = data.create_valid(validation.matrix, validation.labels, group=validation.groups)
        stop = lightgbm.early_stopping(config.patience, verbose=False)
        told: dict[str, dict[str, list[float]]] = {}
        after_each: list[Any] = [stop, lightgbm.record_evaluation(told)]
        booster = lightgbm.train(settings, data, config.rounds, valid_sets=[unseen], callbacks=after_each)
        return cls(booster, tuple(told["valid_0"]["ndcg@10"]))

    @property
    def trees(self) -> int:
        """How many are used: those up to the best on the validation window, if there was one."""
        return int(self.booster.best_iteration) if self.booster.best_iteration > 0 else int(self.booster.num_trees())

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
