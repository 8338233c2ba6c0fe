"""Implicit-feedback ALS (Hu, Koren, Volinsky 2008), by the library `implicit`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from scipy import sparse

from features.history import Histories
from features.snapshot import Snapshot
from features.threads import THREADS
from features.visitors import Visitors
from models.candidates.base import Arrays
from models.candidates.scores import Dense
from models.candidates.taste import taste
from models.space import Between


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
class Als:
    """`items` float32[items × factors] is learnt; `customers` float32[customers × factors] follows from it.

    A customer's vector is always folded in from the snapshot's history, so a refresh with unchanged history
    gives the same vectors, and training and serving see one definition.
    """

    customers: np.ndarray
    items: np.ndarray
    alpha: float
    regularization: float

    @classmethod
    def fit(cls, snapshot: Snapshot, config: AlsConfig) -> "Als":
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
        confidence = _confidence(h, config.alpha)
        model.fit(sparse.csr_matrix((confidence, h.items, h.indptr), shape=shape), show_progress=False)
        items = np.asarray(model.item_factors)
        return cls(
            _fold_in(h, items, config.alpha, config.regularization),
            items,
            config.alpha,
            config.regularization,
        )

    def onto(self, snapshot: Snapshot, items: np.ndarray) -> "Als":
        """For another snapshot; `items` says where each of its items was, -1 for those that are new."""
        moved = np.where(items[:, None] >= 0, self.items[np.maximum(items, 0)], np.float32(0))
        customers = _fold_in(snapshot.history, moved, self.alpha, self.regularization)
        return Als(customers, moved, self.alpha, self.regularization)

    def scores(self, visitors: Visitors) -> Dense:
        out = np.zeros((len(visitors), len(self.items)), np.float32)
        for i, customer in enumerate(visitors.customers):
            if customer >= 0:
                # One product a visitor: a product over the whole batch would round differently with its size.
                np.dot(self.items, self.customers[customer], out=out[i])
        return Dense(out)

    def arrays(self) -> Arrays:
        settings = np.array([self.alpha, self.regularization])
        return {"customers": self.customers, "items": self.items, "settings": settings}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Als":
        alpha, regularization = (float(v) for v in arrays["settings"])
        return cls(arrays["customers"], arrays["items"], alpha, regularization)


def _confidence(history: Histories, alpha: float, pairs: np.ndarray | slice = slice(None)) -> np.ndarray:
    # c = 1 + alpha·log(1 + r), r in decayed purchases. implicit takes an entry as c itself and an item never
    # seen as 1, so without the 1 a weak sign of interest would count for less than none.
    confidence: np.ndarray = (1 + alpha * np.log1p(taste(history, pairs))).astype(np.float32)
    return confidence


def _fold_in(history: Histories, items: np.ndarray, alpha: float, regularization: float) -> np.ndarray:
    """float32[customers × factors]: x = (YᵀY + Yᵀ(C - I)Y + λI)⁻¹ YᵀCp, Hu, Koren, Volinsky 2008, eq. 4."""
    factors = items.shape[1]
    gram = (items.T @ items).astype(np.float64) + regularization * np.eye(factors)
    weights = _confidence(history, alpha)
    out = np.zeros((len(history.indptr) - 1, factors), np.float32)
    for customer in np.flatnonzero(np.diff(history.indptr)):
        row = slice(history.indptr[customer], history.indptr[customer + 1])
        own, c = items[history.items[row]], weights[row]
        left = gram + own.T @ (own * (c - 1)[:, None])
        out[customer] = np.linalg.solve(left, own.T @ c)
    return out
