"""All generators, fitted together on one snapshot.

A generator gives every item a score for every visitor of a batch (`models.candidates.scores`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

from features.ranking.feature_matrix import SCORES
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates import buy_again
from models.candidates.als import Als, AlsConfig
from models.candidates.base import Arrays
from models.candidates.content import Content, ContentConfig
from models.candidates.covisit import Covisit, CovisitConfig
from models.candidates.item_knn import ItemKnn, ItemKnnConfig
from models.candidates.popular import Popular
from models.candidates.scores import Scores
from models.candidates.user_knn import Neighbours, NeighboursConfig

GeneratorName = Literal[
    "history",
    "visit",
    "neighbours",
    "als",
    "item_knn",
    "item_knn_last",
    "item_knn_visit",
    "covisit_last",
    "covisit_visit",
    "content",
    "content_visit",
    "popular",
    "popular_segment",
    "popular_category",
    "arrivals",
]
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
    neighbours: NeighboursConfig = NeighboursConfig()
    """Customers alike."""
    covisit: CovisitConfig = CovisitConfig()
    """What is touched soon after what; serves covisit_last and covisit_visit."""
    content: ContentConfig = ContentConfig()
    """What is described alike; serves content and content_visit."""


@dataclass(frozen=True)
class Generators:
    """The fitted generators; they hold for the snapshot whose customers and items they were fitted on."""

    als: Als
    item_knn: ItemKnn
    neighbours: Neighbours
    covisit: Covisit
    content: Content
    popular: Popular

    @classmethod
    def fit(cls, snapshot: Snapshot, config: GeneratorsConfig) -> "Generators":
        return cls(
            Als.fit(snapshot, config.als),
            ItemKnn.fit(snapshot, config.item_knn),
            Neighbours.fit(snapshot, config.neighbours),
            Covisit.fit(snapshot, config.covisit),
            Content.fit(snapshot, config.content),
            Popular.fit(snapshot),
        )

    def onto(self, old: Snapshot, new: Snapshot) -> "Generators":
        """The same generators for another snapshot: a refresh without retraining.

        Items that are new to it have no vector yet, and no neighbours but those described alike; customers are
        folded in, and their neighbours found, anew.
        """
        items = old.items.find(new.items.values.to_pylist())
        return Generators(
            self.als.onto(new, items),
            self.item_knn.onto(items),
            self.neighbours.onto(new),
            self.covisit.onto(items),
            self.content.onto(new),
            Popular.fit(new),
        )

    def scores(self, name: GeneratorName, snapshot: Snapshot, visitors: Visitors) -> Scores:
        """What generator `name` says of each visitor."""
        return _SCORES[name](self, snapshot, visitors)

    def arrays(self) -> Arrays:
        parts = {name: getattr(self, name).arrays() for name in self.__dataclass_fields__}
        return {f"{name}.{k}": v for name, part in parts.items() for k, v in part.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Generators":
        def of(prefix: str) -> Arrays:
            return {k.removeprefix(prefix): np.asarray(v) for k, v in arrays.items() if k.startswith(prefix)}

        return cls(
            Als.from_arrays(of("als.")),
            ItemKnn.from_arrays(of("item_knn.")),
            Neighbours.from_arrays(of("neighbours.")),
            Covisit.from_arrays(of("covisit.")),
            Content.from_arrays(of("content.")),
            Popular.from_arrays(of("popular.")),
        )


_SCORES: dict[GeneratorName, Callable[[Generators, Snapshot, Visitors], Scores]] = {
    "history": lambda _, s, v: buy_again.scores(s, v),
    "visit": lambda _, s, v: buy_again.visited(s, v),
    "neighbours": lambda g, s, v: g.neighbours.scores(s, v),
    "als": lambda g, s, v: g.als.scores(s, v),
    "item_knn": lambda g, s, v: g.item_knn.scores(s, v, "history"),
    "item_knn_last": lambda g, s, v: g.item_knn.scores(s, v, "last_baskets"),
    "item_knn_visit": lambda g, s, v: g.item_knn.scores(s, v, "visit"),
    "covisit_last": lambda g, s, v: g.covisit.of_last_orders(s, v),
    "covisit_visit": lambda g, s, v: g.covisit.of_visit(s, v),
    "content": lambda g, s, v: g.content.scores(s, v, "history"),
    "content_visit": lambda g, s, v: g.content.scores(s, v, "visit"),
    "popular": lambda g, s, v: g.popular.of_everyone(v),
    "popular_segment": lambda g, s, v: g.popular.of_segment(s, v),
    "popular_category": lambda g, s, v: g.popular.of_categories(s, v),
    "arrivals": lambda g, s, v: g.popular.of_arrivals(v),
}
