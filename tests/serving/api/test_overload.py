"""More requests than can be answered, over real sockets: who is answered does not wait, others hear it at once."""

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

import pytest
import uvicorn

from serving.api import accepting
from serving.api.admission import Ticket
from serving.api.connection_pool import ConnectionLimits, ConnectionPool
from serving.api.refusals import refuse_early
from serving.settings import Settings
from tests.serving.api.test_connections import WHOLE, Serve, ask, connect, is_closed, read_answer

PER_REQUEST_S = 0.004


def rank_slowly(requests: Sequence[Any]) -> None:
    time.sleep(PER_REQUEST_S * len(requests))


@pytest.fixture
def acceptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have servers accept as those of the service do."""
    for name in ("startup", "shutdown"):
        monkeypatch.setattr(uvicorn.Server, name, getattr(uvicorn.Server, name))
    accepting.install()


async def visit(port: int, address: str, answers: list[tuple[str, float]]) -> None:
    begun, writer, status = time.perf_counter(), None, "-"
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            writer.write(WHOLE)
            status = (await reader.readuntil(b"\r\n\r\n"))[9:12].decode()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        pass
    answers.append((status, time.perf_counter() - begun))
    if writer is not None:
        writer.close()


async def arrive(port: int, address: str, rate: float, seconds: float) -> list[tuple[str, float]]:
    answers: list[tuple[str, float]] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(int(rate * seconds)):
            group.create_task(visit(port, address, answers))
            await asyncio.sleep(1 / rate)
    return answers


@pytest.mark.usefixtures("acceptor")
def test_a_flood_is_answered_soon_or_refused_at_once(serve: Serve, fake: type) -> None:
    server = serve(fake(catalog=20, hook=rank_slowly))

    async def body() -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
        flood = asyncio.create_task(arrive(server.port, "127.0.0.1", 3 / PER_REQUEST_S, 1.5))
        await asyncio.sleep(0.3)
        return await arrive(server.port, "127.0.0.2", 15, 1), await flood

    visitors, flood = asyncio.run(body())
    assert {status for status, _ in flood} == {"200", "429"}
    assert median(seconds for status, seconds in flood if status == "200") < 1
    assert median(seconds for status, seconds in flood if status == "429") < 0.5
    answered = [seconds for status, seconds in visitors if status == "200"]
    assert len(answered) >= 0.8 * len(visitors)  # all but on a machine that has no time for the server
    assert median(answered) < 1
    assert server.post({"client_id": "c"}).status_code == 200


@pytest.mark.parametrize(
    ("request_bytes", "early"),
    [
        (WHOLE, True),
        (WHOLE.replace(b"Content-Length: ", b"content-length:"), True),
        (WHOLE.replace(b"recommendations", b"rerank"), True),
        (WHOLE[:-1], False),  # it goes its usual way, and is refused there
        (WHOLE[:40], False),
        (WHOLE * 2, False),
        (WHOLE.replace(b"Content-Length", b"X-Length"), False),
        (WHOLE.replace(b"/recommendations", b"/events"), False),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", False),
        (b"", False),
    ],
)
def test_new_connections_are_refused_before_anything_is_made_of_them(request_bytes: bytes, early: bool) -> None:
    pool = ConnectionPool(ConnectionLimits.of(Settings(max_requests=4)))
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        client.sendall(request_bytes)
        connection, (host, _) = listener.accept()
        with connection:
            assert not refuse_early(connection, host, pool)
            for _ in range(2):
                pool.begin_request(Ticket(host, pool.admission))
            time.sleep(0.05)
            assert refuse_early(connection, host, pool) == early
            if not early and request_bytes:
                assert connection.recv(65_536) == request_bytes  # nothing of it is taken
        if early:
            status, problem = read_answer(client)
            assert (status, problem["code"]) == (429, "overloaded")
            assert is_closed(client)


def test_what_waited_too_long_to_be_accepted_is_refused_in_overload() -> None:
    pool = ConnectionPool(ConnectionLimits.of(Settings()))
    pool.admission.limit -= 1
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        client.sendall(WHOLE)
        connection, (host, _) = listener.accept()
        with connection:
            assert not refuse_early(connection, host, pool)
            time.sleep(0.4)
            assert refuse_early(connection, host, pool) == (sys.platform == "linux")


def test_a_connection_outlives_a_refusal(serve: Serve, fake: type) -> None:
    gate = threading.Event()
    server = serve(fake(hook=lambda _: gate.wait(10)), max_requests=8, deadline_ms=20_000)
    with ExitStack() as stack:
        connection = stack.enter_context(connect(server))
        busy = [stack.enter_context(connect(server)) for _ in range(4)]
        for other in busy:
            other.sendall(WHOLE)
        time.sleep(0.3)
        assert [ask(connection) for _ in range(3)] == [429] * 3
        connection.sendall(WHOLE.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost"))
        assert read_answer(connection)[0] == 429
        assert is_closed(connection)
        kept = stack.enter_context(connect(server))
        assert ask(kept) == 429
        gate.set()
        assert [read_answer(other)[0] for other in busy] == [200] * 4
        assert ask(kept) == 200


def test_a_refused_body_that_does_not_come_is_not_waited_for(serve: Serve, fake: type) -> None:
    gate = threading.Event()
    server = serve(fake(hook=lambda _: gate.wait(10)), max_requests=8, deadline_ms=20_000, body_timeout_s=0.3)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(server)).sendall(WHOLE)
        time.sleep(0.3)
        with connect(server) as connection:
            connection.sendall(WHOLE[:-5])
            assert read_answer(connection)[0] == 408
            assert is_closed(connection)
        gate.set()


def test_costly_requests_leave_the_places_of_plain_ones(serve: Serve, fake: type) -> None:
    """Those with a filter wait for the ranker too, but not in the way of others."""
    gate = threading.Event()
    server = serve(fake(hook=lambda _: gate.wait(10)), max_requests=40, deadline_ms=20_000)
    costly = json.dumps({"requests": [{"client_id": "c", "include": ["reasons"]}]}).encode()
    request = WHOLE[: WHOLE.index(b"Content-Length")] + b"Content-Length: %d\r\n\r\n%s" % (len(costly), costly)
    with ExitStack() as stack:
        busy = [stack.enter_context(connect(server)) for _ in range(15)]
        for connection in busy:
            connection.sendall(request)
        time.sleep(0.3)
        plain = [stack.enter_context(connect(server)) for _ in range(5)]
        for connection in plain:
            connection.sendall(WHOLE)
        time.sleep(0.2)
        gate.set()
        assert [read_answer(connection)[0] for connection in [*busy, *plain]] == [200] * 20
