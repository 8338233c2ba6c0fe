"""Writes to the event store for a request: acknowledged once on disk, else a problem that says why not."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from serving.event_store import EventStore, StoreUnavailable, UnstorableValue
from serving.event_store.protocol import UnavailableReason
from serving.schemas.problems import ProblemError, problem

WriteResult = TypeVar("WriteResult")

_DETAILS: dict[UnavailableReason, str] = {
    "down": "The event store cannot be reached, or its disk fails",
    "slow": "The event store did not answer in time",
    "full": "The event store has no space left",
    "read_only": "The event store may not be written",
    "busy": "Too many events are waiting for the event store",
    "closed": "The server is shutting down",
}


async def await_write(store: EventStore | None, write: Callable[[EventStore], "Future[WriteResult]"]) -> WriteResult:
    """Start `write` and return its result once it is on disk.

    Raises ProblemError where it is not there within the store's time limit, or where there is no store.
    """
    if store is None:
        raise ProblemError(problem("store_unavailable", "This server keeps no events"))
    try:
        async with asyncio.timeout(store.limits.write_s):
            return await asyncio.wrap_future(write(store))
    except TimeoutError:
        reason: UnavailableReason = "slow"
    except StoreUnavailable as error:
        reason = error.reason
    except UnstorableValue:  # events that no store can hold are rejected before
        detail = "The event store cannot hold a value of the body; nothing of it is kept"
        raise ProblemError(problem("invalid_request", detail)) from None
    detail = f"{_DETAILS[reason]}; nothing is acknowledged: send the same again after Retry-After seconds"
    raise ProblemError(problem("store_unavailable", detail))
