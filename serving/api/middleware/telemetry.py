"""Counts and logs every request: outermost, so that refusals of the edge are counted too."""

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import logging, metrics

BULK = "/v1/recommendations/bulk"
ROUTES = frozenset(
    (
        *("/v1/recommendations", BULK, "/v1/rerank", "/v1/explain", "/v1/placements", "/v1/model"),
        *("/v1/events", "/v1/events/segment", "/v1/items", "/v1/customers/merge", "/v1/customers/erase"),
        *("/v1/admin/reload", "/v1/admin/refresh", "/livez", "/readyz", "/metrics", "/openapi.json"),
    )
)
_METHODS = frozenset(("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"))
_STATE = "usual_observed"
_GONE = 499  # the caller went away before the answer began; nginx's number


class Observed:
    """Wraps `app`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        if scope["type"] != "http" or _STATE in state:
            await self._app(scope, receive, send)
            return
        state[_STATE] = True
        begun, status, request_id = perf_counter(), _GONE, ""

        async def seen(message: Message) -> None:
            nonlocal status, request_id
            if message["type"] == "http.response.start":
                status = message["status"]
                request_id = next((v.decode() for k, v in message.get("headers", ()) if k == b"x-request-id"), "")
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            took = perf_counter() - begun
            route = scope["path"] if scope["path"] in ROUTES else "other"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            metrics.request(route, status, took)
            trace = next((v for k, v in scope["headers"] if k == b"traceparent"), None)
            logging.request(route, method, status, took, request_id, trace)
