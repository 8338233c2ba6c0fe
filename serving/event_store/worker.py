"""Workers: one thread with one connection each, and a bounded queue in front of it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from serving.event_store.protocol import Connection, StoreUnavailable

T = TypeVar("T")

log = logging.getLogger("usual.events")

# After a failure no connection is tried for so long: each try may take as long as a connection takes to fail.
_PAUSE_S = 0.2


class Job(Generic[T]):
    """Something to run on a connection, and the future of its result; `size`: how much of the queue it takes up."""

    def __init__(self, run: Callable[[Connection], T], size: int = 1) -> None:
        self.run, self.size = run, size
        self.future: Future[T] = Future()

    def settle(self, run: Callable[[], T]) -> None:
        """Set the future to the result of `run`, or to its exception. The caller may have stopped waiting."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(run())
        except Exception as error:
            self.future.set_exception(error)


class Worker:
    """Runs jobs in order on a connection that it opens when it is needed, and again after it failed."""

    def __init__(self, name: str, connect: Callable[[], Connection], max_size: int) -> None:
        self._connect, self._max_size = connect, max_size
        self._connection: Connection | None = None
        self._failed: StoreUnavailable | None = None
        self._failed_at = 0.0
        self._jobs: deque[Job[Any]] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run_queue, name=name, daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return self._connection is not None

    def submit(self, job: Job[T]) -> Future[T]:
        """Queue a job. Its future may hold StoreUnavailable, also for a queue that is full."""
        with self._changed:
            if self._closed or (self._jobs and self._size + job.size > self._max_size):
                job.future.set_exception(StoreUnavailable("closed" if self._closed else "busy"))
                return job.future
            self._jobs.append(job)
            self._size += job.size
            self._changed.notify()
        return job.future

    def close(self, within_s: float) -> None:
        """Run what is waiting, then stop; what is not done in time fails."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(within_s)
        with self._changed:
            waiting, self._jobs = list(self._jobs), deque()
        for job in waiting:
            if not job.future.cancelled():
                job.future.set_exception(StoreUnavailable("closed"))

    def take(self, jobs: deque[Job[Any]]) -> list[Job[Any]]:
        """Take the jobs to run next off the queue, at least one."""
        return [jobs.popleft()]

    def run(self, jobs: list[Job[Any]]) -> None:
        """Run jobs that `take` returned."""
        for job in jobs:
            job.settle(lambda job=job: self.run_connected(job.run))  # type: ignore[misc]

    def run_connected(self, run: Callable[[Connection], T]) -> T:
        """Run on the connection, and once more on a new one where the old one turns out to be closed."""
        connection = self._connection
        if connection is not None:
            try:
                return run(connection)
            except StoreUnavailable as error:
                self._drop()
                if error.reason != "down":
                    raise
            except BaseException:
                self._drop()
                raise
        try:
            self._connection = connection = self._open()
            return run(connection)
        except BaseException:
            self._drop()
            raise

    def _open(self) -> Connection:
        if self._failed is not None and time.monotonic() < self._failed_at + _PAUSE_S:
            raise StoreUnavailable(self._failed.reason)
        try:
            connection = self._connect()
        except StoreUnavailable as error:
            if self._failed is None:
                log.error("the event store is not available: %s", error.reason)
            self._failed, self._failed_at = error, time.monotonic()
            raise
        if self._failed is not None:
            log.warning("the event store is available again")
        self._failed = None
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run_queue(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    break
                jobs = self.take(self._jobs)
                self._size -= sum(job.size for job in jobs)
            self.run(jobs)
        self._drop()
