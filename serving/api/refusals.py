"""Refusals: answers in bytes, made once, to what a connection may not ask."""

import socket
import sys
from functools import cache

from pydantic_core import to_json

from serving import metrics
from serving.api.admission import is_plain
from serving.api.connection_pool import ConnectionPool
from serving.schemas.problems import MEDIA_TYPE, ProblemCode, as_dict, problem

_DETAILS: dict[ProblemCode, str] = {
    "too_many_connections": "Too many connections from this address are open",
    "unavailable": "Too many connections are open; try again after Retry-After seconds",
    "headers_too_large": "The address and the headers are too long, or too many",
    "slow_headers": "The request did not arrive in time",
    "slow_body": "The body did not arrive in time",
    "overloaded": "Too many requests are waiting; try again after Retry-After seconds",
}
_PEEK_BYTES = 16_384
# What waited for so long to be accepted, in overload, would be answered too late. In struct tcp_info of Linux, in ms.
_LATE_S, _LAST_DATA_RECEIVED = 0.25, 52
_CAN_TELL_AGE = sys.platform == "linux" and hasattr(socket, "TCP_INFO")
_CONTENT_LENGTH = b"\r\ncontent-length:"


@cache
def refusal(code: ProblemCode, close: bool = True) -> bytes:
    """Return the whole answer, after which the connection is closed or not."""
    body = problem(code, _DETAILS[code])
    content = to_json(as_dict(body))
    head = f"HTTP/1.1 {body.status} {body.title}\r\ncontent-type: {MEDIA_TYPE}\r\n"
    if body.status in (429, 503):
        head += "retry-after: 1\r\n"
    if close:
        head += "connection: close\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n%s" % (len(content), content)


def refuse_early(connection: socket.socket, host: str, pool: ConnectionPool) -> bool:
    """Answer and close a new connection where there is no place for its request; whether that is done.

    Nothing is made for it, not even what the event loop needs for a connection: that costs more than all the rest. Only
    a plain request that is there to its end is answered so; everything else goes its usual way.
    """
    late = pool.admission.is_overloaded and _waited_s(connection) > _LATE_S
    if not (late or pool.is_crowded(host)):
        return False
    try:
        request = connection.recv(_PEEK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        if not _is_whole_and_plain(request):
            return False
        connection.recv(len(request), socket.MSG_DONTWAIT)  # else the client would see a broken connection
        connection.send(refusal("overloaded"), socket.MSG_DONTWAIT)
    except OSError:
        return False
    metrics.count_dropped("overloaded")
    connection.close()
    return True


def _waited_s(connection: socket.socket) -> float:
    """Return how long ago the kernel received what it has of a request; 0 where it does not tell."""
    if not _CAN_TELL_AGE:
        return 0
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED + 4)
    return int.from_bytes(info[_LAST_DATA_RECEIVED:], sys.byteorder) / 1e3


def _is_whole_and_plain(request: bytes) -> bool:
    end = request.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = request[:end].lower()
    at = head.find(_CONTENT_LENGTH)
    if at < 0:
        return False
    length = head[at + len(_CONTENT_LENGTH) :].split(b"\r\n", 1)[0].strip()
    if not length.isdigit() or len(request) != end + 4 + int(length):
        return False
    method, _, rest = request[:end].partition(b" ")
    return is_plain(method, rest.partition(b" ")[0], int(length))
