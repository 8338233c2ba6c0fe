"""Telemetry middleware: counts and logs every request. Outermost, so that the gateway's refusals count too."""

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import logging, metrics

BULK_ROUTE = "/v1/recommendations/bulk"
ROUTES = frozenset(
    (
        *("/v1/recommendations", BULK_ROUTE, "/v1/rerank", "/v1/clients", "/v1/explain", "/v1/placements", "/v1/model"),
        *("/v1/rules", "/v1/rules/preview"),
        *("/v1/events", "/v1/events/segment", "/v1/items", "/v1/customers/merge", "/v1/customers/erase"),
        *("/v1/admin/reload", "/v1/admin/refresh", "/livez", "/readyz", "/metrics", "/openapi.json"),
    )
)
_METHODS = frozenset(("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"))
_STATE = "usual_observed"
_CLIENT_CLOSED_REQUEST = 499  # the client disconnected before the response began; nginx's number


class TelemetryMiddleware:
    """Wraps `app`; a request that passes two of these, as in a mounted application, is counted once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        if scope["type"] != "http" or _STATE in state:
            await self._app(scope, receive, send)
            return
        state[_STATE] = True
        started_at, status, request_id = perf_counter(), _CLIENT_CLOSED_REQUEST, ""

        async def send_and_note(message: Message) -> None:
            nonlocal status, request_id
            if message["type"] == "http.response.start":
                status = message["status"]
                request_id = next((v.decode() for k, v in message.get("headers", ()) if k == b"x-request-id"), "")
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            seconds = perf_counter() - started_at
            route = scope["path"] if scope["path"] in ROUTES else "other"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            metrics.observe_request(route, status, seconds)
            trace = next((v for k, v in scope["headers"] if k == b"traceparent"), None)
            logging.log_request(route, method, status, seconds, request_id, trace)
