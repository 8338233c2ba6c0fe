import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.recommend.batcher import Batcher, Closed, DeadlineExceeded, Overloaded, WrongLength


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(body(), 20)

    asyncio.run(bounded())


class Gate:
    """A function for a batcher that waits until it is let through; keeps its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self.entered = threading.Event()

    def __call__(self, requests: list[int]) -> list[int]:
        self.batches.append(list(requests))
        self.entered.set()
        assert self.open.wait(10)
        return [10 * r for r in requests]

    async def busy(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.entered.wait)


def test_idle_request_is_dispatched_alone_and_at_once() -> None:
    batches: list[list[int]] = []

    async def body() -> None:
        batcher = Batcher[int, int](lambda r: batches.append(r) or r, linger_ms=50)
        for n in range(5):
            assert (await batcher.submit(n)).value == n
        await batcher.close()

    run(body)
    assert batches == [[0], [1], [2], [3], [4]]


def test_next_batch_fills_up_while_one_runs() -> None:
    async def body() -> None:
        gate = Gate()
        batcher = Batcher[int, int](gate, max_batch=4)
        first = batcher.submit(0)
        await gate.busy()
        others = [batcher.submit(n) for n in range(1, 8)]
        gate.open.set()
        assert [(await f).value for f in [first, *others]] == [0, 10, 20, 30, 40, 50, 60, 70]
        assert gate.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]
        await batcher.close()

    run(body)


def test_after_a_batch_the_next_waits_for_as_many_requests() -> None:
    batches: list[list[int]] = []

    def slow(requests: list[int]) -> list[int]:
        batches.append(requests)
        time.sleep(0.3)  # what may be waited for
        return requests

    async def body() -> None:
        batcher = Batcher[int, int](slow, linger_ms=10_000)
        await asyncio.gather(*[batcher.submit(n) for n in (1, 2, 3)])
        back = []
        for n in (4, 5, 6):  # one by one, as callers come back
            back.append(batcher.submit(n))
            await asyncio.sleep(0.001)
        await asyncio.gather(*back)
        await batcher.close()

    run(body)
    assert batches == [[1, 2, 3], [4, 5, 6]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.integers(1, 8),
    st.sets(st.integers(0, 9)),
    st.sets(st.integers(0, 9)),
    st.sets(st.integers(0, 39)),
)
def test_every_request_gets_its_own_answer(
    requests: list[int], max_batch: int, poisoned: set[int], refused: set[int], cancelled: set[int]
) -> None:
    """Whatever is poisoned, refused or given up, the others get exactly what they would have alone."""

    def work(batch: list[int]) -> list[int | Exception]:
        assert len(batch) <= max_batch
        if poisoned & set(batch):
            raise KeyError("poisoned")
        return [ValueError(str(r)) if r in refused else -r for r in batch]

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=max_batch, linger_ms=1, deadline_ms=60_000)
        futures = [batcher.submit(r) for r in requests]
        for n in cancelled & set(range(len(requests))):
            futures[n].cancel()
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        for n, (request, outcome) in enumerate(zip(requests, outcomes, strict=True)):
            if n in cancelled:
                assert isinstance(outcome, asyncio.CancelledError)
            elif request in poisoned:
                assert isinstance(outcome, KeyError)
            elif request in refused:
                assert isinstance(outcome, ValueError)
                assert str(outcome) == str(request)
            else:
                assert outcome.value == -request  # type: ignore[union-attr]
        await batcher.close()

    run(body)


@pytest.mark.parametrize("wrong", [lambda r: r[1:], lambda r: [*r, 0], lambda r: []])
def test_wrong_length_fails_the_batch_and_answers_nobody(wrong: Callable[[list[int]], list[int]]) -> None:
    async def body() -> None:
        gate = Gate()

        def work(requests: list[int]) -> list[int]:
            return gate(requests) if requests == [0] else wrong(requests)

        batcher = Batcher[int, int](work)
        first = batcher.submit(0)
        await gate.busy()
        others = [batcher.submit(n) for n in (1, 2, 3)]
        gate.open.set()
        assert (await first).value == 0
        for outcome in await asyncio.gather(*others, return_exceptions=True):
            assert isinstance(outcome, WrongLength)
        await batcher.close()

    run(body)


def test_length_is_checked_where_the_function_empties_its_input() -> None:
    def work(requests: list[int]) -> list[int]:
        requests.clear()
        return []

    async def body() -> None:
        batcher = Batcher[int, int](work)
        with pytest.raises(WrongLength):
            await batcher.submit(1)
        await batcher.close()

    run(body)


def test_stop_iteration_is_an_error_like_any_other() -> None:
    async def body() -> None:
        batcher = Batcher[int, int](lambda _: [next(iter(()))])
        with pytest.raises(RuntimeError):
            await batcher.submit(1)
        assert not isinstance((await asyncio.gather(batcher.submit(1), return_exceptions=True))[0], int)
        await batcher.close()

    run(body)


def test_full_queue_refuses_until_there_is_room() -> None:
    async def body() -> None:
        gate = Gate()
        batcher = Batcher[int, int](gate, max_queue=2)
        running = batcher.submit(0)
        await gate.busy()
        waiting = [batcher.submit(1), batcher.submit(2)]
        with pytest.raises(Overloaded):
            batcher.submit(3)
        waiting[0].cancel()  # a caller that has gone makes room
        await asyncio.sleep(0)
        waiting.append(batcher.submit(4))
        gate.open.set()
        assert [(await f).value for f in (running, *waiting[1:])] == [0, 20, 40]
        assert gate.batches == [[0], [2, 4]]
        await batcher.close()

    run(body)


def test_deadline_fails_the_late_and_drops_them_from_the_queue() -> None:
    async def body() -> None:
        gate = Gate()
        batcher = Batcher[int, int](gate, deadline_ms=20)
        late = [batcher.submit(0)]
        await gate.busy()
        late.append(batcher.submit(1))
        for outcome in await asyncio.gather(*late, return_exceptions=True):
            assert isinstance(outcome, DeadlineExceeded)
        gate.open.set()
        await batcher.close()
        assert gate.batches == [[0]], "what nobody waits for must not be run"

    run(body)


def test_close_answers_submitted_requests_and_refuses_more() -> None:
    async def body() -> None:
        gate = Gate()
        batcher = Batcher[int, int](gate, max_batch=1)
        futures = [batcher.submit(n) for n in range(3)]
        await gate.busy()
        closing = asyncio.create_task(batcher.close(grace_s=10))
        await asyncio.sleep(0)
        with pytest.raises(Closed):
            batcher.submit(9)
        gate.open.set()
        await closing
        assert [(await f).value for f in futures] == [0, 10, 20]

    run(body)


def test_close_fails_what_takes_too_long() -> None:
    async def body() -> None:
        gate = Gate()
        batcher = Batcher[int, int](gate, max_batch=1, deadline_ms=60_000)
        futures = [batcher.submit(n) for n in range(3)]
        await gate.busy()
        await batcher.close(grace_s=0.01)
        for outcome in await asyncio.gather(*futures, return_exceptions=True):
            assert isinstance(outcome, Closed)
        gate.open.set()

    run(body)


def test_times_are_reported() -> None:
    async def body() -> None:
        batcher = Batcher[int, int](lambda r: r)
        answer = await batcher.submit(1)
        assert answer.queue_ms >= 0
        assert answer.run_ms >= 0
        await batcher.close()

    run(body)
