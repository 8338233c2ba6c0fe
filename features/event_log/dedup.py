"""Deduplication across days: rows that share (event_id, item_id) but lie on different days.

Rows of one day are compared in memory. Across days each row is first reduced to one number, a 47-bit hash of its key
beside its day; sorted, these numbers usually show that there are no duplicates. Only rows whose hashes collide are
then compared by their keys. Numbers and rows lie on disk and are read by ranges of the hash, so memory depends on the
size of a range, not of the log.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from features.common.clock import DAY

KEY = ["event_id", "item_id"]
HASHES_AT_ONCE = 4_000_000

_DAY_BITS = np.uint64(17)  # days up to the year 2328
_DAY_MASK = np.uint64((1 << 17) - 1)


class KeySource(Protocol):
    """A file of events whose keys can be read."""

    def keys(self) -> pl.DataFrame:
        """event_id, item_id and timestamp of every row."""


class HashedKeySource(KeySource, Protocol):
    """A file of events whose keys were hashed when it was written."""

    @property
    def key_hashes(self) -> np.ndarray:
        """uint64[rows]: `hash_keys` of its rows, sorted."""


def days_of(events: pl.DataFrame) -> np.ndarray:
    """int64[rows]: the day of each row, counted from the epoch."""
    days: np.ndarray = events["timestamp"].to_physical().to_numpy() // DAY
    return days


def day_starts(days: np.ndarray) -> np.ndarray:
    """int64[distinct days + 1]: the first row of each of the rising `days`, and at the end the number of rows."""
    return np.concatenate([[0], np.flatnonzero(np.diff(days)) + 1, [len(days)]]) if len(days) else np.zeros(1, np.int64)


def hash_keys(keys: pl.DataFrame) -> np.ndarray:
    """Hash each row: uint64[rows], the hash of the key in the upper 47 bits, the day in the others."""
    hashes = keys.select(pl.col("event_id").hash(1) ^ pl.col("item_id").hash(2)).to_series().to_numpy()
    return (hashes & ~_DAY_MASK) | days_of(keys).astype(np.uint64)


class Duplicates:
    """Rows, as (event_id, item_id, day), whose key an earlier day has too: a log leaves them out."""

    def __init__(self, directory: Path) -> None:
        self._files = sorted(directory.glob("duplicates-*.parquet"))
        days = [pl.scan_parquet(f).select(pl.col("day").unique()).collect()["day"] for f in self._files]
        self.days: set[int] = {day for s in days for day in s.to_list()}

    def remove(self, events: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
        """Remove the duplicates from `events`, which lie on the days from `first` to `last`."""
        if not any(first <= day <= last for day in self.days):
            return events
        duplicates = pl.scan_parquet(self._files).filter(pl.col("day").is_between(first, last)).collect()
        marked = events.with_columns(day=pl.Series(days_of(events), dtype=pl.Int64))
        return marked.join(duplicates, on=[*KEY, "day"], how="anti", nulls_equal=True, maintain_order="left").drop(
            "day"
        )


def find_duplicates(fresh: Sequence[HashedKeySource], existing: Sequence[KeySource], directory: Path) -> Duplicates:
    """Compare every fresh row with every other row, fresh or existing. Writes its files to `directory`."""
    key_hashes = [f.key_hashes for f in fresh]
    if existing:
        key_hashes += _hash_existing(existing, directory, _distinct_hashes(key_hashes))
    collisions = [*_find_collisions(key_hashes, directory)]
    if collisions:
        _compare_keys([*fresh, *existing], collisions, directory)
    return Duplicates(directory)


def _hash_existing(existing: Iterable[KeySource], directory: Path, relevant: np.ndarray | None) -> Iterator[np.ndarray]:
    """The sorted key hashes of each source; only those whose hash is in `relevant`, where that is given."""
    for i, source in enumerate(existing):
        key_hashes = np.sort(hash_keys(source.keys()))
        if relevant is not None:
            key_hashes = key_hashes[_is_in(key_hashes >> _DAY_BITS, relevant)]
        yield spill(key_hashes, directory / f"existing-{i:06d}.u64")


def _distinct_hashes(files: Sequence[np.ndarray]) -> np.ndarray | None:
    """The hashes in all `files`, sorted; None if they are many. If few, a long log's other hashes need no space."""
    if sum(map(len, files)) > HASHES_AT_ONCE:
        return None
    return _distinct(np.sort(np.concatenate([np.zeros(0, np.uint64), *(f >> _DAY_BITS for f in files)])))


def _find_collisions(files: Sequence[np.ndarray], directory: Path) -> Iterator[np.ndarray]:
    """The key hashes that occur on several days, sorted, range by range of the hash."""
    if not files:
        return
    ranges = max(1, -(-sum(map(len, files)) // HASHES_AT_ONCE))
    edges = np.array([(i << 64) // ranges for i in range(1, ranges)], np.uint64) & ~_DAY_MASK
    cuts = [np.concatenate([[0], np.searchsorted(f, edges), [len(f)]]) for f in files]
    for i in range(ranges):
        in_range = np.sort(np.concatenate([f[c[i] : c[i + 1]] for f, c in zip(files, cuts, strict=True)]))
        hashes = in_range >> _DAY_BITS
        collide = np.flatnonzero((hashes[1:] == hashes[:-1]) & (in_range[1:] != in_range[:-1]))
        if len(collide):
            several = _distinct(hashes[collide])
            yield spill(_distinct(in_range[_is_in(hashes, several)]), directory / f"collision-{i:06d}.u64")


def _compare_keys(sources: Sequence[KeySource], collisions: Sequence[np.ndarray], directory: Path) -> None:
    """Write the rows that lie on a later day than another of their key, one file per range of the hash."""
    for i, source in enumerate(sources):
        keys = source.keys()
        key_hashes = hash_keys(keys)
        for j, in_range in enumerate(collisions):
            matches = np.flatnonzero(_is_in(key_hashes, in_range))
            if len(matches):
                rows = keys[matches].select(*KEY, day=pl.Series(days_of(keys)[matches], dtype=pl.Int64))
                rows.write_parquet(directory / f"match-{j:06d}-{i:06d}.parquet", compression="lz4")
    for j in range(len(collisions)):
        files = sorted(directory.glob(f"match-{j:06d}-*.parquet"))
        rows = pl.read_parquet(files)
        duplicates = rows.filter(pl.col("day") > pl.col("day").min().over(KEY)).unique().sort("day")
        if duplicates.height:
            duplicates.write_parquet(directory / f"duplicates-{j:06d}.parquet", compression="lz4")
        for file in files:
            file.unlink()


def _distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values of a sorted array. (np.unique hashes, which takes fifty times as long here.)"""
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values


def _is_in(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    """bool[len(values)]: which `values` are in the sorted array `members`."""
    if not len(members):
        return np.zeros(len(values), bool)
    return members[np.minimum(np.searchsorted(members, values), len(members) - 1)] == values


def spill(values: np.ndarray, file: Path) -> np.ndarray:
    """Move `values` (uint64) to disk and map the file."""
    if not len(values):
        return values
    # Not `tofile`, which does not raise when the disk is full.
    with file.open("wb") as out:
        out.write(values.data)
    return np.memmap(file, np.uint64, "r")
