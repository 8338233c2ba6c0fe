"""Generators → assemble → ranker, for a batch of visitors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from features.ranking.feature_matrix import assemble
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.generators import GENERATORS, GeneratorName, Generators
from models.candidates.scores import Scores, Sparse
from models.ranker import Ranker, RankerConfig
from models.search_space import Between
from models.timing import stage

# glibc gives memory back to the system once more of it is free than twice the largest block that was freed before, one
# of 32 MB at most. This makes it keep 64 MB: having its pages anew was a tenth of the time that a batch takes.
np.empty((32 << 20) - 8192, np.uint8)


class TwoStageConfig(BaseModel):
    """One recommender: who proposes, and how the proposals are ranked."""

    model_config = ConfigDict(extra="forbid")

    budgets: Annotated[dict[GeneratorName, PositiveInt], Between(5, 80, log=True)]
    """Most candidates each generator may propose."""
    cut: float = Field(0.0, ge=0, lt=1)
    """A budget ends where less than this share of what the generator alone proposes is wanted; 0: as it stands."""
    ranker: RankerConfig = RankerConfig()
    """The ranker's settings."""


@dataclass(frozen=True)
class Candidates:
    """n candidates of a batch, sorted by query, then item.

    `query` int64[n], `item` int64[n]; `ranks` and `scores` float32[n × generators] as `assemble` takes
    them; `proposed` uint32[n]: bit g is set if generator g proposed the candidate.
    """

    query: np.ndarray
    item: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray
    proposed: np.ndarray

    def only(self, rows: np.ndarray) -> "Candidates":
        return Candidates(self.query[rows], self.item[rows], self.ranks[rows], self.scores[rows], self.proposed[rows])


# First visitor, the chunk's visitors, candidates, score float64[n]. A visitor's candidates come one after another, by
# falling score, then item; the queries of a chunk count from its first visitor.
Chunk = tuple[int, Visitors, Candidates, np.ndarray]


@cache
def proposers(mask: int) -> tuple[GeneratorName, ...]:
    """The generators whose bits are set in an entry of `Candidates.proposed`."""
    return tuple(name for bit, name in enumerate(GENERATORS) if mask >> bit & 1)


_ALSO = 31  # the bit of those that nobody proposes


def propose(
    generators: Generators,
    snapshot: Snapshot,
    visitors: Visitors,
    budgets: Mapping[GeneratorName, int],
    also: Sequence[np.ndarray] | None = None,
) -> Candidates:
    """The union of what the generators propose, each within its budget, with every generator's score of each.

    `also`: items that are candidates though nobody proposes them, for each visitor.
    """
    size = len(snapshot.items)
    scores = [generators.scores(name, snapshot, visitors) for name in GENERATORS]
    asked = [bit for bit, name in enumerate(GENERATORS) if name in budgets]
    none = np.zeros(0, np.int64)
    tops = [(none, none), *(scores[bit].top(budgets[GENERATORS[bit]]) for bit in asked)]
    tops += [(np.full(len(items), n), items) for n, items in enumerate(also or ())]
    query, item = (np.concatenate(parts) for parts in zip(*tops, strict=True))
    bits = np.repeat([0, *asked] + [_ALSO] * len(also or ()), [len(items) for _, items in tops])
    proposal = (query * size + item << 5) + bits  # visitor × items + item, then 5 bits for who proposes it
    proposal.sort()
    pair, by = proposal >> 5, np.uint32(1) << (proposal & 31).astype(np.uint32)
    first = _starts(pair)
    query, item = np.divmod(pair[first], size)
    proposed = np.bitwise_or.reduceat(by, first) if len(first) else by
    return candidates(scores, query, item, proposed & ~np.uint32(1 << _ALSO))


def candidates(scores: Sequence[Scores], query: np.ndarray, item: np.ndarray, proposed: np.ndarray) -> Candidates:
    """Each generator's `scores` of the candidates `item[i]` for visitor `query[i]` (rising), as rank and share of the
    visitor's best."""
    shares = np.zeros((len(scores), len(query)), np.float32)
    ranks = np.zeros((len(scores), len(query)), np.float32)
    if len(query):
        # To a generator that says nothing of anybody all are the first, with a share of 0.
        said = [n for n, each in enumerate(scores) if not (isinstance(each, Sparse) and not len(each.keys))]
        raw = np.empty((len(said), len(query)), np.float32)
        for row, n in zip(raw, said, strict=True):
            row[:] = scores[n].at(query, item)
        starts = _starts(query)
        sizes = np.empty_like(starts)
        sizes[:-1], sizes[-1] = starts[1:] - starts[:-1], len(query) - starts[-1]
        best = np.maximum.reduceat(raw, starts, axis=1)
        best[best <= 0] = np.inf
        shares[said] = raw / best.repeat(sizes, axis=1) + 0  # not -0
        ranks[said] = within_query_ranks(query, raw) - starts.repeat(sizes)
    return Candidates(query, item, np.ascontiguousarray(ranks.T), np.ascontiguousarray(shares.T), proposed)


