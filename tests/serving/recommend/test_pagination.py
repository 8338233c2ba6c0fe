import base64
import contextlib
import string
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.recommend import pagination
from serving.recommend.pagination import Cursor, CursorCodec, InvalidCursor
from tests.features.shop import examples
from tests.serving.small_shop import small_shop

CODEC = CursorCodec(lambda: b"k" * 32)
ITEMS = small_shop(300).items


@examples(50)
@given(
    positions=st.lists(st.integers(0, 299), unique=True, max_size=150),
    offset=st.integers(0, 10_000),
    issued_s=st.integers(0, 2**32 - 1),
)
def test_decode_inverts_encode(positions: list[int], offset: int, issued_s: int) -> None:
    cursor = Cursor(np.array(positions, np.int64), offset, "predictive", issued_s)
    decoded = CODEC.decode(CODEC.encode(cursor, ITEMS, "home.new"), ITEMS, "home.new", issued_s)
    assert decoded.positions.tolist() == positions[: pagination.MAX_ITEMS]
    assert (decoded.offset, decoded.strategy, decoded.issued_s) == (offset, "predictive", issued_s)


def test_items_that_a_newer_model_lacks_are_skipped() -> None:
    text = CODEC.encode(Cursor(np.arange(290, 300), 12, "popular", 5), ITEMS, "home.new")
    fewer = small_shop(295).items
    assert fewer.at(CODEC.decode(text, fewer, "home.new", 5).positions) == [f"i{n}" for n in range(290, 295)]


def test_a_cursor_is_of_one_placement_and_lasts_half_an_hour() -> None:
    text = CODEC.encode(Cursor(np.arange(3), 12, "popular", 1000), ITEMS, "home.new")
    with pytest.raises(InvalidCursor, match="another placement"):
        CODEC.decode(text, ITEMS, "home.for_you", 1000)
    CODEC.decode(text, ITEMS, "home.new", 1000 + 1800)
    for when in (1000 + 1801, 1000 - 61):
        with pytest.raises(InvalidCursor, match="30 minutes"):
            CODEC.decode(text, ITEMS, "home.new", when)


@examples(60)
@given(text=st.text(st.sampled_from("ABab01-_"), max_size=60))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        CODEC.decode(text, ITEMS, "home.new", 0)


def test_no_altered_cursor_is_accepted() -> None:
    text = CODEC.encode(Cursor(np.arange(40), 12, "popular", 1000), ITEMS, "home.new")
    letters = string.ascii_letters + string.digits + "-_"
    altered = {text[:at] + letter + text[at + 1 :] for at in range(len(text)) for letter in letters} - {text}
    altered |= {text[:at] for at in range(len(text))} | {text[at:] for at in range(1, len(text))}
    altered |= {text + tail for tail in ("A", "AA", "=", "==", "AAAA", text)} | {text[::-1], text.swapcase()}
    accepted = []
    for other in altered:
        with contextlib.suppress(InvalidCursor):
            CODEC.decode(other, ITEMS, "home.new", 1000)
            accepted.append(other)
    assert not accepted
    assert CODEC.decode(text, ITEMS, "home.new", 1000).offset == 12


def test_no_altered_byte_is_accepted() -> None:
    raw = base64.urlsafe_b64decode(CODEC.encode(Cursor(np.arange(8), 12, "popular", 1000), ITEMS, "home.new") + "==")
    for at in range(len(raw)):
        for bit in range(8):
            other = bytearray(raw)
            other[at] ^= 1 << bit
            with pytest.raises(InvalidCursor):
                CODEC.decode(base64.urlsafe_b64encode(other).decode().rstrip("="), ITEMS, "home.new", 1000)


def test_a_cursor_of_another_installation_or_of_before_signatures_is_refused() -> None:
    cursor = Cursor(np.arange(3), 12, "popular", 1000)
    other = CursorCodec(lambda: b"j" * 32).encode(cursor, ITEMS, "home.new")
    with pytest.raises(InvalidCursor, match="no cursor of an earlier answer"):
        CODEC.decode(other, ITEMS, "home.new", 1000)
    unsigned = struct.pack("<BIH4sB", 1, 1000, 12, b"abcd", 3) + bytes(18)
    with pytest.raises(InvalidCursor, match="earlier version of the server; ask without one"):
        CODEC.decode(base64.urlsafe_b64encode(unsigned).decode().rstrip("="), ITEMS, "home.new", 1000)
