"""Pagination: `next_cursor`, the rest of a ranking as text that any worker can read.

A cursor holds no secret and needs no trust: availability and exclusions are checked again on every page.
"""

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from features.common.arrays import Int64Array, UInt64Array
from features.ranking.id_index import IdIndex
from models.interface import Strategy

LIFETIME_S = 30 * 60
MAX_ITEMS = 120  # in a cursor
_VERSION = 1
_MAX_OFFSET = 10_000
_HEAD = struct.Struct("<BIH4sB")
_STRATEGIES: tuple[Strategy, ...] = ("one_to_one", "predictive", "generators", "popular")
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


def encode(cursor: Cursor, items: IdIndex, placement: str) -> str:
    """Write a cursor as text. `items` are those of the snapshot that the positions count in."""
    hashes = items.by_position[cursor.positions[:MAX_ITEMS]]
    strategy = _STRATEGIES.index(cursor.strategy)
    head = _HEAD.pack(_VERSION, cursor.issued_s, cursor.offset, _placement_digest(placement), strategy)
    tail = hashes.astype("<u8").view(np.uint8).reshape(-1, 8)[:, 8 - _BYTES :].tobytes()
    return base64.urlsafe_b64encode(head + tail).rstrip(b"=").decode()


def decode(text: str, items: IdIndex, placement: str, now_s: float) -> Cursor:
    """Read what `encode` wrote, for the items of the snapshot now: those it no longer has are skipped.

    Raises InvalidCursor.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        version, issued_s, offset, digest, strategy = _HEAD.unpack_from(raw)
    except (binascii.Error, ValueError, struct.error):
        raise InvalidCursor("This is no cursor of an earlier answer") from None
    tail = raw[_HEAD.size :]
    wrong = len(tail) % _BYTES or len(tail) > MAX_ITEMS * _BYTES or strategy >= len(_STRATEGIES) or offset > _MAX_OFFSET
    if version != _VERSION or wrong:
        raise InvalidCursor("This is no cursor of an earlier answer")
    if digest != _placement_digest(placement):
        raise InvalidCursor("This cursor is of another placement")
    if not -60 <= now_s - issued_s <= LIFETIME_S:
        raise InvalidCursor(f"A cursor lasts {LIFETIME_S // 60} minutes; ask without one")
    wide = np.zeros((len(tail) // _BYTES, 8), np.uint8)
    wide[:, 8 - _BYTES :] = np.frombuffer(tail, np.uint8).reshape(-1, _BYTES)
    positions = _find_prefixes(items, wide.view("<u8").ravel().astype(np.uint64))
    return Cursor(positions, offset, _STRATEGIES[strategy], issued_s)


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
