"""The event log on disk.

    LOG/log.json                format, totals, fingerprint, and the list of partitions: what a reader goes by
    LOG/events/part-*.parquet   rows of `EVENT_SCHEMA`, whole days, in name order sorted by time
    LOG/catalog.parquet         rows of `CATALOG_SCHEMA`: per item those with the latest values (see catalog.py)
    LOG/links.parquet           rows of `LINK_SCHEMA`
    LOG/rejected.parquet        rows of `REJECTED_SCHEMA`
    LOG/erased.json             tombstones: salted hashes of erased customers, once there are any (see tombstones.py)

A log is replaced as a whole: a reader sees the old directory or the new one, never half of each.

Events at isolated ends of time (see time_span.py) stay in the partitions and are set aside: `scan` leaves them out,
unless the log was ingested with all times.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.common.clock import DAY, iso, moment
from features.common.errors import InputError
from features.event_log import partitions
from features.event_log.atomic_dir import DirectoryChange, replace_directory
from features.event_log.catalog import Catalog, flatten
from features.event_log.dedup import day_starts, days_of
from features.event_log.partitions import Partition, PartitionWriter
from features.event_log.schema import EVENT_SCHEMA, LINK_SCHEMA, ORIGIN, REJECTED_SCHEMA, conform
from features.event_log.time_span import find_body
from features.event_log.tombstones import TOMBSTONES_FILE

FORMAT = 4
_READABLE = (3, FORMAT)  # partitions of format 3 lack `schema.LATER_COLUMNS`
# What log.json keeps from one change of the log to the next, beside what follows from the rows.
_KEPT: dict[str, Any] = {"currency": None, "all_times": False, "sources": [], "origins": {}, "watermarks": {}}


@dataclass(frozen=True)
class EventLog:
    """A log opened for reading: `info` is its log.json."""

    path: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> "EventLog":
        """Open the log at `path`. Raises `InputError` where there is none, or it is damaged or of another format."""
        path = Path(path)
        manifest = path / "log.json"
        if not manifest.is_file():
            if path.is_file():
                raise InputError(f"{path} is a file, not an event log; `usual ingest events {path} --out log` reads it")
            what = "is not an event log (it has no log.json)" if path.exists() else "does not exist"
            raise InputError(f"{path} {what}; `usual ingest SOURCE PATH… --out {path}` makes one")
        try:
            info = json.loads(manifest.read_text())
            version = info["format"]
            if version in _READABLE:
                files = [path / "events" / Partition(**p).file for p in info["parts"]]
                files += [path / name for name in ("catalog.parquet", "links.parquet", "rejected.parquet")]
                if missing := [str(file) for file in files if not file.is_file()]:
                    raise ValueError(f"{missing[0]} is missing")
                info["rows"], info["first"], info["last"], info["fingerprint"], info["span"], info["sources"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{manifest} is damaged ({error}); ingest the log again") from error
        if version not in _READABLE:
            raise InputError(
                f"{path} is an event log of format {version}, this version reads {FORMAT}; remove it, or name another "
                "directory, and ingest its sources again"
            )
        return cls(path, info)

    def scan(self) -> pl.LazyFrame:
        """All events, in `EVENT_SCHEMA`, by time, without those that are set aside."""
        events = self.scan_all_times()
        return events.filter(pl.col("timestamp").is_between(*self.span)) if self.span else events

    def scan_all_times(self) -> pl.LazyFrame:
        """All events and also those that are set aside, in `EVENT_SCHEMA`, by time."""
        files = [self.path / "events" / p.file for p in self.partitions]
        return partitions.scan(files).select(*EVENT_SCHEMA) if files else pl.LazyFrame(schema=EVENT_SCHEMA)

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """First and last time of the events that count; None where none are set aside."""
        span = self.info["span"]
        return (datetime.fromisoformat(span["first"]), datetime.fromisoformat(span["last"])) if span else None

    @property
    def rows_set_aside(self) -> int:
        """Number of events that `scan` leaves out by their time."""
        span = self.info["span"]
        return int(span["rows_before"] + span["rows_after"]) if span else 0

    @property
    def currency(self) -> str | None:
        """The currency of all amounts; None where the log has none."""
        code = self.info["currency"]
        return str(code) if code else None

    def catalog(self) -> pl.DataFrame:
        """One row per item, sorted by item_id, in `CATALOG_SCHEMA`; `embedding` beside it where some item has one."""
        return flatten(self._read("catalog.parquet"))

    def links(self) -> pl.DataFrame:
        """One row per kind, token, client and customer, with the earliest time."""
        return self._read("links.parquet")

    def rejected(self) -> pl.DataFrame:
        return self._read("rejected.parquet")

    def _read(self, name: str) -> pl.DataFrame:
        try:
            return pl.read_parquet(self.path / name)
        except pl.exceptions.PolarsError as error:
            raise InputError(f"{self.path / name} is damaged; ingest the log again") from error

    @property
    def partitions(self) -> list[Partition]:
        return [Partition(**p) for p in self.info["parts"]]

    @property
    def summary(self) -> dict[str, Any]:
        """`info` without the list of partitions, and what belongs to it."""
        return {k: v for k, v in self.info.items() if k not in ("parts", "origins")}

    @property
    def first(self) -> datetime:
        return self._time("first")

    @property
    def last(self) -> datetime:
        return self._time("last")

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the events: equal for equal rows on any machine, however they are partitioned."""
        return str(self.info["fingerprint"])

    def _time(self, which: str) -> datetime:
        if not self.info[which]:
            raise InputError(f"{self.path} holds no events any more; ingest some")
        return datetime.fromisoformat(self.info[which])


