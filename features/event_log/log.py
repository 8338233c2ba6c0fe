"""The event log on disk.

    LOG/log.json                format, totals, fingerprint, and the list of parts: what a reader goes by
    LOG/events/part-*.parquet   rows of `EVENT_SCHEMA`, whole days, in name order sorted by time
    LOG/catalog.parquet         rows of `CATALOG_SCHEMA`: per item those with the latest values (see catalog.py)
    LOG/links.parquet           rows of `LINK_SCHEMA`
    LOG/rejected.parquet        rows of `REJECTED_SCHEMA`
    LOG/erased.json             salted hashes of who was erased, once somebody was

A log is replaced as a whole: a reader sees the old directory or the new one, never half of each.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from features.common.errors import InputError
from features.event_log import partitions as parts
from features.event_log.atomic_dir import Change, changing
from features.event_log.catalog import Catalog, flatten
from features.event_log.partitions import Part, PartWriter
from features.event_log.schema import EVENT_SCHEMA, LINK_SCHEMA, REJECTED_SCHEMA, conform

FORMAT = 2


@dataclass(frozen=True)
class EventLog:
    """A log opened for reading. Raises `InputError` where the directory is not a log."""

    path: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> "EventLog":
        path = Path(path)
        manifest = path / "log.json"
        if not manifest.is_file():
            what = "is not an event log (it has no log.json)" if path.exists() else "does not exist"
            raise InputError(f"{path} {what}; `usual ingest SOURCE PATH… --out {path}` makes one")
        try:
            info = json.loads(manifest.read_text())
            version = info["format"]
            if version == FORMAT:
                files = [path / "events" / Part(**p).file for p in info["parts"]]
                files += [path / name for name in ("catalog.parquet", "links.parquet", "rejected.parquet")]
                if gone := [str(file) for file in files if not file.is_file()]:
                    raise ValueError(f"{gone[0]} is missing")
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
        files = [self.path / "events" / part.file for part in self.parts]
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
    def parts(self) -> list[Part]:
        return [Part(**p) for p in self.info["parts"]]

    @property
    def summary(self) -> dict[str, Any]:
        """What `info` says of the whole, without the list of parts."""
        return {k: v for k, v in self.info.items() if k != "parts"}

    @property
    def first(self) -> datetime:
        return self._time("first")

    @property
    def last(self) -> datetime:
        return self._time("last")

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the events: the same rows give the same on any machine, however they are cut."""
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
    """Put tables in memory at `path` as a log, in place of what is there. `events` is deduplicated and sorted."""
    if events.is_empty():
        raise InputError("no usable event was found, so there is no log to write; see the reasons above")
    with changing(path) as change:
        (change.new / "events").mkdir()
        with PartWriter(change.new / "events", parts.ROWS_PER_PART) as writer:
            writer.add(conform(events, EVENT_SCHEMA))
            made = writer.close()
        items = Catalog()
        items.add(catalog)
        items.compact().write_parquet(change.new / "catalog.parquet")
        conform(rejected, REJECTED_SCHEMA).write_parquet(change.new / "rejected.parquet")
        (pl.DataFrame(schema=LINK_SCHEMA) if links is None else links).write_parquet(change.new / "links.parquet")
        written = describe(change, path, made)
        change.commit()
    return written


def describe(change: Change, path: Path, made: Sequence[Part]) -> EventLog:
    """Complete the log in `change.new`, whose tables are written; it is at `path` once the change is committed."""
    count = {
        name: pl.scan_parquet(change.new / f"{file}.parquet").select(of).collect().item()
        for name, file, of in (
            ("items", "catalog", pl.col("item_id").n_unique()),
            ("links", "links", pl.len()),
            ("rejected", "rejected", pl.len()),
        )
    }
    info = {
        "format": FORMAT,
        "rows": sum(p.rows for p in made),
        **count,
        "first": made[0].first if made else None,
        "last": made[-1].last if made else None,
        "fingerprint": fingerprint(made),
        "parts": [p.as_dict() for p in made],
    }
    (change.new / "log.json").write_text(json.dumps(info, indent=1) + "\n")
    return EventLog(path, info)


def fingerprint(made: Sequence[Part]) -> str:
    """16 hex digits of the rows of all parts, however they are cut."""
    return hashlib.sha256(parts.total(made).encode()).hexdigest()[:16]
