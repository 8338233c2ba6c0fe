"""A turnstile: lets one large piece of work through at a time, small ones first, and senders in turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.recommend.fair_queue import FairQueue
from serving.recommend.ranking_queue import Sender
from serving.schemas.problems import ProblemError, problem

_DETAIL = "Too many large bodies are waiting; try again after Retry-After seconds"


class Turnstile:
    """At most `capacity` pieces of work wait, each for at most `deadline_s`. Belongs to one event loop."""

    def __init__(self, capacity: int = 64, deadline_s: float = 5.0) -> None:
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(capacity)
        self._deadline_s = deadline_s
        self._busy = False

    @asynccontextmanager
    async def turn(self, sender: Sender, cost: float) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the block runs. Raises ProblemError where there is no time for it."""
        if self._busy:
            await self._wait(sender, cost)
        self._busy = True
        try:
            yield
        finally:
            self._release()

    async def _wait(self, sender: Sender, cost: float) -> None:
        self._queue.keep(lambda future: not future.done())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refused = self._queue.push(turn, sender.name, cost)
        if refused is not None:
            refused.set_exception(ProblemError(problem("overloaded", _DETAIL)))
        try:
            async with asyncio.timeout(self._deadline_s):
                await turn
        except TimeoutError:
            raise ProblemError(problem("overloaded", _DETAIL)) from None
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release()  # the turn came as the caller went
            raise

    def _release(self) -> None:
        while self._queue:
            turn = self._queue.pop()
            if not turn.done():
                turn.set_result(None)  # `_busy` stays: the turn goes from hand to hand
                return
        self._busy = False
