"""Partitions: the event rows of a log, as Parquet files of whole days (UTC) in order of time."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.common.background import BackgroundCall
from features.common.clock import DAY, iso, moment, parse
from features.event_log.dedup import day_starts, days_of
from features.event_log.schema import ORIGIN, STORED_SCHEMA, conform

ROWS_PER_PARTITION = 2_000_000
ROWS_PER_GROUP = 250_000  # what a scan can skip by time

# Columns whose values repeat within a partition; the others are smaller and faster without a dictionary.
_REPEATED = [
    "name", "customer_id", "client_id", "item_id", "currency", "query", "list_id", "source", "device", "country",
    ORIGIN,
]  # fmt: skip

_MODULUS = 1 << 128


@dataclass(frozen=True)
class Partition:
    """One file of events. `first` and `last` are ISO 8601; `digest` is the sum of its days' digests."""

    file: str
    rows: int
    first: str
    last: str
    digest: str

    @property
    def days(self) -> tuple[int, int]:
        """First and last day, counted from the epoch."""
        return parse(self.first) // DAY, parse(self.last) // DAY

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def combine_digests(partitions: Sequence[Partition]) -> str:
    """Add up the digests of several partitions: the sum does not depend on how their days are cut."""
    return f"{sum(int(p.digest, 16) for p in partitions) % _MODULUS:032x}"


def scan(files: Sequence[Path]) -> pl.LazyFrame:
    """Scan partitions in `STORED_SCHEMA`; columns that older ones lack are null."""
    return pl.scan_parquet(list(files), schema=STORED_SCHEMA, missing_columns="insert")


class PartitionWriter:
    """Writes events to `directory`, cut between days into partitions of about `rows` rows.

    Threads encode and digest one frame while the caller prepares the next.
    """

    def __init__(self, directory: Path, rows: int = ROWS_PER_PARTITION) -> None:
        self._directory, self.rows = directory, rows
        self._finished: list[Partition] = []
        self._open: _OpenPartition | None = None
        self._writer = BackgroundCall[None](threads=2)

    def __enter__(self) -> "PartitionWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)
        if self._open:
            self._open.file.close()

    def add(self, events: pl.DataFrame) -> None:
        """Add `events`: deduplicated, sorted, whole days, all later than those added before.

        They are written in `STORED_SCHEMA`; the digest is that of the events alone.
        """
        if events.is_empty():
            return
        events = conform(events, STORED_SCHEMA)
        table, day = events.to_arrow().combine_chunks(), days_of(events)
        self._writer.wait()
        self._writer.start(self._write, table, day)

    def close(self) -> list[Partition]:
        """End the current partition and return all that were written since the last `close`."""
        self._writer.wait()
        self._end()
        finished, self._finished = self._finished, []
        return finished

    def _write(self, table: pa.Table, day: np.ndarray) -> None:
        edges = day_starts(day).tolist()
        hashing = self._writer.executor.submit(_digests, table, day, edges)
        # The days of this table that go into the open partition, and those of each partition after it.
        groups: list[list[int]] = [[]]
        rows = self._open.rows if self._open else 0
        for i, n in enumerate(np.diff(edges).tolist()):
            if rows and rows + n > self.rows:
                groups.append([])
                rows = 0
            groups[-1].append(i)
            rows += n
        for nth, days in enumerate(groups):
            if nth:
                self._end()
            if days:
                start, end = edges[days[0]], edges[days[-1] + 1]
                self._open = self._open or _OpenPartition(self._directory, table.schema)
                self._open.write(table.slice(start, end - start))
                self._open.digest += sum(hashing.result()[days[0] : days[-1] + 1])

    def _end(self) -> None:
        if self._open:
            self._finished.append(self._open.finish())
            self._open = None


class _OpenPartition:
    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        self.path = directory / "part.unfinished"
        self.file = pq.ParquetWriter(
            self.path,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=_REPEATED,
            write_statistics=["timestamp"],  # what scans skip by; the others would cost a fifth more to write
        )
        self.rows, self.digest = 0, 0
        self.first: int | None = None
        self.last = 0

    def write(self, table: pa.Table) -> None:
        times = table["timestamp"].cast(pa.int64())
        self.first = times[0].as_py() if self.first is None else self.first
        self.last = times[-1].as_py()
        self.rows += table.num_rows
        self.file.write_table(table, row_group_size=ROWS_PER_GROUP)

    def finish(self) -> Partition:
        self.file.close()
        digest = f"{self.digest % _MODULUS:032x}"
        # Named by content, so that a file never changes under a process that reads it.
        name = f"part-{moment(self.first or 0):%Y%m%d}-{digest[:8]}.parquet"
        self.path.rename(self.path.with_name(name))
        return Partition(name, self.rows, iso(self.first or 0), iso(self.last), digest)


