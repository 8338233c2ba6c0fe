"""Co-visitation: what is touched or bought soon after what, typed by event and decayed, over the last weeks.

Two matrices. `touches`: pairs inside a visit, at most `REACH` touches and a day apart, weighed by the kind of the
second one, halved for every `HALF_LIFE_TOUCHES` touches in between. `orders`: items of one order against those of the
same visitor's next one. In both a pair counts less the longer ago it was, and rows are divided by the square root of
the first item's weight: between counts, which favour best sellers, and shares, which favour rare items.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from scipy import sparse

from features.common.arrays import AnyArray, Float32Array, Int32Array, Int64Array, UInt8Array
from features.common.clock import DAY
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from features.tables.interactions import TOUCHES
from models.candidates.protocol import Arrays, ItemToItemGenerator, NamedScore
from models.candidates.similarity import ItemSimilarity
from models.candidates.user_profile import ProfileItems, profile_items
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
    """After how many days a pair counts half."""


@dataclass(frozen=True)
class Covisit(ItemToItemGenerator[CovisitConfig]):
    """`touches` and `orders`: item × item, rows the first of the two."""

    key = "covisit"
    position = 5
    named_scores = (
        NamedScore("covisit_last", "what goes with their products", "last_baskets", "bought_next"),
        NamedScore("covisit_visit", "this visit", "visit", "viewed_next"),
    )
    settings = CovisitConfig

    touches: ItemSimilarity
    orders: ItemSimilarity

    @classmethod
    def fit(cls, snapshot: Snapshot, config: CovisitConfig) -> Self:
        n = len(snapshot.items)
        if snapshot.fitting_data is None or not len(snapshot.fitting_data.recent[0]):
            return cls(ItemSimilarity.empty(n), ItemSimilarity.empty(n))
        visitor, item, kind, t = snapshot.fitting_data.recent
        decay = (0.5 ** ((snapshot.as_of - t) / DAY / config.half_life_days)).astype(np.float32)
        return cls(
            _strongest(_touches(visitor, item, kind, t, decay, n), config.neighbours),
            _strongest(_orders(visitor, item, kind, t, decay, n), config.neighbours),
        )

    def refit_to(self, snapshot: Snapshot, items: Int64Array) -> Self:
        """New items have no pairs yet."""
        return type(self)(self.touches.reindex(items), self.orders.reindex(items))

    def evidence(self, name: str, snapshot: Snapshot, visitors: Visitors) -> tuple[ItemSimilarity, ProfileItems]:
        similarity = self.touches if name == "covisit_visit" else self.orders
        return similarity, profile_items(snapshot, visitors, self.basis_of(name))

    def arrays(self) -> Arrays:
        return {**self.touches.arrays("touches."), **self.orders.arrays("orders.")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Self:
        return cls(*(ItemSimilarity.from_arrays(arrays, prefix) for prefix in ("touches.", "orders.")))


def _touches(
    visitor: Int32Array, item: Int64Array, kind: UInt8Array, t: Int64Array, decay: Float32Array, n: int
) -> sparse.csr_matrix:
    total = sparse.csr_matrix((n, n), dtype=np.float32)
    for apart in range(1, REACH + 1):
        paired = (visitor[apart:] == visitor[:-apart]) & (t[apart:] - t[:-apart] <= DAY) & (t[apart:] > t[:-apart])
        second = np.flatnonzero(paired) + apart
        first = second - apart
        weight = decay[second] * _KIND_WEIGHT[kind[second]] * np.float32(0.5 ** (apart / HALF_LIFE_TOUCHES))
        total = total + sparse.csr_matrix((weight, (item[first], item[second])), shape=(n, n), dtype=np.float32)
    return total


def _orders(
    visitor: Int32Array, item: Int64Array, kind: UInt8Array, t: Int64Array, decay: Float32Array, n: int
) -> sparse.csr_matrix:
    bought = np.flatnonzero(kind == TOUCHES.index("purchase"))
    buyer, item, t, decay = visitor[bought], item[bought], t[bought], decay[bought]
    # An order is what a visitor buys at one instant; `recent` comes sorted by visitor, then time.
    new = np.append(True, (buyer[1:] != buyer[:-1]) | (t[1:] != t[:-1]))[: len(buyer)]
    order, starts = np.cumsum(new) - 1, np.flatnonzero(new)
    lines = sparse.csr_matrix((np.ones(len(item), np.float32), (order, item)), shape=(len(starts), n))
    owner = buyer[starts]
    first = np.flatnonzero(owner[1:] == owner[:-1])
    size = np.diff(lines.indptr)[first]
    weight = decay[starts][first] / np.sqrt(np.maximum(size, 1))
    return (lines[first].T @ sparse.diags(weight.astype(np.float32)) @ lines[first + 1]).tocsr()


def _strongest(pairs: sparse.csr_matrix, keep: int) -> ItemSimilarity:
    """Divide by the square root of the row's sum and keep the `keep` largest entries of each row."""
    pairs = pairs.tocsr()
    pairs.setdiag(0)
    pairs.eliminate_zeros()
    total = np.asarray(pairs.sum(axis=1)).ravel()
    rows = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
    data = pairs.data / np.sqrt(total[rows] + 1)
    order = np.lexsort((pairs.indices, -data, rows))
    best = order[np.arange(len(order)) - pairs.indptr[rows[order]] < keep]
    return ItemSimilarity.from_matrix(
        sparse.csr_matrix((data[best], (rows[best], pairs.indices[best])), shape=pairs.shape)
    )
