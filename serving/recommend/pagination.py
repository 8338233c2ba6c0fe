"""`next_cursor`: the rest of a ranked list, as text that any worker can read.

It holds no secret and is trusted with nothing: availability and exclusions are looked at again on every page.
"""

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from features.ranking.id_index import Ids
from models.interface import Strategy

LASTS_S = 30 * 60
MOST = 120  # items a cursor holds
_VERSION = 1
_FARTHEST = 10_000  # products of earlier pages
_HEAD = struct.Struct("<BIH4sB")
_STRATEGIES: tuple[Strategy, ...] = ("one_to_one", "predictive", "generators", "popular")
_BYTES = 6  # of an id's hash: two of a million items share them with a chance of 1 in 500


class BadCursor(Exception):
    """Not one of ours, of another placement, or too old; the message says which."""


@dataclass(frozen=True)
class Cursor:
    """`positions`: items still to come, best first; `shown`: how many came before them; `at`: when, in seconds."""

    positions: np.ndarray
    shown: int
    strategy: Strategy
    at: int


def write(cursor: Cursor, items: Ids, placement: str) -> str:
    """The text of a cursor; `items` are those of the snapshot that the positions are of."""
    hashes = items.by_position[cursor.positions[:MOST]]
    head = _HEAD.pack(_VERSION, cursor.at, cursor.shown, _name(placement), _STRATEGIES.index(cursor.strategy))
    tail = hashes.astype("<u8").view(np.uint8).reshape(-1, 8)[:, 8 - _BYTES :].tobytes()
    return base64.urlsafe_b64encode(head + tail).rstrip(b"=").decode()


def read(text: str, items: Ids, placement: str, now: float) -> Cursor:
    """What `write` wrote, for the items as they are now: those that are gone are passed over. Raises BadCursor."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        version, at, shown, name, strategy = _HEAD.unpack_from(raw)
    except (binascii.Error, ValueError, struct.error):
        raise BadCursor("This is no cursor of an earlier answer") from None
    tail = raw[_HEAD.size :]
    wrong = len(tail) % _BYTES or len(tail) > MOST * _BYTES or strategy >= len(_STRATEGIES) or shown > _FARTHEST
    if version != _VERSION or wrong:
        raise BadCursor("This is no cursor of an earlier answer")
    if name != _name(placement):
        raise BadCursor("This cursor is of another placement")
    if not -60 <= now - at <= LASTS_S:
        raise BadCursor(f"A cursor lasts {LASTS_S // 60} minutes; ask without one")
    wide = np.zeros((len(tail) // _BYTES, 8), np.uint8)
    wide[:, 8 - _BYTES :] = np.frombuffer(tail, np.uint8).reshape(-1, _BYTES)
    return Cursor(_find(items, wide.view("<u8").ravel().astype(np.uint64)), shown, _STRATEGIES[strategy], at)


def _find(items: Ids, wanted: np.ndarray) -> np.ndarray:
    if not len(items):
        return np.zeros(0, np.int64)
    slot = np.minimum(np.searchsorted(items.hashes, wanted), len(items) - 1)
    right = items.hashes[slot] >> np.uint64(64 - 8 * _BYTES) == wanted >> np.uint64(64 - 8 * _BYTES)
    found = items.order[slot[right]].astype(np.int64)
    _, first = np.unique(found, return_index=True)
    return found[np.sort(first)]


def _name(placement: str) -> bytes:
    return hashlib.blake2b(placement.encode(), digest_size=4).digest()
