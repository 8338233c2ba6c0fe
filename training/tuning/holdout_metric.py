"""The metric of a study on its hold-out, computed quickly for any scores of one set of candidates.

The values are those of `training.evaluation.evaluate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.ranking.snapshot import Snapshot
from models.two_stage import Candidates
from training.dataset.queries import Queries
from training.evaluation import metrics
from training.evaluation.seen_items import find_purchases, mask_pairs

NEW = "new_"  # prefix of metrics on items that the customer had not bought before


@dataclass(frozen=True)
class HoldoutMetric:
    """A metric of n candidates of all queries, sorted by query, then item.

    `query` int64[n]; `eligible` bool[n]: whether a candidate may be in a list; `hit` bool[n]: whether it is relevant;
    `relevant` int64[queries]: number of relevant items.
    """

    metric: str
    query: np.ndarray
    eligible: np.ndarray
    hit: np.ndarray
    relevant: np.ndarray

    @classmethod
    def from_candidates(
        cls, metric: str, snapshot: Snapshot, queries: Queries, parts: Sequence[tuple[int, Candidates]]
    ) -> "HoldoutMetric":
        """Prepare `metric` for all candidates of `queries`, in chunks, each with the number of its first query."""
        query = np.concatenate([start + part.query for start, part in parts])
        item = np.concatenate([part.item for _, part in parts])
        hit = queries.labels(query, item, len(snapshot.items)) > 0
        eligible, pairs = np.ones(len(query), bool), np.ones(len(queries.query), bool)
        if metric.startswith(NEW):
            purchases = find_purchases(snapshot, queries.visitors)
            eligible = ~mask_pairs(purchases, query, item, len(snapshot.items))
            pairs = ~mask_pairs(purchases, queries.query, queries.item, len(snapshot.items))
        relevant = np.bincount(queries.query[pairs], minlength=len(queries))
        return cls(metric, query, eligible, hit, relevant)

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Compute the metric of each query's list by falling `score` float64[n].

        float64[queries]; NaN where nothing is relevant.
        """
        order = np.lexsort((-score, self.query))  # stable: equal scores stay in the order of the items
        order = order[self.eligible[order]]
        hits = metrics.top_lists(self.query[order], self.hit[order], len(self.relevant), False)
        values = metrics.PER_QUERY[self.metric.removeprefix(NEW)](hits, self.relevant)
        return np.where(self.relevant > 0, values, np.nan)