def _digests(table: pa.Table, day: np.ndarray, edges: Sequence[int]) -> list[int]:
    """The digest of each day's rows: the same on any machine, whatever else is in the table."""
    names = [name for name in table.column_names if name != ORIGIN and table[name].null_count < len(day)]
    columns = [_PlainColumn.from_arrow(name, table[name]) for name in names]
    # A column that is empty on a day is left out of that day's digest, so a new column changes no earlier digest.
    filled_days = [np.logical_or.reduceat(c.valid, edges[:-1]) if c.valid is not None else None for c in columns]
    digests = []
    for i, (a, b) in enumerate(pairwise(edges)):
        digest = hashlib.sha256(int(day[a]).to_bytes(8, "little", signed=True))
        for column, filled in zip(columns, filled_days, strict=True):
            if filled is None or filled[i]:
                digest.update(column.name)
                digest.update(column.values[a:b].data)
                if column.offsets is not None:
                    digest.update(column.text[column.offsets[a] : column.offsets[b]].data)
        digests.append(int.from_bytes(digest.digest()[:16], "little"))
    return digests


@dataclass(frozen=True)
class _PlainColumn:
    """A column as little-endian numbers, null being one of them; for text the lengths, beside offsets and bytes."""

    name: bytes
    values: np.ndarray
    valid: np.ndarray | None  # bool[rows]; None where there is no null
    offsets: np.ndarray | None = None
    text: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))

    @classmethod
    def from_arrow(cls, name: str, column: pa.ChunkedArray) -> "_PlainColumn":
        array, label = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0), name.encode()
        valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
        if pa.types.is_large_string(array.type):
            return cls._from_text(label, array, valid)
        if pa.types.is_dictionary(array.type):
            # A category is its hash: codes differ from process to process.
            names = [n or "" for n in array.dictionary.to_pylist()]
            hashes = b"".join(hashlib.blake2b(n.encode(), digest_size=8).digest() for n in names) + bytes(8)
            return cls(label, np.frombuffer(hashes, "<u8")[_filled(array.indices, valid, -1, pa.int64())], valid)
        if pa.types.is_boolean(array.type):
            return cls(label, _filled(array, valid, -1, pa.int8()), valid)
        if pa.types.is_floating(array.type):
            numbers = _filled(array, valid, float("nan"), pa.float64())
            return cls(label, numbers.astype("<f8", copy=False), valid)
        numbers = _filled(array, valid, np.iinfo(np.int64).min, pa.int64())
        return cls(label, numbers.astype("<i8", copy=False), valid)

    @classmethod
    def _from_text(cls, label: bytes, array: pa.Array, valid: np.ndarray | None) -> "_PlainColumn":
        offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
        lengths = np.empty(len(array), "<i4")
        np.subtract(offsets[1:], offsets[:-1], out=lengths, casting="unsafe")
        if valid is not None:
            if lengths[~valid].any():  # there may be bytes under a null
                return cls._from_text(label, pc.fill_null(array, ""), None)._with_nulls(valid)
            lengths[~valid] = -1
        text = array.buffers()[2]
        return cls(label, lengths, valid, offsets, np.frombuffer(text, np.uint8) if text else np.zeros(0, np.uint8))

    def _with_nulls(self, valid: np.ndarray) -> "_PlainColumn":
        return _PlainColumn(self.name, np.where(valid, self.values, -1).astype("<i4"), valid, self.offsets, self.text)


def _filled(array: pa.Array, valid: np.ndarray | None, null: float, dtype: pa.DataType) -> np.ndarray:
    """The numbers of `array`, `null` where there is none."""
    values = array.cast(dtype)
    if valid is None:
        numbers: np.ndarray = values.to_numpy(zero_copy_only=False)
        return numbers
    # Straight from the buffer: a copy less than by `fill_null`.
    stored = np.frombuffer(values.buffers()[1], dtype.to_pandas_dtype())[values.offset : values.offset + len(values)]
    return np.where(valid, stored, null).astype(stored.dtype, copy=False)
