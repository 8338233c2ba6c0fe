"""Compaction: existing partitions and staged rows become new partitions, a range of days at a time."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from features.common.clock import DAY, moment
from features.event_log import partitions
from features.event_log.atomic_dir import DirectoryChange
from features.event_log.dedup import day_starts, days_of, find_duplicates
from features.event_log.ingestion.combine import Tally, combine
from features.event_log.ingestion.readings import Origins
from features.event_log.ingestion.staging import Staging
from features.event_log.partitions import Partition, PartitionWriter
from features.event_log.schema import ORIGIN, STAGED_SCHEMA, STORED_SCHEMA

ROWS_AT_ONCE = 250_000


@dataclass(frozen=True)
class ExistingPartition:
    """A partition of the log that is added to. `replaced` are codes of origins: see `Origins.without`."""

    partition: Partition
    directory: Path
    replaced: Mapping[int, int | None] = field(default_factory=dict)

    def keys(self) -> pl.DataFrame:
        """Read event_id, item_id and timestamp of every row that stays."""
        return self._rest().select("event_id", "item_id", "timestamp").collect()

    def days(self) -> dict[int, int]:
        """How many rows each day has; days are counted from the epoch."""
        days = days_of(self._scan().select("timestamp").collect())
        starts = day_starts(days)
        return dict(zip(days[starts[:-1]].tolist(), np.diff(starts).tolist(), strict=True))

    def read(self, first: int, last: int) -> pl.DataFrame:
        """Read the rows that stay of the days from `first` to `last`, both included, in `STORED_SCHEMA`."""
        rows = self._rest().filter(_on_days(first, last)).collect()
        codes = {code: rest for code, rest in self.replaced.items() if rest is not None}
        return rows.with_columns(pl.col(ORIGIN).replace(codes)) if codes else rows

    def scan_taken_back(self) -> pl.LazyFrame:
        """The rows that no reading gave that is left."""
        return self._scan().filter(self._is_gone())

    def is_replaced(self) -> bool:
        """Whether the origin of any row changes."""
        return bool(self.replaced) and bool(
            self._scan().select(pl.col(ORIGIN).is_in(list(self.replaced)).any()).collect().item()
        )

    def origins(self) -> pl.Series:
        """Read the column `schema.ORIGIN`."""
        return self._scan().select(ORIGIN).collect().to_series()

    def _is_gone(self) -> pl.Expr:
        gone = pl.Series([code for code, rest in self.replaced.items() if rest is None], dtype=pl.Int32)
        return pl.col(ORIGIN).is_in(gone.implode()).fill_null(False)

    def _rest(self) -> pl.LazyFrame:
        return self._scan().filter(~self._is_gone()) if self.replaced else self._scan()

    def _scan(self) -> pl.LazyFrame:
        return partitions.scan([self.directory / self.partition.file])


@dataclass
class PartitionGroup:
    """Neighbouring days that are written together: existing partitions, and the number of fresh rows by day."""

    existing: list[ExistingPartition] = field(default_factory=list)
    fresh: dict[int, int] = field(default_factory=dict)
    touched: bool = False

    @property
    def rows(self) -> int:
        return sum(o.partition.rows for o in self.existing) + sum(self.fresh.values())


@dataclass
class Compaction:
    """What a compaction made: the new log's partitions, and what became of the rows."""

    partitions: list[Partition] = field(default_factory=list)
    gained: Counter[str] = field(default_factory=Counter)  # rows that each event name gained
    moved: int = 0  # rows left out because an earlier day has their key
    tally: Tally = field(default_factory=Tally)

    def add(self, old: pl.DataFrame, rows: pl.DataFrame, unique: pl.DataFrame, tally: Tally) -> None:
        """Count a range of days: its `old` rows, all `rows` combined, and those of them that are `kept`."""
        self.tally.add(tally)
        self.moved += rows.height - unique.height
        self.gained.update(count_names(unique))
        self.gained.subtract(count_names(old))


