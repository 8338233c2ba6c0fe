"""Writes to the event store on behalf of a request: acknowledged once on disk, or a problem that says why not."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from serving.event_store import EventStore, StoreUnavailable, Unstorable
from serving.event_store.protocol import Reason
from serving.schemas.problems import ProblemError, problem

Result = TypeVar("Result")

_WHY: dict[Reason, str] = {
    "down": "The event store cannot be reached, or its disk fails",
    "slow": "The event store did not answer in time",
    "full": "The event store has no space left",
    "read_only": "The event store may not be written",
    "busy": "Too many events are waiting for the event store",
    "closed": "The server is shutting down",
}


async def written(store: EventStore | None, write: Callable[[EventStore], "Future[Result]"]) -> Result:
    """What a write gave, once it is on disk. Raises ProblemError where it did not get there in time.

    Without a store that is always so.
    """
    if store is None:
        raise ProblemError(problem("store_unavailable", "This server keeps no events"))
    try:
        async with asyncio.timeout(store.limits.write_s):
            return await asyncio.wrap_future(write(store))
    except TimeoutError:
        reason: Reason = "slow"
    except StoreUnavailable as error:
        reason = error.reason
    except Unstorable:  # what is known to be so is rejected before
        detail = "The event store cannot hold a value of the body; nothing of it is kept"
        raise ProblemError(problem("invalid_request", detail)) from None
    detail = f"{_WHY[reason]}; nothing is acknowledged: send the same again after Retry-After seconds"
    raise ProblemError(problem("store_unavailable", detail))
