"""Stated: best sellers among the items that match what the visitor said they like."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from features.common.arrays import AnyArray, Float32Array, Int64Array
from features.ranking.pair_index import find_keys
from features.ranking.snapshot import Snapshot
from features.ranking.stated_preferences import PRICE
from features.ranking.visitors import Visitors
from features.tables.history import ranges
from models.candidates.popular import popularity
from models.candidates.protocol import Arrays, CandidateGenerator, NamedScore
from models.candidates.scores import SparseScores

_POPULARITY = 0.9  # of an answer's weight, so that a second match counts more than any sales


@dataclass(frozen=True)
class Stated(CandidateGenerator[None]):
    """Active where the log has answers. It follows from the snapshot alone and is refitted at each refresh.

    `sales` float32[items]: popularity over the best seller's. `codes` int64, rising: hashes of the values that answers
    may match; `items` int64[…] has those of code c from `indptr[c]` to `indptr[c + 1]`.
    """

    key = "stated"
    position = 11
    named_scores = (NamedScore("stated", "what the visitor said they like"),)

    sales: Float32Array
    codes: Int64Array
    indptr: Int64Array
    items: Int64Array

    @classmethod
    def applies_to(cls, snapshot: Snapshot) -> bool:
        return snapshot.answers.total > 0

    @classmethod
    def fit(cls, snapshot: Snapshot, config: None = None) -> Self:
        sales = popularity(snapshot)
        terms = snapshot.item_terms
        codes, code = np.unique(terms.terms, return_inverse=True)
        item = np.arange(len(snapshot.items)).repeat(np.diff(terms.indptr))
        indptr = np.zeros(len(codes) + 1, np.int64)
        np.cumsum(np.bincount(code, minlength=len(codes)), out=indptr[1:])
        items = item[np.argsort(code, kind="stable")]
        return cls(sales / max(float(sales.max(initial=0)), 1e-9), codes, indptr, items)

    def refit_to(self, snapshot: Snapshot, items: Int64Array) -> Self:
        return self.fit(snapshot)

    def scores(self, name: str, snapshot: Snapshot, visitors: Visitors) -> SparseScores:
        """Each value of an answer counts 1 for the items that have it; among equals the best sellers come first."""
        stated, n_items = visitors.stated, len(snapshot.items)
        rows = np.flatnonzero(stated.facet != PRICE)
        if not len(rows) or not len(self.codes):
            return SparseScores.empty(len(visitors), n_items)
        slot, hit = find_keys(self.codes, stated.term[rows])
        rows, slot = rows[hit], slot[hit]
        values = np.bincount(stated.query[rows], minlength=len(visitors))
        sizes = self.indptr[slot + 1] - self.indptr[slot]
        item = self.items[ranges(self.indptr[slot], sizes)]
        query = stated.query[rows].repeat(sizes)
        weight = 1 + _POPULARITY * self.sales[item].astype(np.float64) / values[query]
        return SparseScores.from_entries(query, item, weight, len(visitors), n_items)

    def arrays(self) -> Arrays:
        return {"sales": self.sales, "codes": self.codes, "indptr": self.indptr, "items": self.items}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Self:
        return cls(arrays["sales"], arrays["codes"], arrays["indptr"], arrays["items"])
