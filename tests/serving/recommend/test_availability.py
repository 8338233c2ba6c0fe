import numpy as np

from serving.recommend.availability import Shelf
from serving.recommend.item_overrides import ItemChange
from serving.schemas.filters import Filter
from tests.serving.small_shop import small_shop

CHEAP = Filter.model_validate({"all": [{"field": "price", "op": "<", "value": 3}]})


def numbers(allowed: np.ndarray | None) -> list[int] | None:
    return None if allowed is None else np.flatnonzero(allowed).tolist()


def test_everything_is_allowed_until_something_is_taken_off() -> None:
    shelf = Shelf(small_shop(6))
    assert shelf.allowed() is None
    shelf.change({"i2": ItemChange(False, None), "nobody's": ItemChange(False, None)})
    assert numbers(shelf.allowed()) == [0, 1, 3, 4, 5]
    shelf.change({"i3": ItemChange(False, None)})
    assert numbers(shelf.allowed()) == [0, 1, 2, 4, 5], "what is no longer said no longer counts"
    shelf.change({})
    assert shelf.allowed() is None


def test_a_new_price_counts_in_filters_that_were_asked_before() -> None:
    shelf = Shelf(small_shop(6))
    assert numbers(shelf.allowed(CHEAP)) == [0, 1, 2]
    shelf.change({"i5": ItemChange(None, 1.5), "i0": ItemChange(None, 8.0), "i1": ItemChange(False, None)})
    assert numbers(shelf.allowed(CHEAP)) == [2, 5]
    assert shelf.price(np.array([0, 4])).tolist() == [8.0, 4.0]


def test_a_category_holds_what_is_below_it() -> None:
    shelf = Shelf(small_shop(25))
    assert numbers(shelf.allowed(None, "shop/shelf 4")) == [4, 14, 24]
    assert numbers(shelf.allowed(CHEAP, "shop")) == [0, 1, 2]
    assert numbers(shelf.allowed(None, "elsewhere")) == []
