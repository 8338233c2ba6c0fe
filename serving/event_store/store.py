"""The event store as the server uses it: appends that share their fsync, reads with a time budget."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from typing import Any, TypeVar

from features.common import clock
from features.common.clock import DAY
from features.ranking.visitors import MOST_RECENT
from serving.event_store.item_updates import IdempotencyKey, IdempotentAnswer, ItemChanges
from serving.event_store.protocol import (
    DEDUP_DAYS,
    Connection,
    ErasureCounts,
    Link,
    StoredEvent,
    StoreUnavailable,
    VisitEvent,
)
from serving.event_store.worker import Job, Worker
from serving.schemas.visitor import VisitorIds

T = TypeVar("T")

log = logging.getLogger("usual.events")

_PURGE_ROWS = 5000  # per transaction; appends wait meanwhile
_FIRST_PURGE_S, _PURGE_EVERY_S = 30.0, 600.0
_CHECK_EVERY_S = 1.0  # whether the files are still there


@dataclass(frozen=True)
class Limits:
    """Limits of a store.

    `write_s`: how long a write waits; `max_waiting`: events that wait for their commit; `max_commit`: events that one
    commit holds; `keep_days`: days until events are removed.
    """

    write_s: float = 2.0
    max_waiting: int = 20_000
    max_commit: int = 2_000
    keep_days: int = 90


class _Append(Job[list[bool]]):
    def __init__(self, events: Sequence[StoredEvent]) -> None:
        super().__init__(lambda connection: connection.insert(events, clock.now()), len(events))
        self.events = events


class _Writer(Worker):
    """While one commit is on its way to the disk the appends of the next gather: many share one fsync."""

    def __init__(self, connect: Callable[[], Connection], limits: Limits) -> None:
        self._max_commit = limits.max_commit
        super().__init__("event store writer", connect, limits.max_waiting)

    def take(self, jobs: deque[Job[Any]]) -> list[Job[Any]]:
        batch = [jobs.popleft()]
        size = batch[0].size
        while (
            jobs
            and isinstance(batch[0], _Append)
            and isinstance(jobs[0], _Append)
            and size + jobs[0].size <= self._max_commit
        ):
            batch.append(jobs.popleft())
            size += batch[-1].size
        return batch

    def run(self, jobs: list[Job[Any]]) -> None:
        active = [job for job in jobs if not job.future.cancelled()]
        if len(active) < 2:
            super().run(active)
            return
        events = [event for job in active for event in job.events]  # type: ignore[attr-defined]
        try:
            new = self.run_connected(lambda connection: connection.insert(events, clock.now()))
        except StoreUnavailable as error:
            for job in active:
                job.settle(lambda error=error: _raise(error))  # type: ignore[misc]
        except Exception:
            super().run(active)  # one of them is at fault; alone, only that one fails
        else:
            start = 0
            for job in active:
                job.settle(lambda part=new[start : start + job.size]: part)  # type: ignore[misc]
                start += job.size


class EventStore:
    """Appends events, reads visits, links and erases customers, keeps item updates. Thread-safe.

    It connects at first use and again after every failure. What is older than the retention is removed from time to
    time, also where nothing new comes.
    """

    def __init__(self, connect: Callable[[], Connection], limits: Limits) -> None:
        self.limits = limits
        self._writer = _Writer(connect, limits)
        self._reader = Worker("event store reader", connect, max_size=4)
        # A connection of its own: a long read of items must not take the time of a visit.
        self._items = Worker("event store items", connect, max_size=4)
        self._late: Future[list[list[VisitEvent]]] | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._purge_regularly, name="event store timer", daemon=True).start()

    def append(self, events: Sequence[StoredEvent]) -> "Future[list[bool]]":
        """Store events; once all are on disk, the future holds which were new.

        Else it holds StoreUnavailable or UnstorableValue.
        """
        return self._writer.submit(_Append(events))

    def visits(
        self, visitors: Sequence[VisitorIds], after: int, before: int, within_s: float, most: int = MOST_RECENT
    ) -> list[list[VisitEvent]]:
        """Read what each visitor did in after ≤ t < before (microseconds), oldest first: the last `most` rows of each.

        A customer's events, and those of the client in which no customer is named; where no client is given, of
        the latest clients that are this customer's alone. Raises StoreUnavailable, at the latest after `within_s`.
        """
        if self._late is not None and not self._late.done():
            raise StoreUnavailable("slow")  # it still hangs; to wait again would only cost the caller its time
        job = Job(lambda connection: connection.visits(visitors, after, before, most))
        future = self._reader.submit(job)
        try:
            return future.result(within_s)
        except TooLate:
            self._late = None if future.cancel() else future
            raise StoreUnavailable("slow") from None

    def merge(self, client_id: str, customer_id: str) -> "Future[int]":
        """Make a client a customer's from now on; 1 where that is new."""
        return self.link([merge_link(client_id, customer_id)])

    def link(self, links: Sequence[Link]) -> "Future[int]":
        """Store links between clients and customers for the next export; the future holds how many were new."""
        return self.write(lambda connection: connection.link(links))

    def erase(self, customer_id: str) -> "Future[ErasureCounts]":
        """Remove what the store holds of a customer and of the clients that are theirs alone.

        Of a client that others use too, events that name no customer are removed. Ids of events are remembered for
        their week, as hashes, so that events sent again within it do not come back.
        """
        return self.write(lambda connection: connection.erase(customer_id))

    def erase_client(self, client_id: str) -> "Future[ErasureCounts]":
        """Remove what the store holds of a device, whoever used it."""
        return self.write(lambda connection: connection.erase_client(client_id))

    def write(self, run: Callable[[Connection], T]) -> "Future[T]":
        """Run one writing method of a connection; the future holds its result once it is on disk."""
        return self._writer.submit(Job(run))

    def write_once(self, key: IdempotencyKey, run: Callable[[Connection], bytes]) -> "Future[IdempotentAnswer]":
        """As `write`, but return the earlier answer where the same request came within a day."""
        return self.write(lambda connection: connection.write_once(key, clock.now(), lambda: run(connection)))

    def item_changes(self, since: int) -> "Future[ItemChanges]":
        """Read what changed to items after version `since`; 0: everything."""
        return self._items.submit(Job(lambda connection: connection.item_changes(since)))

    def erased(self, known: int) -> "Future[list[int] | None]":
        """Read the hashes of all erased customers; None where they are as many as `known`."""
        return self._items.submit(Job(lambda connection: connection.erased(known)))

    def purge(self) -> "Future[int]":
        """Remove some of what is older than the retention, now; the future holds how many rows. Failures are logged."""
        purged = self.write(self._purge)
        purged.add_done_callback(_log_purge_failure)
        return purged

    def close(self, within_s: float = 2.0) -> None:
        """Write what is waiting and disconnect."""
        self._closed.set()
        self._writer.close(within_s)
        self._reader.close(0.5)
        self._items.close(0.5)

    def _purge(self, connection: Connection) -> int:
        at = connection.believe(now := clock.now())
        if at < now:
            log.warning(
                "the clock is %d days ahead of the last look at it: nothing newer is purged until it has gone on for "
                "a day",
                (now - at) // DAY,
            )
        rows = connection.purge(at - self.limits.keep_days * DAY, at - DEDUP_DAYS * DAY, at, _PURGE_ROWS)
        if rows >= _PURGE_ROWS:  # there is more; appends that wait come first
            self.purge()
        return rows

    def _purge_regularly(self) -> None:
        next_purge = time.monotonic() + _FIRST_PURGE_S
        while not self._closed.wait(max(0.0, min(_CHECK_EVERY_S, next_purge - time.monotonic()))):
            if time.monotonic() >= next_purge:
                self.purge()
                next_purge = time.monotonic() + _PURGE_EVERY_S
            elif self._writer.connected:
                self.write(lambda connection: connection.check())


def merge_link(client_id: str, customer_id: str) -> Link:
    """Build the link that makes a client a customer's from now on."""
    return Link(clock.now(), "merge", "", client_id, customer_id)


def _log_purge_failure(purged: "Future[int]") -> None:
    error = purged.exception()
    if error is None or (isinstance(error, StoreUnavailable) and error.reason == "closed"):
        return
    why = error.reason if isinstance(error, StoreUnavailable) else type(error).__name__  # a message may hold ids
    log.error("events older than the retention could not be removed, the next try is in %d s: %s", _PURGE_EVERY_S, why)


def _raise(error: Exception) -> list[bool]:
    raise error