def compact(
    staging: Staging,
    existing: Sequence[Partition],
    change: DirectoryChange,
    report: Callable[[int], None],
    origins: Origins | None = None,
    removed: frozenset[int] = frozenset(),
    prepare: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
) -> Compaction:
    """Write the new log's partitions into `change`.

    A partition in which nothing changes is taken over as it is. `report` is called with the number of rows of each
    batch that is done. Rows that only the readings `removed` gave are left out. `prepare` is called on all rows, old
    and fresh, before they are compared.
    """
    events, new = change.path / "events", change.new / "events"
    new.mkdir()
    origins = origins or Origins({})
    old = [ExistingPartition(partition, events, origins.without(removed)) for partition in existing]
    duplicates = find_duplicates(staging.runs, old, change.scratch)
    rewritten = duplicates.days | {day for o in old if prepare or o.is_replaced() for day in o.days()}
    result = Compaction()
    with PartitionWriter(new) as writer:
        for group in plan_groups(staging.days(), old, rewritten):
            before = [o.partition for o in group.existing]
            if group.touched:
                writer.rows = -(-group.rows // -(-group.rows // partitions.ROWS_PER_PARTITION))
                columns = []  # of origins, after
                for first, last in _ranges(group):
                    old_rows = _concat([o.read(first, last) for o in group.existing], STORED_SCHEMA)
                    fresh = _concat(staging.read(first, last), STAGED_SCHEMA)
                    if prepare:
                        old_rows, fresh = prepare(old_rows), prepare(fresh)
                    rows, tally = combine(old_rows, fresh, origins)
                    unique = duplicates.remove(rows, first, last)
                    result.add(old_rows, rows, unique, tally)
                    columns.append(unique[ORIGIN])
                    writer.add(unique)
                    report(old_rows.height + fresh.height)
                written = writer.close()
                same_events = before and partitions.combine_digests(written) == partitions.combine_digests(before)
                if not same_events or not pl.concat(columns).equals(pl.concat([o.origins() for o in group.existing])):
                    result.partitions += written
                    continue
                for partition in written:
                    (new / partition.file).unlink()
            for partition in before:
                change.keep(f"events/{partition.file}")
            result.partitions += before
    return result


def _on_days(first: int, last: int) -> pl.Expr:
    return pl.col("timestamp").is_between(moment(first * DAY), moment((last + 1) * DAY), closed="left")


def _concat(tables: Sequence[pl.DataFrame], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    filled = [table for table in tables if table.height]
    return pl.concat(filled) if filled else pl.DataFrame(schema=schema)


def plan_groups(
    fresh: dict[int, int], existing: Sequence[ExistingPartition], rewritten_days: Iterable[int]
) -> Iterator[PartitionGroup]:
    """Group partitions and fresh days in order of time. Groups with rows on days of either argument are touched.

    A touched group takes in untouched or fresh neighbours while both fit into one partition: so a log that grows day
    by day does not become a heap of small files.
    """
    days, rewritten = sorted(fresh), set(rewritten_days)
    segments: list[tuple[int, PartitionGroup]] = []
    inside: set[int] = set()
    for old in existing:
        first, last = old.partition.days
        own = {day: fresh[day] for day in days if first <= day <= last}
        inside |= own.keys()
        touched = bool(own) or any(first <= day <= last for day in rewritten)
        segments.append((first, PartitionGroup([old], own, touched)))
    segments += [(day, PartitionGroup([], {day: fresh[day]}, True)) for day in days if day not in inside]
    group = PartitionGroup()
    for _, segment in sorted(segments, key=lambda s: s[0]):
        fits = group.rows + segment.rows <= partitions.ROWS_PER_PARTITION
        if fits and (group.touched or segment.touched):
            group = PartitionGroup(group.existing + segment.existing, group.fresh | segment.fresh, True)
            continue
        if group.rows:
            yield group
        group = segment
    if group.rows:
        yield group


def _ranges(group: PartitionGroup) -> Iterator[tuple[int, int]]:
    """First and last day of each range that is held in memory at once."""
    rows = Counter(group.fresh)
    for old in group.existing:
        rows.update(old.days())
    first = last = None
    total = 0
    for day in sorted(rows):
        if first is not None and last is not None and total + rows[day] > ROWS_AT_ONCE:
            yield first, last
            first, total = None, 0
        first, last = day if first is None else first, day
        total += rows[day]
    if first is not None and last is not None:
        yield first, last


def count_names(events: pl.DataFrame) -> dict[str, int]:
    """Count how often each event name occurs."""
    return dict(events["name"].cast(pl.String).value_counts().iter_rows())
