"""All generators, fitted together on one snapshot.

A generator gives every item a score for every visitor of a batch, float32[visitors × items]; 0 or less
means: no reason to propose it. Row i depends on visitor i alone, bit for bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

from features.assemble import SCORES
from features.snapshot import Snapshot
from features.visitors import Visitors
from models.candidates import history, popular
from models.candidates.als import Als, AlsConfig
from models.candidates.base import Arrays
from models.candidates.item_knn import ItemKnn, ItemKnnConfig

GeneratorName = Literal["history", "als", "item_knn", "item_knn_last", "item_knn_visit", "popular"]
GENERATORS: tuple[GeneratorName, ...] = get_args(GeneratorName)
if GENERATORS != SCORES:
    raise RuntimeError(f"the ranker's features expect the scores {SCORES}, the generators are {GENERATORS}")


class GeneratorsConfig(BaseModel):
    """Settings of the generators that learn; history and popular read the snapshot."""

    model_config = ConfigDict(extra="forbid")

    als: AlsConfig = AlsConfig()
    """Matrix factorisation."""
    item_knn: ItemKnnConfig = ItemKnnConfig()
    """Item-to-item neighbours; serves item_knn, item_knn_last and item_knn_visit."""


@dataclass(frozen=True)
class Generators:
    """The fitted generators; they hold for the snapshot whose customers and items they were fitted on."""

    als: Als
    item_knn: ItemKnn

    @classmethod
    def fit(cls, snapshot: Snapshot, config: GeneratorsConfig) -> "Generators":
        return cls(Als.fit(snapshot, config.als), ItemKnn.fit(snapshot, config.item_knn))

    def onto(self, old: Snapshot, new: Snapshot) -> "Generators":
        """The same generators for another snapshot: a refresh without retraining.

        Items that are new to it have no vector and no neighbours yet; customers are folded in anew.
        """
        items = old.items.find(new.items.values.to_pylist())
        return Generators(self.als.onto(new, items), self.item_knn.onto(items, len(old.items)))

    def scores(self, name: GeneratorName, snapshot: Snapshot, visitors: Visitors) -> np.ndarray:
        match name:
            case "history":
                return history.scores(snapshot, visitors)
            case "als":
                return self.als.scores(visitors)
            case "item_knn":
                return self.item_knn.scores(snapshot, visitors, "history")
            case "item_knn_last":
                return self.item_knn.scores(snapshot, visitors, "last_baskets")
            case "item_knn_visit":
                return self.item_knn.scores(snapshot, visitors, "visit")
            case "popular":
                return popular.scores(snapshot, visitors)

    def arrays(self) -> Arrays:
        return {
            **{f"als.{k}": v for k, v in self.als.arrays().items()},
            **{f"item_knn.{k}": v for k, v in self.item_knn.arrays().items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Generators":
        def of(prefix: str) -> Arrays:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        return cls(Als.from_arrays(of("als.")), ItemKnn.from_arrays(of("item_knn.")))
