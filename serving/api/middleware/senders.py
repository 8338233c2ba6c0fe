"""Senders: whose a request is, for fair queues and rate limits; and how what is sent back is cut into parts."""

import asyncio

from starlette.types import Message, Scope, Send

from serving.api.admission import Ticket
from serving.api.middleware.api_keys import KeyState, is_loopback
from serving.api.middleware.rate_limits import AddressLimits, TokenBucket
from serving.api.middleware.telemetry import BULK_ROUTE
from serving.recommend.costs import BULK_BYTES
from serving.recommend.ranking_queue import Sender
from serving.schemas.problems import Problem, problem

_PART_BYTES = 65_536
_COSTLY = 1.0  # beyond a plain request: what costs more is left to the fair queues


def build_sender(scope: Scope, content_length: int, addresses: AddressLimits | None = None) -> tuple[Sender, int]:
    """Return the sender of a request that may pass, and the seconds that its address has to wait: 0 if none.

    A sender is a key and an address. What comes from this machine, and so from a proxy that does not say for whom, is
    told apart by connections.
    """
    key: KeyState | None = scope["state"].get("key")
    host, port = scope.get("client") or ("", 0)
    buckets: list[TokenBucket] = [] if key is None or key.bucket is None else [key.bucket]
    if addresses is not None and not (key is not None and key.secret):
        bucket = addresses.find(host)
        if wait_s := bucket.spend().retry_after_s:
            return Sender(), wait_s
        buckets.append(bucket)

    ticket: Ticket | None = scope["state"].get("ticket")

    def charge(cost: float) -> None:
        if cost > _COSTLY and ticket is not None:
            ticket.park()
        for bucket in buckets:
            bucket.charge(cost)

    if scope["path"] == BULK_ROUTE:  # its requests come to us without their sender
        charge(content_length / BULK_BYTES - 1)
    name = (id(key), host, port) if port and is_loopback(host) else (id(key), host)
    return (Sender(name, charge) if buckets or ticket is not None else Sender(name)), 0


def rate_limited(what: str) -> Problem:
    """Return the problem of a key or an address that sends too much."""
    return problem("rate_limited", f"This {what} sends more than it may; try again after Retry-After seconds")


async def send_in_parts(send: Send, message: Message) -> None:
    """Send a long body in parts, each when those before it are read: what nobody reads is not copied for everybody."""
    body = message.get("body", b"")
    if message["type"] != "http.response.body" or len(body) <= _PART_BYTES:
        await send(message)
        return
    for start in range(0, len(body), _PART_BYTES):
        part = body[start : start + _PART_BYTES]
        more = start + _PART_BYTES < len(body) or message.get("more_body", False)
        await send({"type": "http.response.body", "body": part, "more_body": more})
        if more:
            await asyncio.sleep(0)  # the transport finds out here that it is full
