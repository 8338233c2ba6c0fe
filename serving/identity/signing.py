"""Signing: visitor tokens as the shop's server makes them, for development, tests and shops that call a command."""

import os
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from features.common.errors import InputError
from features.common.ids import require_id
from serving.identity import base64url
from serving.identity.client_ids import UNPROVEN
from serving.identity.tokens import AUDIENCE, MAX_ID_LENGTH, demo_key
from serving.settings import Settings

PRIVATE_KEY = "USUAL_VISITOR_PRIVATE_KEY"

_HOUR_S = 3600
_DEMO_TOKEN_S = 600
_RAW_KEY = re.compile("[A-Za-z0-9_-]{43}")


def sign_token(
    settings: Settings,
    customer: str | None,
    client: str | None,
    hours: float = 1,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Sign a token for a customer, a device or both, that is valid for `hours` from now.

    Signed with the private key in `environment`, or else with the first of the settings' secrets. Raises InputError
    where there is neither, for what is no id, and for a life that the server would refuse.
    """
    if customer is None and client is None:
        raise InputError("a token proves somebody: give --customer, --client or both")
    if not 0 < hours <= settings.visitor_token_hours:
        raise InputError(
            f"--hours is {hours:g}; the server takes tokens of more than 0 and at most "
            f"{settings.visitor_token_hours:g} hours (USUAL_VISITOR_TOKEN_HOURS)"
        )
    claims: dict[str, Any] = {"aud": AUDIENCE, "exp": int(time.time() + hours * _HOUR_S)}
    if customer is not None:
        claims["sub"] = _validate(require_id(customer, "customer", "--customer"), "--customer")
    if client is not None:
        claims["client_id"] = _validate(require_id(client, "client", "--client"), "--client")
        if claims["client_id"].startswith(UNPROVEN):
            raise InputError(f"--client begins with {UNPROVEN}, as the ids of devices do that were not proven")
    private_key = environment.get(PRIVATE_KEY, "").strip()
    if private_key:
        return jwt.encode(claims, read_private_key(private_key), "EdDSA")
    if not settings.visitor_secrets:
        raise InputError(
            f"there is nothing to sign with: set USUAL_VISITOR_SECRETS (make one with: usual token --new-secret) or "
            f"{PRIVATE_KEY} (make a pair with: usual token --new-key)"
        )
    return jwt.encode(claims, settings.visitor_secrets[0].get_secret_value().encode(), "HS256")


def sign_demo_token(settings: Settings, customer_id: str) -> str | None:
    """Sign a token of ten minutes for a customer of the demo shop; None where only the shop has what signs."""
    if settings.visitor_secrets:
        key = settings.visitor_secrets[0].get_secret_value().encode()
    elif settings.visitor_public_keys:
        return None
    else:
        key = demo_key(settings)
    lasts_s = min(_DEMO_TOKEN_S, settings.visitor_token_hours * _HOUR_S)
    return jwt.encode({"sub": customer_id, "aud": AUDIENCE, "exp": int(time.time() + lasts_s)}, key, "HS256")


def new_secret() -> str:
    """Make a secret for HS256: 256 random bits in base64url."""
    return secrets.token_urlsafe(32)


def new_key_pair() -> tuple[str, str]:
    """Make a private and a public Ed25519 key, raw in base64url."""
    private = Ed25519PrivateKey.generate()
    return base64url.encode(private.private_bytes_raw()), base64url.encode(private.public_key().public_bytes_raw())


def _validate(text: str, option: str) -> str:
    if len(text) > MAX_ID_LENGTH:
        raise InputError(f"{option} has {len(text)} characters; an id has {MAX_ID_LENGTH} at most")
    return text


def read_private_key(text: str) -> Ed25519PrivateKey:
    """Read a raw Ed25519 private key in base64url. Raises InputError, which does not repeat it."""
    if not _RAW_KEY.fullmatch(text):
        raise InputError(
            f"{PRIVATE_KEY} is no raw Ed25519 key in base64url, which has 43 characters; make a pair with: usual token "
            "--new-key"
        )
    return Ed25519PrivateKey.from_private_bytes(base64url.decode(text))
