"""Similarity: nearest columns of a sparse matrix, and item × item similarities that score a visitor's items."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from features.common.arrays import AnyArray, Float32Array, FloatArray, Int32Array, Int64Array, IntArray
from features.common.threads import THREADS
from models.candidates.scores import Scores, product


@dataclass(frozen=True)
class ItemSimilarity:
    """Item × item in CSR form: a row holds an item's most similar items, itself left out.

    `indptr` int64[items + 1], `indices` int32 rising within a row, `data` float32.
    """

    indptr: Int64Array
    indices: Int32Array
    data: Float32Array

    @classmethod
    def from_matrix(cls, matrix: sparse.csr_matrix) -> "ItemSimilarity":
        """From a square matrix; its diagonal is left out."""
        matrix = without_diagonal(matrix)
        return cls(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float32))

    @classmethod
    def empty(cls, items: int) -> "ItemSimilarity":
        """No item is similar to any."""
        return cls.from_matrix(sparse.csr_matrix((items, items), dtype=np.float32))

    @classmethod
    def nearest(cls, columns: sparse.csr_matrix, k: int) -> "ItemSimilarity":
        """The `k` nearest of each of the items that `columns` float64[… × items] describes; see `nearest`."""
        return cls.from_matrix(nearest(columns, k))

    @property
    def size(self) -> int:
        """How many items there are."""
        return len(self.indptr) - 1

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """float32[items × items]; cached, as scipy copies and checks its input."""
        return sparse.csr_matrix((self.data, self.indices, self.indptr), shape=(self.size, self.size))

    def reindex(self, items: Int64Array) -> "ItemSimilarity":
        """For a snapshot with other items; `items` int64 is where each was before, -1 for those that are new."""
        place = np.full(self.size, -1, np.int64)
        place[items[items >= 0]] = np.flatnonzero(items >= 0)
        row = place[np.repeat(np.arange(self.size), np.diff(self.indptr))]
        column = place[self.indices]
        keep = (row >= 0) & (column >= 0)
        entries = (self.data[keep], (row[keep], column[keep]))
        shape = (len(items), len(items))
        return ItemSimilarity.from_matrix(sparse.csr_matrix(entries, shape=shape, dtype=np.float32))

    def scores(self, visitors: int, query: Int64Array, item: IntArray, weight: FloatArray) -> Scores:
        """Sum weight × similarity over each visitor's items (`query` rising)."""
        return product(query, item, weight, (self.indptr, self.indices, self.data), visitors, self.size)

    def arrays(self, prefix: str = "") -> dict[str, AnyArray]:
        return {f"{prefix}indptr": self.indptr, f"{prefix}indices": self.indices, f"{prefix}data": self.data}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray], prefix: str = "") -> "ItemSimilarity":
        return cls(arrays[f"{prefix}indptr"], arrays[f"{prefix}indices"], arrays[f"{prefix}data"])


def nearest(columns: sparse.csr_matrix, k: int) -> sparse.coo_matrix:
    """float64[n × n]: for each of n columns its dot products with the `k` others where they are largest.

    A column's product with itself may be among them; `without_diagonal` removes it.
    """
    from implicit.nearest_neighbours import all_pairs_knn

    count = min(k + 1, columns.shape[1])  # a column may be its own nearest
    return all_pairs_knn(columns.tocsr(), count, num_threads=THREADS, show_progress=False)


def without_diagonal(matrix: sparse.spmatrix) -> sparse.csr_matrix:
    """A square matrix without its diagonal and its zeros, indices rising."""
    matrix = matrix.tocsr()
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Divide each row by its length, so that dot products are cosines; empty rows stay empty."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (sparse.diags(1 / np.maximum(lengths, 1e-9)) @ matrix).tocsr()
