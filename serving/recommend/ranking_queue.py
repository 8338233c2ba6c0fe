"""The way to the ranker: what waits for a batch, and what is done aside first because it concerns its sender alone."""

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from serving.recommend.availability import Availability
from serving.recommend.batcher import Batcher, BatchResult, Closed, DeadlineExceeded, Overloaded
from serving.recommend.costs import filter_cost, request_cost
from serving.recommend.planner import resolve_category
from serving.recommend.slate import Slate
from serving.schemas.placements import Placement
from serving.schemas.recommendations import RankedRequest, RecommendationRequest
from serving.settings import Settings

T = TypeVar("T")

# Seconds. An explanation takes as long as many rankings, and is no visitor's.
_ASIDE_S = 10.0


def _free(_: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a request: a name for the fair queues, and where costs beyond one plain request are charged."""

    name: Hashable = None
    charge: Callable[[float], None] = _free


UNKNOWN_SENDER = Sender()


class RankingQueue:
    """Queues requests for `rank`, which runs in the batcher's thread. Belongs to one event loop.

    A filter that is not known yet is evaluated before, in another thread, one at a time: a batch never waits for it.
    """

    def __init__(
        self,
        rank: Callable[[list[RankedRequest]], list[Slate | Exception]],
        settings: Settings,
        placements: Mapping[str, Placement],
    ) -> None:
        self._placements, self._deadline_s = placements, settings.deadline_ms / 1e3
        self._aside: Batcher[Callable[[], Any], Any] = Batcher(_call_each, max_batch=1, max_queue=settings.max_queue)
        self._batcher: Batcher[RankedRequest, Slate] = Batcher(
            rank,
            max_batch=settings.max_batch,
            linger_ms=settings.linger_ms,
            max_queue=settings.max_queue,
            deadline_ms=settings.deadline_ms,
        )

    def cost(self, requests: Sequence[RankedRequest]) -> float:
        """Return how many plain requests these weigh."""
        return sum(request_cost(request, self._placements[request.placement]) for request in requests)

    def submit(
        self, request: RankedRequest, sender: Sender, availability: Availability
    ) -> "asyncio.Future[BatchResult[Slate]]":
        """Queue one request. Cancelling the future drops it; it may fail with a BatcherError."""
        cost = request_cost(request, self._placements[request.placement])
        try:
            if isinstance(request, RecommendationRequest) and request.filter is not None:
                category = resolve_category(request, self._placements[request.placement])
                if not availability.is_known(request.filter, category):
                    evaluate = partial(availability.allowed, request.filter, category)
                    return asyncio.ensure_future(self._submit_narrow(request, sender, cost, evaluate))
            return self._batcher.submit(request, sender.name, cost)
        except (Overloaded, Closed) as refusal:
            refused: asyncio.Future[BatchResult[Slate]] = asyncio.get_running_loop().create_future()
            refused.set_exception(refusal)
            return refused

    async def run_aside(
        self, work: Callable[[], T], sender: Sender, cost: float, deadline_s: float = _ASIDE_S
    ) -> BatchResult[T]:
        """Run `work` in a thread, one at a time. Raises BatcherError, and what `work` does."""
        return await self._aside.submit(work, sender.name, cost, deadline_s)

    async def close(self) -> None:
        """Answer what is waiting and stop."""
        await asyncio.gather(self._aside.close(), self._batcher.close())

    async def _submit_narrow(
        self, request: RecommendationRequest, sender: Sender, cost: float, evaluate: Callable[[], object]
    ) -> BatchResult[Slate]:
        begun, narrowing = perf_counter(), filter_cost(request.filter)
        try:
            await self.run_aside(evaluate, sender, narrowing, self._deadline_s)
        except DeadlineExceeded as late:
            raise Overloaded("its filter had to wait") from late
        left_s = max(0.001, self._deadline_s - (perf_counter() - begun))
        return await self._batcher.submit(request, sender.name, cost - narrowing, left_s)


def _call_each(calls: list[Callable[[], Any]]) -> list[Any]:
    return [_call(call) for call in calls]


def _call(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error
