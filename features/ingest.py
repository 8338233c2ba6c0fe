"""Read a source into an event log and count what became of every row."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from features import log
from features.errors import InputError
from features.events import CATALOG_SCHEMA, EVENT_SCHEMA, LINK_SCHEMA, REJECTED_SCHEMA, conform, deduplicate


@dataclass(frozen=True)
class Parsed:
    """What a source made of one batch of rows. `rows_read` = kept + merged + rejected."""

    rows_read: int
    events: pl.DataFrame
    rejected: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REJECTED_SCHEMA))
    catalog: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CATALOG_SCHEMA))
    links: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LINK_SCHEMA))
    merged: int = 0  # rows added to another row of the same event and item, or held twice by the file
    notes: tuple[str, ...] = ()  # what was assumed in reading the file, for the person who runs it


@dataclass(frozen=True)
class Report:
    """What became of the rows read in one ingest; the parts add up to `rows_read`."""

    rows_read: int
    kept: dict[str, int]  # by event name
    merged: int
    duplicates: int  # the log, or this input, already had their (event_id, item_id)
    rejected: dict[str, int]  # by reason
    log: log.EventLog
    notes: tuple[str, ...] = ()

    def check(self) -> None:
        parts = sum(self.kept.values()) + self.merged + self.duplicates + sum(self.rejected.values())
        if parts != self.rows_read:
            raise RuntimeError(f"ingest lost count: read {self.rows_read:,} rows, accounted for {parts:,}")

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows_read": self.rows_read,
            "kept": self.kept,
            "merged": self.merged,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "log": {"path": str(self.log.path), **self.log.info},
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """A table whose numbers add up to the rows read."""
        rows = [
            *((f"kept: {name}", n) for name, n in self.kept.items()),
            ("merged into another row of the same order", self.merged),
            ("duplicates", self.duplicates),
            *((f"rejected: {reason}", n) for reason, n in self.rejected.items()),
        ]
        lines = [f"{n:>12,}  {what}" for what, n in rows if n]
        lines += [f"{self.rows_read:>12,}  rows read", *self.notes]
        info = self.log.info
        lines.append(f"{self.log.path}: {info['rows']:,} events from {info['first'][:10]} to {info['last'][:10]}")
        if self.rejected:
            lines.append(f"rejected rows and their reasons: {self.log.path / 'rejected.parquet'}")
        return "\n".join(lines)


def ingest(parsed: Iterable[Parsed], out: Path) -> Report:
    """Write what a source yields to the log at `out`; a log that is already there is added to.

    Ingesting the same input again changes nothing: rows are known by (event_id, item_id), rejected
    rows by file and row.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a directory for the log")
    old = log.EventLog.open(out) if out.exists() and any(out.iterdir()) else None
    parts = list(parsed)
    if not parts:
        raise InputError("nothing to ingest: name at least one file")
    fresh = pl.concat([conform(p.events, EVENT_SCHEMA) for p in parts])
    before = old.scan().collect() if old else pl.DataFrame(schema=EVENT_SCHEMA)
    events = deduplicate(pl.concat([before, fresh]))
    rejected = pl.concat([conform(p.rejected, REJECTED_SCHEMA) for p in parts])
    rows_read = sum(p.rows_read for p in parts)
    if events.is_empty():
        reasons = ", ".join(f"{n:,} × {r}" for r, n in count(rejected["reason"]).items()) or "no rows at all"
        raise InputError(f"none of the {rows_read:,} rows read is a usable event: {reasons}")
    kept = Counter(count(events["name"]))
    kept.subtract(count(before["name"]))
    added = {name: n for name, n in sorted(kept.items()) if n}
    report = Report(
        rows_read=rows_read,
        kept=added,
        merged=sum(p.merged for p in parts),
        duplicates=fresh.height - (events.height - before.height),
        rejected=count(rejected["reason"]),
        log=log.write(
            out,
            events,
            merge_catalogs([old.catalog()] if old else [], [p.catalog for p in parts]),
            pl.concat([old.rejected(), rejected] if old else [rejected]).unique(maintain_order=True),
        ),
        notes=tuple(note for p in parts for note in p.notes),
    )
    report.check()
    return report


def count(values: pl.Series) -> dict[str, int]:
    """How often each value occurs, most frequent first."""
    table = values.cast(pl.String).alias("value").value_counts().sort(["count", "value"], descending=[True, False])
    return dict(table.iter_rows())


def merge_catalogs(old: list[pl.DataFrame], new: list[pl.DataFrame]) -> pl.DataFrame:
    """One row per item: a later row's values win where they are not null; `first_seen` is the earliest."""
    rows = pl.concat([conform(c, CATALOG_SCHEMA) for c in [*old, *new]])
    last = [pl.col(c).drop_nulls().last() for c in CATALOG_SCHEMA if c not in ("item_id", "first_seen")]
    merged = rows.group_by("item_id", maintain_order=True).agg(*last, pl.col("first_seen").min())
    return conform(merged.sort("item_id"), CATALOG_SCHEMA)
