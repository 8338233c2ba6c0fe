"""API keys: publishable keys for what a storefront's pages call, secret keys for everything.

Keys are compared by their SHA-256 digests; the settings hold nothing else of them.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from typing import Any

from serving.api.middleware.rate_limits import RateDecision, RateLimit, TokenBucket
from serving.schemas.problems import Problem, problem
from serving.settings import KeyDigest, validate_access

# Paths that need no key: probes, metrics, documentation, the script that pages include.
PUBLIC_PATHS = frozenset(
    (
        "/livez",
        "/readyz",
        "/healthz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/docs/ui.js",
        "/docs/ui.css",
        "/tracker.js",
    )
)

# Paths that a publishable key may call. Every other path, also one added later, needs a secret key.
PUBLISHABLE_KEY_PATHS = frozenset(
    (
        "/v1/recommendations",
        "/v1/rerank",
        "/v1/clients",
        "/v1/events",
        "/v1/events/segment",
        "/v1/placements",
        "/v1/model",
    )
)

_NO_KEY = "Send Authorization: Bearer KEY; a key in another place does not count"
_UNKNOWN_KEY = "This key is not known, or not any more"
_PUBLISHABLE_ONLY = (
    "A publishable key may only recommend, rerank, send events and get client ids; this path needs a secret key"
)
_NOT_LOOPBACK = "This server asks for no keys, so it answers on a loopback address only; start it with keys"


@dataclass(frozen=True)
class KeyState:
    """A key's kind and what is left of its rate limit; None: it has no limit."""

    secret: bool
    bucket: TokenBucket | None


@dataclass(frozen=True)
class Refusal:
    """The problem that a refused request is answered with, and headers of that response."""

    problem: Problem
    headers: dict[str, str]


class ApiKeyGuard:
    """Decides which requests may pass, by path and API key.

    Raises InputError where there are neither keys nor permission to run without.
    """

    def __init__(
        self,
        publishable: Sequence[KeyDigest] = (),
        secret: Sequence[KeyDigest] = (),
        without_keys: bool = False,
        publishable_rate: RateLimit | None = None,
        secret_rate: RateLimit | None = None,
    ) -> None:
        validate_access(publishable, secret, without_keys)
        self._keys = [(digest, _key_state(False, publishable_rate)) for digest in publishable]
        self._keys += [(digest, _key_state(True, secret_rate)) for digest in secret]

    def check(
        self,
        path: str,
        authorization: bytes | None,
        local_address: str | None,
        extra: list[tuple[bytes, bytes]],
        state: dict[str, Any],
    ) -> Refusal | None:
        """Return why a request for `path` that came in on `local_address` is refused; None where it may pass.

        Headers that its response carries either way are added to `extra`. `state["secret_key"]` becomes whether the
        caller may know and do everything.
        """
        state["secret_key"], state["key"] = not self._keys, None
        if not self._keys:
            return None if is_loopback(local_address) else Refusal(problem("forbidden", _NOT_LOOPBACK), {})
        if path in PUBLIC_PATHS:
            return None
        if authorization is None:
            return _unauthorized(_NO_KEY, "")
        scheme, _, token = authorization.partition(b" ")
        key = self._find(sha256(token.strip(b" ")).digest()) if scheme.lower() == b"bearer" else None
        if key is None:
            return _unauthorized(_UNKNOWN_KEY, ', error="invalid_token"')
        state["secret_key"], state["key"] = key.secret, key
        if not key.secret and path not in PUBLISHABLE_KEY_PATHS:
            headers = {"www-authenticate": 'Bearer realm="usual", error="insufficient_scope"'}
            return Refusal(problem("forbidden", _PUBLISHABLE_ONLY), headers)
        if key.bucket is not None:
            decision = key.bucket.spend()
            extra += decision.headers
            if decision.retry_after_s:
                return _rate_limited(decision)
        return None

    def _find(self, digest: KeyDigest) -> KeyState | None:
        match = None
        for candidate, state in self._keys:  # always all of them, so that timing reveals nothing
            if hmac.compare_digest(candidate, digest):
                match = state
        return match


def _key_state(secret: bool, limit: RateLimit | None) -> KeyState:
    return KeyState(secret, None if limit is None else TokenBucket(limit))


def _unauthorized(detail: str, error: str) -> Refusal:
    return Refusal(problem("unauthorized", detail), {"www-authenticate": f'Bearer realm="usual"{error}'})


def _rate_limited(decision: RateDecision) -> Refusal:
    detail = "This key is used more often than it may be; try again after Retry-After seconds"
    return Refusal(problem("rate_limited", detail), {"retry-after": str(decision.retry_after_s)})


@lru_cache(64)
def is_loopback(address: str | None) -> bool:
    """Return whether a connection came in on a loopback address, or on none, as with a Unix socket."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return True
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback
