"""Which other origins' pages may ask from a browser: an allow-list, and headers for those on it.

Not Starlette's middleware: it would stand either before the edge, where its answers get no request id, or behind it,
where a browser would hide what the edge refuses (401, 413, 429) from the page. Cookies and other credentials that
browsers add by themselves are never allowed; a key is a header that the page sets.
"""

import re
from collections.abc import Sequence

from features.common.errors import InputError

Headers = list[tuple[bytes, bytes]]

_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_METHODS = b"GET, POST, PATCH"
_SENT = b"Authorization, Content-Type, X-Request-Id, traceparent, Idempotency-Key"
_SEEN = (
    b"X-Request-Id, Server-Timing, Retry-After, RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, "
    b"RateLimit-Reset, Idempotency-Replayed"
)
_REMEMBER_S = b"7200"  # the most that browsers do


def origins(text: str | Sequence[str]) -> tuple[str, ...]:
    """Comma-separated origins, as browsers send them, or * alone for any. Raises InputError."""
    found = [o.strip() for o in text.split(",") if o.strip()] if isinstance(text, str) else list(text)
    for origin in found:
        if origin == "*" and len(found) == 1:
            continue
        if not _ORIGIN.fullmatch(origin):
            raise InputError(
                f"USUAL_CORS_ORIGINS: {origin!r} is not what browsers send as Origin; write scheme, host and port "
                "only, in lower case, such as https://shop.example, with commas between several; or * alone for any"
            )
    return tuple(found)


class Cors:
    """Headers for requests of pages of these origins."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = tuple(origins) == ("*",)
        self._known = frozenset(o.encode() for o in origins)

    def headers(self, origin: bytes | None) -> tuple[Headers, bool]:
        """The headers of an answer to `origin`, and whether its page may see the answer."""
        if self._any:
            return self._granted(b"*"), origin is not None
        if origin in self._known:
            return [*self._granted(origin), (b"vary", b"Origin")], True
        return [(b"vary", b"Origin")], False

    def preflight(self) -> Headers:
        """The headers of the answer to a browser that asks before it sends; beside those of `headers`."""
        return [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _SENT),
            (b"access-control-max-age", _REMEMBER_S),
        ]

    def _granted(self, origin: bytes) -> Headers:
        return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _SEEN)]
