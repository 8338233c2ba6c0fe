"""What customers alike take: the neighbours' half of TIFU-KNN (Hu et al. 2020, SIGIR), by the library `implicit`.

A customer is the vector of their items, each weighed by orders decayed per later order and by time; neighbours are
those with the largest cosine. The other half, the customer's own vector, is the generator `history`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt
from scipy import sparse

from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from features.tables.history import ranges
from models.candidates.base import Arrays
from models.candidates.scores import Scores, product
from models.candidates.similarity import nearest, others, unit_rows
from models.candidates.user_profile import taste
from models.search_space import Between


class NeighboursConfig(BaseModel):
    """Who is alike."""

    model_config = ConfigDict(extra="forbid")

    neighbours: Annotated[PositiveInt, Between(20, 300, log=True, only="one_to_one")] = 100
    """Most alike customers kept for each."""


@dataclass(frozen=True)
class Neighbours:
    """CSR over customers: each one's neighbours and their weights, which add up to 1.

    `strength` float32[pairs of the history]: what each item weighs in its customer's vector. All follow from the
    snapshot alone and are found anew for another one.
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    strength: np.ndarray
    neighbours: int

    @classmethod
    def fit(cls, snapshot: Snapshot, config: NeighboursConfig) -> "Neighbours":
        h = snapshot.history
        strength: np.ndarray = h.column("bought_by_basket") + taste(h)
        vectors = sparse.csr_matrix((strength, h.items, h.indptr), shape=(len(snapshot.customers), len(snapshot.items)))
        alike = others(nearest(unit_rows(vectors).astype(np.float64).T, config.neighbours))
        total = np.asarray(alike.sum(axis=1)).ravel()
        alike = (sparse.diags(1 / np.maximum(total, 1e-9)) @ alike).tocsr()
        indptr, indices = alike.indptr.astype(np.int64), alike.indices.astype(np.int32)
        return cls(indptr, indices, alike.data.astype(np.float32), strength, config.neighbours)

    def onto(self, snapshot: Snapshot) -> "Neighbours":
        return Neighbours.fit(snapshot, NeighboursConfig(neighbours=self.neighbours))

    def scores(self, snapshot: Snapshot, visitors: Visitors) -> Scores:
        """The neighbours' weighted mean vector. Only their rows are read: a request must not cost a pass over all."""
        h, known = snapshot.history, visitors.customers >= 0
        own = np.where(known, visitors.customers, 0)
        sizes = self.indptr[own + known] - self.indptr[own]
        place = ranges(self.indptr[own], sizes)
        query = np.repeat(np.arange(len(visitors)), sizes)
        vectors = h.indptr, h.items, self.strength
        alike = self.indices[place]
        return product(query, alike, self.data[place], vectors, len(visitors), len(snapshot.items))

    def arrays(self) -> Arrays:
        settings = np.array([self.neighbours])
        parts = {"indptr": self.indptr, "indices": self.indices, "data": self.data, "strength": self.strength}
        return {**parts, "settings": settings}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Neighbours":
        indptr, indices, data = (arrays[name] for name in ("indptr", "indices", "data"))
        return cls(indptr, indices, data, arrays["strength"], int(arrays["settings"][0]))