def write(
    path: Path,
    events: pl.DataFrame,
    catalog: pl.DataFrame,
    rejected: pl.DataFrame,
    links: pl.DataFrame | None = None,
) -> EventLog:
    """Write tables in memory to `path` as a log, which replaces what is there. `events` is deduplicated and sorted."""
    if events.is_empty():
        raise InputError("no usable event was found, so there is no log to write; see the reasons above")
    with replace_directory(path) as change:
        (change.new / "events").mkdir()
        with PartitionWriter(change.new / "events", partitions.ROWS_PER_PARTITION) as writer:
            writer.add(conform(events, EVENT_SCHEMA))
            new = writer.close()
        items = Catalog()
        items.add(catalog)
        items.compact().write_parquet(change.new / "catalog.parquet")
        conform(rejected, REJECTED_SCHEMA).write_parquet(change.new / "rejected.parquet")
        (pl.DataFrame(schema=LINK_SCHEMA) if links is None else links).write_parquet(change.new / "links.parquet")
        event_log = write_manifest(change, path, new)
        change.commit()
    return event_log


def write_manifest(
    change: DirectoryChange,
    path: Path,
    new: Sequence[Partition],
    before: EventLog | None = None,
    **settings: Any,
) -> EventLog:
    """Write log.json of the log in `change.new`, whose tables are there; it is at `path` after the commit.

    `settings` are keys of `_KEPT`; others are as in the log `before`.
    """
    counts = {
        name: pl.scan_parquet(change.new / f"{file}.parquet").select(expr).collect().item()
        for name, file, expr in (
            ("items", "catalog", pl.col("item_id").n_unique()),
            ("links", "links", pl.len()),
            ("rejected", "rejected", pl.len()),
        )
    }
    carried = {
        key: settings.get(key, (before.info if before else {}).get(key, default)) for key, default in _KEPT.items()
    }
    total = sum(p.rows for p in new)
    span = None if carried["all_times"] else _find_span(change.new / "events", new)
    info = {
        "format": FORMAT,
        "rows": total - (span["rows_before"] + span["rows_after"] if span else 0),
        **counts,
        "first": (span or vars(new[0]))["first"] if new else None,
        "last": (span or vars(new[-1]))["last"] if new else None,
        "fingerprint": _fingerprint(new, span),
        "span": span,
        **carried,
        "parts": [p.as_dict() for p in new],
    }
    (change.new / "log.json").write_text(json.dumps(info, indent=1) + "\n")
    return EventLog(path, info)


def origins_in_use(directory: Path, new: Sequence[Partition]) -> set[int]:
    """The codes in `schema.ORIGIN` of all rows."""
    used: set[int] = set()
    for partition in new:
        codes = pl.scan_parquet(directory / partition.file).select(pl.col(ORIGIN).drop_nulls().unique()).collect()
        used.update(codes.to_series().to_list())
    return used


def _find_span(directory: Path, new: Sequence[Partition]) -> dict[str, Any] | None:
    rows: dict[int, int] = {}
    for partition in new:
        days = days_of(pl.read_parquet(directory / partition.file, columns=["timestamp"]))
        starts = day_starts(days)
        rows.update(zip(days[starts[:-1]].tolist(), np.diff(starts).tolist(), strict=True))
    body = find_body(rows)
    if not body:
        return None
    files = [directory / p.file for p in new if p.days[0] <= body.last and p.days[1] >= body.first]
    time = pl.col("timestamp")
    inside = time.is_between(moment(body.first * DAY), moment((body.last + 1) * DAY), closed="left")
    bounds = (
        pl.scan_parquet(files)
        .filter(inside)
        .select(first=time.min().dt.timestamp("us"), last=time.max().dt.timestamp("us"))
    )
    first, last = bounds.collect().row(0)
    return {"first": iso(first), "last": iso(last), "rows_before": body.before, "rows_after": body.after}


def keep_unchanged(change: DirectoryChange, event_log: EventLog, new: Sequence[Partition]) -> None:
    """Take over those files of the log that `change.new` lacks; `new` are the new log's partitions."""
    files = [*(f"events/{p.file}" for p in new), "catalog.parquet", "links.parquet", "rejected.parquet"]
    files += [TOMBSTONES_FILE] if (event_log.path / TOMBSTONES_FILE).exists() else []
    for name in files:
        if not os.path.lexists(change.new / name):
            change.keep(name)
    (change.new / "events").mkdir(exist_ok=True)


def _fingerprint(new: Sequence[Partition], span: dict[str, Any] | None) -> str:
    text = partitions.combine_digests(new) + (f" {span['first']} {span['last']}" if span else "")
    return hashlib.sha256(text.encode()).hexdigest()[:16]
