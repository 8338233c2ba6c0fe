"""Implicit-feedback ALS (Hu, Koren, Volinsky 2008), by the library `implicit`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from scipy import sparse

from features.common.arrays import AnyArray, Float32Array, Float64Array, FloatArray, Int64Array
from features.common.threads import THREADS
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from features.tables.history import Histories
from models.candidates.protocol import Arrays, CandidateGenerator, NamedScore
from models.candidates.scores import FactoredScores
from models.candidates.user_profile import pair_weights, visit_weights
from models.search_space import Between


class AlsConfig(BaseModel):
    """How customers and items are embedded."""

    model_config = ConfigDict(extra="forbid")

    factors: Annotated[PositiveInt, Between(16, 128, log=True, only="one_to_one")] = 64
    """Length of a customer's and an item's vector."""
    iterations: PositiveInt = 12
    """Alternations between customers and items."""
    regularization: Annotated[PositiveFloat, Between(0.01, 1.0, log=True, only="one_to_one")] = 0.1
    """Weight of the vectors' squared length."""
    alpha: Annotated[PositiveFloat, Between(1.0, 40.0, log=True, only="one_to_one")] = 5.0
    """Confidence in one undecayed purchase, against 1 for an item that was never touched."""
    seed: NonNegativeInt = 7
    """Where the vectors start."""


@dataclass(frozen=True)
class Als(CandidateGenerator[AlsConfig]):
    """`items` float32[items × factors] is learnt; `customers` float32[customers × factors] and `gram`
    float64[factors × factors] follow from it.

    A customer's vector is always folded in from the snapshot's history, so a refresh with unchanged history
    gives the same vectors, and training and serving see one definition. A visitor whose visit has shown interest in
    an item gets a vector of their own at each request, from history and visit together.
    """

    key = "als"
    position = 3
    named_scores = (NamedScore("als", "what similar customers take"),)
    settings = AlsConfig

    customers: Float32Array
    items: Float32Array
    gram: Float64Array
    alpha: float
    regularization: float

    @classmethod
    def fit(cls, snapshot: Snapshot, config: AlsConfig) -> Self:
        from implicit.als import AlternatingLeastSquares

        h = snapshot.history
        shape = (len(snapshot.customers), len(snapshot.items))
        model = AlternatingLeastSquares(
            factors=config.factors,
            regularization=config.regularization,
            iterations=config.iterations,
            alpha=1.0,
            random_state=config.seed,
            num_threads=THREADS,
        )
        confidence = _confidence(pair_weights(h), config.alpha)
        model.fit(sparse.csr_matrix((confidence, h.items, h.indptr), shape=shape), show_progress=False)
        return cls._fold_in_all(h, np.asarray(model.item_factors), config.alpha, config.regularization)

    @classmethod
    def _fold_in_all(cls, history: Histories, items: Float32Array, alpha: float, regularization: float) -> Self:
        gram = (items.T @ items).astype(np.float64) + regularization * np.eye(items.shape[1])
        confidence = _confidence(pair_weights(history), alpha)
        customers = np.zeros((len(history.indptr) - 1, items.shape[1]), np.float32)
        for customer in np.flatnonzero(np.diff(history.indptr)):
            row = slice(history.indptr[customer], history.indptr[customer + 1])
            customers[customer] = _fold_in(gram, items[history.items[row]], confidence[row])
        return cls(customers, items, gram, alpha, regularization)

    def refit_to(self, snapshot: Snapshot, items: Int64Array) -> Self:
        """Items keep their vectors, new ones have none yet; customers are folded in again."""
        moved = np.where(items[:, None] >= 0, self.items[np.maximum(items, 0)], np.float32(0))
        return self._fold_in_all(snapshot.history, moved, self.alpha, self.regularization)

    def scores(self, name: str, snapshot: Snapshot, visitors: Visitors) -> FactoredScores:
        vectors = np.zeros((len(visitors), self.items.shape[1]), np.float32)
        known = np.flatnonzero(visitors.customers >= 0)
        vectors[known] = self.customers[visitors.customers[known]]
        for visitor, vector in self._visit_vectors(snapshot, visitors).items():
            vectors[visitor] = vector
        return FactoredScores(vectors, self.items)

    def _visit_vectors(self, snapshot: Snapshot, visitors: Visitors) -> dict[int, Float32Array]:
        """Visitor → vector float32[factors], of those whose visit shows interest in an item."""
        if not len(visitors.item):
            return {}
        query, item, weight = visit_weights(visitors)
        vectors: dict[int, Float32Array] = {}
        for visitor in np.unique(query).tolist():
            events = slice(*np.searchsorted(query, [visitor, visitor + 1]))
            _, pairs = snapshot.history.gather(visitors.customers[visitor : visitor + 1])
            items = np.concatenate([snapshot.history.items[pairs], item[events]])
            own, place = np.unique(items, return_inverse=True)
            weights = np.concatenate([pair_weights(snapshot.history, pairs), weight[events]])
            purchases: AnyArray = np.bincount(place, weights, len(own))
            vectors[visitor] = _fold_in(self.gram, self.items[own], _confidence(purchases, self.alpha))
        return vectors

    def arrays(self) -> Arrays:
        settings = np.array([self.alpha, self.regularization])
        return {"customers": self.customers, "items": self.items, "gram": self.gram, "settings": settings}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Self:
        alpha, regularization = (float(v) for v in arrays["settings"])
        return cls(arrays["customers"], arrays["items"], arrays["gram"], alpha, regularization)


def _confidence(purchases: FloatArray, alpha: float) -> Float32Array:
    # c = 1 + alpha·log(1 + r), r in decayed purchases. implicit takes an entry as c itself and a missing one as 1, so
    # without the 1 a weak sign of interest would count for less than none.
    confidence: Float32Array = (1 + alpha * np.log1p(purchases)).astype(np.float32)
    return confidence


def _fold_in(gram: Float64Array, own: Float32Array, confidence: Float32Array) -> Float32Array:
    """float32[factors]: x = (YᵀY + Yᵀ(C - I)Y + λI)⁻¹ YᵀCp, Hu, Koren, Volinsky 2008, eq. 4.

    `gram` is YᵀY + λI, `own` float32[n × factors] the vectors of the items that were touched.
    """
    left = gram + own.T @ (own * (confidence - 1)[:, None])
    vector: Float32Array = np.linalg.solve(left, own.T @ confidence).astype(np.float32)
    return vector
