"""The fitted generators: all candidate generators of a model, fitted together on one snapshot."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypeVar

from features.common.arrays import AnyArray
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.buy_again import BuyAgain
from models.candidates.protocol import Arrays, CandidateGenerator, ItemToItemGenerator
from models.candidates.registry import CLASSES, NAMED_SCORES, GeneratorName, GeneratorsConfig
from models.candidates.scores import Scores, SparseScores
from models.candidates.similarity import ItemSimilarity
from models.candidates.user_profile import ProfileItems

T = TypeVar("T")
GeneratorT = TypeVar("GeneratorT", bound=CandidateGenerator[Any])


@dataclass(frozen=True)
class Generators:
    """The active generators, by key; they hold for the snapshot whose customers and items they were fitted on.

    A generator that does not apply to the snapshot is inactive: it is not in here, has no columns in the ranker's
    matrix and no arrays in the bundle.
    """

    by_key: Mapping[str, CandidateGenerator[Any]]

    @classmethod
    def fit(cls, snapshot: Snapshot, config: GeneratorsConfig, active: Collection[str] | None = None) -> "Generators":
        """Fit those that apply to the snapshot, or exactly those whose keys are `active`.

        A model's generators must be the same at all its boundaries: pass the `active` of the first one on.
        """
        return cls(
            {
                each.key: each.fit(snapshot, getattr(config, each.key, None))
                for each in CLASSES
                if (each.applies_to(snapshot) if active is None else each.key in active)
            }
        )

    @classmethod
    def of(cls, *fitted: CandidateGenerator[Any]) -> "Generators":
        """From fitted generators in any order."""
        return cls({each.key: each for each in sorted(fitted, key=lambda each: each.position)})

    def refit_changed(self, snapshot: Snapshot, old: GeneratorsConfig, new: GeneratorsConfig) -> "Generators":
        """Refit those whose settings differ between `old` and `new`; the others stay."""
        return Generators(
            {
                key: each if before == after else each.fit(snapshot, after)
                for key, each in self.by_key.items()
                for before, after in [(getattr(old, key, None), getattr(new, key, None))]
            }
        )

    def refit_to(self, old: Snapshot, new: Snapshot) -> "Generators":
        """Carry all over from the snapshot `old` to `new`: a refresh without retraining.

        What follows from the snapshot alone is refitted. What was learnt stays with its items; those that are new
        have nothing of it yet.
        """
        items = old.items.find(new.items.values.to_pylist())
        return Generators({key: each.refit_to(new, items) for key, each in self.by_key.items()})

    @property
    def active(self) -> tuple[str, ...]:
        """Their keys."""
        return tuple(self.by_key)

    @cached_property
    def names(self) -> tuple[GeneratorName, ...]:
        """The names of their scores, in the order of columns and of the bits of `Candidates.proposed`."""
        return tuple(self._of_name)

    @cached_property
    def _of_name(self) -> dict[GeneratorName, CandidateGenerator[Any]]:
        return {score.name: each for each in self.by_key.values() for score in each.named_scores}

    def __getitem__(self, kind: type[GeneratorT]) -> GeneratorT:
        """The fitted generator of class `kind`, which must be active."""
        each = self.by_key[kind.key]
        if not isinstance(each, kind):
            raise TypeError(f"the generator {kind.key!r} is a {type(each).__name__}, not a {kind.__name__}")
        return each

    def scores(self, name: GeneratorName, snapshot: Snapshot, visitors: Visitors) -> Scores:
        """Score all items for each visitor by generator `name`; an inactive one has no scores."""
        each = self._of_name.get(name)
        if each is not None:
            return each.scores(name, snapshot, visitors)
        if name not in NAMED_SCORES:
            raise KeyError(name)
        return SparseScores.empty(len(visitors), len(snapshot.items))

    def evidence(
        self, name: GeneratorName, snapshot: Snapshot, visitors: Visitors
    ) -> tuple[ItemSimilarity, ProfileItems]:
        """What the scores of an item-to-item generator are made of; see `ItemToItemGenerator.evidence`."""
        each = self._of_name[name]
        if not isinstance(each, ItemToItemGenerator):
            raise TypeError(f"the generator {name!r} does not score by the visitor's own items")
        return each.evidence(name, snapshot, visitors)

    def columns(self, names: Iterable[GeneratorName]) -> list[int]:
        """The columns of those of `names` that are active, in the order of `names`."""
        return [self.names.index(name) for name in names if name in self._of_name]

    @cached_property
    def proposers(self) -> Callable[[int], tuple[GeneratorName, ...]]:
        """Maps an entry of `Candidates.proposed` to the generators whose bits are set in it."""
        names = self.names

        @cache
        def of_mask(mask: int) -> tuple[GeneratorName, ...]:
            return tuple(name for bit, name in enumerate(names) if mask >> bit & 1)

        return of_mask

    def arrays(self) -> Arrays:
        """The arrays of all, each under its key and a dot."""
        out: Arrays = {}
        for key, each in self.by_key.items():
            arrays = each.arrays()
            if not arrays and not isinstance(each, BuyAgain):
                raise TypeError(f"the generator {key!r} ships no arrays, by which a bundle tells that it is active")
            out |= {f"{key}.{name}": array for name, array in arrays.items()}
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> "Generators":
        """The generators whose `arrays()` these were."""
        return cls({each.key: each.from_arrays(under(f"{each.key}.", arrays)) for each in _active(arrays)})


def names_of_arrays(arrays: Iterable[str]) -> tuple[GeneratorName, ...]:
    """`Generators.names` of a bundle, from the names of its generators' arrays."""
    return tuple(score.name for each in _active(arrays) for score in each.named_scores)


def _active(arrays: Iterable[str]) -> list[type[CandidateGenerator[Any]]]:
    keys = {name.partition(".")[0] for name in arrays}
    return [each for each in CLASSES if each.key in keys or each is BuyAgain]  # which has none, and is in every bundle


def under(prefix: str, named: Mapping[str, T]) -> dict[str, T]:
    """Select the entries of `named` whose names start with `prefix`, which is removed."""
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
