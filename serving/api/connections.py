"""Connections: what a client may take of the server before and beside its requests.

uvicorn bounds neither how many connections there are, nor how long a request may take to arrive, nor how long an answer
may wait to be read. `LimitedProtocol` does, for the whole server process: what exceeds a limit is answered with a
problem and closed, or closed without an answer where one is under way.
"""

import asyncio
import logging
from collections import deque
from functools import cache, partial
from typing import Any, cast

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving import metrics
from serving.api.admission import Ticket, is_plain
from serving.api.connection_pool import ConnectionLimits, ConnectionPool
from serving.api.middleware.api_keys import is_loopback
from serving.api.refusals import refusal
from serving.schemas.problems import ProblemCode
from serving.settings import Settings, read_settings

_silent = logging.getLogger("usual.serving.silent")
_silent.disabled = True

_MAX_PIPELINED = 16
_UNREAD_STEP = 65_536  # bytes; who reads fewer in `write_timeout_s`, and not all, does not read
_LINGER_S, _LINGER_BYTES = 1.0, 2_000_000  # how much of a refused request is still read, so that its answer arrives
_PROBES = (b"/livez", b"/readyz", b"/metrics")
_WEB_SOCKET = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol within the limits of a pool."""

    def __init__(self, *args: Any, pool: ConnectionPool, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pool = pool
        self.timeout_keep_alive = cast(int, pool.limits.idle_s)
        self._address: str | None = None
        self._host = ""
        self._tickets: deque[Ticket] = deque()  # of requests that are not answered, in order
        self._arriving = Ticket("")
        self._shed = False  # the request that arrives is answered without being begun
        self._refused = False
        self._refusal: ProblemCode | None = None  # to be answered once the parser has returned
        self._discarded = 0
        # Since when a head, a body or the reading of answers (and of how much) takes its time; None: it does not.
        self._head_since: float | None = None
        self._body_since: float | None = None
        self._unread_since: float | None = None
        self._unread_then = 0
        self._head_bytes = self._body_bytes = self._without_progress = 0
        self._progress = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse the connection where there are too many."""
        super().connection_made(transport)
        # What comes from this machine is a proxy, or as good as one.
        self._address = self.client[0] if self.client and not is_loopback(self.client[0]) else None
        self._host = self.client[0] if self.client else ""
        self._head_since = self.loop.time()
        if code := self.pool.add(self, self._address):
            self._refuse(code)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free what the connection held."""
        self.pool.remove(self, self._address)
        self._release()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrives, within the limits."""
        if self._refused:
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self.transport.abort()
            return
        self._progress = False
        super().data_received(data)
        # A name, a value or the size of a chunk without an end stays inside the parser.
        self._without_progress = 0 if self._progress else self._without_progress + len(data)
        if self._without_progress > self.pool.limits.header_bytes:
            self._refuse("headers_too_large")

    def send_400_response(self, msg: str) -> None:
        """Say why a callback stopped the parser; else as uvicorn does."""
        if self._refusal is not None:
            self._refuse(self._refusal)
        else:
            super().send_400_response(msg)

    def handle_websocket_upgrade(self) -> None:
        """Refuse WebSockets: nothing here speaks them."""
        self.transport.write(_WEB_SOCKET)
        self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        super().on_message_begin()
        self._head_since, self._head_bytes = self.loop.time(), 0

    def on_url(self, url: bytes) -> None:
        """Count the address too."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count_head(len(name) + len(value) + 4)
        if len(self.headers) >= self.pool.limits.headers:
            self._stop("headers_too_large")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the request, unless too many of this connection wait already."""
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._stop("overloaded")
        self._head_since, self._progress = None, True
        self.pool.waiting.pop(self, None)
        # Before anything is done for it: what cannot be answered in time has to cost next to nothing.
        plain = self._is_plain()
        if plain and self.pool.is_crowded(self._host):
            if self._is_answering():
                self._stop("overloaded")
            self._shed, self._body_since = True, self.loop.time()
            return
        if not plain and self.pool.is_busy(self._host) and not self.url.startswith(_PROBES):
            self._stop("overloaded")
        self._arriving = Ticket(self._host, self.pool.admission if plain else None)
        self.scope["state"]["ticket"] = self._arriving
        super().on_headers_complete()
        self._body_since = self.loop.time()

    def _is_plain(self) -> bool:
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        if self.expect_100_continue or not length.isdigit():
            return False
        return is_plain(self.parser.get_method(), self.url, int(length))

    def _is_answering(self) -> bool:
        return bool(self.pipeline) or not (self.cycle is None or self.cycle.response_complete)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        async def run(scope: Any, receive: Any, send: Any) -> None:
            if not cycle.disconnected:  # as by what came in the same breath
                await app(scope, receive, send)

        super()._start_asgi_task(cycle, run)

    def on_body(self, body: bytes) -> None:
        """Count what is held of bodies."""
        self._progress = True
        if self._shed:
            return
        self._body_bytes += len(body)
        self.pool.body_bytes += len(body)
        if self.pool.body_bytes > self.pool.limits.bodies_bytes:
            self._stop("overloaded")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the body is there."""
        self._body_since, self._progress = None, True
        if self._shed:
            self._answer_shed()
            return
        # A WebSocket's request has no cycle: it is refused once the parser has returned.
        if self.cycle is not None and not self.cycle.response_complete:
            self._tickets.append(self._arriving)
            self.pool.begin_request(self._arriving)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self._tickets:
            self.pool.end_request(self._tickets.popleft(), answered=True)
        if self.cycle is not None and self.cycle.response_complete:
            self._release_body()
            if not self.transport.is_closing():
                self.pool.waiting[self] = None

    def check(self, now: float) -> int:
        """Drop the connection where it takes too long; the bytes of answers that it has not read."""
        limits = self.pool.limits
        if self.transport.is_closing() and not self.unread_bytes:
            return 0
        if not self._refused:
            if self._head_since is not None and now - self._head_since > limits.header_timeout_s:
                if self._head_bytes or self._without_progress:
                    self._refuse("slow_headers")
                else:  # a browser's, opened in advance
                    self.drop("slow_headers")
            elif self._body_since is not None and now - self._body_since > limits.body_timeout_s:
                # An answer that is complete was not waiting for it.
                answered = not self._shed and self.cycle.response_complete
                self.drop("slow_body") if answered else self._refuse("slow_body")
        unread = self.unread_bytes
        if not unread:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since, self._unread_then = now, unread
        elif now - self._unread_since > limits.write_timeout_s:
            if self._unread_then - unread < min(_UNREAD_STEP, self._unread_then):
                self.drop("unread")
                return 0
            self._unread_since, self._unread_then = now, unread
        return unread

    @property
    def unread_bytes(self) -> int:
        """What is written and not sent."""
        return self.transport.get_write_buffer_size()

    def drop(self, why: str) -> None:
        """Close at once, without an answer."""
        metrics.count_dropped(why)
        self._refused = True
        self._end_cycle()
        self.pool.remove(self, self._address)
        self.transport.abort()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.pool.limits.header_bytes:
            self._stop("headers_too_large")

    def _stop(self, code: ProblemCode) -> None:
        """Stop the parser."""
        self._refusal = code
        self.logger = _silent  # uvicorn's own would have a line for each
        raise ValueError(code)

    def _answer_shed(self) -> None:
        """Refuse a request that has arrived, and keep the connection for the next one."""
        self._shed = False
        metrics.count_dropped("overloaded")
        keep = self.parser.should_keep_alive()
        self.transport.write(refusal("overloaded", close=not keep))
        if not keep:
            self.transport.close()
            return
        self.pool.waiting[self] = None
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _release(self) -> None:
        self._release_body()
        while self._tickets:
            self.pool.end_request(self._tickets.popleft(), answered=False)

    def _release_body(self) -> None:
        self.pool.body_bytes -= self._body_bytes
        self._body_bytes = 0

    def _end_cycle(self) -> None:
        self.pipeline.clear()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.body = bytearray()
            self.cycle.message_event.set()
            self.flow.resume_writing()
        self._release()

    def _refuse(self, code: ProblemCode) -> None:
        """Answer with a problem where no answer is under way, and close."""
        if self._refused:
            return
        # Of the requests that were pipelined, an earlier one may have an answer that is not complete.
        begun = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if begun or self.pipeline:
            self.drop(code)
            return
        metrics.count_dropped(code)
        self._refused = True
        self._head_since = self._body_since = None
        self._unset_keepalive_if_required()
        self._end_cycle()
        self.pool.waiting.pop(self, None)
        self.flow.resume_reading()
        self.transport.write(refusal(code))
        # Closed while something of the request is unread, the client would see a broken connection and no answer.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.abort)


def build_protocol(settings: Settings) -> "partial[LimitedProtocol]":
    """Build what makes the connections of one server, for uvicorn's `http`."""
    return partial(LimitedProtocol, pool=ConnectionPool(ConnectionLimits.of(settings)))


def create_protocol(**options: Any) -> LimitedProtocol:
    """Make one connection of this process's server, with the limits of its environment."""
    return _process_protocol()(**options)


@cache
def _process_protocol() -> "partial[LimitedProtocol]":
    return build_protocol(read_settings())


def pool_of(protocol: Any) -> ConnectionPool | None:
    """Return the pool of a server's connections, whose protocol is given as uvicorn knows it."""
    built = _process_protocol() if protocol is create_protocol else protocol
    return built.keywords.get("pool") if isinstance(built, partial) else None


def install() -> None:
    """Have uvicorn, which BentoML starts without a word about protocols, use `create_protocol`."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{create_protocol.__name__}"