def _starts(rising: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins."""
    new = np.ones(len(rising), bool)
    np.not_equal(rising[1:], rising[:-1], out=new[1:])
    return np.flatnonzero(new)


def within_query_ranks(query: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """int32[generators × n]: how many rows stand before each, by query (rising), then falling score; equal scores
    of a query share the better place. `scores` float32[generators × n], none of them NaN."""
    # Query, score and row as one integer: numpy sorts integers several times faster than it finds their order. The
    # bits of a float order like integers where it is positive, backwards where it is negative; 0 - x makes -0 into 0.
    n = len(query)
    wide = n.bit_length()
    if n and int(query[-1]).bit_length() + 32 + wide > 63:  # more than `chunks` lets through
        raise ValueError(f"{n:,} candidates of {query[-1] + 1:,} visitors are too many at once")
    bits = (np.float32(0) - scores).view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    key = bits.astype(np.int64)
    key <<= wide
    key += (query << 32 + wide) + np.arange(n)
    key.sort(axis=1)
    row = key & (1 << wide) - 1
    row += n * np.arange(len(key))[:, None]
    key >>= wide
    place = np.empty(key.shape, np.int32)
    place[:] = np.arange(n)
    place[:, 1:] *= key[:, 1:] != key[:, :-1]
    np.maximum.accumulate(place, axis=1, out=place)
    out = np.empty_like(place)
    out.reshape(-1)[row] = place
    return out


@dataclass(frozen=True)
class TwoStage:
    """A trained recommender, as a configuration of the two stages."""

    generators: Generators
    budgets: dict[GeneratorName, int]
    ranker: Ranker

    def rank(
        self,
        snapshot: Snapshot,
        visitors: Visitors,
        budgets: Mapping[GeneratorName, int] | None = None,
        also: Sequence[np.ndarray] | None = None,
    ) -> Iterator[Chunk]:
        """Candidates best first, in chunks. `budgets`: in place of the recommender's own; `also`: see `propose`."""

        def score(batch: Visitors, found: Candidates) -> np.ndarray:
            with stage("features"):
                matrix = assemble(snapshot, batch, found.query, found.item, found.ranks, found.scores)
            with stage("ranker"):
                return self.ranker.predict(matrix) if len(matrix) else np.zeros(0)

        budgets = self.budgets if budgets is None else budgets
        return _best_first(self.generators, snapshot, visitors, budgets, also, score)


def fused(
    generators: Generators,
    snapshot: Snapshot,
    visitors: Visitors,
    budgets: Mapping[GeneratorName, int],
    also: Sequence[np.ndarray] | None = None,
) -> Iterator[Chunk]:
    """As `TwoStage.rank` without a ranker: by what the generators of `budgets` say, each as a share of its best for
    the visitor, added up (CombSUM: Fox & Shaw 1994)."""
    columns = [GENERATORS.index(name) for name in budgets]

    def score(_: Visitors, found: Candidates) -> np.ndarray:
        added: np.ndarray = found.scores[:, columns].sum(axis=1, dtype=np.float64)
        return added

    return _best_first(generators, snapshot, visitors, budgets, also, score)


def _best_first(
    generators: Generators,
    snapshot: Snapshot,
    visitors: Visitors,
    budgets: Mapping[GeneratorName, int],
    also: Sequence[np.ndarray] | None,
    score: Callable[[Visitors, Candidates], np.ndarray],
) -> Iterator[Chunk]:
    for start, batch in chunks(snapshot, visitors):
        with stage("candidates"):
            found = propose(generators, snapshot, batch, budgets, also[start : start + len(batch)] if also else None)
        scores = score(batch, found)
        order = np.lexsort((-scores, found.query))  # equal ones stay as they are: by item
        yield start, batch, found.only(order), scores[order]


def chunks(snapshot: Snapshot, visitors: Visitors) -> Iterator[tuple[int, Visitors]]:
    """Visitors in batches whose dense scores take about 100 MB."""
    size = min(max(4_000_000 // max(1, len(snapshot.items)), 1), 512)
    for start in range(0, len(visitors), size):
        yield start, visitors.slice(start, start + size)
