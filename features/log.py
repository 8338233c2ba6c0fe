"""The event log on disk.

    LOG/events/part-*.parquet   rows of `EVENT_SCHEMA`, sorted by time
    LOG/catalog.parquet         rows of `CATALOG_SCHEMA`, one per item
    LOG/rejected.parquet        rows of `REJECTED_SCHEMA`
    LOG/log.json                format version, row counts, first and last event, fingerprint

A log is replaced as a whole: a reader sees the old directory or the new one, never half of each.
"""

import ctypes
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import InputError

FORMAT = 1
ROWS_PER_PART = 2_000_000


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
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{manifest} is damaged ({error}); ingest the log again") from error
        if version != FORMAT:
            raise InputError(f"{path} is an event log of format {version}, this version reads {FORMAT}")
        return cls(path, info)

    def scan(self) -> pl.LazyFrame:
        return pl.scan_parquet(self.path / "events" / "part-*.parquet")

    def catalog(self) -> pl.DataFrame:
        return pl.read_parquet(self.path / "catalog.parquet")

    def rejected(self) -> pl.DataFrame:
        return pl.read_parquet(self.path / "rejected.parquet")

    @property
    def first(self) -> datetime:
        return datetime.fromisoformat(self.info["first"])

    @property
    def last(self) -> datetime:
        return datetime.fromisoformat(self.info["last"])

    @property
    def fingerprint(self) -> str:
        return str(self.info["fingerprint"])


def write(path: Path, events: pl.DataFrame, catalog: pl.DataFrame, rejected: pl.DataFrame) -> EventLog:
    """Put a log at `path`, replacing what is there in one step. `events` is deduplicated and sorted."""
    if events.is_empty():
        raise InputError("no usable event was found, so there is no log to write; see the reasons above")
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    shutil.rmtree(new, ignore_errors=True)
    (new / "events").mkdir(parents=True)
    for part, start in enumerate(range(0, events.height, ROWS_PER_PART)):
        rows = events.slice(start, ROWS_PER_PART)
        rows.write_parquet(new / "events" / f"part-{part:05d}.parquet", compression="zstd")
    catalog.write_parquet(new / "catalog.parquet", compression="zstd")
    rejected.write_parquet(new / "rejected.parquet", compression="zstd")
    first, last = events["timestamp"].min(), events["timestamp"].max()
    assert isinstance(first, datetime)  # noqa: S101  events is not empty and every row has a time
    assert isinstance(last, datetime)  # noqa: S101
    info = {
        "format": FORMAT,
        "rows": events.height,
        "items": catalog.height,
        "rejected": rejected.height,
        "first": first.astimezone(UTC).isoformat(),
        "last": last.astimezone(UTC).isoformat(),
        "fingerprint": fingerprint(events),
    }
    (new / "log.json").write_text(json.dumps(info, indent=1) + "\n")
    _replace(new, path)
    return EventLog(path, info)


def fingerprint(events: pl.DataFrame) -> str:
    """16 hex digits of the sorted events: the same rows give the same text on any machine."""
    digest = hashlib.sha256()
    for column in ("event_id", "name", "item_id", "customer_id", "client_id"):
        text = events[column].cast(pl.String).fill_null("\x00").str.join("\x1f")
        digest.update(text.item().encode())
    for column in ("timestamp", "quantity", "price"):
        values = events[column].to_physical() if column == "timestamp" else events[column].fill_null(-1.0)
        digest.update(values.to_numpy().tobytes())
    return digest.hexdigest()[:16]


def _replace(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    if _exchange(new, path):
        shutil.rmtree(new)
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    path.rename(old)
    new.rename(path)
    shutil.rmtree(old)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two directories in one step, where the kernel can (Linux renameat2 with RENAME_EXCHANGE)."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    at_fdcwd, rename_exchange = -100, 2
    return bool(renameat2(at_fdcwd, os.fsencode(a), at_fdcwd, os.fsencode(b), rename_exchange) == 0)
