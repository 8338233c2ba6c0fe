import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.recommend import pagination
from serving.recommend.pagination import Cursor, InvalidCursor
from tests.features.shop import examples
from tests.serving.small_shop import small_shop

ITEMS = small_shop(300).items


@examples(50)
@given(
    positions=st.lists(st.integers(0, 299), unique=True, max_size=150),
    offset=st.integers(0, 10_000),
    issued_s=st.integers(0, 2**32 - 1),
)
def test_decode_inverts_encode(positions: list[int], offset: int, issued_s: int) -> None:
    cursor = Cursor(np.array(positions, np.int64), offset, "predictive", issued_s)
    decoded = pagination.decode(pagination.encode(cursor, ITEMS, "home.new"), ITEMS, "home.new", issued_s)
    assert decoded.positions.tolist() == positions[: pagination.MAX_ITEMS]
    assert (decoded.offset, decoded.strategy, decoded.issued_s) == (offset, "predictive", issued_s)


def test_items_that_a_newer_model_lacks_are_skipped() -> None:
    text = pagination.encode(Cursor(np.arange(290, 300), 12, "popular", 5), ITEMS, "home.new")
    fewer = small_shop(295).items
    assert fewer.at(pagination.decode(text, fewer, "home.new", 5).positions) == [f"i{n}" for n in range(290, 295)]


def test_a_cursor_is_of_one_placement_and_lasts_half_an_hour() -> None:
    text = pagination.encode(Cursor(np.arange(3), 12, "popular", 1000), ITEMS, "home.new")
    with pytest.raises(InvalidCursor, match="another placement"):
        pagination.decode(text, ITEMS, "home.for_you", 1000)
    pagination.decode(text, ITEMS, "home.new", 1000 + 1800)
    for when in (1000 + 1801, 1000 - 61):
        with pytest.raises(InvalidCursor, match="30 minutes"):
            pagination.decode(text, ITEMS, "home.new", when)


@examples(60)
@given(text=st.text(st.sampled_from("ABab01-_"), max_size=60))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        pagination.decode(text, ITEMS, "home.new", 0)
