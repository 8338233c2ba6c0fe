"""Quarantine: rejected rows on their way into a log, each once, sorted by source and row, in bounded memory."""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from features.event_log.schema import REJECTED_SCHEMA

ROWS_AT_ONCE = 100_000
_ORDER = ["source", "row", "reason", "raw"]

RowBlock = tuple[str, int]
"""A source and a block of `ROWS_AT_ONCE` of its row numbers."""


class Quarantine:
    """Rejected rows, added in batches of any order; `write` merges them with those that a log has.

    Of the latter those of the sources `forgotten` are left out.
    """

    def __init__(self, directory: Path, forgotten: Collection[str] = ()) -> None:
        self._directory = directory
        self._forgotten = sorted(forgotten)
        self._buffer: list[pl.DataFrame] = []
        self._files: list[Path] = []
        self.reasons: Counter[str] = Counter()

    def add(self, rows: pl.DataFrame) -> None:
        """Add `rows` in `REJECTED_SCHEMA`."""
        for batch in rows.iter_slices(ROWS_AT_ONCE):
            self.reasons.update(dict(batch["reason"].value_counts().iter_rows()))
            self._buffer.append(batch)
            if sum(b.height for b in self._buffer) >= ROWS_AT_ONCE:
                self._spill()

    def _spill(self) -> None:
        # A row without source or number comes first: a filter by ranges would lose a null.
        rows = pl.concat(self._buffer).with_columns(pl.col("source").fill_null(""), pl.col("row").fill_null(-1))
        self._buffer = []
        file = self._directory / f"rejected-{len(self._files):06d}.parquet"
        rows.unique().sort(_ORDER).write_parquet(file, compression="lz4", row_group_size=ROWS_AT_ONCE // 4)
        self._files.append(file)

    def write(self, existing: Path | None, target: Path) -> int:
        """Write the rows of the file `existing` and the new ones to `target`, sorted, and return how many."""
        if self._buffer:
            self._spill()
        if existing and self._forgotten:
            rest = self._directory / "rejected-rest.parquet"
            pl.scan_parquet(existing).filter(~pl.col("source").is_in(self._forgotten)).sink_parquet(rest)
            existing = rest
        files = [*([existing] if existing else []), *self._files]
        count = 0
        schema = pl.DataFrame(schema=REJECTED_SCHEMA).to_arrow().schema
        with pq.ParquetWriter(target, schema, compression="zstd") as out:
            for first, last in _spans(files):
                rows = pl.scan_parquet(files).filter(_between(first, last)).collect().unique().sort(_ORDER)
                out.write_table(rows.to_arrow().cast(schema))
                count += rows.height
        return count


def _spans(files: list[Path]) -> Iterator[tuple[RowBlock, RowBlock]]:
    """First and last block of each span of rows that is held in memory at once."""
    rows: Counter[RowBlock] = Counter()
    for file in files:
        blocks = pl.scan_parquet(file).group_by("source", pl.col("row") // ROWS_AT_ONCE).len()
        rows.update({(source, block): n for source, block, n in blocks.collect(engine="streaming").iter_rows()})
    total, span = 0, list[RowBlock]()
    for block in sorted(rows):
        if span and total + rows[block] > ROWS_AT_ONCE:
            yield span[0], span[-1]
            total, span = 0, []
        total += rows[block]
        span.append(block)
    if span:
        yield span[0], span[-1]


def _between(first: RowBlock, last: RowBlock) -> pl.Expr:
    source, row = pl.col("source"), pl.col("row")
    start, end = first[1] * ROWS_AT_ONCE, (last[1] + 1) * ROWS_AT_ONCE
    if first[0] == last[0]:
        return (source == first[0]) & (row >= start) & (row < end)
    inside = source.is_between(pl.lit(first[0]), pl.lit(last[0]))
    return inside & ((source > first[0]) | (row >= start)) & ((source < last[0]) | (row < end))
