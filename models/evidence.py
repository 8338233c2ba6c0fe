"""Looks up what stands behind candidates: the visitor's item that counts most, neighbours, events of the visit.

Everything is computed for a batch of visitors at once, and what is found for a visitor depends on that visitor alone.
"""

from dataclasses import dataclass

import numpy as np

from features.snapshot import Snapshot
from features.visitors import Visitors
from models.candidates.neighbours import Neighbours
from models.candidates.similar import Similar

Asked = tuple[np.ndarray, np.ndarray, np.ndarray]  # query, item, weight, as `candidates.taste.asked`


@dataclass(frozen=True)
class Behind:
    """For each candidate: the visitor's `item` with the largest contribution to its score, -1 for none; that item's
    `share` of the score (float64, 0–1); the number of the visitor's `items` that contribute; the sum, `total`.
    """

    item: np.ndarray
    share: np.ndarray
    items: np.ndarray
    total: np.ndarray


class Targets:
    """n candidates, `item[i]` of visitor `query[i]`, to be found among other pairs of visitor and item."""

    def __init__(self, query: np.ndarray, item: np.ndarray, items: int) -> None:
        self.size = items
        # Rows that are given twice share a key.
        self.keys, self.back = np.unique(query * items + item, return_inverse=True)
        self.wanted = np.zeros(items, bool)
        self.wanted[item] = True

    def find(self, query: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(entry, key): which of the pairs are candidates, and which one."""
        entry = np.flatnonzero(self.wanted[item])  # most are not, and this is quicker than a search
        if not len(entry):
            return entry, entry
        pair = query[entry] * self.size + item[entry]
        at = np.minimum(np.searchsorted(self.keys, pair), len(self.keys) - 1)
        hit = self.keys[at] == pair
        return entry[hit], at[hit]

    def behind(self, similar: Similar, asked: Asked) -> Behind:
        """Which of the visitor's items (`asked`) stands behind each candidate: contribution = weight × similarity."""
        query, item, weight = asked
        sizes = similar.indptr[item + 1] - similar.indptr[item]
        flat = _ranges(similar.indptr[item], sizes)
        source = np.repeat(np.arange(len(item)), sizes)
        entry, key = self.find(query[source], similar.indices[flat].astype(np.int64))
        source = source[entry]
        worth = weight[source].astype(np.float64) * similar.data[flat[entry]]
        return self._top(key, item[source], worth)

    def _top(self, key: np.ndarray, item: np.ndarray, worth: np.ndarray) -> Behind:
        n = len(self.keys)
        # An item that the visit touched twice counts once, with all it contributes.
        pair, same = np.unique(key * self.size + item, return_inverse=True)
        worth = np.bincount(same, worth, len(pair))
        key, item = pair // self.size, pair % self.size
        total, items = np.bincount(key, worth, n), np.bincount(key, minlength=n)
        order = np.lexsort((-worth, key))
        first = order[np.searchsorted(key[order], np.flatnonzero(items))]
        best, share = np.full(n, -1), np.zeros(n)
        best[key[first]] = item[first]
        share[key[first]] = worth[first] / np.maximum(total[key[first]], 1e-300)
        return Behind(best[self.back], share[self.back], items[self.back], total[self.back])

    def bought_by(self, snapshot: Snapshot, neighbours: Neighbours, visitors: Visitors) -> tuple[np.ndarray, ...]:
        """(int64, int64) per key: how many of the visitor's neighbours bought the item, and how many there are."""
        known = np.maximum(visitors.customers, 0)
        last = len(neighbours.indptr) - 2
        start = neighbours.indptr[np.minimum(known, last)]
        sizes = np.where(visitors.customers >= 0, neighbours.indptr[np.minimum(known + 1, last + 1)] - start, 0)
        who = np.repeat(np.arange(len(visitors)), sizes)
        alike, position = snapshot.history.gather(neighbours.indices[_ranges(start, sizes)].astype(np.int64))
        entry, key = self.find(who[alike], snapshot.history.items[position].astype(np.int64))
        bought = snapshot.history.column("orders")[position[entry]] > 0
        count = np.bincount(key[bought], minlength=len(self.keys))
        return count[self.back], sizes[(self.keys // self.size)[self.back]]

    def kin(self, codes: np.ndarray, bases: list[Asked]) -> np.ndarray:
        """int64[n]: the visitor's item of most weight in the candidate's category (`codes`), other than the candidate.

        Of two `bases` the first one's items go before all of the second one's; -1 where there is none.
        """
        query, item, weight = (np.concatenate(parts) for parts in zip(*bases, strict=True))
        turn = np.repeat(np.arange(len(bases)), [len(b[0]) for b in bases])
        known = np.flatnonzero(codes[item] >= 0)
        group = query[known] * self.size + codes[item[known]]
        order = known[np.lexsort((item[known], -weight[known], turn[known], group))]
        group = np.sort(group)
        wanted, of = self.keys // self.size * self.size + codes[self.keys % self.size], self.keys % self.size
        first, end = np.searchsorted(group, wanted), np.searchsorted(group, wanted, "right")
        end = np.where(codes[of] >= 0, end, first)
        found, open_ = np.full(len(wanted), -1), np.flatnonzero(first < end)
        while len(open_):  # past the candidate itself, which the visit may have touched more than once
            found[open_] = item[order[first[open_]]]
            first[open_] += 1
            open_ = open_[found[open_] == of[open_]]
            found[open_] = -1
            open_ = open_[first[open_] < end[open_]]
        return found[self.back]


def _ranges(start: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """start[0], start[0] + 1, …, and so on for each."""
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(start, sizes) + within
