"""Compaction: existing partitions and staged rows become new partitions, a range of days at a time."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from features.common.clock import DAY, moment
from features.event_log import partitions
from features.event_log.atomic_dir import DirectoryChange
from features.event_log.dedup import day_starts, days_of, find_duplicates
from features.event_log.partitions import Partition, PartitionWriter
from features.event_log.schema import EVENT_SCHEMA, deduplicate
from features.event_log.staging import Staging

ROWS_AT_ONCE = 250_000


@dataclass(frozen=True)
class ExistingPartition:
    """A partition of the log that is added to."""

    partition: Partition
    directory: Path

    def keys(self) -> pl.DataFrame:
        """Read event_id, item_id and timestamp of every row."""
        return self._scan().select("event_id", "item_id", "timestamp").collect()

    def days(self) -> dict[int, int]:
        """How many rows each day has; days are counted from the epoch."""
        days = days_of(self._scan().select("timestamp").collect())
        starts = day_starts(days)
        return dict(zip(days[starts[:-1]].tolist(), np.diff(starts).tolist(), strict=True))

    def read(self, first: int, last: int) -> pl.DataFrame:
        """Read the rows of the days from `first` to `last`, both included."""
        inside = pl.col("timestamp").is_between(moment(first * DAY), moment((last + 1) * DAY), closed="left")
        return self._scan().filter(inside).collect()

    def _scan(self) -> pl.LazyFrame:
        return pl.scan_parquet(self.directory / self.partition.file)


@dataclass
class PartitionGroup:
    """Neighbouring days that are written together: existing partitions, and the number of fresh rows by day."""

    existing: list[ExistingPartition] = field(default_factory=list)
    fresh: dict[int, int] = field(default_factory=dict)
    touched: bool = False

    @property
    def rows(self) -> int:
        return sum(o.partition.rows for o in self.existing) + sum(self.fresh.values())


def compact(
    staging: Staging, existing: Sequence[Partition], change: DirectoryChange, report: Callable[[int], None]
) -> tuple[list[Partition], Counter[str]]:
    """Write the new log's partitions into `change`; return them, and how many rows each event name gained.

    A partition in which nothing changes is taken over as it is. `report` is called with the number of rows of each
    batch that is done.
    """
    events, new = change.path / "events", change.new / "events"
    new.mkdir()
    old = [ExistingPartition(partition, events) for partition in existing]
    duplicates = find_duplicates(staging.runs, old, change.scratch)
    no_rows = pl.DataFrame(schema=EVENT_SCHEMA)
    result: list[Partition] = []
    gained: Counter[str] = Counter()
    with PartitionWriter(new) as writer:
        for group in plan_groups(staging.days(), old, duplicates.days):
            before = [o.partition for o in group.existing]
            if group.touched:
                writer.rows = -(-group.rows // -(-group.rows // partitions.ROWS_PER_PARTITION))
                for first, last in _ranges(group):
                    tables = [rows for o in group.existing if (rows := o.read(first, last)).height]
                    old_rows, fresh = pl.concat(tables or [no_rows]), staging.read(first, last)
                    rows = duplicates.remove(deduplicate(pl.concat([old_rows, *fresh])), first, last)
                    gained.update(count_names(rows))
                    gained.subtract(count_names(old_rows))
                    writer.add(rows)
                    report(old_rows.height + sum(f.height for f in fresh))
                written = writer.close()
                if not before or partitions.combine_digests(written) != partitions.combine_digests(before):
                    result += written
                    continue
                for partition in written:
                    (new / partition.file).unlink()
            for partition in before:
                change.keep(f"events/{partition.file}")
            result += before
    return result, gained


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
