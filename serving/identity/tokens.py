"""Visitor tokens: JWTs with which the shop's server tells ours who a page's visitor is.

HS256 by a shared secret, or EdDSA by a private key of which we hold the public one. Which algorithm a key is for is
fixed: what a token's header says of it only selects the keys that are tried.
"""

import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal, get_args

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from features.common.ids import IdKind, is_scientific_id, normalize_id
from serving.identity import base64url
from serving.identity.client_ids import UNPROVEN
from serving.installation_secret import signing_key
from serving.settings import Settings

TokenStatus = Literal[
    "valid",
    "expired",
    "not_yet_valid",
    "lives_too_long",
    "bad_signature",
    "malformed",
    "wrong_audience",
    "no_keys",
]
TOKEN_STATUSES: tuple[TokenStatus, ...] = get_args(TokenStatus)

AUDIENCE = "usual"
LEEWAY_S = 60  # by which the clocks of the shop's servers and ours may differ
MAX_LENGTH = 4096  # characters
MAX_ID_LENGTH = 256
_MAX_CACHED = 16_384

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)")
_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class VisitorToken:
    """What a token proves: a customer, a device, or a customer on one device; nothing unless it is `valid`.

    `expires_at`: seconds since 1970. `why`: what is wrong with it, for whoever makes tokens.
    """

    status: TokenStatus
    customer_id: str | None = None
    client_id: str | None = None
    expires_at: float = 0
    why: str = ""


class TokenVerifier:
    """Verifies tokens by the keys of `settings`. Threads may share it.

    Valid tokens are cached by their digest: a page sends the same one with each of its requests.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hours = settings.visitor_token_hours
        self._cache = OrderedDict[bytes, VisitorToken]()
        self._lock = threading.Lock()

    def verify(self, text: str) -> VisitorToken:
        """Return what the token `text` proves. A bad token is a result, not an error."""
        if not self._keys:
            return VisitorToken(
                "no_keys", why="the server has neither USUAL_VISITOR_SECRETS nor USUAL_VISITOR_PUBLIC_KEYS"
            )
        if len(text) > MAX_LENGTH:
            return _malformed(f"it has more than {MAX_LENGTH:,} characters")
        if not text.isascii():
            return _malformed("it has a character beyond ASCII")
        digest = sha256(text.encode()).digest()
        with self._lock:
            cached = self._cache.get(digest)
            if cached is not None:
                if time.time() < cached.expires_at + LEEWAY_S:
                    self._cache.move_to_end(digest)
                    return cached
                del self._cache[digest]
        token = self._verify_anew(text)
        if token.status == "valid":
            with self._lock:
                self._cache[digest] = token
                if len(self._cache) > _MAX_CACHED:
                    self._cache.popitem(last=False)
        return token

    @cached_property
    def _keys(self) -> list[tuple[str, Any]]:
        settings = self._settings
        keys: list[tuple[str, Any]] = [
            *(("HS256", secret.get_secret_value().encode()) for secret in settings.visitor_secrets),
            *(("EdDSA", _public_key(key)) for key in settings.visitor_public_keys),
        ]
        if settings.open and not keys:
            keys.append(("HS256", demo_key(settings)))
        return keys

    def _verify_anew(self, text: str) -> VisitorToken:
        match = _TOKEN.fullmatch(text)
        if match is None:
            return _malformed("it is not three parts in base64url with dots between them")
        try:
            if not _is_canonical(match[1]):
                return VisitorToken("bad_signature", why="its signature is not written in the one way there is")
            return self._try_keys(text)
        except jwt.ExpiredSignatureError:
            return VisitorToken("expired", why="its time (exp) is over")
        except jwt.ImmatureSignatureError:
            return VisitorToken("not_yet_valid", why="it was issued (iat), or is to be valid from (nbf), after now")
        except (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError) as error:
            if isinstance(error, jwt.MissingRequiredClaimError) and error.claim != "aud":
                return _malformed(f"it has no {error.claim}")
            return VisitorToken("wrong_audience", why=f"its audience (aud) is not {AUDIENCE!r}")
        except Exception as error:  # whatever somebody has made up costs them their proof, and nobody an answer
            return _malformed(f"it is no JWT ({error})" if isinstance(error, jwt.PyJWTError) else "it is no JWT")

    def _try_keys(self, text: str) -> VisitorToken:
        """Read what one of the keys has signed. Raises what the library does where one has, and the rest is wrong."""
        algorithm = jwt.get_unverified_header(text).get("alg")
        keys = [(name, key) for name, key in self._keys if name == algorithm]
        for name, key in keys:
            try:
                return self._read(_decode(text, key, name))
            except jwt.InvalidSignatureError:
                continue
        algorithms = " or ".join(sorted({name for name, _ in self._keys}))
        why = "none of the keys has signed it" if keys else f"it is not signed with {algorithms}"
        return VisitorToken("bad_signature", why=why)

    def _read(self, claims: dict[str, Any]) -> VisitorToken:
        expires_at = float(int(claims["exp"]))
        if expires_at > time.time() + self._hours * _HOUR_S + LEEWAY_S:
            return VisitorToken("lives_too_long", why=f"it expires (exp) more than {self._hours:g} hours from now")
        try:
            customer, client = _read_id(claims, "sub", "customer"), _read_id(claims, "client_id", "client")
        except ValueError as error:
            return _malformed(str(error))
        if customer is None and client is None:
            return _malformed("it names neither a customer (sub) nor a device (client_id)")
        return VisitorToken("valid", customer, client, expires_at)


def demo_key(settings: Settings) -> bytes:
    """Return what signs the tokens of the demo shop where there is nothing of a shop's to sign with.

    It counts on servers without keys only, which believe everybody anyway.
    """
    return signing_key(settings, "demo visitors")


def _decode(text: str, key: Any, algorithm: str) -> dict[str, Any]:
    # `sub` may be a number, as it may in bodies.
    options: Any = {"require": ["exp", "aud"], "verify_sub": False, "verify_jti": False}
    return jwt.decode(text, key, algorithms=[algorithm], audience=AUDIENCE, leeway=LEEWAY_S, options=options)


def _read_id(claims: dict[str, Any], claim: str, kind: IdKind) -> str | None:
    """Read an id as bodies have it. Raises ValueError for what can be none, though something stands there."""
    value = claims.get(claim)
    if value is None:
        return None
    if type(value) not in (str, int):
        raise ValueError(f"its {claim} is neither a text nor a whole number")
    text = normalize_id(value, kind)
    if text is None:
        return None
    unproven = kind == "client" and text.startswith(UNPROVEN)
    if unproven or len(text) > MAX_ID_LENGTH or "\0" in text or is_scientific_id(text):
        raise ValueError(f"its {claim} can be no id of a {kind}")
    return text


def _malformed(why: str) -> VisitorToken:
    return VisitorToken("malformed", why=why)


def _is_canonical(signature: str) -> bool:
    """Whether the bits that base64url leaves over are zeros: else several texts would be the same token."""
    return base64url.encode(base64url.decode(signature)) == signature


def _public_key(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(base64url.decode(text))
