"""Accepting: takes waiting connections off the kernel's hands many at a time.

libuv accepts one connection in each turn of the event loop. Under load a turn is as long as a request, so that a crowd
waits for seconds where nobody can answer or refuse it.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn

_AT_ONCE = 64


class Acceptor:
    """Accepts from a listening socket, beside the event loop's own server, until it is closed."""

    def __init__(self, listener: int, build_protocol: Callable[[], asyncio.Protocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = socket.socket(fileno=os.dup(listener))
        self._listener.setblocking(False)
        self._build_protocol = build_protocol
        self._tasks = set[asyncio.Task[Any]]()
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept no more."""
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # nobody waits, or there are too many open files, which libuv deals with
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._build_protocol, connection))
            self._tasks.add(task)
            task.add_done_callback(self._settle)

    def _settle(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a connection that was gone already is nobody's fault


def install() -> None:
    """Have each of uvicorn's servers in this process, which BentoML makes, accept so."""
    start, stop = uvicorn.Server.startup, uvicorn.Server.shutdown
    acceptors: list[Acceptor] = []

    async def startup(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        await start(self, sockets)
        protocol: Any = self.config.http_protocol_class
        build = partial(protocol, config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        listeners = [listener for server in self.servers for listener in server.sockets]
        acceptors.extend(Acceptor(listener.fileno(), build) for listener in listeners)

    async def shutdown(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        while acceptors:
            acceptors.pop().close()
        await stop(self, sockets)

    uvicorn.Server.startup, uvicorn.Server.shutdown = startup, shutdown  # type: ignore[method-assign]
