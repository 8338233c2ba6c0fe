"""Item-to-item neighbours by BM25-weighted co-occurrence, by the library `implicit`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt
from scipy import sparse

from features.common.arrays import AnyArray, Int64Array
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.protocol import Arrays, ItemToItemGenerator, NamedScore
from models.candidates.similarity import ItemSimilarity
from models.candidates.user_profile import ProfileItems, pair_weights, profile_items
from models.search_space import Between


class ItemKnnConfig(BaseModel):
    """How similar two items are."""

    model_config = ConfigDict(extra="forbid")

    neighbours: PositiveInt = 100
    """Most similar items kept for each item."""
    k1: Annotated[float, Between(1.0, 1000.0, log=True)] = 100.0
    """BM25: how soon more events of one visitor with one item stop to count; large means late."""
    b: Annotated[float, Between(0.0, 1.0)] = 0.5
    """BM25: how much the events of visitors with many items count for less, 0 not at all."""
    damping: Annotated[float, Between(0.0, 1.0)] = 0.5
    """0 prefers items with many visitors (dot product), 1 does not (cosine)."""
    last_baskets: Annotated[PositiveInt, Between(1, 5, only="one_to_one")] = 2
    """How many of the latest orders item_knn_last looks at."""
    visit_decay: Annotated[float, Between(0.5, 1.0, only="predictive")] = 0.8
    """Weight of an event of the visit per later event."""


@dataclass(frozen=True)
class ItemKnn(ItemToItemGenerator[ItemKnnConfig]):
    """`similar`: each item's neighbours; the two settings weigh the visitor's items."""

    key = "item_knn"
    position = 4
    named_scores = (
        NamedScore("item_knn", "what goes with their products", "history", "bought_with"),
        NamedScore("item_knn_last", "what goes with their products", "last_baskets", "bought_with"),
        NamedScore("item_knn_visit", "this visit", "visit", "bought_with"),
    )
    settings = ItemKnnConfig

    similar: ItemSimilarity
    last_baskets: float
    visit_decay: float

    @classmethod
    def fit(cls, snapshot: Snapshot, config: ItemKnnConfig) -> Self:
        from implicit.nearest_neighbours import bm25_weight

        matrix = _interactions(snapshot)
        weighted = bm25_weight(matrix, K1=config.k1, B=config.b).tocsr()
        norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=0)).ravel())
        damped = (weighted @ sparse.diags(np.maximum(norms, 1e-9) ** -config.damping)).tocsr()
        return cls(ItemSimilarity.nearest(damped, config.neighbours), config.last_baskets, config.visit_decay)

    def refit_to(self, snapshot: Snapshot, items: Int64Array) -> Self:
        """New items have no neighbours yet."""
        return replace(self, similar=self.similar.reindex(items))

    def evidence(self, name: str, snapshot: Snapshot, visitors: Visitors) -> tuple[ItemSimilarity, ProfileItems]:
        basis = self.basis_of(name)
        return self.similar, profile_items(snapshot, visitors, basis, self.last_baskets, self.visit_decay)

    def arrays(self) -> Arrays:
        return {**self.similar.arrays(), "settings": np.array([self.last_baskets, self.visit_decay])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Self:
        last_baskets, visit_decay = (float(v) for v in arrays["settings"])
        return cls(ItemSimilarity.from_arrays(arrays), last_baskets, visit_decay)


def _interactions(snapshot: Snapshot) -> sparse.csr_matrix:
    """Visitors × items: the customers' histories above, the anonymous clients' below."""
    h = snapshot.history
    shape = (len(snapshot.customers), len(snapshot.items))
    # Decayed, as recent co-occurrences predict the next ones best. The floor keeps old pairs from vanishing.
    weight = pair_weights(h) + 0.05
    customers = sparse.csr_matrix((weight.astype(np.float64), h.items, h.indptr), shape=shape)
    if snapshot.fitting_data is None or not len(snapshot.fitting_data.anonymous[0]):
        return customers
    client, item, weight = snapshot.fitting_data.anonymous
    anonymous = sparse.csr_matrix((weight.astype(np.float64), (client, item)), shape=(int(client.max()) + 1, shape[1]))
    return sparse.vstack([customers, anonymous]).tocsr()
