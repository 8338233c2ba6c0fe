"""The installation's secret: what the server signs is refused by any other, and none of it can be made up.

It comes from `USUAL_SERVER_SECRET`, which all servers of one shop share, or else from a file in `USUAL_HOME`, which all
its processes share. Every use has a key of its own, so that what is signed for one purpose proves nothing for another.
"""

import contextlib
import hmac
import logging
import os
import secrets
from hashlib import sha256
from pathlib import Path

from features.common.paths import home
from serving.settings import MIN_SECRET_LENGTH, Settings

FILE = "server-secret"

log = logging.getLogger("usual.serving")


def signing_key(settings: Settings, purpose: str) -> bytes:
    """Return the 32 bytes that sign for `purpose`. They change only with the installation's secret."""
    return _derive(_secret(settings), purpose)


def earlier_signing_keys(settings: Settings, purpose: str) -> list[bytes]:
    """Return what `signing_key` was with the server secrets of before."""
    return [_derive(secret.get_secret_value().encode(), purpose) for secret in settings.server_secrets_before]


def _derive(secret: bytes, purpose: str) -> bytes:
    return hmac.digest(secret, f"usual {purpose}".encode(), "sha256")


def _secret(settings: Settings) -> bytes:
    if settings.server_secret is not None:
        return settings.server_secret.get_secret_value().encode()
    try:
        return _read_or_create(home() / FILE)
    except OSError as error:
        # A server whose home may not be written to: what its processes share then are the digests of its secret keys.
        log.warning(
            "no secret can be kept in USUAL_HOME (%s); set USUAL_SERVER_SECRET, or what this server signs is refused "
            "by others and after a change of keys",
            error.strerror,
        )
        if settings.secret_keys:
            return sha256(b"".join(sorted(settings.secret_keys))).digest()
        return secrets.token_bytes(32)


def _read_or_create(path: Path) -> bytes:
    """Read the secret; the first of several processes makes it, and the others wait for nothing."""
    with contextlib.suppress(FileNotFoundError):
        secret = path.read_bytes().strip()
        if len(secret) >= MIN_SECRET_LENGTH:
            return secret
        path.unlink(missing_ok=True)  # cut off, or emptied: it would sign with what anybody could guess
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(secrets.token_urlsafe(32).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(new, path)  # unlike a rename, this never takes the place of another process's
    finally:
        new.unlink()
    return path.read_bytes().strip()
