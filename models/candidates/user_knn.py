"""Similar customers: the neighbours' half of TIFU-KNN (Hu et al. 2020, SIGIR), by the library `implicit`.

A customer is the vector of their items, each weighed by orders decayed per later order and by time; neighbours are
those with the largest cosine. The other half, the customer's own vector, is the generator `history`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt
from scipy import sparse

from features.common.arrays import AnyArray, Float32Array, Int32Array, Int64Array
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from features.tables.history import ranges
from models.candidates.protocol import Arrays, CandidateGenerator, NamedScore
from models.candidates.scores import Scores, product
from models.candidates.similarity import nearest, unit_rows, without_diagonal
from models.candidates.user_profile import pair_weights
from models.search_space import Between


class UserKnnConfig(BaseModel):
    """How many similar customers count."""

    model_config = ConfigDict(extra="forbid")

    neighbours: Annotated[PositiveInt, Between(20, 300, log=True, only="one_to_one")] = 100
    """Most similar customers kept for each."""


@dataclass(frozen=True)
class UserKnn(CandidateGenerator[UserKnnConfig]):
    """CSR over customers: each one's neighbours and their weights, which add up to 1.

    `strength` float32[pairs of the history]: what each item weighs in its customer's vector. All follow from the
    snapshot alone and are refitted at each refresh.
    """

    key = "neighbours"
    position = 2
    named_scores = (NamedScore("neighbours", "what similar customers take"),)
    settings = UserKnnConfig

    indptr: Int64Array
    indices: Int32Array
    data: Float32Array
    strength: Float32Array
    neighbours: int

    @classmethod
    def fit(cls, snapshot: Snapshot, config: UserKnnConfig) -> Self:
        h = snapshot.history
        strength: Float32Array = h.column("bought_by_basket") + pair_weights(h)
        vectors = sparse.csr_matrix((strength, h.items, h.indptr), shape=(len(snapshot.customers), len(snapshot.items)))
        similar = without_diagonal(nearest(unit_rows(vectors).astype(np.float64).T, config.neighbours))
        total = np.asarray(similar.sum(axis=1)).ravel()
        similar = (sparse.diags(1 / np.maximum(total, 1e-9)) @ similar).tocsr()
        indptr, indices = similar.indptr.astype(np.int64), similar.indices.astype(np.int32)
        return cls(indptr, indices, similar.data.astype(np.float32), strength, config.neighbours)

    def refit_to(self, snapshot: Snapshot, items: Int64Array) -> Self:
        return self.fit(snapshot, UserKnnConfig(neighbours=self.neighbours))

    def scores(self, name: str, snapshot: Snapshot, visitors: Visitors) -> Scores:
        """The neighbours' weighted mean vector. Only their rows are read: a request must not cost a pass over all."""
        h, known = snapshot.history, visitors.customers >= 0
        own = np.where(known, visitors.customers, 0)
        sizes = self.indptr[own + known] - self.indptr[own]
        place = ranges(self.indptr[own], sizes)
        query = np.repeat(np.arange(len(visitors)), sizes)
        vectors = h.indptr, h.items, self.strength
        neighbour = self.indices[place]
        return product(query, neighbour, self.data[place], vectors, len(visitors), len(snapshot.items))

    def arrays(self) -> Arrays:
        settings = np.array([self.neighbours])
        parts: Arrays = {"indptr": self.indptr, "indices": self.indices, "data": self.data, "strength": self.strength}
        return {**parts, "settings": settings}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Self:
        indptr, indices, data = (arrays[name] for name in ("indptr", "indices", "data"))
        return cls(indptr, indices, data, arrays["strength"], int(arrays["settings"][0]))
