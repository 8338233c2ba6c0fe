"""Gateway middleware: request id, CORS, API key and rate limit, visitor token, body limit, a last net for errors.

Plain ASGI, as it wraps everything below it, also routes that are not ours (BentoML's).
"""

import re
from typing import Any
from uuid import uuid4

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from features.common.errors import InputError
from serving.api.middleware.api_keys import ApiKeyGuard
from serving.api.middleware.cors import CorsPolicy
from serving.api.middleware.local_pages import LocalPages
from serving.api.middleware.rate_limits import AddressLimits, build_rate_limit
from serving.api.middleware.senders import build_sender, rate_limited, send_in_parts
from serving.identity.caller import Caller, VisitorProofs, page_caller, shop_caller
from serving.schemas.problems import Problem, log_failure, problem, respond
from serving.settings import Settings

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

# The rest of a refused body is read and discarded, up to this many times the limit: a client that is still
# sending would otherwise see a broken connection in place of the response.
_DRAIN_FACTOR = 8

# Defaults for headers that the route does not set itself; public pages set their own cache-control.
_DEFAULT_HEADERS = [
    (b"cache-control", b"private, no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

# Headers that decide who asks, or where a request ends: two that differ would be read differently by a proxy in front.
_ONCE = frozenset((b"authorization", b"host", b"origin", b"sec-fetch-site", b"content-length", b"transfer-encoding",
                   b"content-type", b"idempotency-key", b"x-visitor-token"))  # fmt: skip


def gateway_options(settings: Settings) -> dict[str, Any]:
    """Build the arguments of `GatewayMiddleware` from `settings`.

    Raises InputError where the settings have neither API keys nor permission to run without.
    """
    guard = ApiKeyGuard(
        settings.publishable_keys,
        settings.secret_keys,
        settings.open,
        build_rate_limit(settings.rate_publishable, settings.rate_burst_s),
        build_rate_limit(settings.rate_secret, settings.rate_burst_s),
    )
    if settings.open and "*" in settings.cors_origins:
        raise InputError("USUAL_CORS_ORIGINS=* with USUAL_OPEN would let any web page write; name the origins")
    cors = CorsPolicy(settings.cors_origins) if settings.cors_origins else None
    pages = LocalPages(settings.allowed_hosts, settings.cors_origins) if settings.open else None
    address_rate = build_rate_limit(settings.rate_address, settings.rate_burst_s)
    addresses = None if address_rate is None else AddressLimits(address_rate)
    return {
        "max_body_bytes": settings.max_body_bytes,
        "guard": guard,
        "proofs": VisitorProofs(settings),
        "cors": cors,
        "pages": pages,
        "addresses": addresses,
    }


class GatewayMiddleware:
    """Wraps `app`; a request that `guard` refuses never reaches it.

    A body longer than `max_body_bytes` is refused while it arrives and never held in memory. `pages`: what else a
    server without keys checks. `state["caller"]` tells the routes whose word it is, and what of it `proofs` prove;
    `state["secret_key"]`, whether the caller may know everything.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_body_bytes: int,
        guard: ApiKeyGuard,
        proofs: VisitorProofs,
        cors: CorsPolicy | None = None,
        pages: LocalPages | None = None,
        addresses: AddressLimits | None = None,
    ) -> None:
        self._app = app
        self._limit = max_body_bytes
        self._guard = guard
        self._cors = cors
        self._pages = pages
        self._addresses = addresses
        self._callers = {True: shop_caller(proofs), False: page_caller(proofs)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        if scope["type"] != "http" or "request_id" in state:  # a mounted application has a gateway of its own
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        header = headers.get(b"x-request-id")
        request_id = header.decode() if header and _REQUEST_ID.fullmatch(header) else uuid4().hex
        length = headers.get(b"content-length", b"")
        content_length = int(length) if length.isdigit() else 0
        state["request_id"] = request_id
        extra = [(b"x-request-id", request_id.encode())]
        received_bytes, started, too_large = 0, False, False

        async def receive_within_limit() -> Message:
            nonlocal received_bytes, too_large
            message = await receive()
            if message["type"] == "http.request":
                received_bytes += len(message.get("body", b""))
                if received_bytes > self._limit:
                    too_large = True
                    raise _BodyTooLargeError
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                own = list(message.get("headers", ()))
                names = {name for name, _ in own}
                message["headers"] = own + extra + [header for header in _DEFAULT_HEADERS if header[0] not in names]
            await send_in_parts(send, message)

        async def send_unless_refused(message: Message) -> None:
            if not too_large:  # else it is the application's own reaction to the refused body
                await send_with_headers(message)

        response = self._respond_early(scope, headers, content_length, request_id, extra)
        if response is not None:
            await response(scope, receive, send_with_headers)
            return
        failure: Problem | None = None
        try:
            if content_length > self._limit:
                too_large = True
            else:
                await self._app(scope, receive_within_limit, send_unless_refused)
        except (_BodyTooLargeError, ClientDisconnect):
            pass
        except Exception as error:
            log_failure("unexpected error", request_id, error)
            failure = problem("internal_error", "An unexpected error occurred")
        if too_large:
            failure = problem("body_too_large", f"A request body may have {self._limit:,} bytes")
        if failure is None or started:
            return
        response = respond(failure, request_id)
        if not too_large:
            await response(scope, receive, send_with_headers)
            return
        await send_with_headers(
            {"type": "http.response.start", "status": failure.status, "headers": response.raw_headers}
        )
        await send_with_headers({"type": "http.response.body", "body": response.body, "more_body": True})
        while received_bytes <= _DRAIN_FACTOR * self._limit:
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        await send_with_headers({"type": "http.response.body"})

    def _respond_early(
        self,
        scope: Scope,
        headers: dict[bytes, bytes],
        content_length: int,
        request_id: str,
        extra: list[tuple[bytes, bytes]],
    ) -> Response | None:
        """Return the response to a refused or preflight request; None for one that may pass.

        Headers that every response to the request carries are added to `extra`.
        """
        if len(headers) < len(scope["headers"]) and (name := _find_repeated(scope["headers"])):
            detail = f"Send {name.title()} once"
            return respond(problem("repeated_header", detail), request_id)
        server = scope.get("server")
        if self._pages is not None and (refused := self._pages.check(scope["path"], headers, server and server[0])):
            return respond(refused, request_id)
        if self._cors is not None:
            cors_headers, allowed = self._cors.headers(headers.get(b"origin"))
            extra += cors_headers
            if allowed and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                extra += self._cors.preflight()
                return Response(status_code=204)
        authorization, address = headers.get(b"authorization"), server and server[0]
        refusal = self._guard.check(scope["path"], authorization, address, extra, scope["state"])
        if refusal is not None:
            return respond(refusal.problem, request_id, refusal.headers)
        sender, wait_s = build_sender(scope, content_length, self._addresses)
        if wait_s:
            return respond(rate_limited("address"), request_id, {"retry-after": str(wait_s)})
        scope["state"]["sender"] = sender
        scope["state"]["caller"] = self._identify(headers, scope["state"], extra)
        return None

    def _identify(self, headers: dict[bytes, bytes], state: dict[str, Any], extra: list[tuple[bytes, bytes]]) -> Caller:
        """Return the caller with what its visitor token proves; how it stands with the token is added to `extra`."""
        caller = self._callers[state["secret_key"]]
        token = headers.get(b"x-visitor-token")
        if not token or not (caller.secret or state["key"]):  # without a key there is nothing that it could prove
            return caller
        caller = caller.with_token(token.decode("latin-1"))
        extra.append((b"x-visitor-token-status", (caller.token_status or "").encode()))
        return caller


def _find_repeated(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Find a header that may stand once and stands twice."""
    names = [name for name, _ in headers if name in _ONCE]
    return next((name.decode() for name in _ONCE if names.count(name) > 1), None)


class _BodyTooLargeError(Exception):
    pass
