"""Similar embeddings: cosine of vectors that the shop's catalog brings, from any text or image model.

It needs no interactions with an item and no words, so it can relate one that nobody has bought. Without vectors in the
catalog it is inactive.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt
from scipy import sparse

from features.common.arrays import AnyArray, Float32Array, Int64Array
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.protocol import Arrays, ItemToItemGenerator, NamedScore
from models.candidates.similarity import ItemSimilarity
from models.candidates.user_profile import ProfileItems, profile_items
from models.search_space import Between

_BLOCK_CELLS = 1 << 22  # of items × items that are compared at once: 16 MB
_CHUNK = 32  # most columns whose largest entry stands for them when a row's nearest are looked for


class EmbeddingConfig(BaseModel):
    """How vectors are compared."""

    model_config = ConfigDict(extra="forbid")

    neighbours: Annotated[PositiveInt, Between(20, 200, log=True)] = 50
    """Most similar items kept for each item."""


@dataclass(frozen=True)
class Embedding(ItemToItemGenerator[EmbeddingConfig]):
    """`similar`: cosine of the catalog's vectors. It follows from the catalog alone."""

    key = "embedding"
    position = 8
    named_scores = (
        NamedScore("embedding", "likeness of the products", "history", "like_what"),
        NamedScore("embedding_visit", "this visit", "visit", "like_what"),
    )
    settings = EmbeddingConfig

    similar: ItemSimilarity
    config: EmbeddingConfig

    @classmethod
    def applies_to(cls, snapshot: Snapshot) -> bool:
        return snapshot.embeddings is not None and bool(np.isfinite(snapshot.embeddings).any())

    @classmethod
    def fit(cls, snapshot: Snapshot, config: EmbeddingConfig) -> Self:
        if snapshot.embeddings is None:
            return cls(ItemSimilarity.empty(len(snapshot.items)), config)
        return cls(nearest_by_cosine(snapshot.embeddings, config.neighbours), config)

    def refit_to(self, snapshot: Snapshot, items: Int64Array) -> Self:
        if snapshot.embeddings is None:  # the column is gone: what is known of the items that are still there stays
            return type(self)(self.similar.reindex(items), self.config)
        return self.fit(snapshot, self.config)

    def evidence(self, name: str, snapshot: Snapshot, visitors: Visitors) -> tuple[ItemSimilarity, ProfileItems]:
        return self.similar, profile_items(snapshot, visitors, self.basis_of(name))

    def arrays(self) -> Arrays:
        return {**self.similar.arrays(), "settings": np.array([self.config.neighbours])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Self:
        return cls(ItemSimilarity.from_arrays(arrays), EmbeddingConfig(neighbours=int(arrays["settings"][0])))


def nearest_by_cosine(vectors: Float32Array, k: int) -> ItemSimilarity:
    """Find each item's `k` most similar others by cosine, of those above 0; of equal ones the first.

    `vectors` float32[items × d]: rows of NaN and rows of zeros are similar to nothing. Needs items² × d operations.
    """
    n = len(vectors)
    # Scaled first: the squares of very large or small numbers do not fit into float32.
    largest = np.abs(vectors).max(axis=1, initial=0, keepdims=True)
    scaled = np.divide(vectors, largest, out=np.zeros_like(vectors), where=largest > 0)  # NaN > 0 is False
    unit = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1)
    rows, columns, values = (np.concatenate(parts) for parts in zip(*_nearest(unit, k), strict=True))
    return ItemSimilarity.from_matrix(sparse.csr_matrix((values, (rows, columns)), shape=(n, n)))


def _nearest(unit: Float32Array, k: int) -> Iterator[tuple[Int64Array, Int64Array, Float32Array]]:
    """Row, column and cosine of each row's nearest, a block of rows at a time."""
    n = len(unit)
    width = min(_CHUNK, max(1, n // (4 * k)))  # at least four times as many chunks as are looked for
    chunks = -(-n // width)
    padded = np.zeros((chunks * width, unit.shape[1]), np.float32)
    padded[:n] = unit
    size = max(1, _BLOCK_CELLS // len(padded))
    yield np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    for start in range(0, n, size):
        cosine = unit[start : start + size] @ padded.T
        cosine[np.arange(len(cosine)), np.arange(start, start + len(cosine))] = 0  # not an item with itself
        # The k-th largest of the chunks' best is a bound: k entries at least reach it. So only few entries are sorted.
        best = cosine.reshape(len(cosine), chunks, width).max(axis=2)
        bound = np.zeros((len(cosine), 1), np.float32)
        if k < chunks:
            bound[:, 0] = np.partition(best, chunks - k, axis=1)[:, chunks - k]
        np.maximum(bound, np.finfo(np.float32).tiny, out=bound)
        near = cosine >= bound
        # Many equal vectors leave more at the bound than can be kept: only the first of them are.
        crowded = np.flatnonzero(np.count_nonzero(near, axis=1) > k + width)
        equal = cosine[crowded] == bound[crowded]
        near[crowded] &= ~equal | (np.cumsum(equal, axis=1, dtype=np.int32) <= k)
        row, column = np.nonzero(near)
        value = cosine[row, column]
        order = np.lexsort((column, -value, row))
        row, column, value = row[order], column[order], value[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        keep = place < k
        yield row[keep] + start, column[keep], value[keep]
