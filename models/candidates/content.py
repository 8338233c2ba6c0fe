"""What is described alike: TF-IDF over words of the title, levels of the category, and the brand.

It needs no visitor to have touched an item, so it is the one generator that can relate a new one.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from scipy import sparse

from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.base import Arrays
from models.candidates.scores import Scores
from models.candidates.similarity import Similar, unit_rows
from models.candidates.user_profile import Basis, asked
from models.search_space import Between

_WORD = re.compile(r"[^\W_]+")


class ContentConfig(BaseModel):
    """How descriptions are compared."""

    model_config = ConfigDict(extra="forbid")

    neighbours: Annotated[PositiveInt, Between(20, 100, log=True)] = 50
    """Most alike items kept for each item."""
    common: Annotated[float, Between(0.02, 0.5, log=True)] = Field(0.1, gt=0, le=1)
    """A word in a larger share of the items says nothing of any."""


@dataclass(frozen=True)
class Content:
    """`similar`: cosine of descriptions. It follows from the catalog alone and is found anew for another one."""

    similar: Similar
    config: ContentConfig

    @classmethod
    def fit(cls, snapshot: Snapshot, config: ContentConfig) -> "Content":
        described = snapshot.material.descriptions if snapshot.material else [(None, None, None)] * len(snapshot.items)
        vectors = _tf_idf([words(*d) for d in described], config.common)
        if not vectors.nnz:
            n = len(snapshot.items)
            return cls(Similar.of(sparse.csr_matrix((n, n), dtype=np.float32)), config)
        return cls(Similar.nearest(vectors.T, config.neighbours), config)

    def onto(self, snapshot: Snapshot) -> "Content":
        return Content.fit(snapshot, self.config)

    def scores(self, snapshot: Snapshot, visitors: Visitors, basis: Basis) -> Scores:
        return self.similar.scores(len(visitors), *asked(snapshot, visitors, basis))

    def arrays(self) -> Arrays:
        return {**self.similar.arrays(), "settings": np.array([self.config.neighbours, self.config.common])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Content":
        neighbours, common = arrays["settings"].tolist()
        similar = Similar(arrays["indptr"], arrays["indices"], arrays["data"])
        return cls(similar, ContentConfig(neighbours=int(neighbours), common=common))


def words(title: str | None, category: str | None, brand: str | None) -> list[str]:
    """The words of an item's title, in lower case, and its categories and brand, marked as such."""
    levels = (category or "").split("/") if category else []
    return [
        *(w.lower() for w in _WORD.findall(unicodedata.normalize("NFKC", title or ""))),
        *("/".join(["category:", *levels[: n + 1]]) for n in range(len(levels))),
        *([f"brand:{brand}"] if brand else []),
    ]


def _tf_idf(descriptions: Sequence[Sequence[str]], common: float) -> sparse.csr_matrix:
    """float64[items × words], rows of length 1 or 0."""
    index: dict[str, int] = {}
    columns = [[index.setdefault(w, len(index)) for w in dict.fromkeys(d)] for d in descriptions]
    indptr = np.concatenate([[0], np.cumsum([len(c) for c in columns])])
    indices = np.array([c for line in columns for c in line], np.int64)
    n = len(descriptions)
    seen = np.bincount(indices, minlength=len(index))
    weight = np.where((seen > 1) & (seen <= max(2, common * n)), np.log(n / np.maximum(seen, 1)), 0.0)
    matrix = sparse.csr_matrix((weight[indices], indices, indptr), shape=(n, len(index)))
    matrix.eliminate_zeros()
    return unit_rows(matrix)
