"""Evidence for candidates: the visitor's item that contributes most, neighbours who bought it, events of the visit.

Computed for a batch of visitors at once; the evidence for a visitor depends on that visitor alone.
"""

from dataclasses import dataclass

import numpy as np

from features.common.arrays import AnyArray, Float64Array, Int32Array, Int64Array
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from features.tables.history import ranges
from models.candidates.similarity import ItemSimilarity
from models.candidates.user_knn import UserKnn
from models.candidates.user_profile import ProfileItems


@dataclass(frozen=True)
class SourceItems:
    """For each candidate: the visitor's `item` with the largest contribution to its score, -1 for none; that item's
    `share` of the score (0–1); the number of the visitor's `items` that contribute; the sum, `total`.
    """

    item: Int64Array
    share: Float64Array
    items: Int64Array
    total: Float64Array


class CandidateIndex:
    """Index of n distinct candidates, `item[i]` of visitor `query[i]`: finds them among pairs of visitor and item."""

    def __init__(self, query: Int64Array, item: Int64Array, visitors: int, items: int) -> None:
        self.query, self.item, self.items = query, item, items
        # A dense table: one look-up per pair, where a search takes many steps.
        self.row = np.full(visitors * items, -1, np.int32)
        self.row[query * items + item] = np.arange(len(query), dtype=np.int32)

    def find(self, query: Int64Array, item: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Return (entry, row): which of the pairs are candidates, and of which row."""
        return self._hits(query * self.items + item)

    def _hits(self, pair: Int64Array) -> tuple[Int64Array, Int64Array]:
        row = self.row[pair]
        entry = np.flatnonzero(row >= 0)
        return entry, row[entry].astype(np.int64)

    def find_sources(self, rows: Int64Array, similar: ItemSimilarity, profile: ProfileItems) -> SourceItems:
        """Find the profile items that candidates `rows` owe their scores to: contribution = weight × similarity.

        The result has one entry per entry of `rows`.
        """
        query, item, weight = self._restrict(rows, profile)
        sizes = similar.indptr[item + 1] - similar.indptr[item]
        flat = ranges(similar.indptr[item], sizes)
        pair = np.repeat(query * self.items, sizes)
        pair += similar.indices[flat]
        entry, row = self._hits(pair)
        source = np.searchsorted(np.cumsum(sizes), entry, "right")
        worth = weight[source].astype(np.float64) * similar.data[flat[entry]]
        top = self._top(row, item[source].astype(np.int64), worth)
        return SourceItems(top.item[rows], top.share[rows], top.items[rows], top.total[rows])

    def _restrict(self, rows: Int64Array, profile: ProfileItems) -> ProfileItems:
        """Leave out the profile items of visitors without a candidate in `rows`."""
        relevant = np.zeros(len(self.row) // max(1, self.items), bool)
        relevant[self.query[rows]] = True
        query, item, weight = profile
        if relevant.all():
            return profile
        mask = relevant[query]
        return query[mask], item[mask], weight[mask]

    def _top(self, row: Int64Array, item: Int64Array, worth: Float64Array) -> SourceItems:
        n = len(self.query)
        # An item that the visit touched twice counts once, with all it contributes.
        pair, same = np.unique(row * self.items + item, return_inverse=True)
        sums: AnyArray = np.bincount(same, worth, len(pair))
        row, item = pair // self.items, pair % self.items
        total: AnyArray = np.bincount(row, sums, n)
        items = np.bincount(row, minlength=n)
        order = np.lexsort((-sums, row))
        first = order[np.searchsorted(row[order], np.flatnonzero(items))]
        best, share = np.full(n, -1), np.zeros(n)
        best[row[first]] = item[first]
        share[row[first]] = sums[first] / np.maximum(total[row[first]], 1e-300)
        return SourceItems(best, share, items, total)

    def count_buyers(
        self, rows: Int64Array, snapshot: Snapshot, neighbours: UserKnn, visitors: Visitors
    ) -> tuple[Int64Array, Int64Array]:
        """Count the visitor's neighbours who bought the item, and all of them, aligned with `rows`.

        Only for rows of customers in the snapshot.
        """
        queries = np.unique(self.query[rows])
        start = neighbours.indptr[visitors.customers[queries]]
        sizes = neighbours.indptr[visitors.customers[queries] + 1] - start
        neighbour, position = snapshot.history.gather(neighbours.indices[ranges(start, sizes)].astype(np.int64))
        pair = np.repeat(queries * self.items, sizes)[neighbour]
        pair += snapshot.history.items[position]
        entry, row = self._hits(pair)
        bought = snapshot.history.column("orders")[position[entry]] > 0
        count = np.bincount(row[bought], minlength=len(self.query))
        return count[rows], sizes[np.searchsorted(queries, self.query[rows])]

    def find_category_items(self, rows: Int64Array, codes: Int32Array, profiles: list[ProfileItems]) -> Int64Array:
        """Find the visitor's item of most weight in the candidate's category (`codes`), other than the candidate.

        One entry per entry of `rows`, -1 where there is none. Items of the first profile go before all of the
        second's.
        """
        query, item, weight = (np.concatenate(parts) for parts in zip(*profiles, strict=True))
        turn = np.repeat(np.arange(len(profiles)), [len(p[0]) for p in profiles])
        known = np.flatnonzero(codes[item] >= 0)
        group = query[known] * self.items + codes[item[known]]
        order = known[np.lexsort((item[known], -weight[known], turn[known], group))]
        group, of = np.sort(group), self.item[rows]
        key = self.query[rows] * self.items + codes[of]
        first, end = np.searchsorted(group, key), np.searchsorted(group, key, "right")
        end = np.where(codes[of] >= 0, end, first)
        result, open_ = np.full(len(rows), -1), np.flatnonzero(first < end)
        while len(open_):  # past the candidate itself, which the visit may have touched more than once
            result[open_] = item[order[first[open_]]]
            first[open_] += 1
            open_ = open_[result[open_] == of[open_]]
            result[open_] = -1
            open_ = open_[first[open_] < end[open_]]
        return result
