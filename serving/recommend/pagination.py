"""Pagination: `next_cursor`, the rest of a ranking as text that any worker can read.

A cursor is signed with a key of the installation, so that none is made up or altered: a page could else have any items
listed under any strategy. It holds no secret, and availability and exclusions are checked again on every page.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.common.arrays import Int64Array, UInt64Array
from features.ranking.id_index import IdIndex
from models.interface import Strategy

LIFETIME_S = 30 * 60
MAX_ITEMS = 120  # in a cursor
_VERSION = 2
_MAX_OFFSET = 10_000
_HEAD = struct.Struct("<BIH4sB")
_NO_CURSOR = "This is no cursor of an earlier answer"
_STRATEGIES: tuple[Strategy, ...] = ("one_to_one", "predictive", "generators", "popular")
_MAC_BYTES = 16
_BYTES = 6  # of an id's hash: two of a million items share them with a chance of 1 in 500


class InvalidCursor(Exception):
    """A cursor that no server of ours wrote, of another placement, or too old; the message says which."""


@dataclass(frozen=True)
class Cursor:
    """`positions`: items still to come, best first; `offset`: how many came before them; `issued_s`: Unix seconds."""

    positions: Int64Array
    offset: int
    strategy: Strategy
    issued_s: int


class CursorCodec:
    """Writes and reads cursors that are signed with the key that `get_key` returns; it is called once, when needed."""

    def __init__(self, get_key: Callable[[], bytes]) -> None:
        self._get_key = get_key

    @cached_property
    def _key(self) -> bytes:
        return self._get_key()

    def encode(self, cursor: Cursor, items: IdIndex, placement: str) -> str:
        """Write a cursor as text. `items` are those of the snapshot that the positions count in."""
        hashes = items.by_position[cursor.positions[:MAX_ITEMS]]
        strategy = _STRATEGIES.index(cursor.strategy)
        head = _HEAD.pack(_VERSION, cursor.issued_s, cursor.offset, _placement_digest(placement), strategy)
        tail = hashes.astype("<u8").view(np.uint8).reshape(-1, 8)[:, 8 - _BYTES :].tobytes()
        return _to_text(head + tail + self._sign(head + tail))

    def decode(self, text: str, items: IdIndex, placement: str, now_s: float) -> Cursor:
        """Read what `encode` wrote, for the items of the snapshot now: those it no longer has are skipped.

        Raises InvalidCursor.
        """
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise InvalidCursor(_NO_CURSOR) from None
        if raw[:1] == b"\x01" and len(raw) >= _HEAD.size:
            raise InvalidCursor("This cursor is of an earlier version of the server; ask without one")
        content, signature = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        # The last letter has bits to spare: only one spelling of them counts.
        if not hmac.compare_digest(self._sign(content), signature) or _to_text(raw) != text:
            raise InvalidCursor(_NO_CURSOR)
        version, issued_s, offset, digest, strategy = _HEAD.unpack_from(content)
        tail = content[_HEAD.size :]
        if version != _VERSION or strategy >= len(_STRATEGIES) or offset > _MAX_OFFSET:
            raise InvalidCursor(_NO_CURSOR)
        if digest != _placement_digest(placement):
            raise InvalidCursor("This cursor is of another placement")
        if not -60 <= now_s - issued_s <= LIFETIME_S:
            raise InvalidCursor(f"A cursor lasts {LIFETIME_S // 60} minutes; ask without one")
        wide = np.zeros((len(tail) // _BYTES, 8), np.uint8)
        wide[:, 8 - _BYTES :] = np.frombuffer(tail, np.uint8).reshape(-1, _BYTES)
        positions = _find_prefixes(items, wide.view("<u8").ravel().astype(np.uint64))
        return Cursor(positions, offset, _STRATEGIES[strategy], issued_s)

    def _sign(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")[:_MAC_BYTES]


def _to_text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _find_prefixes(items: IdIndex, hashes: UInt64Array) -> Int64Array:
    """Positions of the items whose hash begins as one of `hashes` does, in their order, without repetitions."""
    if not len(items):
        return np.zeros(0, np.int64)
    slot = np.minimum(np.searchsorted(items.hashes, hashes), len(items) - 1)
    same = items.hashes[slot] >> np.uint64(64 - 8 * _BYTES) == hashes >> np.uint64(64 - 8 * _BYTES)
    positions = items.order[slot[same]].astype(np.int64)
    _, first = np.unique(positions, return_index=True)
    distinct: Int64Array = positions[np.sort(first)]
    return distinct


def _placement_digest(placement: str) -> bytes:
    return hashlib.blake2b(placement.encode(), digest_size=4).digest()
