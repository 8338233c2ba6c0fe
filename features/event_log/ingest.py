"""Ingest: read a source into an event log, and account for every row."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from features.common.errors import InputError
from features.common.progress import Progress, silent
from features.event_log import log
from features.event_log.atomic_dir import DirectoryChange, replace_directory
from features.event_log.catalog import Catalog, describe_dropped_vectors
from features.event_log.compaction import compact
from features.event_log.identity_links import LinkTable
from features.event_log.quarantine import Quarantine
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, LINK_SCHEMA, REJECTED_SCHEMA, conform
from features.event_log.staging import Staging
from features.event_log.tombstones import Tombstones


@dataclass(frozen=True)
class ParsedBatch:
    """One batch of a source's rows, in the log's schemas.

    `rows_read` + `derived` = events + merged + rejected + left out. `events` may have one column more, `_file`: see
    `schema.FILE`.
    """

    rows_read: int
    events: pl.DataFrame
    rejected: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REJECTED_SCHEMA))
    catalog: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CATALOG_SCHEMA))
    links: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LINK_SCHEMA))
    merged: int = 0  # rows added to another row of the same event and item, or twice in the file
    notes: tuple[str, ...] = ()  # assumptions made in reading the file, for the person who runs the command
    left_out: Mapping[str, int] = field(default_factory=dict)  # condition of the mapping → rows that it left out
    derived: int = 0  # event rows made beside their row, as the refund of an order that was paid and refunded
    columns: Mapping[str, str] = field(default_factory=dict)  # our column → theirs, to name the cell of a rejected row


@dataclass(frozen=True)
class IngestReport:
    """How many rows one ingest kept, merged, rejected or skipped; the counts add up to `rows_read` + `derived`."""

    rows_read: int
    kept: dict[str, int]  # by event name
    merged: int
    duplicates: int  # the log, or this input, already had their (event_id, item_id)
    rejected: dict[str, int]  # by reason
    log: log.EventLog
    notes: tuple[str, ...] = ()
    erased: int = 0  # of customers who were erased from the log; nothing of these rows is kept
    dropped_vectors: dict[int, int] = field(default_factory=dict)  # length → items (`Catalog.dropped_vectors`)
    left_out: dict[str, int] = field(default_factory=dict)  # by condition of the mapping
    derived: int = 0  # event rows made beside their row

    def check(self) -> None:
        """Raise `RuntimeError` where the counts do not add up."""
        accounted = sum(self.kept.values()) + self.merged + self.duplicates + sum(self.rejected.values()) + self.erased
        accounted += sum(self.left_out.values())
        if accounted != self.rows_read + self.derived:
            made = f" and made {self.derived:,}" if self.derived else ""
            raise RuntimeError(f"ingest lost count: read {self.rows_read:,} rows{made}, accounted for {accounted:,}")

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON; the key `dropped_vectors` is there only where some were dropped."""
        dropped = {str(length): n for length, n in self.dropped_vectors.items()}
        report = {
            "rows_read": self.rows_read,
            "kept": self.kept,
            "merged": self.merged,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "erased": self.erased,
            "left_out": self.left_out,
            "derived": self.derived,
            "log": {"path": str(self.log.path), **self.log.summary},
            "notes": list(self.notes),
        }
        return report | {"dropped_vectors": dropped} if dropped else report

    def text(self) -> str:
        """Render a table whose numbers add up to the rows read."""
        rows = [
            *((f"kept: {name}", n) for name, n in self.kept.items()),
            ("merged into another row of the same order", self.merged),
            ("duplicates", self.duplicates),
            *((f"rejected: {reason}", n) for reason, n in self.rejected.items()),
            ("of customers who were erased", self.erased),
            *((f"left out: {condition}", n) for condition, n in self.left_out.items()),
            ("derived from another row", -self.derived),
        ]
        lines = [f"{n:>12,}  {what}" for what, n in rows if n]
        lines += [f"{self.rows_read:>12,}  rows read", *self.notes]
        if self.dropped_vectors:
            lines.append(describe_dropped_vectors(self.dropped_vectors))
        info = self.log.info
        span = f" from {info['first'][:10]} to {info['last'][:10]}" if info["rows"] else ""
        lines.append(f"{self.log.path}: {info['rows']:,} events{span}")
        if self.rejected:
            lines.append(f"rejected rows and their reasons: {self.log.path / 'rejected.parquet'}")
        return "\n".join(lines)


