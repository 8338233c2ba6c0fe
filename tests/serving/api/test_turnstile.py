import asyncio
from collections.abc import Awaitable, Callable

import pytest

from serving.api.turnstile import Turnstile
from serving.recommend.ranking_queue import Sender
from serving.schemas.problems import ProblemError

ANYBODY = Sender("anybody")


def run(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 20))  # type: ignore[arg-type]


def test_one_at_a_time_and_the_small_ones_first() -> None:
    async def body() -> None:
        turnstile, order, at_once = Turnstile(), list[str](), 0

        async def work(name: str, cost: float) -> None:
            nonlocal at_once
            async with turnstile.turn(Sender(name), cost):
                at_once += 1
                assert at_once == 1
                await asyncio.sleep(0.01)
                order.append(name)
                at_once -= 1

        await asyncio.gather(work("first", 9), work("large", 900), work("small", 2), work("middle", 50))
        assert order == ["first", "small", "middle", "large"]

    run(body)


def test_who_has_waited_too_long_is_refused_and_the_others_go_on() -> None:
    async def body() -> None:
        turnstile = Turnstile(deadline_s=0.05)
        async with turnstile.turn(ANYBODY, 1):
            with pytest.raises(ProblemError) as refused:
                async with turnstile.turn(ANYBODY, 1):
                    raise AssertionError
            assert refused.value.problem.status == 429
        async with turnstile.turn(ANYBODY, 1):
            pass

    run(body)


def test_no_more_wait_than_there_is_place_for() -> None:
    async def body() -> None:
        turnstile = Turnstile(capacity=2)

        async def work(name: str) -> bool:
            try:
                async with turnstile.turn(Sender(name), 1):
                    await asyncio.sleep(0.01)
                    return True
            except ProblemError:
                return False

        flood = [work("flood") for _ in range(6)]
        assert sum(await asyncio.gather(*flood)) == 3

    run(body)


def test_a_turn_is_not_lost_with_who_had_it_or_waited_for_it() -> None:
    async def body() -> None:
        turnstile = Turnstile()

        async def work(seconds: float) -> None:
            async with turnstile.turn(ANYBODY, 1):
                await asyncio.sleep(seconds)

        for _ in range(20):
            tasks = [asyncio.create_task(work(0.001)) for _ in range(5)]
            await asyncio.sleep(0.001)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(ZeroDivisionError):
            async with turnstile.turn(ANYBODY, 1):
                raise ZeroDivisionError
        await asyncio.wait_for(work(0), 1)

    run(body)
