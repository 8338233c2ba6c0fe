"""Routes that write events: `POST /v1/events`, Segment's calls, merging and erasing customers."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic_core import to_json

from features.common import clock
from serving import metrics
from serving.api import openapi
from serving.api.idempotency import write_once
from serving.api.json_io import json_response, parse_message, read_message
from serving.api.large_bodies import LargeBodies
from serving.api.store_writes import await_write
from serving.event_store import EventStore
from serving.event_store.protocol import Connection, Link
from serving.event_store.store import merge_link
from serving.events.segment import ParsedCalls, SegmentCall
from serving.events.trust import PageOrders, keep_proven
from serving.events.validate import ValidatedEvents, validate_events
from serving.identity.caller import Caller
from serving.metrics import EventOutcome
from serving.recommend.costs import EVENTS_PER_COST, PLAIN
from serving.recommend.erased_customers import ErasedCustomers
from serving.recommend.ranking_queue import Sender
from serving.schemas.events import EraseRequest, EventsEnvelope, MergeRequest, Rejected
from serving.schemas.problems import MAX_ERRORS, FieldError, ProblemError, problem

# A body of some 25 events is validated on the event loop, which other requests wait for; a larger one in a thread and
# until its events are stored one at a time, for which it waits at most so many seconds.
_INLINE_BYTES, _TURN_S = 8_192, 5.0


class EventRoutes:
    """Endpoints that write to `store`; without one they respond with 503."""

    def __init__(self, store: EventStore | None, erased: ErasedCustomers, page_orders: PageOrders) -> None:
        self._store, self._erased, self._page_orders = store, erased, page_orders
        self._bodies = LargeBodies(_INLINE_BYTES, _TURN_S)

    async def events(self, request: Request) -> Response:
        """Keep events. 202: all that were accepted are on disk."""
        caller: Caller = request.state.caller

        def validate(content: bytes) -> ValidatedEvents:
            validated = validate_events(parse_message(content, EventsEnvelope).events, clock.now())
            return keep_proven(validated, caller, self._page_orders, "/events/{}/customer_id")

        async with self._bodies.read(request, validate) as (validated, _):
            _charge(request, len(validated.events))
            return await self._store_events(validated)

    async def segment(self, request: Request) -> Response:
        """Keep what Segment's or RudderStack's calls say. 202: all that was accepted is on disk."""
        caller: Caller = request.state.caller

        def parse(content: bytes) -> ParsedCalls:
            body = parse_message(content, SegmentCall)
            raw: list[dict[str, Any]] = [body.model_dump(exclude_unset=True)] if body.batch is None else [*body.batch]
            pointer = "" if body.batch is None else "/batch/{}"
            return ParsedCalls(raw, clock.now(), pointer, caller, self._page_orders)

        async with self._bodies.read(request, parse) as (calls, _):
            _charge(request, len(calls.validated.events))
            return await self._store_events(calls.validated, calls.repeated, calls.ignored, calls.links)

    async def merge(self, request: Request) -> Response:
        """Say that a client is a customer from now on; what it did since the snapshot is then the customer's."""
        message = await read_message(request, MergeRequest)

        def write(connection: Connection) -> bytes:
            return to_json({"changed": bool(connection.link([merge_link(message.client_id, message.customer_id)]))})

        return await write_once(request, self._store, write)

    async def erase(self, request: Request) -> Response:
        """Remove a customer with the devices that are theirs alone, or one device; answers forget them at once."""
        message = await read_message(request, EraseRequest)

        def write(connection: Connection) -> bytes:
            if message.customer_id is not None:
                return to_json(asdict(connection.erase(message.customer_id)))
            return to_json(asdict(connection.erase_client(message.client_id or "")))

        response = await write_once(request, self._store, write)
        await asyncio.to_thread(self._erased.update)
        return response

    async def _store_events(
        self, validated: ValidatedEvents, repeated: int = 0, ignored: int | None = None, links: Sequence[Link] = ()
    ) -> Response:
        if validated.rejected and not validated.events and not ignored:
            metrics.count_events("rejected", len(validated.rejected))
            raise ProblemError(problem("invalid_request", "No event was accepted", _errors(validated.rejected)))
        if links:
            await await_write(self._store, lambda store: store.link(links))
        new = await await_write(self._store, lambda store: store.append(validated.events)) if validated.events else []
        duplicates = len(new) - sum(new) + repeated
        claims = sum(is_new and event.claim for event, is_new in zip(validated.events, new, strict=True))
        unproven = [n for n in validated.unproven if new[n]]
        outcomes: dict[EventOutcome, int] = {
            "duplicate": duplicates,
            "rejected": len(validated.rejected),
            "claim": claims,
        }
        outcomes["unproven"] = sum(not validated.events[n].claim for n in unproven)
        outcomes["accepted"] = sum(new) - claims - outcomes["unproven"]
        for outcome, number in outcomes.items():
            metrics.count_events(outcome, number)
        body: dict[str, Any] = {
            "accepted": sum(new),
            "duplicates": duplicates,
            "unproven": len(unproven),
            "claims": claims,
            "rejected": [r.model_dump() for r in sorted(validated.rejected, key=lambda r: r.index)],
        }
        return json_response(body if ignored is None else body | {"ignored": ignored}, 202)


def add_event_routes(
    app: FastAPI, store: EventStore | None, erased: ErasedCustomers, page_orders: PageOrders = "claims"
) -> None:
    """Add /v1/events, /v1/events/segment, /v1/customers/merge and /v1/customers/erase to `app`."""
    routes = EventRoutes(store, erased, page_orders)
    app.post("/v1/events", status_code=202, **openapi.EVENTS)(routes.events)
    app.post("/v1/events/segment", status_code=202, **openapi.SEGMENT)(routes.segment)
    app.post("/v1/customers/merge", **openapi.MERGE)(routes.merge)
    app.post("/v1/customers/erase", **openapi.ERASE)(routes.erase)


def _charge(request: Request, events: int) -> None:
    sender: Sender = request.state.sender
    sender.charge(events / EVENTS_PER_COST - PLAIN)


def _errors(rejected: list[Rejected]) -> list[FieldError]:
    return [FieldError(pointer=r.pointer, detail=r.detail, code=r.code) for r in rejected[:MAX_ERRORS]]
