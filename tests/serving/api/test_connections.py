"""Limits on connections, over real sockets: what a client does that takes and does not give."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest

from serving.settings import Settings
from tests.serving.conftest import RunningServer

BODY = b'{"requests": [{"client_id": "c"}]}'
WHOLE = (
    b"POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
PAGE = b"GET /docs/ui.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
PROBE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

Serve = Callable[..., RunningServer]


def connect(server: RunningServer, buffer: int = 0) -> socket.socket:
    connection = socket.socket()
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(5)
    connection.connect((server.host, server.port))
    return connection


def connect_from(address: str, server: RunningServer) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=5, source_address=(address, 0))


def read_answer(connection: socket.socket) -> tuple[int, Any]:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    content = answer.read()
    return answer.status, json.loads(content) if content else None


def ask(connection: socket.socket, request: bytes = WHOLE) -> int:
    connection.sendall(request)
    return read_answer(connection)[0]


def is_closed(connection: socket.socket, within_s: float = 3) -> bool:
    connection.settimeout(within_s)
    try:
        while connection.recv(65_536):
            continue
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_headers_that_do_not_end_in_time(serve: Serve) -> None:
    server = serve(header_timeout_s=0.3)
    with connect(server) as connection:
        connection.sendall(WHOLE[:40])
        status, problem = read_answer(connection)
        assert (status, problem["code"]) == (408, "slow_headers")
        assert is_closed(connection)


def test_headers_that_trickle_do_not_gain_time(serve: Serve) -> None:
    server = serve(header_timeout_s=0.5)
    with connect(server) as connection:
        connection.settimeout(0.1)
        received = b""
        for letter in WHOLE[:30]:  # 3 s at this pace
            connection.sendall(bytes([letter]))
            with suppress(TimeoutError):
                received = connection.recv(1000)
                break
        assert received.startswith(b"HTTP/1.1 408")


def test_a_connection_without_a_word_is_closed(serve: Serve) -> None:
    with connect(serve(header_timeout_s=0.3)) as connection:
        assert is_closed(connection)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\nX: " + b"x" * 200_000,
        b"GET /livez HTTP/1.1\r\n" + b"X: x\r\n" * 200,
        b"GET /livez HTTP/1.1\r\n" + b"X" * 200_000,
        b"GET /" + b"x" * 200_000,
        b"GET /livez HTTP/1.1\r\n" + (b"X: " + b"x" * 10_000 + b"\r\n") * 4,
    ],
    ids=["value", "many", "name", "path", "long ones"],
)
def test_headers_without_end_are_refused_as_they_come(serve: Serve, head: bytes) -> None:
    server = serve()
    with connect(server) as connection:
        connection.sendall(head)
        status, problem = read_answer(connection)
        assert (status, problem["code"]) == (431, "headers_too_large")
        assert is_closed(connection)
    assert server.client.get("/livez").status_code == 204


def test_chunks_and_trailers_without_end_are_cut_off(serve: Serve) -> None:
    server = serve()
    head = WHOLE.split(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    for rest in (b"5;" + b"x" * 300_000, b"0\r\n" + b"X: " + b"x" * 300_000):
        with connect(server) as connection:
            connection.sendall(head + rest)
            assert is_closed(connection)


def test_a_body_that_nobody_reads_and_that_does_not_come(serve: Serve) -> None:
    """On a path that answers without its body, and on one that would wait for it."""
    server = serve(body_timeout_s=0.3)
    for path in (b"/v1/recommendations", b"/v1/nowhere"):
        with connect(server) as connection:
            connection.sendall(WHOLE.replace(b"/v1/recommendations", path)[:-5])
            assert read_answer(connection)[0] in (404, 408)
            assert is_closed(connection)


def test_half_open_connections_make_room_for_visitors(serve: Serve) -> None:
    server = serve(max_connections=20)
    with ExitStack() as stack:
        for n in range(60):
            half = stack.enter_context(connect(server))
            half.sendall(WHOLE[: n % 40])
        for _ in range(10):
            with connect(server) as connection:
                assert ask(connection) == 200


def test_more_connections_with_a_request_than_there_may_be_are_refused(serve: Serve, fake: type) -> None:
    gate = threading.Event()
    server = serve(fake(hook=lambda _: gate.wait(10)), max_connections=16, deadline_ms=20_000)
    with ExitStack() as stack:
        busy = [stack.enter_context(connect(server)) for _ in range(16)]
        for connection in busy:
            connection.sendall(WHOLE)
        time.sleep(0.3)
        with connect(server) as connection:
            status, problem = read_answer(connection)
            assert (status, problem["code"]) == (503, "unavailable")
        gate.set()
        assert [read_answer(connection)[0] for connection in busy] == [200] * 16


def test_one_address_takes_half_of_all_requests_and_the_rest_are_refused_at_once(serve: Serve, fake: type) -> None:
    gate = threading.Event()
    server = serve(fake(hook=lambda _: gate.wait(10)), max_requests=8, deadline_ms=20_000)
    with ExitStack() as stack:
        flood = [stack.enter_context(connect(server)) for _ in range(4)]
        for connection in flood:
            connection.sendall(WHOLE)
        time.sleep(0.3)
        with connect(server) as connection:
            begun = time.monotonic()
            connection.sendall(WHOLE)
            status, problem = read_answer(connection)
            assert (status, problem["code"]) == (429, "overloaded")
            assert time.monotonic() - begun < 1
        with connect(server) as probe:
            assert ask(probe, PROBE) == 204
        with connect_from("127.0.0.2", server) as visitor:
            visitor.sendall(WHOLE)
            time.sleep(0.2)
            gate.set()
            assert read_answer(visitor)[0] == 200
        assert [read_answer(connection)[0] for connection in flood] == [200] * 4
    for _ in range(10):
        assert server.post({"client_id": "c"}).status_code == 200


def test_connections_of_one_address_are_counted(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.connections.is_loopback", lambda address: False)
    server = serve(max_connections_per_address=3)
    server.client.close()
    with ExitStack() as stack:
        first = [stack.enter_context(connect(server)) for _ in range(3)]
        assert [ask(connection) for connection in first] == [200] * 3
        with connect(server) as fourth:
            status, problem = read_answer(fourth)
            assert (status, problem["code"]) == (429, "too_many_connections")
        first[0].close()
        time.sleep(0.2)
        with connect(server) as again:
            assert ask(again) == 200


def test_who_does_not_read_is_cut_off(serve: Serve) -> None:
    server = serve(write_timeout_s=0.5)
    with connect(server, buffer=4096) as connection:
        connection.sendall(PAGE * 10)
        time.sleep(2)
        begun, received = time.monotonic(), 0
        try:
            while data := connection.recv(1 << 20):
                received += len(data)
        except OSError:
            pass
        assert time.monotonic() - begun < 3
        page = len(httpx.get(f"http://{server.host}:{server.port}/docs/ui.js", trust_env=False).content)
        assert received < 8 * page


def test_who_reads_slowly_but_reads_gets_everything(serve: Serve) -> None:
    server = serve(write_timeout_s=0.5)
    page = server.client.get("/docs/ui.js").content
    with connect(server, buffer=65_536) as connection:
        connection.sendall(PAGE)
        received = b""
        while page not in received:
            received += connection.recv(100_000)
            time.sleep(0.1)


def test_pipelined_requests_are_answered_up_to_a_limit(serve: Serve) -> None:
    server = serve()
    with connect(server) as connection:
        connection.sendall(PROBE * 8)
        received = b""
        while received.count(b"HTTP/1.1 204") < 8:
            received += connection.recv(65_536)
    with connect(server) as connection:
        connection.sendall(PROBE * 1_000)
        assert is_closed(connection)


def test_bodies_in_flight_are_bounded(serve: Serve) -> None:
    server = serve(max_bodies_bytes=100_000)
    with connect(server) as connection:
        body = b"x" * 150_000
        connection.sendall(WHOLE.split(b"Content-Length")[0] + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        status, problem = read_answer(connection)
        assert (status, problem["code"]) == (429, "overloaded")
    for _ in range(5):  # what it held is free again
        assert server.post({"client_id": "c"}).status_code == 200


def test_a_connection_is_kept_for_as_long_as_proxies_expect(serve: Serve) -> None:
    assert Settings().idle_timeout_s > 60
    server = serve(idle_timeout_s=0.5, header_timeout_s=0.1)
    with connect(server) as connection:
        assert ask(connection) == 200
        time.sleep(0.3)  # longer than a head may take
        assert ask(connection) == 200
        assert is_closed(connection, 2)