class _Intake:
    """The rows read so far, on disk where they grow with the input."""

    def __init__(self, change: DirectoryChange, old: log.EventLog | None) -> None:
        self.staging, self.quarantine = Staging(change.scratch), Quarantine(change.scratch)
        self.catalog = Catalog(pl.read_parquet(old.path / "catalog.parquet") if old else None)
        self.links = LinkTable(old.links() if old else pl.DataFrame(schema=LINK_SCHEMA))
        self.tombstones = Tombstones.load(old.path) if old else Tombstones()
        self.batches = self.rows = self.merged = self.erased = self.derived = 0
        self.left_out: Counter[str] = Counter()
        self.notes: dict[str, None] = {}  # each once: a note on a file may come with each of its batches

    def add(self, batch: ParsedBatch) -> None:
        events, rejected = conform(batch.events, EVENT_SCHEMA), conform(batch.rejected, REJECTED_SCHEMA)
        rows = events.height + rejected.height
        events, rejected = self.tombstones.filter_events(events), self.tombstones.filter_rejected(rejected)
        self.erased += rows - events.height - rejected.height
        self.staging.add(events)
        self.quarantine.add(rejected)
        self.catalog.add(batch.catalog)
        self.links.add(self.tombstones.filter_links(conform(batch.links, LINK_SCHEMA)))
        self.batches += 1
        self.rows += batch.rows_read
        self.merged += batch.merged
        self.derived += batch.derived
        self.left_out.update(batch.left_out)
        self.notes |= dict.fromkeys(batch.notes)


def ingest(batches: Iterable[ParsedBatch], out: Path, progress: Progress = silent) -> IngestReport:
    """Write a source's batches to the log at `out`; a log that is already there is added to.

    Ingesting the same input again changes nothing: rows are identified by (event_id, item_id), rejected rows by their
    content. The log is the same however the input is cut into batches and in whatever order they come. Memory depends
    on the largest day, the catalog and the links, not on the input.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a directory for the log")
    with replace_directory(out) as change:
        old = log.EventLog.open(out) if out.exists() and any(out.iterdir()) else None
        intake = _Intake(change, old)
        with intake.staging:
            for batch in batches:
                intake.add(batch)
                progress("read", intake.rows, None)
            intake.staging.flush()
        if not intake.batches:
            raise InputError("nothing to ingest: name at least one file")
        if not intake.staging.rows and not (old and old.info["rows"]):
            raise InputError(f"none of the {intake.rows:,} rows read is a usable event: {_list_reasons(intake)}")
        return _write_log(intake, old, change, out, progress)


def _write_log(
    intake: _Intake, old: log.EventLog | None, change: DirectoryChange, out: Path, progress: Progress
) -> IngestReport:
    staged, done = intake.staging.rows, 0

    def report_rows(rows: int) -> None:
        nonlocal done
        done += rows
        progress("write", done, None)

    new, gained = compact(intake.staging, old.partitions if old else [], change, report_rows)
    intake.catalog.compact().write_parquet(change.new / "catalog.parquet", compression="zstd")
    intake.links.compact().write_parquet(change.new / "links.parquet", compression="zstd")
    if old and not intake.quarantine.reasons:
        change.keep("rejected.parquet")
    else:
        intake.quarantine.write(change.path / "rejected.parquet" if old else None, change.new / "rejected.parquet")
    intake.tombstones.write(change)
    report = IngestReport(
        rows_read=intake.rows,
        kept={name: n for name, n in sorted(gained.items()) if n},
        merged=intake.merged,
        duplicates=staged - gained.total(),
        rejected=sort_by_frequency(intake.quarantine.reasons),
        log=log.write_manifest(change, out, new),
        notes=tuple(intake.notes),
        erased=intake.erased,
        dropped_vectors=intake.catalog.dropped_vectors(),
        left_out=sort_by_frequency(intake.left_out),
        derived=intake.derived,
    )
    report.check()
    change.commit()
    return report


def _list_reasons(intake: _Intake) -> str:
    reasons = [f"{n:,} × {reason}" for reason, n in sort_by_frequency(intake.quarantine.reasons).items()]
    if intake.erased:
        reasons.append(f"{intake.erased:,} of customers who were erased")
    return ", ".join(reasons) or "no rows at all"


def sort_by_frequency(counts: Counter[str]) -> dict[str, int]:
    """Sort counts, the most frequent first."""
    return dict(sorted(counts.items(), key=lambda c: (-c[1], c[0])))
