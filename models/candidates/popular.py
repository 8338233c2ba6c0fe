"""Best sellers: of everyone, of the visitor's segment, in the categories of their profile, and among new items."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse

from features.common.arrays import AnyArray, Float32Array, FloatArray, Int64Array, IntArray
from features.ranking.snapshot import SEGMENT_NAMES, Snapshot
from features.ranking.visitors import Visitors
from models.candidates.protocol import Arrays, CandidateGenerator, NamedScore
from models.candidates.scores import GroupScores, Scores, SharedScores, product
from models.candidates.user_profile import Basis, pair_weights, profile_items

ARRIVAL_DAYS = 28.0
_PER_CATEGORY = 100
_BASES: tuple[tuple[Basis, float], ...] = (("history", 1.0), ("visit", 3.0))  # whose categories, and their weight


def popularity(snapshot: Snapshot) -> Float32Array:
    """float32[items], above 0: buyers of four weeks; among equals those of ninety days, then views, then ever."""
    item = snapshot.item
    score: Float32Array = (
        item("buyers_28d") + 1e-2 * item("buyers_90d") + 1e-3 * item("views_28d") + 1e-4 * item("buyers") + 1e-6
    )
    return score.astype(np.float32)


@dataclass(frozen=True)
class Popular(CandidateGenerator[None]):
    """It follows from the snapshot alone and is refitted at each refresh.

    `everyone` and `arrivals` float32[items], `segments` float32[RFM segments × items];
    `categories` is a CSR of each category's best sellers, the first of which counts 1.
    """

    key = "popular"
    position = 7
    named_scores = (
        NamedScore("popular", "what sells and what is new"),
        NamedScore("popular_segment", "what sells and what is new"),
        NamedScore("popular_category", "what sells and what is new"),
        NamedScore("arrivals", "what sells and what is new"),
    )

    everyone: Float32Array
    arrivals: Float32Array
    segments: Float32Array
    categories: sparse.csr_matrix

    @classmethod
    def fit(cls, snapshot: Snapshot, config: None = None) -> Self:
        everyone = popularity(snapshot)
        return cls(everyone, _arrivals(snapshot), _by_segment(snapshot), _by_category(snapshot, everyone))

    def refit_to(self, snapshot: Snapshot, items: Int64Array) -> Self:
        return self.fit(snapshot)

    @cached_property
    def best_sellers(self) -> Int64Array:
        """int64[items]: all items, best sellers first."""
        return np.argsort(-self.everyone, kind="stable")

    @cached_property
    def latest(self) -> Int64Array:
        """int64[items]: all items, the best new ones first."""
        return np.argsort(-self.arrivals, kind="stable")

    def scores(self, name: str, snapshot: Snapshot, visitors: Visitors) -> Scores:
        if name == "popular":
            return SharedScores(self.everyone, len(visitors), self.best_sellers)
        if name == "arrivals":
            return SharedScores(self.arrivals, len(visitors), self.latest)
        score = self._score_segments if name == "popular_segment" else self._score_categories
        return score(snapshot, visitors)

    def _score_segments(self, snapshot: Snapshot, visitors: Visitors) -> Scores:
        """Scores of the visitor's segment; none for customers unknown to the snapshot."""
        known = visitors.customers >= 0
        if not len(snapshot.segments):
            return GroupScores(self.segments, np.full(len(visitors), -1))
        segment = snapshot.segments[np.maximum(visitors.customers, 0)].astype(np.int64)
        return GroupScores(self.segments, np.where(known, segment, -1))

    def _score_categories(self, snapshot: Snapshot, visitors: Visitors) -> Scores:
        """Best sellers of a category × the visitor's share of it, in the history and in this visit."""
        parts: list[tuple[Int64Array, IntArray, FloatArray]] = []
        for basis, basis_weight in _BASES if len(visitors.query) else _BASES[:1]:
            query, item, weight = profile_items(snapshot, visitors, basis)
            code = snapshot.categories[item]
            known = code >= 0
            query, code, weight = query[known], code[known], weight[known]
            total = np.bincount(query, weight, minlength=len(visitors))
            parts.append((query, code, basis_weight * weight / np.maximum(total[query], 1e-9)))
        if len(parts) > 1:
            query, code, weight = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            order = np.argsort(query, kind="stable")
            parts = [(query[order], code[order], weight[order])]
        best = self.categories
        return product(*parts[0], (best.indptr, best.indices, best.data), len(visitors), best.shape[1])

    def arrays(self) -> Arrays:
        best = self.categories
        return {
            "everyone": self.everyone,
            "arrivals": self.arrivals,
            "segments": self.segments,
            "indptr": best.indptr,
            "indices": best.indices,
            "data": best.data,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Self:
        parts = tuple(arrays[name] for name in ("data", "indices", "indptr"))
        shape = (len(arrays["indptr"]) - 1, len(arrays["everyone"]))
        categories = sparse.csr_matrix(parts, shape=shape)
        return cls(arrays["everyone"], arrays["arrivals"], arrays["segments"], categories)


def _arrivals(snapshot: Snapshot) -> Float32Array:
    """float32[items]: buyers and views of new items by their time on sale, 0 for the others."""
    item = snapshot.item
    age = item("age_days")
    pace = (item("buyers_28d") + 0.1 * item("views_28d") + 1e-3) / (age + 7)
    return np.where(age <= ARRIVAL_DAYS, pace, 0).astype(np.float32)


def _by_segment(snapshot: Snapshot) -> Float32Array:
    """float32[segments × items]: decayed purchases, carts and views of each RFM segment's customers."""
    h = snapshot.history
    customer = np.repeat(np.arange(len(snapshot.customers)), np.diff(h.indptr))
    shape = (len(SEGMENT_NAMES), len(snapshot.items))
    key = snapshot.segments[customer].astype(np.int64) * shape[1] + h.items
    return np.bincount(key, pair_weights(h), shape[0] * shape[1]).reshape(shape).astype(np.float32)


def _by_category(snapshot: Snapshot, everyone: Float32Array) -> sparse.csr_matrix:
    items = np.flatnonzero(snapshot.categories >= 0)
    order = items[np.lexsort((items, -everyone[items], snapshot.categories[items]))]
    code = snapshot.categories[order].astype(np.int64)
    first = np.searchsorted(code, np.arange(int(code.max(initial=-1)) + 1))
    place = np.arange(len(order)) - first[code]
    keep = place < _PER_CATEGORY
    value = everyone[order] / everyone[order[first]][code]
    shape = (len(first), len(everyone))
    matrix = sparse.csr_matrix((value[keep], (code[keep], order[keep])), shape=shape, dtype=np.float32)
    matrix.sort_indices()
    return matrix
