"""Links between clients and customers, as a log keeps them; `features.tables.identity` resolves visitors with them."""

from pathlib import Path

import polars as pl

from features.common.clock import moment, now
from features.common.errors import InputError
from features.event_log import log
from features.event_log.atomic_dir import replace_directory
from features.event_log.schema import LINK_SCHEMA, conform, deduplicate_links
from features.event_log.tombstones import Tombstones

_ROWS_HELD = 200_000


class LinkTable:
    """Links that others are added to; memory is bounded by the number of distinct links."""

    def __init__(self, links: pl.DataFrame) -> None:
        self._rows, self._compacted = [links], links.height

    def add(self, links: pl.DataFrame) -> None:
        self._rows.append(links)
        if sum(r.height for r in self._rows) > 2 * self._compacted + _ROWS_HELD:
            self.compact()

    def compact(self) -> pl.DataFrame:
        """All links, each once."""
        self._rows = [deduplicate_links(pl.concat(self._rows))]
        self._compacted = self._rows[0].height
        return self._rows[0]


def merge_client(client: str, customer: str, path: Path, undo: bool = False) -> bool:
    """Link a client to a customer in the log at `path`, from now on; with `undo`, state that it never was theirs.

    The later statement counts: merging takes back an `undo` of the pair, and `undo` a merge. Returns False where
    the log states it already. Raises `InputError` for ids the log does not know.
    """
    with replace_directory(path) as change:
        event_log = log.EventLog.open(path)
        _check(event_log, client, customer)
        links = event_log.links()
        pair = (pl.col("client_id") == client) & (pl.col("customer_id") == customer)
        kind, opposite = ("unlink", "merge") if undo else ("merge", "unlink")
        if not links.filter(pair & (pl.col("kind") == kind)).is_empty():
            return False
        new = pl.DataFrame({"at": [moment(now())], "kind": [kind], "client_id": [client], "customer_id": [customer]})
        others = links.filter(~(pair & (pl.col("kind") == opposite)).fill_null(False))
        links = deduplicate_links(pl.concat([others, conform(new, LINK_SCHEMA)]))
        links.write_parquet(change.new / "links.parquet")
        log.keep_unchanged(change, event_log, event_log.partitions)
        log.write_manifest(change, path, event_log.partitions, event_log)
        change.commit()
    return True


def _check(event_log: log.EventLog, client: str, customer: str) -> None:
    tombstones = Tombstones.load(event_log.path)
    links = event_log.links()
    for what, value, erased in (("client", client, tombstones.clients), ("customer", customer, tombstones.customers)):
        if tombstones.hash(value) in erased:
            raise InputError(f"this {what} was erased from {event_log.path}; what is erased cannot be merged")
        same_id = pl.col(f"{what}_id") == value
        if links.filter(same_id).is_empty() and event_log.scan_all_times().filter(same_id).head(1).collect().is_empty():
            raise InputError(f"{event_log.path} knows no {what} of this id; check the spelling")
