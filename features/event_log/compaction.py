"""Old parts and fresh rows become new parts, a range of days at a time."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from features.common.clock import DAY, moment
from features.event_log import partitions
from features.event_log.atomic_dir import Change
from features.event_log.dedup import day_starts, days_of, later
from features.event_log.partitions import Part, PartWriter
from features.event_log.schema import EVENT_SCHEMA, deduplicate
from features.event_log.staging import Staging

ROWS_AT_ONCE = 250_000

Tell = Callable[[int], None]
"""Hears how many rows have been dealt with, in steps."""


@dataclass(frozen=True)
class OldPart:
    """A part of the log that is added to."""

    part: Part
    directory: Path

    def keys(self) -> pl.DataFrame:
        return self._scan().select("event_id", "item_id", "timestamp").collect()

    def days(self) -> dict[int, int]:
        """Rows of each day."""
        days = days_of(self._scan().select("timestamp").collect())
        starts = day_starts(days)
        return dict(zip(days[starts[:-1]].tolist(), np.diff(starts).tolist(), strict=True))

    def read(self, first: int, last: int) -> pl.DataFrame:
        """The rows of the days from `first` to `last`, both included."""
        inside = pl.col("timestamp").is_between(moment(first * DAY), moment((last + 1) * DAY), closed="left")
        return self._scan().filter(inside).collect()

    def _scan(self) -> pl.LazyFrame:
        return pl.scan_parquet(self.directory / self.part.file)


@dataclass
class Group:
    """Neighbouring days that are written together: old parts, and fresh rows by day."""

    old: list[OldPart] = field(default_factory=list)
    fresh: dict[int, int] = field(default_factory=dict)
    touched: bool = False

    @property
    def rows(self) -> int:
        return sum(o.part.rows for o in self.old) + sum(self.fresh.values())


def merge(staging: Staging, old: Sequence[Part], change: Change, tell: Tell) -> tuple[list[Part], Counter[str]]:
    """The new log's parts, written into `change`, and by how much each event name became more frequent.

    A part in which nothing changes is taken over as it is.
    """
    events, new = change.path / "events", change.new / "events"
    new.mkdir()
    old_parts = [OldPart(part, events) for part in old]
    late = later(staging.runs, old_parts, change.scratch)
    nothing = pl.DataFrame(schema=EVENT_SCHEMA)
    made: list[Part] = []
    more: Counter[str] = Counter()
    with PartWriter(new) as writer:
        for group in plan(staging.days(), old_parts, late.days):
            before = [o.part for o in group.old]
            if group.touched:
                writer.rows = -(-group.rows // -(-group.rows // partitions.ROWS_PER_PART))
                for first, last in _ranges(group):
                    known = pl.concat([rows for o in group.old if (rows := o.read(first, last)).height] or [nothing])
                    fresh = staging.read(first, last)
                    rows = late.without(deduplicate(pl.concat([known, *fresh])), first, last)
                    more.update(names(rows))
                    more.subtract(names(known))
                    writer.add(rows)
                    tell(known.height + sum(f.height for f in fresh))
                written = writer.close()
                if not before or partitions.total(written) != partitions.total(before):
                    made += written
                    continue
                for part in written:
                    (new / part.file).unlink()
            for part in before:
                change.keep(f"events/{part.file}")
            made += before
    return made, more


def plan(fresh: dict[int, int], old: Sequence[OldPart], also: Iterable[int]) -> Iterator[Group]:
    """Groups in order of time. Touched are those with rows on the days of `fresh` or `also`.

    What is touched takes untouched or fresh neighbours in while both fit into one part: so a log that
    is added to day by day does not become a heap of small files.
    """
    days, also = sorted(fresh), set(also)
    segments: list[tuple[int, Group]] = []
    inside: set[int] = set()
    for o in old:
        first, last = o.part.days
        own = {day: fresh[day] for day in days if first <= day <= last}
        inside |= own.keys()
        segments.append((first, Group([o], own, bool(own) or any(first <= day <= last for day in also))))
    segments += [(day, Group([], {day: fresh[day]}, True)) for day in days if day not in inside]
    group = Group()
    for _, segment in sorted(segments, key=lambda s: s[0]):
        fits = group.rows + segment.rows <= partitions.ROWS_PER_PART
        if fits and (group.touched or segment.touched):
            group = Group(group.old + segment.old, group.fresh | segment.fresh, True)
            continue
        if group.rows:
            yield group
        group = segment
    if group.rows:
        yield group


def _ranges(group: Group) -> Iterator[tuple[int, int]]:
    """First and last day of what is held in memory at once."""
    rows = Counter(group.fresh)
    for o in group.old:
        rows.update(o.days())
    first = last = None
    held = 0
    for day in sorted(rows):
        if first is not None and last is not None and held + rows[day] > ROWS_AT_ONCE:
            yield first, last
            first, held = None, 0
        first, last = day if first is None else first, day
        held += rows[day]
    if first is not None and last is not None:
        yield first, last


def names(events: pl.DataFrame) -> dict[str, int]:
    """How often each event name occurs."""
    return dict(events["name"].cast(pl.String).value_counts().iter_rows())
