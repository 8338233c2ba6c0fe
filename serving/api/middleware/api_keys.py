"""Who may ask for what: publishable keys for what a storefront's pages ask, secret keys for everything.

A key is random and long, so a plain digest of it cannot be undone; nothing else of a key is kept.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address

from pydantic import SecretStr

from features.common.errors import InputError
from serving.api.middleware.rate_limits import Bucket, Rate, Spent
from serving.schemas.problems import Problem, problem

MIN_LENGTH = 20
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # what fits behind Bearer: RFC 6750, b64token
_MAKE_ONE = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"

# What needs no key: probes, metrics, documentation, the script that pages include.
FREE = frozenset(
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

# What a publishable key is for. All else, also what will be added, needs a secret one.
PUBLISHABLE = frozenset(
    (
        "/v1/recommendations",
        "/v1/recommendations/bulk",
        "/v1/rerank",
        "/v1/events",
        "/v1/events/segment",
        "/v1/placements",
        "/v1/model",
    )
)

_NO_KEY = "Send Authorization: Bearer KEY; a key in another place does not count"
_UNKNOWN_KEY = "This key is not known, or not any more"
_PUBLISHABLE_ONLY = "A publishable key may only recommend, rerank and send events; this path needs a secret key"
_NOT_LOOPBACK = "This server asks for no keys, so it answers on a loopback address only; start it with keys"

Digest = bytes


def digests(keys: SecretStr | str | Sequence[Digest], variable: str) -> tuple[Digest, ...]:
    """The SHA-256 digests of the comma-separated keys of `variable`. Raises InputError, which repeats no key."""
    text = keys.get_secret_value() if isinstance(keys, SecretStr) else keys
    if not isinstance(text, str):
        return tuple(text)
    found = [key.strip() for key in text.split(",") if key.strip()]
    for n, key in enumerate(found, 1):
        which = f"{variable}: key {n} of {len(found)}"
        if len(key) < MIN_LENGTH:
            raise InputError(f"{which} has {len(key)} characters; use {MIN_LENGTH} or more; {_MAKE_ONE}")
        if not _TOKEN.fullmatch(key):
            raise InputError(f"{which} has a character other than A-Z a-z 0-9 . _ ~ + / = -; {_MAKE_ONE}")
    return tuple(sha256(key.encode()).digest() for key in found)


def open_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment for a server that asks for no keys."""
    access = ("USUAL_SECRET_KEYS", "USUAL_PUBLISHABLE_KEYS", "USUAL_CORS_ORIGINS")
    return {name: value for name, value in environment.items() if name not in access} | {"USUAL_OPEN": "1"}


@dataclass(frozen=True)
class _Holder:
    """What belongs to a key: whether it is secret, and what is left of its rate."""

    secret: bool
    bucket: Bucket | None


@dataclass(frozen=True)
class Refusal:
    """Why a request gets no further, and the headers that tell so."""

    problem: Problem
    headers: dict[str, str]


class Guard:
    """Lets requests pass, or says why not. Raises InputError where it has neither keys nor leave to do without."""

    def __init__(
        self,
        publishable: Sequence[Digest] = (),
        secret: Sequence[Digest] = (),
        without_keys: bool = False,
        publishable_rate: Rate | None = None,
        secret_rate: Rate | None = None,
    ) -> None:
        check(publishable, secret, without_keys)
        self._holders = [(digest, _holder(False, publishable_rate)) for digest in publishable]
        self._holders += [(digest, _holder(True, secret_rate)) for digest in secret]

    def check(
        self, path: str, authorization: bytes | None, local_address: str | None, out: list[tuple[bytes, bytes]]
    ) -> Refusal | None:
        """Why a request for `path` that came in on `local_address` is refused; None: it is not.

        Headers that its answer has either way are added to `out`.
        """
        if not self._holders:
            return None if on_loopback(local_address) else Refusal(problem("forbidden", _NOT_LOOPBACK), {})
        if path in FREE:
            return None
        if authorization is None:
            return _unauthorized(_NO_KEY, "")
        scheme, _, token = authorization.partition(b" ")
        holder = self._find(sha256(token.strip(b" ")).digest()) if scheme.lower() == b"bearer" else None
        if holder is None:
            return _unauthorized(_UNKNOWN_KEY, ', error="invalid_token"')
        if not holder.secret and path not in PUBLISHABLE:
            told = {"www-authenticate": 'Bearer realm="usual", error="insufficient_scope"'}
            return Refusal(problem("forbidden", _PUBLISHABLE_ONLY), told)
        if holder.bucket is not None:
            spent = holder.bucket.spend()
            out += spent.headers
            if spent.retry_after_s:
                return _too_often(spent)
        return None

    def _find(self, digest: Digest) -> _Holder | None:
        found = None
        for known, holder in self._holders:  # all of them, so that the time says nothing
            if hmac.compare_digest(known, digest):
                found = holder
        return found


def check(publishable: Sequence[Digest], secret: Sequence[Digest], without_keys: bool) -> None:
    """Raises InputError unless there are keys, each of one kind, or leave to do without them."""
    if without_keys and (publishable or secret):
        raise InputError(
            "USUAL_OPEN and keys exclude each other: unset USUAL_OPEN (or leave out --open) to ask for keys, or unset "
            "USUAL_PUBLISHABLE_KEYS and USUAL_SECRET_KEYS"
        )
    if not (publishable or secret or without_keys):
        raise InputError(
            "there are no keys, so anyone could ask and write; set USUAL_SECRET_KEYS and USUAL_PUBLISHABLE_KEYS "
            f"(comma-separated; {_MAKE_ONE}), or, to develop on this machine, USUAL_OPEN=1 or `usual serve --open`"
        )
    if set(publishable) & set(secret):
        raise InputError(
            "a key stands in both USUAL_PUBLISHABLE_KEYS and USUAL_SECRET_KEYS: what a page shows is not secret; "
            f"{_MAKE_ONE}"
        )


def _holder(secret: bool, rate: Rate | None) -> _Holder:
    return _Holder(secret, None if rate is None else Bucket(rate))


def _unauthorized(detail: str, error: str) -> Refusal:
    return Refusal(problem("unauthorized", detail), {"www-authenticate": f'Bearer realm="usual"{error}'})


def _too_often(spent: Spent) -> Refusal:
    detail = "This key is used more often than it may be; try again after Retry-After seconds"
    return Refusal(problem("rate_limited", detail), {"retry-after": str(spent.retry_after_s)})


@lru_cache(64)
def on_loopback(address: str | None) -> bool:
    """Whether a connection came in on a loopback address, or on none, as with a Unix socket."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return True
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback
