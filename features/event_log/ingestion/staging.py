"""Staging: events that an ingest has read and not yet written to the log.

They lie on disk as sorted runs, so that memory does not grow with the input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import polars as pl

from features.common.background import BackgroundCall
from features.event_log.dedup import KEY, day_starts, days_of, hash_keys, spill
from features.event_log.schema import ORIGIN, STAGED_SCHEMA

ROWS_PER_RUN = 500_000
# The least that is read to get the rows of a day.
_ROWS_PER_GROUP = 50_000


@dataclass(frozen=True)
class SortedRun:
    """A file of events sorted by time: `days` int64[n] rising, day i being rows `starts[i]` to `starts[i + 1]`.

    `key_hashes` uint64[rows] is `dedup.hash_keys` of the rows, sorted, so not in the order of the rows. Columns that
    have one value in all rows are not in the file but in `constants`.
    """

    file: Path
    days: np.ndarray
    starts: np.ndarray
    key_hashes: np.ndarray
    constants: Mapping[str, int | None]

    def read(self, first: int, last: int) -> pl.DataFrame:
        """Read the rows of the days from `first` to `last`, both included."""
        a, b = self.starts[np.searchsorted(self.days, [first, last + 1])]
        if a == b:
            return pl.DataFrame(schema=STAGED_SCHEMA)
        return self._scan().slice(int(a), int(b - a)).collect().select(*STAGED_SCHEMA)

    def keys(self) -> pl.DataFrame:
        """Read event_id, item_id and timestamp of every row."""
        return self._scan().select("event_id", "item_id", "timestamp").collect()

    def _scan(self) -> pl.LazyFrame:
        constants = (pl.lit(value).cast(STAGED_SCHEMA[c]).alias(c) for c, value in self.constants.items())
        return pl.scan_ipc(self.file).with_columns(constants)


class Staging:
    """Events in batches of any size and order, read back by day.

    A thread of its own writes each run while the caller goes on with the next.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._buffer: list[pl.DataFrame] = []
        self._buffered_rows = 0
        self._writer = BackgroundCall[SortedRun]()
        self.rows = 0
        self.runs: list[SortedRun] = []

    def __enter__(self) -> "Staging":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def add(self, events: pl.DataFrame) -> None:
        """Add `events` in `STAGED_SCHEMA`, each with a timestamp."""
        # A batch larger than a run is cut, so that sorting it does not take a copy of all of it.
        for batch in events.iter_slices(ROWS_PER_RUN):
            self._buffer.append(batch)
            self._buffered_rows += batch.height
            self.rows += batch.height
            if self._buffered_rows >= ROWS_PER_RUN:
                self._start()

    def flush(self) -> None:
        """Write the rows in memory to disk; call it after the last `add`."""
        if self._buffered_rows:
            self._start()
        self.runs += self._writer.wait()

    def _start(self) -> None:
        batches, self._buffer, self._buffered_rows = self._buffer, [], 0
        self.runs += self._writer.wait()
        self._writer.start(self._write_run, batches, len(self.runs))

    def _write_run(self, batches: list[pl.DataFrame], number: int) -> SortedRun:
        events = pl.concat(batches)
        constants = _find_constants(events)
        events = events.drop(constants)
        if not events["timestamp"].is_sorted():
            events = events.sort("timestamp")
        file = self._directory / f"run-{number:06d}.arrow"
        events.write_ipc(file, compression="uncompressed", record_batch_size=_ROWS_PER_GROUP)
        days = days_of(events)
        starts = day_starts(days)
        key_hashes = spill(np.sort(hash_keys(events)), file.with_suffix(".u64"))
        return SortedRun(file, days[starts[:-1]], starts, key_hashes, constants)

    def days(self) -> dict[int, int]:
        """How many rows each day has; days are counted from the epoch."""
        rows: dict[int, int] = {}
        for run in self.runs:
            for day, n in zip(run.days.tolist(), np.diff(run.starts).tolist(), strict=True):
                rows[day] = rows.get(day, 0) + n
        return dict(sorted(rows.items()))

    def read(self, first: int, last: int) -> list[pl.DataFrame]:
        """Read the rows of the days from `first` to `last`, both included, from every run that has some."""
        tables = (run.read(first, last) for run in self.runs)
        return [rows for rows in tables if rows.height]


def _find_constants(events: pl.DataFrame) -> dict[str, int | None]:
    """Columns beside the key with one value in all rows, as empty ones: to sort, write and read them is saved."""
    constants: dict[str, int | None] = {
        c: None for c in STAGED_SCHEMA if c not in KEY and events[c].null_count() == events.height
    }
    origin = events[ORIGIN]
    if not origin.null_count() and origin.min() == origin.max():
        constants[ORIGIN] = origin[0]
    return constants
