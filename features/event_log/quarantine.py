"""Rejected rows on their way into a log: each once, by source and row, in bounded memory."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from features.event_log.schema import REJECTED_SCHEMA

ROWS_AT_ONCE = 100_000
_ORDER = ["source", "row", "reason", "raw"]

Place = tuple[str, int]
"""A source and a block of `ROWS_AT_ONCE` of its row numbers."""


class Quarantine:
    """Rejected rows come in as batches of any order; `write` adds them to those a log has."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: list[pl.DataFrame] = []
        self._files: list[Path] = []
        self.reasons: Counter[str] = Counter()

    def add(self, rows: pl.DataFrame) -> None:
        """`rows` in `REJECTED_SCHEMA`."""
        for batch in rows.iter_slices(ROWS_AT_ONCE):
            self.reasons.update(dict(batch["reason"].value_counts().iter_rows()))
            self._held.append(batch)
            if sum(h.height for h in self._held) >= ROWS_AT_ONCE:
                self._spill()

    def _spill(self) -> None:
        # A row without a place is filed under the first one: it must not get lost.
        rows = pl.concat(self._held).with_columns(pl.col("source").fill_null(""), pl.col("row").fill_null(-1))
        self._held = []
        file = self._directory / f"rejected-{len(self._files):06d}.parquet"
        rows.unique().sort(_ORDER).write_parquet(file, compression="lz4", row_group_size=ROWS_AT_ONCE // 4)
        self._files.append(file)

    def write(self, old: Path | None, target: Path) -> int:
        """Put the rows of `old` and the new ones into `target`, sorted; how many there are now."""
        if self._held:
            self._spill()
        files = [*([old] if old else []), *self._files]
        count = 0
        schema = pl.DataFrame(schema=REJECTED_SCHEMA).to_arrow().schema
        with pq.ParquetWriter(target, schema, compression="zstd") as out:
            for first, last in _spans(files):
                rows = pl.scan_parquet(files).filter(_between(first, last)).collect().unique().sort(_ORDER)
                out.write_table(rows.to_arrow().cast(schema))
                count += rows.height
        return count


def _spans(files: list[Path]) -> Iterator[tuple[Place, Place]]:
    """First and last place of what is held in memory at once."""
    rows: Counter[Place] = Counter()
    for file in files:
        places = pl.scan_parquet(file).group_by("source", pl.col("row") // ROWS_AT_ONCE).len()
        rows.update({(source, block): n for source, block, n in places.collect(engine="streaming").iter_rows()})
    held, span = 0, list[Place]()
    for place in sorted(rows):
        if span and held + rows[place] > ROWS_AT_ONCE:
            yield span[0], span[-1]
            held, span = 0, []
        held += rows[place]
        span.append(place)
    if span:
        yield span[0], span[-1]


def _between(first: Place, last: Place) -> pl.Expr:
    source, row = pl.col("source"), pl.col("row")
    start, end = first[1] * ROWS_AT_ONCE, (last[1] + 1) * ROWS_AT_ONCE
    if first[0] == last[0]:
        return (source == first[0]) & (row >= start) & (row < end)
    inside = source.is_between(pl.lit(first[0]), pl.lit(last[0]))
    return inside & ((source > first[0]) | (row >= start)) & ((source < last[0]) | (row < end))
