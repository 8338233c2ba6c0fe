"""Rows that share (event_id, item_id) but lie on different days.

Within a day they meet in memory. Across days they are found here: first by a hash of 47 bits beside the
day, one number per row, sorted; as a rule that shows that there are none. Only the rows whose hashes
meet are then compared by what they are. Numbers and rows lie on disk and are read by ranges of the
hash, so memory depends on the range, not on the log.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from features.common.clock import DAY

KEY = ["event_id", "item_id"]
NUMBERS_AT_ONCE = 4_000_000

_DAY_BITS = np.uint64(17)  # days up to the year 2328
_DAY_MASK = np.uint64((1 << 17) - 1)


class Source(Protocol):
    def keys(self) -> pl.DataFrame:
        """event_id, item_id and timestamp of every row."""


class Fresh(Source, Protocol):
    @property
    def numbers(self) -> np.ndarray:
        """The `numbers` of its rows, sorted."""


def days_of(events: pl.DataFrame) -> np.ndarray:
    """int64[rows]: the day of each row, counted from the epoch."""
    days: np.ndarray = events["timestamp"].to_physical().to_numpy() // DAY
    return days


def day_starts(days: np.ndarray) -> np.ndarray:
    """Of rising `days`, where each begins, and at the end how many rows there are."""
    return np.concatenate([[0], np.flatnonzero(np.diff(days)) + 1, [len(days)]]) if len(days) else np.zeros(1, np.int64)


def numbers(keys: pl.DataFrame) -> np.ndarray:
    """uint64[rows]: the hash of a row's key in the upper 47 bits, its day in the others."""
    hashes = keys.select(pl.col("event_id").hash(1) ^ pl.col("item_id").hash(2)).to_series().to_numpy()
    return (hashes & ~_DAY_MASK) | days_of(keys).astype(np.uint64)


class Later:
    """The rows (event_id, item_id, day) of which an earlier day has another, to be left out of a log."""

    def __init__(self, directory: Path) -> None:
        self._files = sorted(directory.glob("later-*.parquet"))
        days = [pl.scan_parquet(f).select(pl.col("day").unique()).collect()["day"] for f in self._files]
        self.days: set[int] = {day for s in days for day in s.to_list()}

    def without(self, events: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
        """`events`, which lie on the days from `first` to `last`, without those rows."""
        if not any(first <= day <= last for day in self.days):
            return events
        gone = pl.scan_parquet(self._files).filter(pl.col("day").is_between(first, last)).collect()
        marked = events.with_columns(day=pl.Series(days_of(events), dtype=pl.Int64))
        return marked.join(gone, on=[*KEY, "day"], how="anti", nulls_equal=True, maintain_order="left").drop("day")


def later(fresh: Sequence[Fresh], old: Sequence[Source], directory: Path) -> Later:
    """Compare every fresh row with every other row, fresh or old. Uses `directory` for its files."""
    sorted_numbers = [f.numbers for f in fresh]
    if old:
        sorted_numbers += _old_numbers(old, directory, _small(sorted_numbers))
    suspects = [*_suspects(sorted_numbers, directory)]
    if suspects:
        _compare([*fresh, *old], suspects, directory)
    return Later(directory)


def _old_numbers(old: Iterable[Source], directory: Path, among: np.ndarray | None) -> Iterator[np.ndarray]:
    for i, source in enumerate(old):
        found = np.sort(numbers(source.keys()))
        if among is not None:
            found = found[_is_in(found >> _DAY_BITS, among)]
        yield spilled(found, directory / f"old-{i:06d}.u64")


def _small(files: Sequence[np.ndarray]) -> np.ndarray | None:
    """The hashes in all `files`, sorted, if they are few: of a long log only these need to be kept."""
    if sum(map(len, files)) > NUMBERS_AT_ONCE:
        return None
    return _distinct(np.sort(np.concatenate([np.zeros(0, np.uint64), *(f >> _DAY_BITS for f in files)])))


def _suspects(files: Sequence[np.ndarray], directory: Path) -> Iterator[np.ndarray]:
    """The numbers whose hash occurs on several days, sorted, range by range of the hash."""
    ranges = max(1, -(-sum(map(len, files)) // NUMBERS_AT_ONCE))
    edges = np.array([(i << 64) // ranges for i in range(1, ranges)], np.uint64) & ~_DAY_MASK
    cuts = [np.concatenate([[0], np.searchsorted(f, edges), [len(f)]]) for f in files]
    for i in range(ranges):
        found = np.sort(np.concatenate([f[c[i] : c[i + 1]] for f, c in zip(files, cuts, strict=True)]))
        hashes = found >> _DAY_BITS
        meet = np.flatnonzero((hashes[1:] == hashes[:-1]) & (found[1:] != found[:-1]))
        if len(meet):
            several = _distinct(hashes[meet])
            yield spilled(_distinct(found[_is_in(hashes, several)]), directory / f"suspect-{i:06d}.u64")


def _compare(sources: Sequence[Source], suspects: Sequence[np.ndarray], directory: Path) -> None:
    """Write the rows that are later than another of their key, one file per range of the hash."""
    for i, source in enumerate(sources):
        keys = source.keys()
        found = numbers(keys)
        for j, range_ in enumerate(suspects):
            meet = np.flatnonzero(_is_in(found, range_))
            if len(meet):
                rows = keys[meet].select(*KEY, day=pl.Series(days_of(keys)[meet], dtype=pl.Int64))
                rows.write_parquet(directory / f"met-{j:06d}-{i:06d}.parquet", compression="lz4")
    for j in range(len(suspects)):
        files = sorted(directory.glob(f"met-{j:06d}-*.parquet"))
        rows = pl.read_parquet(files)
        late = rows.filter(pl.col("day") > pl.col("day").min().over(KEY)).unique().sort("day")
        if late.height:
            late.write_parquet(directory / f"later-{j:06d}.parquet", compression="lz4")
        for file in files:
            file.unlink()


def _distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values of a sorted array. (np.unique hashes, which takes fifty times as long here.)"""
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values


def _is_in(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """bool[len(values)]: which `values` are in the sorted array `among`."""
    if not len(among):
        return np.zeros(len(values), bool)
    return among[np.minimum(np.searchsorted(among, values), len(among) - 1)] == values


def spilled(values: np.ndarray, file: Path) -> np.ndarray:
    """`values` (uint64) on disk instead of in memory."""
    if not len(values):
        return values
    # Not `tofile`, which does not say that the disk is full.
    with file.open("wb") as out:
        out.write(values.data)
    return np.memmap(file, np.uint64, "r")
