import numpy as np

from serving.recommend.availability import Availability
from serving.recommend.item_overrides import ItemOverride
from serving.schemas.filters import Filter
from tests.serving.small_shop import small_shop

CHEAP = Filter.model_validate({"all": [{"field": "price", "op": "<", "value": 3}]})


def numbers(allowed: np.ndarray | None) -> list[int] | None:
    return None if allowed is None else np.flatnonzero(allowed).tolist()


def test_all_items_are_allowed_until_one_is_unavailable() -> None:
    availability = Availability(small_shop(6))
    assert availability.allowed() is None
    availability.apply({"i2": ItemOverride(False, None), "nobody's": ItemOverride(False, None)})
    assert numbers(availability.allowed()) == [0, 1, 3, 4, 5]
    availability.apply({"i3": ItemOverride(False, None)})
    assert numbers(availability.allowed()) == [0, 1, 2, 4, 5], "an override that is gone no longer counts"
    availability.apply({})
    assert availability.allowed() is None


def test_a_price_override_updates_cached_filters() -> None:
    availability = Availability(small_shop(6))
    assert numbers(availability.allowed(CHEAP)) == [0, 1, 2]
    availability.apply({"i5": ItemOverride(None, 1.5), "i0": ItemOverride(None, 8.0), "i1": ItemOverride(False, None)})
    assert numbers(availability.allowed(CHEAP)) == [2, 5]
    assert availability.prices(np.array([0, 4])).tolist() == [8.0, 4.0]


def test_a_category_includes_those_below_it() -> None:
    availability = Availability(small_shop(25))
    assert numbers(availability.allowed(None, "shop/shelf 4")) == [4, 14, 24]
    assert numbers(availability.allowed(CHEAP, "shop")) == [0, 1, 2]
    assert numbers(availability.allowed(None, "elsewhere")) == []
