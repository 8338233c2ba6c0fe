"""Accepting: takes waiting connections off the kernel's hands many at a time, and refuses those that find no place.

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

from serving.api.connections import pool_of
from serving.api.refusals import refuse_early

_AT_ONCE, _LOOKED_AT = 64, 512  # connections in one turn of the loop, and those with what is refused


class Acceptor:
    """Accepts from a listening socket, beside the event loop's own server, until it is closed.

    What `refuse` answers and closes is no connection for anybody else.
    """

    def __init__(
        self,
        listener: int,
        build_protocol: Callable[[], asyncio.Protocol],
        refuse: Callable[[socket.socket, str], bool] = lambda connection, host: False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = socket.socket(fileno=os.dup(listener))
        self._listener.setblocking(False)
        self._build_protocol, self._refuse = build_protocol, refuse
        self._tasks = set[asyncio.Task[Any]]()
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept no more."""
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        places = _AT_ONCE
        for _ in range(_LOOKED_AT):
            try:
                connection, address = self._listener.accept()
            except OSError:  # nobody waits, or there are too many open files, which libuv deals with
                return
            if self._refuse(connection, address[0] if address else ""):
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._build_protocol, connection))
            self._tasks.add(task)
            task.add_done_callback(self._settle)
            places -= 1
            if not places:
                return

    def _settle(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a connection that was gone already is nobody's fault


def install() -> None:
    """Have each of uvicorn's servers in this process, which BentoML makes, accept so."""
    start, stop = uvicorn.Server.startup, uvicorn.Server.shutdown
    acceptors: dict[uvicorn.Server, list[Acceptor]] = {}

    async def startup(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        await start(self, sockets)
        protocol: Any = self.config.http_protocol_class
        build = partial(protocol, config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        pool = pool_of(protocol)
        refuse = [] if pool is None else [partial(refuse_early, pool=pool)]
        listeners = [listener for server in self.servers for listener in server.sockets]
        acceptors[self] = [Acceptor(listener.fileno(), build, *refuse) for listener in listeners]

    async def shutdown(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        for acceptor in acceptors.pop(self, []):
            acceptor.close()
        await stop(self, sockets)

    uvicorn.Server.startup, uvicorn.Server.shutdown = startup, shutdown  # type: ignore[method-assign]
