"""What is alike: who is nearest to whom, and item to item, what follows from it for a visitor's items."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from features.common.threads import THREADS
from models.candidates.base import Arrays
from models.candidates.scores import Scores, product


@dataclass(frozen=True)
class Similar:
    """CSR: row = item, its most alike items with their similarity, itself left out.

    `indptr` int64[items + 1], `indices` int32 rising within a row, `data` float32.
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray

    @classmethod
    def of(cls, matrix: sparse.csr_matrix) -> "Similar":
        """From a square matrix; its diagonal is left out."""
        matrix = others(matrix)
        return cls(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float32))

    @classmethod
    def nearest(cls, columns: sparse.csr_matrix, k: int) -> "Similar":
        """Of the items that `columns` float64[… × items] describes; see `nearest`."""
        return cls.of(nearest(columns, k))

    @property
    def size(self) -> int:
        return len(self.indptr) - 1

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """float32[items × items]; made once, as scipy copies and checks what it is given."""
        return sparse.csr_matrix((self.data, self.indices, self.indptr), shape=(self.size, self.size))

    def onto(self, items: np.ndarray) -> "Similar":
        """For a snapshot with other items; `items` says where each was, -1 for those that are new."""
        place = np.full(self.size, -1, np.int64)
        place[items[items >= 0]] = np.flatnonzero(items >= 0)
        row = place[np.repeat(np.arange(self.size), np.diff(self.indptr))]
        column = place[self.indices]
        kept = (row >= 0) & (column >= 0)
        entries = (self.data[kept], (row[kept], column[kept]))
        return Similar.of(sparse.csr_matrix(entries, shape=(len(items), len(items)), dtype=np.float32))

    def scores(self, visitors: int, query: np.ndarray, item: np.ndarray, weight: np.ndarray) -> Scores:
        """Sum over a visitor's items (`query` rising) of weight × similarity."""
        return product(query, item, weight, (self.indptr, self.indices, self.data), visitors, self.size)

    def arrays(self) -> Arrays:
        return {"indptr": self.indptr, "indices": self.indices, "data": self.data}


def nearest(columns: sparse.csr_matrix, k: int) -> sparse.coo_matrix:
    """float64[n × n] of n columns, a row for each: its dot products with the `k` others where they are largest.

    Its product with itself may be among them; `others` takes it out.
    """
    from implicit.nearest_neighbours import all_pairs_knn

    wanted = min(k + 1, columns.shape[1])  # a column may be its own nearest
    return all_pairs_knn(columns.tocsr(), wanted, num_threads=THREADS, show_progress=False)


def others(matrix: sparse.spmatrix) -> sparse.csr_matrix:
    """A square matrix without its diagonal and its zeros, indices rising."""
    matrix = matrix.tocsr()
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Each row divided by its length, so that dot products are cosines; empty rows stay empty."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (sparse.diags(1 / np.maximum(lengths, 1e-9)) @ matrix).tocsr()
