"""Scores of a batch of visitors: one for each item, where 0 or less means no reason to propose it.

Held in the form that suits the generator. Whatever the form, a visitor's scores depend on that visitor alone, bit for
bit, not on the batch they come in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from features.common.arrays import Float32Array, FloatArray, Int64Array, IntArray
from features.ranking.pair_index import look_up
from features.tables.history import ranges

Csr = tuple[IntArray, IntArray, Float32Array]
"""indptr, indices and data of a matrix in CSR form."""

_BLOCK = 1 << 15  # entries that are summed at once: they stay in the processor's cache
_LEAST = np.finfo(np.float32).tiny  # anything smaller counts as 0
_ROUNDING = 1e-5  # most that rounding may change a score in a product over a batch
_SPARE = 32  # items listed beyond the budget, as that may change their order
_CELLS = 16  # going through this many cells takes as long as sorting one entry
_FEW = 1 << 14  # going through this many cells takes as long as starting a sort


class Scores(Protocol):
    """Scores of n visitors over all items."""

    def top(self, budget: int) -> tuple[Int64Array, Int64Array]:
        """(visitor int64[m], item int64[m]), in no order: each visitor's `budget` best items of those above 0.

        Ties go to the first items in every form, as the form may depend on the batch.
        """
        ...

    def at(self, query: Int64Array, item: Int64Array) -> Float32Array:
        """float32[len(query)]: the score of each `item[i]` for visitor `query[i]`."""
        ...


@dataclass(frozen=True)
class DenseScores:
    """`values` float32[visitors × items]."""

    values: Float32Array

    def top(self, budget: int) -> tuple[Int64Array, Int64Array]:
        return _concatenated([_best(row, budget) for row in self.values])

    def at(self, query: Int64Array, item: Int64Array) -> Float32Array:
        scores: Float32Array = self.values[query, item]
        return scores


@dataclass(frozen=True)
class FactoredScores:
    """`vectors` float32[visitors × factors] times `items` float32[items × factors]; a vector of zeros scores nothing.

    One product over the batch is ten times as fast as one per visitor, but the last bits of its scores depend on how
    many visitors there are. So it only selects items that may be among the best; these are then scored one by one.
    """

    vectors: Float32Array
    items: Float32Array

    def top(self, budget: int) -> tuple[Int64Array, Int64Array]:
        rough = self.vectors @ self.items.T
        # Rounding may hide scores just above 0, and swap items near the end of the list.
        rough += _ROUNDING * np.abs(self.vectors).sum(axis=1)[:, None]
        query, item = DenseScores(rough).top(budget + _SPARE)
        query, rows = _best_of_each(query.searchsorted(np.arange(len(rough) + 1)), self.at(query, item), budget)
        return query, item[rows]

    def at(self, query: Int64Array, item: Int64Array) -> Float32Array:
        scores: Float32Array = np.einsum("nf,nf->n", self.vectors[query], self.items[item])
        return scores


@dataclass(frozen=True)
class SharedScores:
    """The same for all of `visitors` visitors: `values` float32[items]."""

    values: Float32Array
    visitors: int
    order: Int64Array  # by falling score, then item

    def top(self, budget: int) -> tuple[Int64Array, Int64Array]:
        best = self.order[:budget]
        best = best[self.values[best] >= _LEAST]
        return np.arange(self.visitors).repeat(len(best)), best[None].repeat(self.visitors, axis=0).reshape(-1)

    def at(self, query: Int64Array, item: Int64Array) -> Float32Array:
        scores: Float32Array = self.values[item]
        return scores


@dataclass(frozen=True)
class GroupScores:
    """The same for all visitors of a group: `values` float32[groups × items], `group` int64[visitors], -1 for none."""

    values: Float32Array
    group: Int64Array

    def top(self, budget: int) -> tuple[Int64Array, Int64Array]:
        rows, items = [], []
        for g in np.unique(self.group[self.group >= 0]):
            _, best = DenseScores(self.values[g : g + 1]).top(budget)
            members = np.flatnonzero(self.group == g)
            rows.append(np.repeat(members, len(best)))
            items.append(np.tile(best, len(members)))
        none = np.zeros(0, np.int64)
        return np.concatenate([none, *rows]), np.concatenate([none, *items])

    def at(self, query: Int64Array, item: Int64Array) -> Float32Array:
        group = self.group[query]
        return np.where(group >= 0, self.values[np.maximum(group, 0), item], np.float32(0))


@dataclass(frozen=True)
class SparseScores:
    """Scores of few items: `keys` are visitor × `size` + item, rising."""

    keys: Int64Array
    values: Float32Array
    visitors: int
    size: int  # how many items there are

    @classmethod
    def empty(cls, visitors: int, size: int) -> "SparseScores":
        """No item has a score."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.float32), visitors, size)

    @classmethod
    def from_entries(
        cls, query: Int64Array, item: IntArray, weight: FloatArray, visitors: int, size: int
    ) -> "SparseScores":
        """Add up the weights of each (query, item), in double precision and in their order.

        scipy's own sum sorts a row, not stably, only if some row of the batch needs it: a last bit would depend on
        others.
        """
        if not len(query):
            return cls.empty(visitors, size)
        key = query * size + item
        if visitors * size <= max(_CELLS * len(key), _FEW):
            total = np.bincount(key, weight, visitors * size)
            keys = np.flatnonzero(total)
            return cls(keys, total[keys].astype(np.float32), visitors, size)
        keys, place = np.unique(key, return_inverse=True)
        total = np.bincount(place, weight, len(keys))
        return cls(keys[total != 0], total[total != 0].astype(np.float32), visitors, size)

    def top(self, budget: int) -> tuple[Int64Array, Int64Array]:
        if not len(self.keys):
            return self.keys, self.keys
        starts = self.keys.searchsorted(np.arange(self.visitors + 1) * self.size)
        query, rows = _best_of_each(starts, self.values, budget)
        return query, self.keys[rows] - query * self.size

    def at(self, query: Int64Array, item: Int64Array) -> Float32Array:
        return look_up(self.keys, self.values, query * self.size + item, np.float32(0))


