"""What a generator says of a batch of visitors: a score for each item, 0 or less meaning no reason to propose it.

Held in the form that suits the generator. Whatever the form, what is said of a visitor depends on that visitor
alone, bit for bit, not on the batch they come in.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

Csr = tuple[np.ndarray, np.ndarray, np.ndarray]
"""indptr, indices and data of a matrix held by rows."""

_CELLS = 16  # so many cells are gone through as fast as one entry is sorted


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
    """Scores of few items: `keys` int64, visitor × `size` + item, rising; `values` float32."""

    keys: np.ndarray
    values: np.ndarray
    visitors: int
    size: int  # how many items there are

    @classmethod
    def summed(cls, query: np.ndarray, item: np.ndarray, weight: np.ndarray, visitors: int, size: int) -> "Sparse":
        """The weights of each (query, item) added up, in double precision and in their order.

        scipy's own sum sorts a row, not stably, only if some row of the batch needs it: a last bit would depend on
        others.
        """
        key = query * size + item
        if visitors * size <= _CELLS * len(key):
            total = np.bincount(key, weight, visitors * size)
            keys = np.flatnonzero(total)
            return cls(keys, total[keys].astype(np.float32), visitors, size)
        keys, place = np.unique(key, return_inverse=True)
        total = np.bincount(place, weight, len(keys))
        return cls(keys[total != 0], total[total != 0].astype(np.float32), visitors, size)

    @classmethod
    def product(
        cls, query: np.ndarray, row: np.ndarray, weight: np.ndarray, matrix: Csr, visitors: int, size: int
    ) -> "Sparse":
        """Sum over each visitor's rows of weight × `matrix[row]`."""
        indptr, indices, data = matrix
        sizes = indptr[row + 1] - indptr[row]
        at = ranges(indptr[row], sizes)
        return cls.summed(np.repeat(query, sizes), indices[at], np.repeat(weight, sizes) * data[at], visitors, size)

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.searchsorted(self.keys, np.arange(self.visitors + 1) * self.size)

    def top(self, budget: int) -> tuple[np.ndarray, np.ndarray]:
        keep = self.values > 0
        sizes = np.diff(self._starts)
        for row in np.flatnonzero(sizes > budget):
            a, b = self._starts[row], self._starts[row + 1]
            best = np.argpartition(-self.values[a:b], budget - 1)[:budget]
            chosen = np.zeros(b - a, bool)
            chosen[best] = True
            keep[a:b] &= chosen
        kept = np.flatnonzero(keep)
        query = np.repeat(np.arange(self.visitors), sizes)[kept]
        return query, self.keys[kept] - query * self.size

    def at(self, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        if not len(self.keys):
            return np.zeros(len(query), np.float32)
        wanted = query * self.size + item
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[place] == wanted, self.values[place], np.float32(0))


def ranges(start: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """start[0], start[0] + 1, …, `sizes[0]` of them, and so on for each."""
    out = np.repeat(start - (np.cumsum(sizes) - sizes), sizes)
    out += np.arange(len(out))
    return out
