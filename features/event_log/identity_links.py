"""Links between clients and customers, as a log keeps them. What follows from them: features/tables/identity.py."""

import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from features.common.clock import moment, now
from features.common.errors import InputError
from features.event_log import log
from features.event_log.atomic_dir import Change, changing
from features.event_log.partitions import Part
from features.event_log.schema import LINK_SCHEMA, conform
from features.event_log.tombstones import FILE as ERASED
from features.event_log.tombstones import Erased

_SAME = ["kind", "token", "client_id", "customer_id"]
_ROWS_HELD = 200_000


def merged(links: pl.DataFrame) -> pl.DataFrame:
    """One row per kind, token, client and customer, with the earliest time; sorted by time."""
    first = links.group_by(_SAME).agg(pl.col("at").min())
    return conform(first.sort("at", *_SAME, nulls_last=True), LINK_SCHEMA)


class Links:
    """Links that others are added to; memory is bounded by the number of distinct ones."""

    def __init__(self, links: pl.DataFrame) -> None:
        self._rows, self._settled = [links], links.height

    def add(self, links: pl.DataFrame) -> None:
        self._rows.append(links)
        if sum(r.height for r in self._rows) > 2 * self._settled + _ROWS_HELD:
            self.merged()

    def merged(self) -> pl.DataFrame:
        self._rows = [merged(pl.concat(self._rows))]
        self._settled = self._rows[0].height
        return self._rows[0]


def merge(client: str, customer: str, path: Path, undo: bool = False) -> bool:
    """Say in the log at `path` that a client is a customer from now on; with `undo`, that it never was.

    The later word counts: merging takes back an `undo` of the pair, and `undo` a merge. False where the
    log says so already. Raises `InputError` for ids the log does not know.
    """
    with changing(path) as change:
        event_log = log.EventLog.open(path)
        _check(event_log, client, customer)
        links = event_log.links()
        pair = (pl.col("client_id") == client) & (pl.col("customer_id") == customer)
        kind, opposite = ("unlink", "merge") if undo else ("merge", "unlink")
        if not links.filter(pair & (pl.col("kind") == kind)).is_empty():
            return False
        said = pl.DataFrame({"at": [moment(now())], "kind": [kind], "client_id": [client], "customer_id": [customer]})
        others = links.filter(~(pair & (pl.col("kind") == opposite)).fill_null(False))
        made = merged(pl.concat([others, conform(said, LINK_SCHEMA)]))
        made.write_parquet(change.new / "links.parquet")
        keep_rest(change, event_log, event_log.parts)
        log.describe(change, path, event_log.parts)
        change.commit()
    return True


def keep_rest(change: Change, event_log: log.EventLog, made: Sequence[Part]) -> None:
    """Take those files of the old log over that are not written anew; `made` are the new log's parts."""
    files = [*(f"events/{p.file}" for p in made), *("catalog.parquet", "links.parquet", "rejected.parquet")]
    files += [ERASED] if (event_log.path / ERASED).exists() else []
    for name in files:
        if not os.path.lexists(change.new / name):
            change.keep(name)
    (change.new / "events").mkdir(exist_ok=True)


def _check(event_log: log.EventLog, client: str, customer: str) -> None:
    erased = Erased.load(event_log.path)
    links = event_log.links()
    for what, value, gone in (("client", client, erased.clients), ("customer", customer, erased.customers)):
        if erased.hash(value) in gone:
            raise InputError(f"this {what} was erased from {event_log.path}; what is erased cannot be merged")
        mine = pl.col(f"{what}_id") == value
        if links.filter(mine).is_empty() and event_log.scan().filter(mine).head(1).collect().is_empty():
            raise InputError(f"{event_log.path} knows no {what} of this id; check the spelling")
