"""The two stages of a recommender, for a batch of visitors: candidate generators, then the ranker."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from features.common.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array, UInt32Array
from features.ranking.feature_matrix import STATED, assemble
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.generators import Generators
from models.candidates.registry import MAX_GENERATORS, GeneratorName
from models.candidates.scores import Scores, SparseScores
from models.ranker import Ranker, RankerConfig
from models.search_space import Between
from models.timing import stage


class TwoStageConfig(BaseModel):
    """Settings of one recommender: the candidate budgets and the ranker."""

    model_config = ConfigDict(extra="forbid")

    budgets: Annotated[dict[GeneratorName, PositiveInt], Between(5, 80, log=True)]
    """Most candidates each generator may propose."""
    cut: float = Field(0.0, ge=0, lt=1)
    """A budget is cut where less than this share of what only this generator proposes is relevant; 0: never."""
    ranker: RankerConfig = RankerConfig()
    """The ranker's settings."""

    def for_generators(self, names: Collection[GeneratorName]) -> "TwoStageConfig":
        """The settings without the budgets of generators other than `names`, which are those that are active."""
        return self.model_copy(update={"budgets": {name: n for name, n in self.budgets.items() if name in names}})


@dataclass(frozen=True)
class Candidates:
    """n candidates of a batch, sorted by query, then item.

    `query` int64[n], `item` int64[n]; `ranks` and `scores` float32[n × generators] as `assemble` takes
    them; `proposed` uint32[n]: bit g is set if the g-th of `Generators.names` proposed the candidate.
    """

    query: Int64Array
    item: Int64Array
    ranks: Float32Array
    scores: Float32Array
    proposed: UInt32Array

    def only(self, rows: BoolArray | Int64Array) -> "Candidates":
        return Candidates(self.query[rows], self.item[rows], self.ranks[rows], self.scores[rows], self.proposed[rows])


Chunk = tuple[int, Visitors, Candidates, Float64Array]
"""First visitor, the chunk's visitors, candidates, score float64[n]. A visitor's candidates come one after another, by
falling score, then item; the queries of a chunk count from its first visitor."""

_ALSO = MAX_GENERATORS  # the bit of candidates that no generator proposes


def propose(
    generators: Generators,
    snapshot: Snapshot,
    visitors: Visitors,
    budgets: Mapping[GeneratorName, int],
    also: Sequence[Int64Array] | None = None,
) -> Candidates:
    """Unite the candidates of the generators, each within its budget, and score them by every generator.

    `budgets` of generators that are not active are ignored. `also`: items for each visitor that are candidates
    though no generator proposes them.
    """
    size, names = len(snapshot.items), generators.names
    scores = [generators.scores(name, snapshot, visitors) for name in names]
    proposing = [bit for bit, name in enumerate(names) if name in budgets]
    none = np.zeros(0, np.int64)
    tops = [(none, none), *(scores[bit].top(budgets[names[bit]]) for bit in proposing)]
    tops += [(np.full(len(items), n), items) for n, items in enumerate(also or ())]
    query, item = (np.concatenate(parts) for parts in zip(*tops, strict=True))
    bits = np.repeat([0, *proposing] + [_ALSO] * len(also or ()), [len(items) for _, items in tops])
    proposal = (query * size + item << 5) + bits  # visitor × items + item, then 5 bits for the generator
    proposal.sort()
    pair, by = proposal >> 5, np.uint32(1) << (proposal & 31).astype(np.uint32)
    first = _starts(pair)
    query, item = np.divmod(pair[first], size)
    proposed = np.bitwise_or.reduceat(by, first) if len(first) else by
    return score_candidates(scores, query, item, proposed & ~np.uint32(1 << _ALSO))


def score_candidates(
    scores: Sequence[Scores], query: Int64Array, item: Int64Array, proposed: UInt32Array
) -> Candidates:
    """Rank the candidates `item[i]` of visitor `query[i]` (rising) by each generator's `scores`, and scale each score
    to the visitor's best."""
    shares = np.zeros((len(scores), len(query)), np.float32)
    ranks = np.zeros((len(scores), len(query)), np.float32)
    if len(query):
        # By a generator without any scores all candidates are tied at rank 0, with a share of 0.
        scored = [n for n, each in enumerate(scores) if not (isinstance(each, SparseScores) and not len(each.keys))]
        raw = np.empty((len(scored), len(query)), np.float32)
        for row, n in zip(raw, scored, strict=True):
            row[:] = scores[n].at(query, item)
        starts = _starts(query)
        sizes = np.empty_like(starts)
        sizes[:-1], sizes[-1] = starts[1:] - starts[:-1], len(query) - starts[-1]
        best = np.maximum.reduceat(raw, starts, axis=1)
        best[best <= 0] = np.inf
        shares[scored] = raw / best.repeat(sizes, axis=1) + 0  # not -0
        ranks[scored] = within_query_ranks(query, raw) - starts.repeat(sizes)
    return Candidates(query, item, np.ascontiguousarray(ranks.T), np.ascontiguousarray(shares.T), proposed)


