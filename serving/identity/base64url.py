"""Base64url without padding, as JSON Web Tokens write bytes."""

import base64


def encode(content: bytes) -> str:
    """Write bytes as text."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decode(text: str) -> bytes:
    """Read bytes from a text, whose padding is missing."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
