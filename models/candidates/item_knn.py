"""Items that the same people take: neighbours by BM25-weighted co-occurrence, by the library `implicit`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt
from scipy import sparse

from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.base import Arrays
from models.candidates.scores import Scores
from models.candidates.similarity import Similar
from models.candidates.user_profile import Basis, asked, taste
from models.search_space import Between


class ItemKnnConfig(BaseModel):
    """How alike two items are."""

    model_config = ConfigDict(extra="forbid")

    neighbours: PositiveInt = 100
    """Most alike items kept for each item."""
    k1: Annotated[float, Between(1.0, 1000.0, log=True)] = 100.0
    """BM25: how soon more events of one visitor with one item stop to count; large means late."""
    b: Annotated[float, Between(0.0, 1.0)] = 0.5
    """BM25: how much the events of visitors with many items count for less, 0 not at all."""
    damping: Annotated[float, Between(0.0, 1.0)] = 0.5
    """0 prefers items with many visitors (dot product), 1 treats all alike (cosine)."""
    last_baskets: Annotated[PositiveInt, Between(1, 5, only="one_to_one")] = 2
    """How many of the latest orders the basis `last_baskets` looks at."""
    visit_decay: Annotated[float, Between(0.5, 1.0, only="predictive")] = 0.8
    """Weight of an event of the visit per later event."""


@dataclass(frozen=True)
class ItemKnn:
    """`similar`: each item's neighbours; the settings say what a visitor is judged by."""

    similar: Similar
    last_baskets: float
    visit_decay: float

    @classmethod
    def fit(cls, snapshot: Snapshot, config: ItemKnnConfig) -> "ItemKnn":
        from implicit.nearest_neighbours import bm25_weight

        matrix = _touched(snapshot)
        weighted = bm25_weight(matrix, K1=config.k1, B=config.b).tocsr()
        norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=0)).ravel())
        damped = (weighted @ sparse.diags(np.maximum(norms, 1e-9) ** -config.damping)).tocsr()
        return cls(Similar.nearest(damped, config.neighbours), config.last_baskets, config.visit_decay)

    def onto(self, items: np.ndarray) -> "ItemKnn":
        return ItemKnn(self.similar.onto(items), self.last_baskets, self.visit_decay)

    def scores(self, snapshot: Snapshot, visitors: Visitors, basis: Basis) -> Scores:
        """Sum over the visitor's items of weight × similarity."""
        items = asked(snapshot, visitors, basis, self.last_baskets, self.visit_decay)
        return self.similar.scores(len(visitors), *items)

    def arrays(self) -> Arrays:
        return {**self.similar.arrays(), "settings": np.array([self.last_baskets, self.visit_decay])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "ItemKnn":
        last_baskets, visit_decay = (float(v) for v in arrays["settings"])
        return cls(Similar(arrays["indptr"], arrays["indices"], arrays["data"]), last_baskets, visit_decay)


def _touched(snapshot: Snapshot) -> sparse.csr_matrix:
    """Visitors × items: the customers' histories above, the anonymous clients' below."""
    h = snapshot.history
    shape = (len(snapshot.customers), len(snapshot.items))
    # Decayed: what people took together lately says more of what they will take next. The floor keeps old
    # pairs from vanishing.
    weight = taste(h) + 0.05
    known = sparse.csr_matrix((weight.astype(np.float64), h.items, h.indptr), shape=shape)
    if snapshot.material is None or not len(snapshot.material.anonymous[0]):
        return known
    client, item, touched = snapshot.material.anonymous
    anonymous = sparse.csr_matrix((touched.astype(np.float64), (client, item)), shape=(int(client.max()) + 1, shape[1]))
    return sparse.vstack([known, anonymous]).tocsr()
