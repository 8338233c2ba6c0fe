"""Item to item: a sparse matrix of similarities, and what follows from it for a visitor's items."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from models.candidates.base import Arrays
from models.candidates.scores import Sparse, summed


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
        matrix = matrix.tocsr()
        matrix.setdiag(0)
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return cls(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float32))

    @property
    def size(self) -> int:
        return len(self.indptr) - 1

    def onto(self, items: np.ndarray) -> "Similar":
        """For a snapshot with other items; `items` says where each was, -1 for those that are new."""
        place = np.full(self.size, -1, np.int64)
        place[items[items >= 0]] = np.flatnonzero(items >= 0)
        row = place[np.repeat(np.arange(self.size), np.diff(self.indptr))]
        column = place[self.indices]
        kept = (row >= 0) & (column >= 0)
        entries = (self.data[kept], (row[kept], column[kept]))
        return Similar.of(sparse.csr_matrix(entries, shape=(len(items), len(items)), dtype=np.float32))

    def scores(self, visitors: int, query: np.ndarray, item: np.ndarray, weight: np.ndarray) -> Sparse:
        """Sum over a visitor's items (`query` rising) of weight × similarity."""
        if not len(query):
            none = np.zeros(0, np.int64)
            return Sparse(np.zeros(visitors + 1, np.int64), none, np.zeros(0, np.float32), self.size)
        asked = summed(query, item, weight, (visitors, self.size))
        alike = sparse.csr_matrix((self.data, self.indices, self.indptr), shape=(self.size, self.size))
        return Sparse.of(asked @ alike)

    def arrays(self) -> Arrays:
        return {"indptr": self.indptr, "indices": self.indices, "data": self.data}
