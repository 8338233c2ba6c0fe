"""A micro-batcher: callers submit one request each, a vectorised function answers many at once.

Idle, a request is dispatched at once. While a batch runs the next one fills up, so batches grow with
the load and shrink with it. The function runs in one worker thread: the event loop stays free. Who is next is decided
by a fair queue, and a request that would wait too long is refused at once.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

from serving.recommend.fair_queue import FairQueue

# Costly requests may add so much to the time of a batch, in which plain ones wait; and cost so much where the speed is
# not known yet.
_COSTLY_S, _COSTLY = 0.02, 8.0
# Of the deadline, after which an answer that has only waited is worth less than a refusal at once.
_PATIENCE = 0.5
_MEMORY = 0.8  # of the measured speed, per batch

Req = TypeVar("Req")
Res = TypeVar("Res")


class BatcherError(Exception):
    """There is no result, although the function was not at fault for this request."""


class Overloaded(BatcherError):
    """The queue is full. Try again after `retry_after_s` seconds."""

    retry_after_s = 1


class DeadlineExceeded(BatcherError):
    """The answer did not come in time."""


class Closed(BatcherError):
    """The batcher is shutting down."""


class WrongLength(BatcherError):
    """The function gave more or fewer results than requests, so none can be matched."""


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[Res]):
    """One result, how long its request waited, and how long its batch took (milliseconds)."""

    value: Res
    queue_ms: float
    run_ms: float


@dataclass(eq=False, slots=True)
class _Queued(Generic[Req, Res]):
    request: Req
    future: asyncio.Future[BatchResult[Res]]
    enqueued: float
    timer: asyncio.TimerHandle
    cost: float

    def settle(self, outcome: Res | Exception, started: float, ended: float) -> None:
        self.timer.cancel()
        if self.future.done():
            return
        if isinstance(outcome, StopIteration):  # a future refuses it
            outcome = RuntimeError("the function raised StopIteration")
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            queue_ms, run_ms = (started - self.enqueued) * 1e3, (ended - started) * 1e3
            self.future.set_result(BatchResult(outcome, queue_ms, run_ms))


class Batcher(Generic[Req, Res]):
    """Collects requests into batches for `run`.

    `run` takes a list of requests and returns a list of as many results, result i for request i; an
    Exception in the list fails that request alone. When `run` raises, each request of the batch is
    tried again alone, so that only the one at fault fails. `max_queue` requests may wait: among more, those that the
    fair queue puts last are Overloaded, as are those that would wait for half of `deadline_ms`. A request that has no
    answer after `deadline_ms` fails with DeadlineExceeded. All methods belong to one event loop.
    """

    def __init__(
        self,
        run: Callable[[list[Req]], Sequence[Res | Exception]],
        *,
        max_batch: int = 64,
        linger_ms: float = 2.0,
        max_queue: int = 256,
        deadline_ms: float = 1000,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._linger_s = linger_ms / 1e3
        self._max_queue = max_queue
        self._deadline_s = deadline_ms / 1e3
        self._queue: FairQueue[_Queued[Req, Res]] = FairQueue(max_queue)
        self._cost_per_s = 0.0  # while requests wait; 0: not known
        self._running: list[_Queued[Req, Res]] = []
        self._task: asyncio.Task[None] | None = None
        self._target_reached = asyncio.Event()
        self._target_size = 0
        self._last_batch = 0
        self._last_run_s = 0.0
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batcher")

    def submit(
        self, request: Req, sender: Hashable = None, cost: float = 1.0, deadline_s: float | None = None
    ) -> asyncio.Future[BatchResult[Res]]:
        """Queue one request of `sender`, which costs as much as `cost` plain ones.

        Cancelling the future drops it. Raises Overloaded or Closed.
        """
        if self._closed:
            raise Closed("the server is shutting down")
        if len(self._queue) >= self._max_queue:
            self._queue.keep(lambda item: not item.future.done())
        deadline_s = self._deadline_s if deadline_s is None else deadline_s
        # No more waits than one batch takes: there is nothing to estimate.
        if self._cost_per_s and len(self._queue) >= self._max_batch:
            wait_s = self._queue.cost_before(sender, cost) / self._cost_per_s
            if wait_s > _PATIENCE * deadline_s:
                raise Overloaded(f"it would wait for {wait_s * 1e3:.0f} ms")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[BatchResult[Res]] = loop.create_future()
        item = _Queued(request, future, perf_counter(), loop.call_later(deadline_s, self._expire, future), cost)
        refused = self._queue.push(item, sender, cost)
        if refused is not None:
            overloaded = Overloaded(f"{self._max_queue} requests are waiting already")
            refused.timer.cancel()
            if refused is item:
                raise overloaded
            refused.settle(overloaded, 0, 0)
        if self._task is None:
            self._task = loop.create_task(self._work())
        elif len(self._queue) >= self._target_size:
            self._target_reached.set()
        return future

    async def close(self, grace_s: float = 1.0) -> None:
        """Refuse new requests, give those submitted `grace_s` seconds, then fail the rest."""
        self._closed = True
        self._target_reached.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=grace_s)
            for task in late:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        now = perf_counter()
        for item in [*self._running, *self._queue.drain()]:
            item.settle(Closed("the server is shutting down"), now, now)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _expire(self, future: asyncio.Future[BatchResult[Res]]) -> None:
        if not future.done():
            future.set_exception(DeadlineExceeded("no answer within the deadline"))

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._linger()
                self._running = self._take()
                if self._running:
                    started = perf_counter()
                    await self._settle_batch(self._running)
                    self._last_run_s = perf_counter() - started
                    self._last_batch = len(self._running)
                    if self._queue:
                        self._note_speed(sum(item.cost for item in self._running) / max(self._last_run_s, 1e-6))
                    self._running = []
        finally:
            self._task = None

    async def _linger(self) -> None:
        # After a batch of many, its callers ask again one by one. Serving the first of them alone would
        # make the others wait for a whole run; after a batch of one nobody else is expected. Waiting
        # longer than a run takes could never pay.
        self._target_size = min(self._last_batch, self._max_batch)
        if len(self._queue) >= self._target_size or self._target_size < 2 or self._closed:
            return
        self._target_reached.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._linger_s, self._last_run_s)):
                await self._target_reached.wait()

    def _take(self) -> list[_Queued[Req, Res]]:
        batch: list[_Queued[Req, Res]] = []
        room = max(_COSTLY, _COSTLY_S * self._cost_per_s)
        while self._queue and len(batch) < self._max_batch:
            extra = self._queue.next_cost - 1
            if batch and extra > 0 and extra > room:
                break
            item = self._queue.pop()
            if item.future.done():  # cancelled by its caller, or too late
                item.timer.cancel()
            else:
                room -= max(0.0, extra)
                batch.append(item)
        return batch

    def _note_speed(self, cost_per_s: float) -> None:
        known = self._cost_per_s or cost_per_s
        self._cost_per_s = _MEMORY * known + (1 - _MEMORY) * cost_per_s

    async def _settle_batch(self, batch: list[_Queued[Req, Res]]) -> None:
        started = perf_counter()
        outcome = await self._in_thread([item.request for item in batch])
        if isinstance(outcome, list):
            ended = perf_counter()
            for item, result in zip(batch, outcome, strict=True):
                item.settle(result, started, ended)
        elif len(batch) == 1 or isinstance(outcome, WrongLength):
            for item in batch:
                item.settle(outcome, started, started)
        else:
            for item in batch:
                if not item.future.done():
                    await self._settle_batch([item])

    async def _in_thread(self, requests: list[Req]) -> list[Res | Exception] | Exception:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run_guarded, requests)

    def _run_guarded(self, requests: list[Req]) -> list[Res | Exception] | Exception:
        expected = len(requests)  # the function may change the list
        try:
            results = list(self._run(requests))
        except Exception as error:
            return error
        if len(results) != expected:
            return WrongLength(f"{expected} requests got {len(results)} results")
        return results
