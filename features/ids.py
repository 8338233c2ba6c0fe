"""Ids to positions and back, over memory that several processes can map."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


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
        hashes = np.fromiter((_hash(i) for i in values.to_pylist()), np.uint64, len(values))
        order = np.argsort(hashes, kind="stable")
        return cls(values, hashes[order], order.astype(np.int32))

    def __len__(self) -> int:
        return len(self.values)

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """int64[len(ids)]: the position of each id, -1 where it is not known."""
        if len(distinct := list(dict.fromkeys(ids))) < len(ids):  # the columns of a log repeat their ids
            place = dict(zip(distinct, self.find(distinct).tolist(), strict=True))
            return np.fromiter(map(place.__getitem__, ids), np.int64, len(ids))
        found = np.full(len(ids), -1, np.int64)
        if not len(self) or not len(ids):
            return found
        wanted = np.fromiter((_hash(i) for i in ids), np.uint64, len(ids))
        slot = np.searchsorted(self.hashes, wanted)
        open_ = np.arange(len(ids))
        while len(open_):
            # Two ids may share a hash: walk on while the hash is right and the id is not.
            at = slot[open_]
            same = (at < len(self)) & (self.hashes[np.minimum(at, len(self) - 1)] == wanted[open_])
            open_, at = open_[same], at[same]
            position = self.order[at]
            right = np.fromiter(
                (self.values[int(p)].as_py() == ids[int(q)] for p, q in zip(position, open_, strict=True)),
                bool,
                len(open_),
            )
            found[open_[right]] = position[right]
            open_ = open_[~right]
            slot[open_] += 1
        return found

    @cached_property
    def by_position(self) -> np.ndarray:
        """uint64: the hash of each id, in the order of `values`."""
        hashes = np.empty(len(self), np.uint64)
        hashes[self.order] = self.hashes
        return hashes

    def at(self, positions: np.ndarray) -> list[str]:
        """The ids at some positions."""
        ids: list[str] = pc.take(self.values, pa.array(positions, pa.int64())).to_pylist()
        return ids
