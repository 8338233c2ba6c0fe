"""CORS: which origins' pages may call the API from a browser, and the response headers that allow it.

Not Starlette's CORSMiddleware. It would stand either outside the gateway, where its preflight responses carry no
request id, or inside it, where browsers would hide the gateway's own refusals (401, 413, 429) from the page. Cookies
and other credentials that browsers add by themselves are never allowed; an API key is a header that the page sets.
"""

from collections.abc import Sequence

Headers = list[tuple[bytes, bytes]]

_ALLOW_METHODS = b"GET, POST, PATCH"
_ALLOW_HEADERS = b"Authorization, Content-Type, X-Request-Id, traceparent, Idempotency-Key, X-Visitor-Token"
_EXPOSE_HEADERS = (
    b"X-Request-Id, Server-Timing, Retry-After, RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, "
    b"RateLimit-Reset, Idempotency-Replayed, X-Visitor-Token-Status"
)
_MAX_AGE_S = b"7200"  # the most that browsers honour


class CorsPolicy:
    """The CORS headers for pages of an allow-list of origins, or of any origin where the list is just `*`."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = tuple(origins) == ("*",)
        self._allowed = frozenset(o.encode() for o in origins)

    def headers(self, origin: bytes | None) -> tuple[Headers, bool]:
        """Return the headers of a response to `origin`, and whether its page may read the response."""
        if self._any:
            return self._allow(b"*"), origin is not None
        if origin in self._allowed:
            return [*self._allow(origin), (b"vary", b"Origin")], True
        return [(b"vary", b"Origin")], False

    def preflight(self) -> Headers:
        """Return the headers that the response to a preflight request has in addition to those of `headers`."""
        return [
            (b"access-control-allow-methods", _ALLOW_METHODS),
            (b"access-control-allow-headers", _ALLOW_HEADERS),
            (b"access-control-max-age", _MAX_AGE_S),
        ]

    def _allow(self, origin: bytes) -> Headers:
        return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSE_HEADERS)]
