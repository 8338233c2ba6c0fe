"""What an ingest has read and not yet merged, on disk, so that memory does not grow with the input."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import polars as pl

from features.event_log.dedup import day_starts, days_of, numbers, spilled
from features.event_log.schema import EVENT_SCHEMA

ROWS_PER_RUN = 500_000
# What is read and unpacked at least, to get at the rows of a day.
_ROWS_PER_GROUP = 50_000


@dataclass(frozen=True)
class Run:
    """A file of events sorted by time: `days` int64[n] rising, day i being rows `starts[i]` to `starts[i + 1]`.

    `numbers` uint64[rows] says of each key, in no order of rows, what `keys.numbers` does; sorted.
    """

    file: Path
    days: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray

    def read(self, first: int, last: int) -> pl.DataFrame:
        """The rows of the days from `first` to `last`, both included."""
        a, b = self.starts[np.searchsorted(self.days, [first, last + 1])]
        if a == b:
            return pl.DataFrame(schema=EVENT_SCHEMA)
        return pl.scan_ipc(self.file).slice(int(a), int(b - a)).collect()

    def keys(self) -> pl.DataFrame:
        """event_id, item_id and timestamp of every row."""
        return pl.scan_ipc(self.file).select("event_id", "item_id", "timestamp").collect()


class Staging:
    """Events come in as batches of any size and any order, and are read back by day.

    Encoding runs beside the caller, one run behind.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: list[pl.DataFrame] = []
        self._held_rows = 0
        self._worker = ThreadPoolExecutor(1)
        self._pending: Future[Run] | None = None
        self.rows = 0
        self.runs: list[Run] = []

    def __enter__(self) -> "Staging":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.shutdown()

    def add(self, events: pl.DataFrame) -> None:
        """`events` in `EVENT_SCHEMA`, each with a timestamp."""
        # A batch larger than a run is cut, so that sorting it does not take a copy of all of it.
        for batch in events.iter_slices(ROWS_PER_RUN):
            self._held.append(batch)
            self._held_rows += batch.height
            self.rows += batch.height
            if self._held_rows >= ROWS_PER_RUN:
                self._start()

    def flush(self) -> None:
        """Put what is held in memory on disk; to be called after the last `add`."""
        if self._held_rows:
            self._start()
        self._wait()

    def _start(self) -> None:
        held, self._held, self._held_rows = self._held, [], 0
        self._wait()
        self._pending = self._worker.submit(self._run, held, len(self.runs))

    def _wait(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, None
            self.runs.append(pending.result())

    def _run(self, held: list[pl.DataFrame], number: int) -> Run:
        events = pl.concat(held)
        if not events["timestamp"].is_sorted():
            events = events.sort("timestamp")
        file = self._directory / f"run-{number:06d}.arrow"
        events.write_ipc(file, compression="uncompressed", record_batch_size=_ROWS_PER_GROUP)
        days = days_of(events)
        starts = day_starts(days)
        own = spilled(np.sort(numbers(events)), file.with_suffix(".u64"))
        return Run(file, days[starts[:-1]], starts, own)

    def days(self) -> dict[int, int]:
        """Rows of each day, counted from the epoch."""
        rows: dict[int, int] = {}
        for run in self.runs:
            for day, n in zip(run.days.tolist(), np.diff(run.starts).tolist(), strict=True):
                rows[day] = rows.get(day, 0) + n
        return dict(sorted(rows.items()))

    def read(self, first: int, last: int) -> list[pl.DataFrame]:
        """The rows of the days from `first` to `last`, both included, from every run that has some."""
        found = (run.read(first, last) for run in self.runs)
        return [rows for rows in found if rows.height]
