"""Similar descriptions: TF-IDF over the words of the title, the levels of the category, and the brand.

It needs no interactions with an item, so it can relate one that is new.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from scipy import sparse

from features.common.arrays import AnyArray, Int64Array
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.protocol import Arrays, ItemToItemGenerator, NamedScore
from models.candidates.similarity import ItemSimilarity, unit_rows
from models.candidates.user_profile import ProfileItems, profile_items
from models.search_space import Between

_WORD = re.compile(r"[^\W_]+")


class ContentConfig(BaseModel):
    """How descriptions are compared."""

    model_config = ConfigDict(extra="forbid")

    neighbours: Annotated[PositiveInt, Between(20, 100, log=True)] = 50
    """Most similar items kept for each item."""
    common: Annotated[float, Between(0.02, 0.5, log=True)] = Field(0.1, gt=0, le=1)
    """Words in a larger share of the items are ignored."""


@dataclass(frozen=True)
class Content(ItemToItemGenerator[ContentConfig]):
    """`similar`: cosine of descriptions. It follows from the catalog alone and is refitted at each refresh."""

    key = "content"
    position = 6
    named_scores = (
        NamedScore("content", "likeness of the products", "history", "like_what"),
        NamedScore("content_visit", "this visit", "visit", "like_what"),
    )
    settings = ContentConfig

    similar: ItemSimilarity
    config: ContentConfig

    @classmethod
    def fit(cls, snapshot: Snapshot, config: ContentConfig) -> Self:
        n = len(snapshot.items)
        descriptions = snapshot.fitting_data.descriptions if snapshot.fitting_data else [(None, None, None)] * n
        vectors = _tf_idf([words(*d) for d in descriptions], config.common)
        if not vectors.nnz:
            return cls(ItemSimilarity.empty(n), config)
        return cls(ItemSimilarity.nearest(vectors.T, config.neighbours), config)

    def refit_to(self, snapshot: Snapshot, items: Int64Array) -> Self:
        return self.fit(snapshot, self.config)

    def evidence(self, name: str, snapshot: Snapshot, visitors: Visitors) -> tuple[ItemSimilarity, ProfileItems]:
        return self.similar, profile_items(snapshot, visitors, self.basis_of(name))

    def arrays(self) -> Arrays:
        return {**self.similar.arrays(), "settings": np.array([self.config.neighbours, self.config.common])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Self:
        neighbours, common = arrays["settings"].tolist()
        return cls(ItemSimilarity.from_arrays(arrays), ContentConfig(neighbours=int(neighbours), common=common))


def words(title: str | None, category: str | None, brand: str | None) -> list[str]:
    """List the words of an item's title, in lower case, and its categories and brand, marked as such."""
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
    indices = np.array([c for row in columns for c in row], np.int64)
    n = len(descriptions)
    items = np.bincount(indices, minlength=len(index))  # with each word
    weight = np.where((items > 1) & (items <= max(2, common * n)), np.log(n / np.maximum(items, 1)), 0.0)
    matrix = sparse.csr_matrix((weight[indices], indices, indptr), shape=(n, len(index)))
    matrix.eliminate_zeros()
    return unit_rows(matrix)
