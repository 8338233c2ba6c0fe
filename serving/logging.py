"""Structured logs: one JSON object per line, with the request's id and trace, and never what a caller sent."""

import json
import logging
import re
import time
from typing import Any

_TRACE = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE = "0" * 32

access = logging.getLogger("usual.access")


class JsonLines(logging.Formatter):
    """The message, when, how grave and from where; and the fields that came as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(line, ensure_ascii=False)


def set_up(json_lines: bool, every_request: bool) -> None:
    """Send our loggers to stderr, once; with `every_request`, a line for each request."""
    ours = logging.getLogger("usual")
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler = ours.handlers[0] if ours.handlers else logging.StreamHandler()
    handler.setFormatter(JsonLines() if json_lines else plain)
    ours.handlers = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False
    access.setLevel(logging.INFO if every_request else logging.WARNING)


def request(route: str, method: str, status: int, seconds: float, request_id: str, trace: bytes | None) -> None:
    """A line for an answered request: always where the server failed, else where every request is wanted."""
    level = logging.ERROR if status >= 500 else logging.INFO
    if not access.isEnabledFor(level):
        return
    fields = {"route": route, "method": method, "status": status, "ms": round(seconds * 1e3, 2), "request": request_id}
    if (trace_id := trace_of(trace)) is not None:
        fields["trace"] = trace_id
    access.log(level, "%s %s %s", method, route, status, extra={"fields": fields})


def trace_of(traceparent: bytes | None) -> str | None:
    """The trace's id in a W3C traceparent header, where it is one."""
    found = _TRACE.fullmatch(traceparent or b"")
    trace = found[1].decode() if found else _NO_TRACE
    return None if trace == _NO_TRACE else trace
