import asyncio
import socket
from contextlib import ExitStack

import uvloop

from serving.api.accepting import Acceptor


def test_a_crowd_is_accepted_in_a_few_turns_of_the_loop() -> None:
    turns, accepted = 0, 0

    class Counted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal accepted
            accepted += 1

    async def body() -> None:
        nonlocal turns
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
            for _ in range(200):
                stack.enter_context(socket.create_connection(listener.getsockname()))
            server = await asyncio.get_running_loop().create_server(Counted, sock=listener)
            acceptor = Acceptor(listener.fileno(), Counted)
            while accepted < 200 and turns < 1_000:
                turns += 1
                await asyncio.sleep(0)
            acceptor.close()
            server.close()

    uvloop.run(body())
    assert accepted == 200
    assert turns < 50
