"""Generators → assemble → ranker, for a batch of visitors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt

from features.assemble import assemble
from features.snapshot import Snapshot
from features.visitors import Visitors
from models.candidates.generators import GENERATORS, GeneratorName, Generators
from models.candidates.scores import Scores
from models.ranker import Ranker, RankerConfig
from models.space import Between


class TwoStageConfig(BaseModel):
    """One recommender: who proposes, and how the proposals are ranked."""

    model_config = ConfigDict(extra="forbid")

    budgets: Annotated[dict[GeneratorName, PositiveInt], Between(5, 80, log=True)]
    """Most candidates each generator may propose."""
    ranker: RankerConfig = RankerConfig()
    """The ranker's settings."""


@dataclass(frozen=True)
class Candidates:
    """n candidates of a batch, sorted by query, then item.

    `query` int64[n], `item` int64[n]; `ranks` and `scores` float32[n × generators] as `assemble` takes
    them; `proposed` uint16[n]: bit g is set if generator g proposed the candidate.
    """

    query: np.ndarray
    item: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray
    proposed: np.ndarray

    def only(self, rows: np.ndarray) -> "Candidates":
        return Candidates(self.query[rows], self.item[rows], self.ranks[rows], self.scores[rows], self.proposed[rows])


@cache
def proposers(mask: int) -> tuple[GeneratorName, ...]:
    """The generators whose bits are set in an entry of `Candidates.proposed`."""
    return tuple(name for bit, name in enumerate(GENERATORS) if mask >> bit & 1)


def propose(
    generators: Generators, snapshot: Snapshot, visitors: Visitors, budgets: dict[GeneratorName, int]
) -> Candidates:
    """The union of what the generators propose, each within its budget, with every generator's score of each."""
    proposed = np.zeros((len(visitors), len(snapshot.items)), np.uint16)
    scores = [generators.scores(name, snapshot, visitors) for name in GENERATORS]
    for bit, name in enumerate(GENERATORS):
        if name in budgets:
            proposed[scores[bit].top(budgets[name])] |= np.uint16(1 << bit)
    query, item = np.nonzero(proposed)
    return candidates(scores, query, item, proposed[query, item])


def candidates(scores: Sequence[Scores], query: np.ndarray, item: np.ndarray, proposed: np.ndarray) -> Candidates:
    """Each generator's `scores` of the candidates `item[i]` for visitor `query[i]` (rising), as rank and share of the
    visitor's best."""
    raw = np.stack([s.at(query, item) for s in scores])
    if not len(query):
        none = np.zeros((0, len(scores)), np.float32)
        return Candidates(query, item, none, none, proposed)
    starts = np.flatnonzero(np.append(True, query[1:] != query[:-1]))
    row = np.cumsum(np.append(False, query[1:] != query[:-1]))
    best = np.maximum.reduceat(raw, starts, axis=1)[:, row]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(best > 0, raw / best, np.float32(0))
    ranks = np.zeros(raw.shape, np.int64)  # of a generator that says nothing of anybody all are the first
    said = raw.any(axis=1)
    ranks[said] = within_query_ranks(row, raw[said]) - starts[row]
    return Candidates(query, item, ranks.T.astype(np.float32), np.ascontiguousarray(shares.T), proposed)


def within_query_ranks(query: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """int64[generators × n]: how many rows stand before each, by query (rising), then falling score; equal scores
    of a query share the better place. `scores` float32[generators × n], none of them NaN."""
    # Query and score as one integer, of which a plain sort is several times faster than one by two keys. The bits
    # of a float order like integers where it is positive, backwards where it is negative; adding 0 makes -0 into 0.
    bits = (scores + np.float32(0)).view(np.int32).astype(np.int64)
    key = (query << 32) - np.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)
    order = np.argsort(key, axis=1)
    ordered = np.take_along_axis(key, order, axis=1)
    place = np.broadcast_to(np.arange(key.shape[1]), key.shape).copy()
    place[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = 0
    first = np.maximum.accumulate(place, axis=1)
    out = np.empty_like(order)
    np.put_along_axis(out, order, first, axis=1)
    return out


@dataclass(frozen=True)
class TwoStage:
    """A trained recommender, as a configuration of the two stages."""

    generators: Generators
    budgets: dict[GeneratorName, int]
    ranker: Ranker

    def rank(self, snapshot: Snapshot, visitors: Visitors) -> Iterator[tuple[int, Visitors, Candidates, np.ndarray]]:
        """Candidates best first, in chunks: (first visitor, the chunk's visitors, candidates, score float64[n]).

        A visitor's candidates come one after another, by falling score, then item. The queries of a chunk
        count from its first visitor.
        """
        for start, batch in chunks(snapshot, visitors):
            found = propose(self.generators, snapshot, batch, self.budgets)
            matrix = assemble(snapshot, batch, found.query, found.item, found.ranks, found.scores)
            score = self.ranker.predict(matrix) if len(matrix) else np.zeros(0)
            order = np.lexsort((found.item, -score, found.query))
            yield start, batch, found.only(order), score[order]


def chunks(snapshot: Snapshot, visitors: Visitors) -> Iterator[tuple[int, Visitors]]:
    """Visitors in batches whose dense scores take about 100 MB."""
    size = int(np.clip(4_000_000 // max(1, len(snapshot.items)), 1, 512))
    for start in range(0, len(visitors), size):
        yield start, visitors.slice(start, start + size)
