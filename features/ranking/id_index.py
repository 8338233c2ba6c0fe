"""Id index: ids to positions and back, over memory that several processes can map."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from features.common.arrays import Int32Array, Int64Array, IntArray, UInt64Array


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def signed_hash(text: str) -> int:
    """Return the hash of an id by which `IdIndex.hide` finds it, as a signed integer that a database can hold."""
    value = _hash(text.encode("utf-8", "surrogatepass"))
    return value - (1 << 64) if value >= 1 << 63 else value


@dataclass(frozen=True)
class IdIndex:
    """Ids by position: `values` holds them; `hashes` is sorted, `order` is the position each belongs to.

    A Python dict of a million ids takes a process about 100 MB; these arrays are mapped once for all.
    """

    values: pa.StringArray
    hashes: UInt64Array
    order: Int32Array
    hidden: set[int] = field(default_factory=set, repr=False, compare=False)
    """Positions that `find` does not find: of customers who were erased since the snapshot."""

    @classmethod
    def from_ids(cls, ids: Iterable[str]) -> "IdIndex":
        """Index `ids`, distinct, in their order."""
        values = pa.array(ids, pa.string())
        hashes = np.fromiter((_hash(i.encode()) for i in values.to_pylist()), np.uint64, len(values))
        order = np.argsort(hashes, kind="stable")
        return cls(values, hashes[order], order.astype(np.int32))

    def __len__(self) -> int:
        return len(self.values)

    def find(self, ids: Sequence[str]) -> Int64Array:
        """Return the position of each id, int64[len(ids)]; -1 for an unknown one."""
        if not len(self) or not len(ids):
            return np.full(len(ids), -1)
        if len(distinct := list(dict.fromkeys(ids))) < len(ids):  # the columns of a log repeat their ids
            position_of = dict(zip(distinct, self.find(distinct).tolist(), strict=True))
            return np.fromiter(map(position_of.__getitem__, ids), np.int64, len(ids))
        if len(ids) == 1:
            return np.array([self._find_one(ids[0].encode("utf-8", "surrogatepass"))])
        texts = [i.encode("utf-8", "surrogatepass") for i in ids]
        hashes = np.fromiter(map(_hash, texts), np.uint64, len(ids))
        slot = np.minimum(self.hashes.searchsorted(hashes), len(self) - 1)
        candidates = self.order[slot]
        rows = zip(candidates.tolist(), self._texts(candidates), texts, strict=True)
        positions = np.fromiter((p if text == other else -1 for p, other, text in rows), np.int64, len(ids))
        # Two ids may share a hash: the right one is then further on.
        for n in np.flatnonzero((positions < 0) & (self.hashes[slot] == hashes)).tolist():
            positions[n] = self._find_one(texts[n])
        if self.hidden:
            positions[np.isin(positions, [*self.hidden])] = -1
        return positions

    def hide(self, hashes: Sequence[int]) -> None:
        """Find the ids of these hashes (`signed_hash`) no longer."""
        wanted = np.array(hashes, np.int64).view(np.uint64)
        start, end = self.hashes.searchsorted(wanted), self.hashes.searchsorted(wanted, "right")
        for a, b in zip(start.tolist(), end.tolist(), strict=True):
            self.hidden.update(self.order[a:b].tolist())

    def _find_one(self, text: bytes) -> int:
        """Find one id: a single step of `find` over arrays takes longer than all of this."""
        key = np.uint64(_hash(text))
        slot = int(self.hashes.searchsorted(key))
        while slot < len(self) and self.hashes[slot] == key:
            position = int(self.order[slot])
            if self._texts(self.order[slot : slot + 1])[0] == text:
                return -1 if position in self.hidden else position
            slot += 1
        return -1

    @cached_property
    def by_position(self) -> UInt64Array:
        """uint64[ids]: the hash of each id, by position."""
        hashes = np.empty(len(self), np.uint64)
        hashes[self.order] = self.hashes
        return hashes

    def at(self, positions: IntArray) -> list[str]:
        """Return the ids at `positions`."""
        return [str(text, "utf-8") for text in self._texts(positions)]

    def _texts(self, positions: IntArray) -> list[memoryview]:
        # pyarrow's take needs twenty times as long for the ten ids of an answer when its code is not in the processor's
        # cache.
        offsets, data = self._memory
        bounds = zip(offsets[positions].tolist(), offsets[positions + 1].tolist(), strict=True)
        return [data[start:end] for start, end in bounds]

    @cached_property
    def _memory(self) -> tuple[Int32Array, memoryview]:
        """Offsets int32[ids + 1] into the bytes, and the bytes: the ids, one after another in UTF-8."""
        _, offsets, data = self.values.buffers()
        first = self.values.offset
        starts = np.zeros(1, np.int32) if offsets is None else np.frombuffer(offsets, np.int32)
        return starts[first : first + len(self) + 1], memoryview(b"" if data is None else data).cast("B")
