"""Large bodies: parsed in a thread and worked on one at a time, so that other requests do not wait for them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import Request

from serving.api.json_io import read_content
from serving.api.turnstile import Turnstile
from serving.recommend.ranking_queue import Sender

T = TypeVar("T")


class LargeBodies:
    """Reads bodies; those of more than `inline_bytes` pass a turnstile, where they wait for at most `deadline_s`."""

    def __init__(self, inline_bytes: int, deadline_s: float) -> None:
        self._inline_bytes = inline_bytes
        self._turnstile = Turnstile(deadline_s=deadline_s)

    @asynccontextmanager
    async def read(self, request: Request, parse: Callable[[bytes], T]) -> AsyncIterator[tuple[T, bool]]:
        """Read and parse the body; also returns whether it is large, and then has its turn until the block ends.

        Raises ProblemError, also where there is no time for it.
        """
        content = await read_content(request)
        if len(content) <= self._inline_bytes:
            yield parse(content), False
            return
        sender: Sender = request.state.sender
        async with self._turnstile.turn(sender, len(content)):
            yield await asyncio.to_thread(parse, content), True