def product(query: Int64Array, row: IntArray, weight: FloatArray, matrix: Csr, visitors: int, size: int) -> Scores:
    """Sum weight × `matrix[row]` over each visitor's rows (`query` rising), in double precision, in their order."""
    if not len(row):
        return SparseScores.from_entries(query, row, weight, visitors, size)
    indptr, indices, data = matrix
    start = indptr[row]
    sizes = indptr[row + 1] - start
    ends = np.cumsum(sizes)
    if visitors * size > _CELLS * ends[-1]:
        at = ranges(start, sizes)
        return SparseScores.from_entries(
            np.repeat(query, sizes), indices[at], np.repeat(weight, sizes) * data[at], visitors, size
        )
    out = np.empty((visitors, size), np.float32)
    step = max(1, int(visitors * _BLOCK // ends[-1]))
    for first in range(0, visitors, step):
        last = min(first + step, visitors)
        part = slice(*query.searchsorted([first, last]).tolist())
        counts = sizes[part]
        at = ranges(start[part], counts)
        key = np.repeat((query[part] - first) * size, counts)
        key += indices[at]
        value = np.repeat(weight[part], counts)
        value *= data[at]
        out[first:last] = np.bincount(key, value, (last - first) * size).reshape(-1, size)
    return DenseScores(out)


def _best(values: Float32Array, budget: int) -> Int64Array:
    """Positions of the `budget` largest values above 0, rising; ties go to the first."""
    if len(values) <= budget:
        return np.flatnonzero(values >= _LEAST)
    # The smallest of the negated values: where most are 0, partitioning beyond so many equal values takes ten times
    # as long.
    least = max(_LEAST, -np.partition(-values, budget - 1)[budget - 1])
    best = np.flatnonzero(values >= least)
    if len(best) > budget:
        keep = np.ones(len(best), bool)
        keep[np.flatnonzero(values[best] == least)[budget - len(best) :]] = False
        best = best[keep]
    return best


def _best_of_each(starts: Int64Array, values: Float32Array, budget: int) -> tuple[Int64Array, Int64Array]:
    """(visitor, position): `_best` of each visitor, whose values are those from `starts[visitor]` to the next."""
    return _concatenated([first + _best(values[first:last], budget) for first, last in pairwise(starts.tolist())])


def _concatenated(best: Sequence[Int64Array]) -> tuple[Int64Array, Int64Array]:
    """(visitor, position) of one array per visitor."""
    if len(best) == 1:
        return np.zeros(len(best[0]), np.int64), best[0]
    none = np.zeros(0, np.int64)
    return np.arange(len(best)).repeat([len(each) for each in best]), np.concatenate([none, *best])
