"""Client ids: a device's id that the server makes and signs, so that a page can neither guess nor make one up.

`u1.`, 128 random bits and a MAC of 128 bits over what stands before it. Nothing is kept of an id: whoever has it is the
device, as with a cookie.
"""

import hmac
import re
import secrets
from functools import cached_property, lru_cache

from features.common import ids
from serving.identity import base64url
from serving.installation_secret import earlier_signing_keys, signing_key
from serving.settings import Settings

UNPROVEN = ids.UNPROVEN
"""What the stored id of a device begins with that was not proven; no proven id does."""

_BYTES = 16  # 128 bits, in base64url 22 characters
_MAX_CACHED = 16_384
_ID = re.compile(r"(u1\.[A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{22})")


class ClientIds:
    """Makes and verifies client ids of this installation; those signed with an earlier secret of its stay valid.

    Results are cached: a device names itself with each of its requests.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._verify_once = lru_cache(_MAX_CACHED)(self._verify)

    def new(self) -> str:
        """Make the id of another device."""
        body = f"u1.{base64url.encode(secrets.token_bytes(_BYTES))}"
        return f"{body}.{_mac(self._keys[0], body)}"

    def is_signed(self, client_id: str) -> bool:
        """Whether this installation has made `client_id`."""
        return self._verify_once(client_id)

    def _verify(self, client_id: str) -> bool:
        match = _ID.fullmatch(client_id)
        if match is None:
            return False
        body, mac = match.groups()
        # Texts are compared, not the bytes they stand for: of those, several texts have the same.
        return any(hmac.compare_digest(_mac(key, body), mac) for key in self._keys)

    @cached_property
    def _keys(self) -> list[bytes]:
        return [signing_key(self._settings, "clients"), *earlier_signing_keys(self._settings, "clients")]


def _mac(key: bytes, body: str) -> str:
    return base64url.encode(hmac.digest(key, body.encode(), "sha256")[:_BYTES])
