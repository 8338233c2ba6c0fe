"""Read a source into an event log and count what became of every row."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from features.common import progress
from features.common.errors import InputError
from features.event_log import log
from features.event_log.atomic_dir import Change, changing
from features.event_log.catalog import Catalog
from features.event_log.compaction import merge
from features.event_log.identity_links import Links
from features.event_log.quarantine import Quarantine
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, LINK_SCHEMA, REJECTED_SCHEMA, conform
from features.event_log.staging import Staging
from features.event_log.tombstones import Erased


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
    erased: int = 0  # of customers who were erased from the log; nothing of these rows is kept

    def check(self) -> None:
        parts = sum(self.kept.values()) + self.merged + self.duplicates + sum(self.rejected.values()) + self.erased
        if parts != self.rows_read:
            raise RuntimeError(f"ingest lost count: read {self.rows_read:,} rows, accounted for {parts:,}")

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows_read": self.rows_read,
            "kept": self.kept,
            "merged": self.merged,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "erased": self.erased,
            "log": {"path": str(self.log.path), **self.log.summary},
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """A table whose numbers add up to the rows read."""
        rows = [
            *((f"kept: {name}", n) for name, n in self.kept.items()),
            ("merged into another row of the same order", self.merged),
            ("duplicates", self.duplicates),
            *((f"rejected: {reason}", n) for reason, n in self.rejected.items()),
            ("of customers who were erased", self.erased),
        ]
        lines = [f"{n:>12,}  {what}" for what, n in rows if n]
        lines += [f"{self.rows_read:>12,}  rows read", *self.notes]
        info = self.log.info
        span = f" from {info['first'][:10]} to {info['last'][:10]}" if info["rows"] else ""
        lines.append(f"{self.log.path}: {info['rows']:,} events{span}")
        if self.rejected:
            lines.append(f"rejected rows and their reasons: {self.log.path / 'rejected.parquet'}")
        return "\n".join(lines)


class _Read:
    """What has been read so far, on disk where it grows with the input."""

    def __init__(self, change: Change, old: log.EventLog | None) -> None:
        self.staging, self.quarantine = Staging(change.scratch), Quarantine(change.scratch)
        self.catalog = Catalog(pl.read_parquet(old.path / "catalog.parquet") if old else None)
        self.links = Links(old.links() if old else pl.DataFrame(schema=LINK_SCHEMA))
        self.refused = Erased.load(old.path) if old else Erased()
        self.batches = self.rows = self.merged = self.erased = 0
        self.notes: dict[str, None] = {}  # each once: a note on a file may come with each of its batches

    def add(self, batch: Parsed) -> None:
        events, rejected = conform(batch.events, EVENT_SCHEMA), conform(batch.rejected, REJECTED_SCHEMA)
        here = events.height + rejected.height
        events, rejected = self.refused.events(events), self.refused.rejected(rejected)
        self.erased += here - events.height - rejected.height
        self.staging.add(events)
        self.quarantine.add(rejected)
        self.catalog.add(batch.catalog)
        self.links.add(self.refused.links(conform(batch.links, LINK_SCHEMA)))
        self.batches += 1
        self.rows += batch.rows_read
        self.merged += batch.merged
        self.notes |= dict.fromkeys(batch.notes)


def ingest(parsed: Iterable[Parsed], out: Path, tell: progress.Rows = progress.silent) -> Report:
    """Write what a source yields to the log at `out`; a log that is already there is added to.

    Ingesting the same input again changes nothing: rows are known by (event_id, item_id), rejected
    rows by what they say. The log is the same however the input is cut into batches and in whatever
    order they come. Memory depends on the largest day, the catalog and the links, not on the input.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a directory for the log")
    with changing(out) as change:
        old = log.EventLog.open(out) if out.exists() and any(out.iterdir()) else None
        read = _Read(change, old)
        with read.staging:
            for batch in parsed:
                read.add(batch)
                tell("read", read.rows, None)
            read.staging.flush()
        if not read.batches:
            raise InputError("nothing to ingest: name at least one file")
        if not read.staging.rows and not (old and old.info["rows"]):
            raise InputError(f"none of the {read.rows:,} rows read is a usable event: {_reasons(read)}")
        return _write(read, old, change, out, tell)


def _write(read: _Read, old: log.EventLog | None, change: Change, out: Path, tell: progress.Rows) -> Report:
    staged, done = read.staging.rows, 0

    def more(rows: int) -> None:
        nonlocal done
        done += rows
        tell("write", done, None)

    made, kept = merge(read.staging, old.parts if old else [], change, more)
    read.catalog.compact().write_parquet(change.new / "catalog.parquet", compression="zstd")
    read.links.merged().write_parquet(change.new / "links.parquet", compression="zstd")
    if old and not read.quarantine.reasons:
        change.keep("rejected.parquet")
    else:
        read.quarantine.write(change.path / "rejected.parquet" if old else None, change.new / "rejected.parquet")
    read.refused.write(change)
    report = Report(
        rows_read=read.rows,
        kept={name: n for name, n in sorted(kept.items()) if n},
        merged=read.merged,
        duplicates=staged - kept.total(),
        rejected=by_frequency(read.quarantine.reasons),
        log=log.describe(change, out, made),
        notes=tuple(read.notes),
        erased=read.erased,
    )
    report.check()
    change.commit()
    return report


def _reasons(read: _Read) -> str:
    reasons = [f"{n:,} × {reason}" for reason, n in by_frequency(read.quarantine.reasons).items()]
    if read.erased:
        reasons.append(f"{read.erased:,} of customers who were erased")
    return ", ".join(reasons) or "no rows at all"


def by_frequency(counts: Counter[str]) -> dict[str, int]:
    """Most frequent first."""
    return dict(sorted(counts.items(), key=lambda c: (-c[1], c[0])))
