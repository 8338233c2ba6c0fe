"""Generators → assemble → ranker, for a batch of visitors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt

from features.assemble import assemble
from features.snapshot import Snapshot
from features.visitors import Visitors
from models.candidates.generators import GENERATORS, GeneratorName, Generators
from models.ranker import Ranker, RankerConfig
from models.space import Between


class TwoStageConfig(BaseModel):
    """One recommender: who proposes, and how the proposals are ranked."""

    model_config = ConfigDict(extra="forbid")

    budgets: Annotated[dict[GeneratorName, PositiveInt], Between(10, 120, log=True)]
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
    raw = np.stack([s.at(query, item) for s in scores], axis=1)
    starts = np.searchsorted(query, np.arange(len(visitors)))
    ranks = np.empty_like(raw)
    over_best = np.empty_like(raw)
    for g in range(len(GENERATORS)):
        ranks[:, g] = within_query_rank(query, raw[:, g], starts)
        over_best[:, g] = _over_best(query, raw[:, g], starts)
    return Candidates(query, item, ranks, over_best, proposed[query, item])


def within_query_rank(query: np.ndarray, score: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """0 for the best score of a query; equal scores share the better rank. `starts`: first row of each query."""
    order = np.lexsort((-score, query))
    ordered = score[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]) | (query[1:] != query[:-1])
    first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    rank = np.empty(len(order), np.float32)
    rank[order] = first - starts[query]
    return rank


def _over_best(query: np.ndarray, score: np.ndarray, starts: np.ndarray) -> np.ndarray:
    if not len(query):
        return score
    best = np.full(len(starts), -np.inf, np.float32)
    np.maximum.at(best, query, score)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(best[query] > 0, score / best[query], np.float32(0))


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
