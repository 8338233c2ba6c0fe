"""The event log on disk.

    LOG/log.json                format, totals, fingerprint, and the list of partitions: what a reader goes by
    LOG/events/part-*.parquet   rows of `EVENT_SCHEMA`, whole days, in name order sorted by time
    LOG/catalog.parquet         rows of `CATALOG_SCHEMA`: per item those with the latest values (see catalog.py)
    LOG/links.parquet           rows of `LINK_SCHEMA`
    LOG/rejected.parquet        rows of `REJECTED_SCHEMA`
    LOG/erased.json             tombstones: salted hashes of erased customers, once there are any (see tombstones.py)

A log is replaced as a whole: a reader sees the old directory or the new one, never half of each.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from features.common.errors import InputError
from features.event_log import partitions
from features.event_log.atomic_dir import DirectoryChange, replace_directory
from features.event_log.catalog import Catalog, flatten
from features.event_log.partitions import Partition, PartitionWriter
from features.event_log.schema import EVENT_SCHEMA, LINK_SCHEMA, REJECTED_SCHEMA, conform
from features.event_log.tombstones import TOMBSTONES_FILE

FORMAT = 2


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
            what = "is not an event log (it has no log.json)" if path.exists() else "does not exist"
            raise InputError(f"{path} {what}; `usual ingest SOURCE PATH… --out {path}` makes one")
        try:
            info = json.loads(manifest.read_text())
            version = info["format"]
            if version == FORMAT:
                files = [path / "events" / Partition(**p).file for p in info["parts"]]
                files += [path / name for name in ("catalog.parquet", "links.parquet", "rejected.parquet")]
                if missing := [str(file) for file in files if not file.is_file()]:
                    raise ValueError(f"{missing[0]} is missing")
                info["rows"], info["first"], info["last"], info["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{manifest} is damaged ({error}); ingest the log again") from error
        if version != FORMAT:
            raise InputError(
                f"{path} is an event log of format {version}, this version reads {FORMAT}; remove it, or name another "
                "directory, and ingest its sources again"
            )
        return cls(path, info)

    def scan(self) -> pl.LazyFrame:
        """All events, in `EVENT_SCHEMA`, by time."""
        files = [self.path / "events" / p.file for p in self.partitions]
        return pl.scan_parquet(files) if files else pl.LazyFrame(schema=EVENT_SCHEMA)

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
        """`info` without the list of partitions."""
        return {k: v for k, v in self.info.items() if k != "parts"}

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


def write_manifest(change: DirectoryChange, path: Path, new: Sequence[Partition]) -> EventLog:
    """Write log.json of the log in `change.new`, whose tables are there; it is at `path` after the commit."""
    counts = {
        name: pl.scan_parquet(change.new / f"{file}.parquet").select(expr).collect().item()
        for name, file, expr in (
            ("items", "catalog", pl.col("item_id").n_unique()),
            ("links", "links", pl.len()),
            ("rejected", "rejected", pl.len()),
        )
    }
    info = {
        "format": FORMAT,
        "rows": sum(p.rows for p in new),
        **counts,
        "first": new[0].first if new else None,
        "last": new[-1].last if new else None,
        "fingerprint": _fingerprint(new),
        "parts": [p.as_dict() for p in new],
    }
    (change.new / "log.json").write_text(json.dumps(info, indent=1) + "\n")
    return EventLog(path, info)


def keep_unchanged(change: DirectoryChange, event_log: EventLog, new: Sequence[Partition]) -> None:
    """Take over those files of the log that `change.new` lacks; `new` are the new log's partitions."""
    files = [*(f"events/{p.file}" for p in new), "catalog.parquet", "links.parquet", "rejected.parquet"]
    files += [TOMBSTONES_FILE] if (event_log.path / TOMBSTONES_FILE).exists() else []
    for name in files:
        if not os.path.lexists(change.new / name):
            change.keep(name)
    (change.new / "events").mkdir(exist_ok=True)


def _fingerprint(new: Sequence[Partition]) -> str:
    return hashlib.sha256(partitions.combine_digests(new).encode()).hexdigest()[:16]
