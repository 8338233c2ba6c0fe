"""One metric of one hold-out, quickly: what `training.evaluation.evaluate` says of it, for scores of the same candidates."""

from dataclasses import dataclass

import numpy as np

from features.ranking.snapshot import Snapshot
from models.two_stage import Candidates
from training.dataset.queries import Queries
from training.evaluation import metrics
from training.evaluation.seen_items import among, bought

NEW = "new_"  # items the customer had not bought before, only


@dataclass(frozen=True)
class Judge:
    """n candidates of all queries, sorted by query, then item.

    `query` int64[n]; `counted` bool[n]: whether a candidate may be in a list; `hit` bool[n]: whether it is relevant;
    `relevant` int64[queries]: how many items are.
    """

    metric: str
    query: np.ndarray
    counted: np.ndarray
    hit: np.ndarray
    relevant: np.ndarray

    @classmethod
    def of(cls, metric: str, snapshot: Snapshot, asked: Queries, found: list[tuple[int, Candidates]]) -> "Judge":
        """`found`: candidates in chunks, each with the number of its first query."""
        query = np.concatenate([start + part.query for start, part in found])
        item = np.concatenate([part.item for _, part in found])
        hit = asked.labels(query, item, len(snapshot.items)) > 0
        counted, wanted = np.ones(len(query), bool), np.ones(len(asked.query), bool)
        if metric.startswith(NEW):
            before = bought(snapshot, asked.visitors)
            counted = ~among(before, query, item, len(snapshot.items))
            wanted = ~among(before, asked.query, asked.item, len(snapshot.items))
        relevant = np.bincount(asked.query[wanted], minlength=len(asked))
        return cls(metric, query, counted, hit, relevant)

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """float64[queries]: the metric of lists by falling `score` float64[n]; NaN where nothing is relevant."""
        order = np.lexsort((-score, self.query))  # stable: equal scores stay in the order of the items
        order = order[self.counted[order]]
        hits = metrics.lists(self.query[order], self.hit[order], len(self.relevant), False)
        values = metrics.PER_QUERY[self.metric.removeprefix(NEW)](hits, self.relevant)
        return np.where(self.relevant > 0, values, np.nan)
