"""`usual erase --everywhere`: a customer or a device is removed from all that this installation keeps.

Event logs, the event store, published bundles, BentoML's store and MLflow's artifacts. What lies elsewhere, or is a
backup, cannot be reached from here and is listed.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from features.common.errors import InputError
from features.common.paths import home
from features.event_log import erase as event_log
from features.sources.event_store import VARIABLE, default_url, is_postgres, sqlite_path
from models.bundle_erasure import erase_customer, find_bundles
from models.publishing import publishing_dir
from serving.event_store import ErasureCounts, EventStore, Limits, StoreUnavailable, open_store

_WAIT_S = 300.0


@dataclass
class ErasureEverywhere:
    """What was removed: rows by event log, rows of the store, bundles. `unreached`: what may still hold the id."""

    logs: dict[str, int] = field(default_factory=dict)
    store_events: int = 0
    store_links: int = 0
    store_claims: int = 0
    bundles: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def text(self) -> str:
        """Render for the terminal."""
        lines = [f"{rows:>12,}  rows of the event log {log}" for log, rows in self.logs.items()]
        lines.append(f"{self.store_events + self.store_links + self.store_claims:>12,}  rows of the event store")
        lines.append(f"{len(self.bundles):>12,}  bundles")
        if not (self.bundles or self.store_events + self.store_links + self.store_claims + sum(self.logs.values())):
            lines.append("nothing had this id: is it written as in events, and a device's with --device?")
        lines += [f"not reached: {what}" for what in self.unreached]
        lines.append(f"done in {self.seconds:.1f} s")
        return "\n".join(lines)


def erase_everywhere(
    customer: str | None, client: str | None, log: Path | None = None, tracking: str = "", artifacts: str | None = None
) -> ErasureEverywhere:
    """Remove `customer` with the devices that are theirs alone, or `client`, from every place that can be reached.

    `log`: an event log outside of `USUAL_HOME`; logs in it are found. `tracking` and `artifacts`: where MLflow keeps
    runs and files. What fails is listed as not reached, and the rest is done.
    """
    start = time.monotonic()
    report = ErasureEverywhere()
    clients = {client} if client else set()
    logs = sorted({path.resolve() for path in (*_find_logs(home()), *([log] if log else []))})
    if customer:
        for each in logs:
            clients |= event_log.own_clients(customer, each)
    for each in logs:
        report.logs[str(each)] = _erase_from_log(customer, clients, each, report)
    _erase_from_store(customer, clients, report)
    if customer:
        roots = {home(), publishing_dir(), *_local(artifacts)}
        for bundle in sorted({bundle.resolve() for root in roots for bundle in find_bundles(root)}):
            try:
                if erase_customer(bundle, customer):
                    report.bundles.append(str(bundle))
            except InputError as error:
                report.unreached.append(str(error))
    if tracking.startswith(("http://", "https://")) or (artifacts and not _local(artifacts)):
        report.unreached.append("the MLflow server's artifacts: erase there, or delete the versions of before")
    report.unreached += [
        "backups, exports, event logs outside of USUAL_HOME that were not named, and Bentos copied elsewhere",
        "running servers of a Bento or a named bundle map the files of before until they restart; those that watch the "
        "champion swap within seconds; answers do not tell of a customer who was erased from their event store",
    ]
    report.seconds = round(time.monotonic() - start, 1)
    return report


def _find_logs(root: Path) -> list[Path]:
    return [manifest.parent for manifest in root.rglob("log.json") if (manifest.parent / "links.parquet").is_file()]


def _erase_from_log(customer: str | None, clients: set[str], log: Path, report: ErasureEverywhere) -> int:
    rows = 0
    steps: list[Callable[[], event_log.Erasure]] = []
    if customer:
        steps.append(lambda: event_log.erase(customer, log))
    steps += [lambda client=client: event_log.erase_client(client, log) for client in sorted(clients)]  # type: ignore[misc]
    for step in steps:
        try:
            counts = step()
        except InputError as error:
            if "of this id" not in str(error):
                report.unreached.append(str(error))
            continue
        rows += counts.events + counts.links + counts.rejected
    return rows


def _erase_from_store(customer: str | None, clients: set[str], report: ErasureEverywhere) -> None:
    url = os.environ.get(VARIABLE) or default_url()
    if not is_postgres(url) and not sqlite_path(url).is_file():
        return
    store = open_store(url, Limits(write_s=_WAIT_S))
    try:
        counts = [_erase_from(store, customer, client) for client in (*sorted(clients), None) if client or customer]
        report.store_events = sum(c.events for c in counts)
        report.store_links = sum(c.links for c in counts)
        report.store_claims = sum(c.claims for c in counts)
        if not store.write(lambda connection: connection.compact()).result(_WAIT_S):
            report.unreached.append("the write-ahead log of the event store, which a reader holds: run this again")
    except (StoreUnavailable, TimeoutError) as error:
        report.unreached.append(f"the event store ({error}): run this again")
    finally:
        store.close()
    if is_postgres(url):
        report.unreached.append(
            "PostgreSQL's write-ahead log and its archive, until they are recycled, and its statistics, where the role "
            "may not rewrite them (pg_statistic)"
        )


def _erase_from(store: EventStore, customer: str | None, client: str | None) -> ErasureCounts:
    erased = store.erase_client(client) if client else store.erase(customer or "")
    return erased.result(_WAIT_S)


def _local(artifacts: str | None) -> list[Path]:
    """The directory of an artifact location on this machine; empty for none, or one elsewhere."""
    if not artifacts:
        return []
    if "://" not in artifacts:
        return [Path(artifacts).absolute()]
    parts = urlsplit(artifacts)
    return [Path(unquote(parts.path))] if parts.scheme == "file" else []
