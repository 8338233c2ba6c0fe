"""Looks up what stands behind candidates: the visitor's item that counts most, neighbours, events of the visit.

Everything is computed for a batch of visitors at once, and what is found for a visitor depends on that visitor alone.
"""

from dataclasses import dataclass

import numpy as np

from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from features.tables.history import ranges
from models.candidates.similarity import ItemSimilarity
from models.candidates.user_knn import UserKnn
from models.candidates.user_profile import ProfileItems


@dataclass(frozen=True)
class SourceItems:
    """For each candidate: the visitor's `item` with the largest contribution to its score, -1 for none; that item's
    `share` of the score (float64, 0–1); the number of the visitor's `items` that contribute; the sum, `total`.
    """

    item: np.ndarray
    share: np.ndarray
    items: np.ndarray
    total: np.ndarray


class CandidateIndex:
    """n candidates, `item[i]` of visitor `query[i]`, each given once, to be found among pairs of visitor and item."""

    def __init__(self, query: np.ndarray, item: np.ndarray, visitors: int, items: int) -> None:
        self.query, self.item, self.items = query, item, items
        # As large as what `propose` marks its proposals in; one look-up a pair, where a search takes many.
        self.row = np.full(visitors * items, -1, np.int32)
        self.row[query * items + item] = np.arange(len(query), dtype=np.int32)

    def find(self, query: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(entry, row): which of the pairs are candidates, and which one."""
        return self._hits(query * self.items + item)

    def _hits(self, pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row = self.row[pair]
        entry = np.flatnonzero(row >= 0)
        return entry, row[entry].astype(np.int64)

    def behind(self, rows: np.ndarray, similar: ItemSimilarity, asked: ProfileItems) -> SourceItems:
        """Which of the visitor's items (`asked`) stands behind candidates `rows`: contribution = weight × similarity.

        The result has one entry per row asked for.
        """
        query, item, weight = self._of_visitors(rows, asked)
        sizes = similar.indptr[item + 1] - similar.indptr[item]
        flat = ranges(similar.indptr[item], sizes)
        pair = np.repeat(query * self.items, sizes)
        pair += similar.indices[flat]
        entry, row = self._hits(pair)
        source = np.searchsorted(np.cumsum(sizes), entry, "right")
        worth = weight[source].astype(np.float64) * similar.data[flat[entry]]
        found = self._top(row, item[source].astype(np.int64), worth)
        return SourceItems(found.item[rows], found.share[rows], found.items[rows], found.total[rows])

    def _of_visitors(self, rows: np.ndarray, asked: ProfileItems) -> ProfileItems:
        """Without those of other visitors."""
        concerned = np.zeros(len(self.row) // max(1, self.items), bool)
        concerned[self.query[rows]] = True
        if concerned.all():
            return asked
        kept = concerned[asked[0]]
        return asked[0][kept], asked[1][kept], asked[2][kept]

    def _top(self, row: np.ndarray, item: np.ndarray, worth: np.ndarray) -> SourceItems:
        n = len(self.query)
        # An item that the visit touched twice counts once, with all it contributes.
        pair, same = np.unique(row * self.items + item, return_inverse=True)
        worth = np.bincount(same, worth, len(pair))
        row, item = pair // self.items, pair % self.items
        total, items = np.bincount(row, worth, n), np.bincount(row, minlength=n)
        order = np.lexsort((-worth, row))
        first = order[np.searchsorted(row[order], np.flatnonzero(items))]
        best, share = np.full(n, -1), np.zeros(n)
        best[row[first]] = item[first]
        share[row[first]] = worth[first] / np.maximum(total[row[first]], 1e-300)
        return SourceItems(best, share, items, total)

    def bought_by(
        self, rows: np.ndarray, snapshot: Snapshot, neighbours: UserKnn, visitors: Visitors
    ) -> tuple[np.ndarray, np.ndarray]:
        """(int64, int64) per row asked for: how many of the visitor's neighbours bought the item, how many there are.

        Only for rows of customers that the snapshot knows.
        """
        who = np.unique(self.query[rows])
        start = neighbours.indptr[visitors.customers[who]]
        sizes = neighbours.indptr[visitors.customers[who] + 1] - start
        alike, position = snapshot.history.gather(neighbours.indices[ranges(start, sizes)].astype(np.int64))
        pair = np.repeat(who * self.items, sizes)[alike]
        pair += snapshot.history.items[position]
        entry, row = self._hits(pair)
        bought = snapshot.history.column("orders")[position[entry]] > 0
        count = np.bincount(row[bought], minlength=len(self.query))
        return count[rows], sizes[np.searchsorted(who, self.query[rows])]

    def kin(self, rows: np.ndarray, codes: np.ndarray, bases: list[ProfileItems]) -> np.ndarray:
        """int64 per row asked for: the visitor's item of most weight in the candidate's category (`codes`), other
        than the candidate.

        Of two `bases` the first one's items go before all of the second one's; -1 where there is none.
        """
        query, item, weight = (np.concatenate(parts) for parts in zip(*bases, strict=True))
        turn = np.repeat(np.arange(len(bases)), [len(b[0]) for b in bases])
        known = np.flatnonzero(codes[item] >= 0)
        group = query[known] * self.items + codes[item[known]]
        order = known[np.lexsort((item[known], -weight[known], turn[known], group))]
        group, of = np.sort(group), self.item[rows]
        wanted = self.query[rows] * self.items + codes[of]
        first, end = np.searchsorted(group, wanted), np.searchsorted(group, wanted, "right")
        end = np.where(codes[of] >= 0, end, first)
        found, open_ = np.full(len(rows), -1), np.flatnonzero(first < end)
        while len(open_):  # past the candidate itself, which the visit may have touched more than once
            found[open_] = item[order[first[open_]]]
            first[open_] += 1
            open_ = open_[found[open_] == of[open_]]
            found[open_] = -1
            open_ = open_[first[open_] < end[open_]]
        return found
