"""Ids to positions and back, over memory that several processes can map."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Ids:
    """`values` holds the id at each position; `hashes` is sorted, `order` says whose hash each one is.

    A Python dict of a million ids takes a process about 100 MB; these arrays are mapped once for all.
    """

    values: pa.StringArray
    hashes: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, ids: Iterable[str]) -> "Ids":
        values = pa.array(ids, pa.string())
        hashes = np.fromiter((_hash(i.encode()) for i in values.to_pylist()), np.uint64, len(values))
        order = np.argsort(hashes, kind="stable")
        return cls(values, hashes[order], order.astype(np.int32))

    def __len__(self) -> int:
        return len(self.values)

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """int64[len(ids)]: the position of each id, -1 where it is not known."""
        if not len(self) or not len(ids):
            return np.full(len(ids), -1)
        if len(distinct := list(dict.fromkeys(ids))) < len(ids):  # the columns of a log repeat their ids
            place = dict(zip(distinct, self.find(distinct).tolist(), strict=True))
            return np.fromiter(map(place.__getitem__, ids), np.int64, len(ids))
        if len(ids) == 1:
            return np.array([self._place(ids[0].encode("utf-8", "surrogatepass"))])
        texts = [i.encode("utf-8", "surrogatepass") for i in ids]
        wanted = np.fromiter(map(_hash, texts), np.uint64, len(ids))
        slot = np.minimum(self.hashes.searchsorted(wanted), len(self) - 1)
        position = self.order[slot]
        held = zip(position.tolist(), self._texts(position), texts, strict=True)
        found = np.fromiter((p if text == asked else -1 for p, text, asked in held), np.int64, len(ids))
        # Two ids may share a hash: the right one is then further on.
        for n in np.flatnonzero((found < 0) & (self.hashes[slot] == wanted)).tolist():
            found[n] = self._place(texts[n])
        return found

    def _place(self, text: bytes) -> int:
        """Of one id: each step that `find` takes with many takes longer than all of this."""
        wanted = np.uint64(_hash(text))
        slot = int(self.hashes.searchsorted(wanted))
        while slot < len(self) and self.hashes[slot] == wanted:
            position = int(self.order[slot])
            if self._texts(self.order[slot : slot + 1])[0] == text:
                return position
            slot += 1
        return -1

    @cached_property
    def by_position(self) -> np.ndarray:
        """uint64: the hash of each id, in the order of `values`."""
        hashes = np.empty(len(self), np.uint64)
        hashes[self.order] = self.hashes
        return hashes

    def at(self, positions: np.ndarray) -> list[str]:
        """The ids at some positions."""
        return [str(text, "utf-8") for text in self._texts(positions)]

    def _texts(self, positions: np.ndarray) -> list[memoryview]:
        # Not pyarrow's take: for the ten ids of an answer it takes twenty times as long where its code is not in the
        # processor's cache.
        offsets, data = self._memory
        bounds = zip(offsets[positions].tolist(), offsets[positions + 1].tolist(), strict=True)
        return [data[start:end] for start, end in bounds]

    @cached_property
    def _memory(self) -> tuple[np.ndarray, memoryview]:
        """Where each id begins, one more for the end, and the ids, one after another in UTF-8."""
        _, offsets, data = self.values.buffers()
        first = self.values.offset
        begins = np.zeros(1, np.int32) if offsets is None else np.frombuffer(offsets, np.int32)
        return begins[first : first + len(self) + 1], memoryview(b"" if data is None else data).cast("B")
