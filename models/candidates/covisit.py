"""What is touched soon after what: co-visitation, typed and decayed, of the last weeks.

Two matrices. `touches`: pairs inside a visit, at most `REACH` touches and a day apart, weighed by what the second one
was, halved for every `HALF_LIFE_TOUCHES` touches in between. `orders`: items of one order against those of the same
visitor's next one. Both count less the longer ago they were, and are divided by the square root of the first item's
weight: between counts, which favour what sells anyway, and shares, which favour what is rare.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from scipy import sparse

from features.common.clock import DAY
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from features.tables.interactions import TOUCHES
from models.candidates.base import Arrays
from models.candidates.scores import Scores
from models.candidates.similarity import Similar
from models.candidates.user_profile import asked
from models.search_space import Between

REACH = 10
HALF_LIFE_TOUCHES = 3.0
_KIND_WEIGHT = np.array([0.5, 1.0, 1.5, 3.0, 6.0], np.float32)  # of the second touch, as `TOUCHES`


class CovisitConfig(BaseModel):
    """How pairs are counted."""

    model_config = ConfigDict(extra="forbid")

    neighbours: PositiveInt = 100
    """Most items kept for each item."""
    half_life_days: Annotated[PositiveFloat, Between(7.0, 90.0, log=True)] = 28.0
    """How soon a pair counts half."""


@dataclass(frozen=True)
class Covisit:
    """`touches` and `orders`: item × item, rows the first of the two."""

    touches: Similar
    orders: Similar

    @classmethod
    def fit(cls, snapshot: Snapshot, config: CovisitConfig) -> "Covisit":
        n = len(snapshot.items)
        if snapshot.material is None or not len(snapshot.material.recent[0]):
            empty = Similar.of(sparse.csr_matrix((n, n), dtype=np.float32))
            return cls(empty, empty)
        visitor, item, kind, t = snapshot.material.recent
        fresh = (0.5 ** ((snapshot.as_of - t) / DAY / config.half_life_days)).astype(np.float32)
        return cls(
            _strongest(_touches(visitor, item, kind, t, fresh, n), config.neighbours),
            _strongest(_orders(visitor, item, kind, t, fresh, n), config.neighbours),
        )

    def onto(self, items: np.ndarray) -> "Covisit":
        return Covisit(self.touches.onto(items), self.orders.onto(items))

    def of_visit(self, snapshot: Snapshot, visitors: Visitors) -> Scores:
        return self.touches.scores(len(visitors), *asked(snapshot, visitors, "visit"))

    def of_last_orders(self, snapshot: Snapshot, visitors: Visitors) -> Scores:
        return self.orders.scores(len(visitors), *asked(snapshot, visitors, "last_baskets"))

    def arrays(self) -> Arrays:
        return {
            f"{name}.{k}": v
            for name, part in (("touches", self.touches), ("orders", self.orders))
            for k, v in part.arrays().items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Covisit":
        touches, orders = (
            Similar(*(arrays[f"{name}.{k}"] for k in ("indptr", "indices", "data"))) for name in ("touches", "orders")
        )
        return cls(touches, orders)


def _touches(
    visitor: np.ndarray, item: np.ndarray, kind: np.ndarray, t: np.ndarray, fresh: np.ndarray, n: int
) -> sparse.csr_matrix:
    total = sparse.csr_matrix((n, n), dtype=np.float32)
    for apart in range(1, REACH + 1):
        together = (visitor[apart:] == visitor[:-apart]) & (t[apart:] - t[:-apart] <= DAY) & (t[apart:] > t[:-apart])
        second = np.flatnonzero(together) + apart
        first = second - apart
        weight = fresh[second] * _KIND_WEIGHT[kind[second]] * np.float32(0.5 ** (apart / HALF_LIFE_TOUCHES))
        total = total + sparse.csr_matrix((weight, (item[first], item[second])), shape=(n, n), dtype=np.float32)
    return total


def _orders(
    visitor: np.ndarray, item: np.ndarray, kind: np.ndarray, t: np.ndarray, fresh: np.ndarray, n: int
) -> sparse.csr_matrix:
    bought = np.flatnonzero(kind == TOUCHES.index("purchase"))
    who, what, when = visitor[bought], item[bought], t[bought]
    # An order is what a visitor buys at one instant; `recent` comes sorted by visitor, then time.
    new = np.append(True, (who[1:] != who[:-1]) | (when[1:] != when[:-1]))[: len(who)]
    order, starts = np.cumsum(new) - 1, np.flatnonzero(new)
    lines = sparse.csr_matrix((np.ones(len(what), np.float32), (order, what)), shape=(len(starts), n))
    owner = who[starts]
    first = np.flatnonzero(owner[1:] == owner[:-1])
    size = np.diff(lines.indptr)[first]
    weight = fresh[bought][starts][first] / np.sqrt(np.maximum(size, 1))
    return (lines[first].T @ sparse.diags(weight.astype(np.float32)) @ lines[first + 1]).tocsr()


def _strongest(pairs: sparse.csr_matrix, keep: int) -> Similar:
    """Divided by the square root of the row's sum; the `keep` largest of each row."""
    pairs = pairs.tocsr()
    pairs.setdiag(0)
    pairs.eliminate_zeros()
    whole = np.asarray(pairs.sum(axis=1)).ravel()
    rows = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
    data = pairs.data / np.sqrt(whole[rows] + 1)
    order = np.lexsort((pairs.indices, -data, rows))
    kept = order[np.arange(len(order)) - pairs.indptr[rows[order]] < keep]
    return Similar.of(sparse.csr_matrix((data[kept], (rows[kept], pairs.indices[kept])), shape=pairs.shape))
