"""One thread with one connection, and a bounded queue in front of it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from serving.event_store.protocol import Connection, StoreUnavailable

Result = TypeVar("Result")

log = logging.getLogger("usual.events")

# A store that is away is not asked again at once: each try may take as long as a connection takes to fail.
_PAUSE_S = 0.2


class Job(Generic[Result]):
    """Something to do on a connection, and the promise of its result; `size` is how much of the queue it takes."""

    def __init__(self, run: Callable[[Connection], Result], size: int = 1) -> None:
        self.run, self.size = run, size
        self.future: Future[Result] = Future()

    def settle(self, run: Callable[[], Result]) -> None:
        """Fulfil the promise. Its caller may have stopped waiting."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(run())
        except Exception as error:
            self.future.set_exception(error)


class Worker:
    """Does jobs in order on a connection that it opens when it is needed and again after it failed."""

    def __init__(self, name: str, connect: Callable[[], Connection], max_size: int) -> None:
        self._connect, self._max_size = connect, max_size
        self._connection: Connection | None = None
        self._failed: StoreUnavailable | None = None
        self._failed_at = 0.0
        self._jobs: deque[Job[Any]] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job[Result]) -> Future[Result]:
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
        """Do what is waiting, then stop; what is not done in time fails."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(within_s)
        with self._changed:
            left, self._jobs = list(self._jobs), deque()
        for job in left:
            if not job.future.cancelled():
                job.future.set_exception(StoreUnavailable("closed"))

    def take(self, jobs: deque[Job[Any]]) -> list[Job[Any]]:
        """The jobs to do next, taken off the queue, at least one."""
        return [jobs.popleft()]

    def do(self, jobs: list[Job[Any]]) -> None:
        """Do what `take` gave."""
        for job in jobs:
            job.settle(lambda job=job: self.on_connection(job.run))  # type: ignore[misc]

    def on_connection(self, run: Callable[[Connection], Result]) -> Result:
        """`run` on the connection, and once more on a new one where an old one turns out to be gone."""
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

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    break
                jobs = self.take(self._jobs)
                self._size -= sum(job.size for job in jobs)
            self.do(jobs)
        self._drop()
