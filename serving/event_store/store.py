"""The event store as the server uses it: appends that share their fsync, reads with a time budget."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from typing import Any, TypeVar

from features.common.clock import DAY, now
from features.ranking.visitors import MOST_RECENT
from serving.event_store.item_updates import ItemChanges, Once, Outcome
from serving.event_store.protocol import DEDUP_DAYS, Connection, Erased, Event, Link, StoreUnavailable, Touch, Visitor
from serving.event_store.worker import Job, Worker

Result = TypeVar("Result")

log = logging.getLogger("usual.events")

_PURGED_AT_ONCE = 5000  # rows; appends wait meanwhile
_FIRST_PURGE_S, _PURGE_EVERY_S = 30.0, 600.0


@dataclass(frozen=True)
class Limits:
    """What a store may take: seconds a write waits, events that wait for their commit, events a commit holds, days
    that events are kept."""

    write_s: float = 2.0
    max_waiting: int = 20_000
    max_commit: int = 2_000
    keep_days: int = 90


class _Append(Job[list[bool]]):
    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__(lambda connection: connection.insert(events, now()), len(events))
        self.events = events


class _Writer(Worker):
    """While one commit is on its way to the disk the appends of the next gather: many share one fsync."""

    def __init__(self, connect: Callable[[], Connection], limits: Limits) -> None:
        self._max_commit = limits.max_commit
        super().__init__("event store writer", connect, limits.max_waiting)

    def take(self, jobs: deque[Job[Any]]) -> list[Job[Any]]:
        taken = [jobs.popleft()]
        size = taken[0].size
        while (
            jobs
            and isinstance(taken[0], _Append)
            and isinstance(jobs[0], _Append)
            and size + jobs[0].size <= self._max_commit
        ):
            taken.append(jobs.popleft())
            size += taken[-1].size
        return taken

    def do(self, jobs: list[Job[Any]]) -> None:
        wanted = [job for job in jobs if not job.future.cancelled()]
        if len(wanted) < 2:
            super().do(wanted)
            return
        events = [event for job in wanted for event in job.events]  # type: ignore[attr-defined]
        try:
            new = self.on_connection(lambda connection: connection.insert(events, now()))
        except StoreUnavailable as error:
            for job in wanted:
                job.settle(lambda error=error: _raise(error))  # type: ignore[misc]
        except Exception:
            super().do(wanted)  # one of them is at fault; alone, only that one fails
        else:
            start = 0
            for job in wanted:
                job.settle(lambda part=new[start : start + job.size]: part)  # type: ignore[misc]
                start += job.size


class EventStore:
    """Append, read back, merge, erase, say something of items. Thread-safe.

    It is opened at first use and again whenever it was away. What is older than the retention is removed from time
    to time, also where nothing new comes.
    """

    def __init__(self, connect: Callable[[], Connection], limits: Limits) -> None:
        self.limits = limits
        self._writer = _Writer(connect, limits)
        self._reader = Worker("event store reader", connect, max_size=4)
        # Of its own: a long read of items must not take the time of a visit.
        self._items = Worker("event store items", connect, max_size=2)
        self._late: Future[list[list[Touch]]] | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._purge_regularly, name="event store timer", daemon=True).start()

    def append(self, events: Sequence[Event]) -> "Future[list[bool]]":
        """Whether each event was new, once all are on disk; else the future holds StoreUnavailable or Unstorable."""
        return self._writer.submit(_Append(events))

    def visits(
        self, visitors: Sequence[Visitor], after: int, before: int, within_s: float, most: int = MOST_RECENT
    ) -> list[list[Touch]]:
        """What each visitor did in after ≤ t < before (microseconds), oldest first: the last `most` rows of each.

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
        """Say that a client is a customer's from now on; 1 where that is new."""
        return self.link([merger(client_id, customer_id)])

    def link(self, links: Sequence[Link]) -> "Future[int]":
        """Keep ties between clients and customers for the next export; how many were new."""
        return self.write(lambda connection: connection.link(links))

    def erase(self, customer_id: str) -> "Future[Erased]":
        """Remove what the store holds of a customer and of the clients that are theirs alone.

        Of a client that others use too, what names no customer goes. Ids of events are remembered for their
        week, as hashes, so that what is sent again within it does not come back.
        """
        return self.write(lambda connection: connection.erase(customer_id))

    def write(self, run: Callable[[Connection], Result]) -> "Future[Result]":
        """What `run` gives, by one method of a connection that writes, once it is on disk."""
        return self._writer.submit(Job(run))

    def once(self, once: Once, run: Callable[[Connection], bytes]) -> "Future[Outcome]":
        """The answer that `run` gives, or the one it gave before where the same was asked for within a day."""
        return self.write(lambda connection: connection.once(once, now(), lambda: run(connection)))

    def item_changes(self, since: int) -> "Future[ItemChanges]":
        """What was said of items after version `since`; 0: all of it."""
        return self._items.submit(Job(lambda connection: connection.item_changes(since)))

    def purge(self) -> "Future[int]":
        """Remove some of what is older than the retention, now; how many rows. What fails is logged."""
        done = self.write(self._purge)
        done.add_done_callback(_tell)
        return done

    def close(self, within_s: float = 2.0) -> None:
        """Write what is waiting and let go of the store."""
        self._closed.set()
        self._writer.close(within_s)
        self._reader.close(0.5)
        self._items.close(0.5)

    def _purge(self, connection: Connection) -> int:
        at = now()
        gone = connection.purge(at - self.limits.keep_days * DAY, at - DEDUP_DAYS * DAY, at, _PURGED_AT_ONCE)
        if gone >= _PURGED_AT_ONCE:  # there is more; appends that wait come first
            self.purge()
        return gone

    def _purge_regularly(self) -> None:
        pause_s = _FIRST_PURGE_S
        while not self._closed.wait(pause_s):
            self.purge()
            pause_s = _PURGE_EVERY_S


def merger(client_id: str, customer_id: str) -> Link:
    """The tie that says that a client is a customer's from now on."""
    return Link(now(), "merge", "", client_id, customer_id)


def _tell(purged: "Future[int]") -> None:
    error = purged.exception()
    if error is None or (isinstance(error, StoreUnavailable) and error.reason == "closed"):
        return
    why = error.reason if isinstance(error, StoreUnavailable) else type(error).__name__  # a message may hold ids
    log.error("events older than the retention could not be removed, the next try is in %d s: %s", _PURGE_EVERY_S, why)


def _raise(error: Exception) -> list[bool]:
    raise error
