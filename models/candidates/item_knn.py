"""Items that the same people take: neighbours by BM25-weighted co-occurrence, by the library `implicit`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt
from scipy import sparse

from features.snapshot import Snapshot
from features.threads import THREADS
from features.visitors import Visitors
from models.candidates.base import Arrays
from models.candidates.history import taste

Basis = Literal["history", "last_baskets", "visit"]


class ItemKnnConfig(BaseModel):
    """How alike two items are."""

    model_config = ConfigDict(extra="forbid")

    neighbours: PositiveInt = 100
    """Most alike items kept for each item."""
    k1: float = 100.0
    """BM25: how soon more events of one visitor with one item stop to count; large means late."""
    b: float = 0.5
    """BM25: how much the events of visitors with many items count for less, 0 not at all."""
    damping: float = 0.5
    """0 prefers items with many visitors (dot product), 1 treats all alike (cosine)."""
    last_baskets: PositiveInt = 2
    """How many of the latest orders the basis `last_baskets` looks at."""
    visit_decay: float = 0.8
    """Weight of an event of the visit per later event."""


@dataclass(frozen=True)
class ItemKnn:
    """Similarities as CSR: row = item, its `neighbours` most alike items, itself left out."""

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    last_baskets: float
    visit_decay: float

    @classmethod
    def fit(cls, snapshot: Snapshot, config: ItemKnnConfig) -> "ItemKnn":
        from implicit.nearest_neighbours import all_pairs_knn, bm25_weight

        matrix = _touched(snapshot)
        weighted = bm25_weight(matrix, K1=config.k1, B=config.b).tocsr()
        norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=0)).ravel())
        damped = (weighted @ sparse.diags(np.maximum(norms, 1e-9) ** -config.damping)).tocsr()
        similar = all_pairs_knn(damped, config.neighbours + 1, num_threads=THREADS, show_progress=False).tocsr()
        similar.setdiag(0)
        similar.eliminate_zeros()
        similar.sort_indices()
        return cls(
            similar.indptr.astype(np.int64),
            similar.indices.astype(np.int32),
            similar.data.astype(np.float32),
            config.last_baskets,
            config.visit_decay,
        )

    def onto(self, items: np.ndarray, old_size: int) -> "ItemKnn":
        """For a snapshot with other items; `items` says where each was, -1 for those that are new."""
        place = np.full(old_size, -1, np.int64)
        place[items[items >= 0]] = np.flatnonzero(items >= 0)
        row = place[np.repeat(np.arange(old_size), np.diff(self.indptr))]
        column = place[self.indices]
        kept = (row >= 0) & (column >= 0)
        entries = (self.data[kept], (row[kept], column[kept]))
        moved = sparse.csr_matrix(entries, shape=(len(items), len(items)), dtype=np.float32)
        moved.sort_indices()
        return ItemKnn(
            moved.indptr.astype(np.int64),
            moved.indices.astype(np.int32),
            moved.data,
            self.last_baskets,
            self.visit_decay,
        )

    def scores(self, snapshot: Snapshot, visitors: Visitors, basis: Basis) -> np.ndarray:
        """Sum over the visitor's items of weight × similarity: float32[len(visitors) × items]."""
        n = len(snapshot.items)
        if basis == "visit":
            wanted = np.flatnonzero((visitors.item >= 0) & (visitors.weight > 0))
            query, item = visitors.query[wanted], visitors.item[wanted]
            weight = visitors.weight[wanted] * np.float32(self.visit_decay) ** visitors.back[wanted]
        else:
            h = snapshot.history
            query, position = h.gather(visitors.customers)
            if basis == "last_baskets":
                keep = h.column("baskets_back")[position] < self.last_baskets
                query, position = query[keep], position[keep]
                weight = np.ones(len(position), np.float32)
            else:
                weight = np.log1p(taste(h, position))
            item = h.items[position]
        if not len(query):
            return np.zeros((len(visitors), n), np.float32)
        asked = sparse.csr_matrix((weight.astype(np.float32), (query, item)), shape=(len(visitors), n))
        similar = sparse.csr_matrix((self.data, self.indices, self.indptr), shape=(n, n))
        return (asked @ similar).toarray()

    def arrays(self) -> Arrays:
        settings = np.array([self.last_baskets, self.visit_decay])
        return {"indptr": self.indptr, "indices": self.indices, "data": self.data, "settings": settings}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "ItemKnn":
        last_baskets, visit_decay = (float(v) for v in arrays["settings"])
        return cls(arrays["indptr"], arrays["indices"], arrays["data"], last_baskets, visit_decay)


def _touched(snapshot: Snapshot) -> sparse.csr_matrix:
    """Visitors × items: the customers' histories above, the anonymous clients' below."""
    h = snapshot.history
    shape = (len(snapshot.customers), len(snapshot.items))
    # Decayed: what people took together lately says more of what they will take next. The floor keeps old
    # pairs from vanishing.
    weight = taste(h) + 0.05
    known = sparse.csr_matrix((weight.astype(np.float64), h.items, h.indptr), shape=shape)
    if snapshot.anonymous is None or not len(snapshot.anonymous[0]):
        return known
    client, item, touched = snapshot.anonymous
    anonymous = sparse.csr_matrix((touched.astype(np.float64), (client, item)), shape=(int(client.max()) + 1, shape[1]))
    return sparse.vstack([known, anonymous]).tocsr()
