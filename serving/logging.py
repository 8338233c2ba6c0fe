"""Structured logging: one JSON object per line, with a request's id and trace, and no content of requests."""

import json
import logging
import re
import time
from typing import Any

_TRACE = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE = "0" * 32

access = logging.getLogger("usual.access")


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON: time, level, logger, message, and the fields passed as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(line, ensure_ascii=False)


def configure(json_lines: bool, every_request: bool) -> None:
    """Send the `usual` loggers to stderr, each record once; with `every_request`, log a line for each request."""
    root = logging.getLogger("usual")
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler = root.handlers[0] if root.handlers else logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if json_lines else plain)
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False
    access.setLevel(logging.INFO if every_request else logging.WARNING)


def log_request(route: str, method: str, status: int, seconds: float, request_id: str, trace: bytes | None) -> None:
    """Log a line for a request: always for a status of 500 or more, else where every request is logged."""
    level = logging.ERROR if status >= 500 else logging.INFO
    if not access.isEnabledFor(level):
        return
    fields = {"route": route, "method": method, "status": status, "ms": round(seconds * 1e3, 2), "request": request_id}
    if (trace_id := parse_trace_id(trace)) is not None:
        fields["trace"] = trace_id
    access.log(level, "%s %s %s", method, route, status, extra={"fields": fields})


def parse_trace_id(traceparent: bytes | None) -> str | None:
    """Return the trace id of a W3C traceparent header; None where it is missing, malformed or all zeros."""
    match = _TRACE.fullmatch(traceparent or b"")
    trace_id = match[1].decode() if match else _NO_TRACE
    return None if trace_id == _NO_TRACE else trace_id