def _starts(rising: Int64Array) -> Int64Array:
    """Where each run of equal values begins."""
    new = np.ones(len(rising), bool)
    np.not_equal(rising[1:], rising[:-1], out=new[1:])
    return np.flatnonzero(new)


def within_query_ranks(query: Int64Array, scores: Float32Array) -> Int32Array:
    """Count how many rows stand before each, by query (rising), then falling score: int32[generators × n].

    Equal scores of a query share the better rank. `scores` float32[generators × n], none of them NaN.
    """
    # Query, score and row as one integer: numpy sorts integers several times faster than it argsorts them. The
    # bits of a float sort like integers where it is positive, backwards where it is negative; 0 - x makes -0 into 0.
    n = len(query)
    row_bits = n.bit_length()
    if n and int(query[-1]).bit_length() + 32 + row_bits > 63:  # more than `chunks` lets through
        raise ValueError(f"{n:,} candidates of {query[-1] + 1:,} visitors are too many at once")
    bits = (np.float32(0) - scores).view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    key = bits.astype(np.int64)
    key <<= row_bits
    key += (query << 32 + row_bits) + np.arange(n)
    key.sort(axis=1)
    row = key & (1 << row_bits) - 1
    row += n * np.arange(len(key))[:, None]
    key >>= row_bits
    place = np.empty(key.shape, np.int32)
    place[:] = np.arange(n)
    place[:, 1:] *= key[:, 1:] != key[:, :-1]
    np.maximum.accumulate(place, axis=1, out=place)
    out = np.empty_like(place)
    out.reshape(-1)[row] = place
    return out


@dataclass(frozen=True)
class TwoStage:
    """A trained recommender: fitted generators with their budgets, and a ranker."""

    generators: Generators
    budgets: dict[GeneratorName, int]
    ranker: Ranker

    def rank(
        self,
        snapshot: Snapshot,
        visitors: Visitors,
        budgets: Mapping[GeneratorName, int] | None = None,
        also: Sequence[Int64Array] | None = None,
    ) -> Iterator[Chunk]:
        """Rank the visitors' candidates, best first, in chunks.

        `budgets`: in place of the recommender's own; `also`: see `propose`.
        """

        def score(batch: Visitors, c: Candidates) -> Float64Array:
            with stage("features"):
                stated = STATED in self.generators.names
                matrix = assemble(snapshot, batch, c.query, c.item, c.ranks, c.scores, stated)
            with stage("ranker"):
                return self.ranker.predict(matrix) if len(matrix) else np.zeros(0)

        budgets = self.budgets if budgets is None else budgets
        return _rank_chunks(self.generators, snapshot, visitors, budgets, also, score)


def rank_by_score_fusion(
    generators: Generators,
    snapshot: Snapshot,
    visitors: Visitors,
    budgets: Mapping[GeneratorName, int],
    also: Sequence[Int64Array] | None = None,
) -> Iterator[Chunk]:
    """Rank as `TwoStage.rank` does, but by the sum of the generators' scores instead of a ranker.

    Each score of the generators of `budgets` counts as a share of the visitor's best (CombSUM: Fox & Shaw 1994).
    """
    columns = generators.columns(budgets)

    def score(_: Visitors, c: Candidates) -> Float64Array:
        total: Float64Array = c.scores[:, columns].sum(axis=1, dtype=np.float64)
        return total

    return _rank_chunks(generators, snapshot, visitors, budgets, also, score)


def _rank_chunks(
    generators: Generators,
    snapshot: Snapshot,
    visitors: Visitors,
    budgets: Mapping[GeneratorName, int],
    also: Sequence[Int64Array] | None,
    score: Callable[[Visitors, Candidates], Float64Array],
) -> Iterator[Chunk]:
    for start, batch in chunks(snapshot, visitors):
        with stage("candidates"):
            part = also[start : start + len(batch)] if also else None
            proposal = propose(generators, snapshot, batch, budgets, part)
        scores = score(batch, proposal)
        order = np.lexsort((-scores, proposal.query))  # stable: ties stay sorted by item
        yield start, batch, proposal.only(order), scores[order]


def chunks(snapshot: Snapshot, visitors: Visitors) -> Iterator[tuple[int, Visitors]]:
    """Split visitors into batches whose dense scores take about 100 MB; yields the first visitor and the batch."""
    size = min(max(4_000_000 // max(1, len(snapshot.items)), 1), 512)
    for start in range(0, len(visitors), size):
        yield start, visitors.slice(start, start + size)
