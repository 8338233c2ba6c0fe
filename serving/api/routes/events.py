"""Receiving events: `POST /v1/events`, Segment's calls, and merging and erasing customers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from pydantic_core import to_json

from serving import metrics
from serving.api import openapi
from serving.api.idempotency import answered_once
from serving.api.json_io import checked, json_response, read, read_json
from serving.api.store_writes import written
from serving.event_store import EventStore
from serving.event_store.protocol import Connection, Link
from serving.event_store.store import merger, now
from serving.events.segment import Calls, SegmentCall
from serving.events.validate import Checked, check
from serving.schemas.events import EraseRequest, EventsEnvelope, MergeRequest, Rejected
from serving.schemas.problems import MAX_ERRORS, FieldError, ProblemError, problem

Result = TypeVar("Result")

# So many are checked while requests wait; more are, in a thread, beside them.
_AT_ONCE = 25


class Door:
    """Where events come in. Without a store every answer is a 503."""

    def __init__(self, store: EventStore | None) -> None:
        self._store = store

    async def events(self, request: Request) -> Response:
        """Keep events. 202: all that were accepted are on disk."""
        raw = (await read(request, EventsEnvelope)).events
        found = await _beside(len(raw), partial(check, raw, now()))
        return await self._keep(found)

    async def segment(self, request: Request) -> Response:
        """Keep what Segment's or RudderStack's calls say. 202: all that was accepted is on disk."""
        body = checked(await read_json(request), SegmentCall)
        alone = body.batch is None
        raw: list[dict[str, Any]] = [body.model_dump(exclude_unset=True)] if body.batch is None else [*body.batch]
        where = "" if alone else "/batch/{}"
        calls = await _beside(len(raw), partial(Calls, raw, now(), where))
        return await self._keep(calls.checked, calls.repeated, calls.ignored, calls.links)

    async def merge(self, request: Request) -> Response:
        """Say that a client is a customer from now on; what it did since the snapshot is then the customer's."""
        asked = await read(request, MergeRequest)

        def write(connection: Connection) -> bytes:
            return to_json({"changed": bool(connection.link([merger(asked.client_id, asked.customer_id)]))})

        return await answered_once(request, self._store, write)

    async def erase(self, request: Request) -> Response:
        """Remove a customer's events, and those of devices that are theirs alone."""
        asked = await read(request, EraseRequest)
        return await answered_once(
            request, self._store, lambda connection: to_json(asdict(connection.erase(asked.customer_id)))
        )

    async def _keep(
        self, found: Checked, repeated: int = 0, ignored: int | None = None, links: Sequence[Link] = ()
    ) -> Response:
        if found.rejected and not found.events and not ignored:
            metrics.events("rejected", len(found.rejected))
            raise ProblemError(problem("invalid_request", "No event was accepted", _errors(found.rejected)))
        if links:
            await written(self._store, lambda store: store.link(links))
        new = await written(self._store, lambda store: store.append(found.events)) if found.events else []
        again = len(new) - sum(new) + repeated
        metrics.events("accepted", sum(new))
        metrics.events("duplicate", again)
        metrics.events("rejected", len(found.rejected))
        answer: dict[str, Any] = {
            "accepted": sum(new),
            "duplicates": again,
            "rejected": [r.model_dump() for r in sorted(found.rejected, key=lambda r: r.index)],
        }
        return json_response(answer if ignored is None else answer | {"ignored": ignored}, 202)


def add_event_routes(app: FastAPI, store: EventStore | None) -> None:
    """Give `app` the routes that write to `store`."""
    door = Door(store)
    app.post("/v1/events", status_code=202, **openapi.EVENTS)(door.events)
    app.post("/v1/events/segment", status_code=202, **openapi.SEGMENT)(door.segment)
    app.post("/v1/customers/merge", **openapi.MERGE)(door.merge)
    app.post("/v1/customers/erase", **openapi.ERASE)(door.erase)


async def _beside(size: int, work: Callable[[], Result]) -> Result:
    return work() if size <= _AT_ONCE else await asyncio.to_thread(work)


def _errors(rejected: list[Rejected]) -> list[FieldError]:
    return [FieldError(pointer=r.pointer, detail=r.detail, code=r.code) for r in rejected[:MAX_ERRORS]]
