"""The candidate generator protocol: what a generator declares and implements.

One file of this package holds one class derived from `CandidateGenerator`: a model fitted on a snapshot, which gives
every item one or more named scores for each visitor. Each of these names is a generator to the rest of the system: it
has a budget in a recipe, two columns in the ranker's matrix, and a place in the answer's `generators`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BaseModel

from features.common.arrays import AnyArray, Int64Array
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.scores import Scores
from models.candidates.similarity import ItemSimilarity
from models.candidates.user_profile import Basis, ProfileItems

Arrays = dict[str, AnyArray]
"""What a generator has learnt, by name; shipped as .npy files."""

SignalGroup = Literal[
    "own history with the product",
    "this visit",
    "what goes with their products",
    "what similar customers take",
    "likeness of the products",
    "what sells and what is new",
    "what the visitor said they like",
]
"""What a score is based on, in words for people: an explanation adds up contributions by these groups."""

ItemReason = Literal["bought_with", "bought_next", "viewed_next", "like_what"]
"""Reason codes that cite one of the visitor's own items."""

SettingsT = TypeVar("SettingsT", bound=BaseModel | None)


@dataclass(frozen=True)
class NamedScore:
    """One generator as recipes, placements, answers and the ranker's features know it."""

    name: str
    group: SignalGroup
    basis: Basis | None = None
    """The items that the score depends on; None if it depends on anything else. Placements about the visit need it."""
    reason: ItemReason | None = None
    """Why its candidates are shown; only for an `ItemToItemGenerator`, which knows the item to cite."""


class CandidateGenerator(ABC, Generic[SettingsT]):
    """A fitted generator. It holds for the snapshot whose customers and items it was fitted on.

    Instances are immutable. A visitor's scores depend on that visitor alone, bit for bit, not on the batch.
    """

    key: ClassVar[str]
    """Its settings in a recipe (`generators: {KEY: …}`) and the prefix of its arrays in a bundle."""
    position: ClassVar[int]
    """Its place among the columns of the ranker's matrix. A new generator takes the next free number, so that the
    columns of bundles made before stay where they are."""
    named_scores: ClassVar[tuple[NamedScore, ...]]
    """What it scores by, in the order of their columns."""
    settings: ClassVar[type[BaseModel] | None] = None
    """Its settings, with defaults for all; tuning ranges stand beside the fields (`models.search_space.Between`)."""

    @classmethod
    def applies_to(cls, snapshot: Snapshot) -> bool:
        """Whether the snapshot has anything to fit on.

        Where not, the generator is inactive: it costs nothing, has no columns, and its budgets are dropped. Training
        decides once, on the latest snapshot before the hold-out, so `fit` may also see snapshots with nothing in them.
        """
        return True

    @classmethod
    @abstractmethod
    def fit(cls, snapshot: Snapshot, config: SettingsT) -> Self:
        """Fit on a snapshot that has its `fitting_data`; `config` is None without `settings`."""

    @abstractmethod
    def refit_to(self, snapshot: Snapshot, items: Int64Array) -> Self:
        """Carry what was learnt over to a newer snapshot: a refresh without retraining.

        `items` int64[new items]: where each of its items was in the old snapshot, -1 for those that are new.
        """

    @abstractmethod
    def scores(self, name: str, snapshot: Snapshot, visitors: Visitors) -> Scores:
        """Score all items for each visitor by the named score `name`."""

    @abstractmethod
    def arrays(self) -> Arrays:
        """The arrays to ship, at least one: a bundle's active generators are those that it holds arrays of."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Self:
        """The generator whose `arrays()` these were; they may be memory-mapped."""


class ItemToItemGenerator(CandidateGenerator[SettingsT]):
    """A generator that scores an item by its similarity to the visitor's own items.

    The score is the sum over these items of weight × similarity, so an explanation can cite the one that contributes
    most. Each of its named scores declares a `basis` and a `reason`.
    """

    @abstractmethod
    def evidence(self, name: str, snapshot: Snapshot, visitors: Visitors) -> tuple[ItemSimilarity, ProfileItems]:
        """What the named score `name` is made of: the similarities, and the visitors' items with their weights."""

    def scores(self, name: str, snapshot: Snapshot, visitors: Visitors) -> Scores:
        similarity, items = self.evidence(name, snapshot, visitors)
        return similarity.scores(len(visitors), *items)

    @classmethod
    @cache  # asked for by each request
    def basis_of(cls, name: str) -> Basis:
        """The declared basis of a named score."""
        basis = next(score.basis for score in cls.named_scores if score.name == name)
        if basis is None:
            raise TypeError(f"{cls.__name__} must declare the basis of its score {name!r}")
        return basis
