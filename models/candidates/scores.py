"""What a generator says of a batch of visitors: a score for each item, 0 or less meaning no reason to propose it.

Held in the form that suits the generator. Whatever the form, what is said of a visitor depends on that visitor
alone, bit for bit, not on the batch they come in.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import sparse


class Scores(Protocol):
    """Scores of n visitors over all items."""

    def top(self, budget: int) -> tuple[np.ndarray, np.ndarray]:
        """(visitor int64[m], item int64[m]), in no order: each visitor's `budget` best items of those above 0."""
        ...

    def at(self, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        """float32[len(query)]: the score of each `item[i]` for visitor `query[i]`."""
        ...


@dataclass(frozen=True)
class Dense:
    """`values` float32[visitors × items]."""

    values: np.ndarray

    def top(self, budget: int) -> tuple[np.ndarray, np.ndarray]:
        n = self.values.shape[1]
        if budget < n:
            # The smallest of the negated scores: where most scores are 0, partitioning at the far side of so many
            # equal values takes ten times as long.
            items = np.argpartition(-self.values, budget - 1, axis=1)[:, :budget]
        else:
            items = np.broadcast_to(np.arange(n), self.values.shape)
        rows = np.repeat(np.arange(len(self.values)), items.shape[1])
        flat = items.ravel()
        good = self.values[rows, flat] > 0
        return rows[good], flat[good]

    def at(self, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.values[query, item]
        return found


@dataclass(frozen=True)
class Shared:
    """The same for all of `visitors` visitors: `values` float32[items]."""

    values: np.ndarray
    visitors: int

    def top(self, budget: int) -> tuple[np.ndarray, np.ndarray]:
        _, best = Dense(self.values[None]).top(budget)
        return np.repeat(np.arange(self.visitors), len(best)), np.tile(best, self.visitors)

    def at(self, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.values[item]
        return found


@dataclass(frozen=True)
class Grouped:
    """The same for all visitors of a group: `values` float32[groups × items], `group` int64[visitors], -1 for none."""

    values: np.ndarray
    group: np.ndarray

    def top(self, budget: int) -> tuple[np.ndarray, np.ndarray]:
        rows, items = [], []
        for g in np.unique(self.group[self.group >= 0]):
            _, best = Dense(self.values[g : g + 1]).top(budget)
            members = np.flatnonzero(self.group == g)
            rows.append(np.repeat(members, len(best)))
            items.append(np.tile(best, len(members)))
        none = np.zeros(0, np.int64)
        return np.concatenate([none, *rows]), np.concatenate([none, *items])

    def at(self, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        group = self.group[query]
        return np.where(group >= 0, self.values[np.maximum(group, 0), item], np.float32(0))


@dataclass(frozen=True)
class Sparse:
    """Scores of few items: row i from `starts[i]` to `starts[i + 1]`, its `items` (int64) rising."""

    starts: np.ndarray
    items: np.ndarray
    values: np.ndarray
    size: int  # how many items there are

    @classmethod
    def of(cls, rows: sparse.csr_matrix) -> "Sparse":
        rows.sort_indices()
        return cls(rows.indptr.astype(np.int64), rows.indices.astype(np.int64), rows.data, rows.shape[1])

    @cached_property
    def _query(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @cached_property
    def _keys(self) -> np.ndarray:
        return self._query * self.size + self.items

    def top(self, budget: int) -> tuple[np.ndarray, np.ndarray]:
        keep = self.values > 0
        for row in np.flatnonzero(np.diff(self.starts) > budget):
            a, b = self.starts[row], self.starts[row + 1]
            best = np.argpartition(-self.values[a:b], budget - 1)[:budget]
            chosen = np.zeros(b - a, bool)
            chosen[best] = True
            keep[a:b] &= chosen
        return self._query[keep], self.items[keep]

    def at(self, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        if not len(self.items):
            return np.zeros(len(query), np.float32)
        wanted = query * self.size + item
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[place] == wanted, self.values[place], np.float32(0))


def summed(query: np.ndarray, column: np.ndarray, weight: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """float32[shape], rows and columns rising: the weights of each (query, column) added up in their order.

    scipy's own sum sorts a row, not stably, only if some row of the batch needs it: a last bit would depend on others.
    """
    key, place = np.unique(query * shape[1] + column, return_inverse=True)
    starts = np.searchsorted(key, np.arange(shape[0] + 1) * shape[1])
    columns = key - np.repeat(np.arange(shape[0]), np.diff(starts)) * shape[1]
    total = np.bincount(place, weight, len(key)).astype(np.float32)
    return sparse.csr_matrix((total, columns, starts), shape=shape)
