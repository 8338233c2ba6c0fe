import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.recommend.availability import Availability
from serving.schemas.filters import MAX_ATTRIBUTES, MAX_CONDITIONS, Filter
from tests.features.shop import examples
from tests.serving.small_shop import CATEGORIES, small_shop

ITEMS = 60


def matching_items(**parts: list[dict[str, object]]) -> set[int]:
    """Numbers of the items that pass a filter."""
    allowed = Availability(small_shop(ITEMS)).allowed(Filter.model_validate(parts))
    assert allowed is not None
    return set(np.flatnonzero(allowed).tolist())


def matching_condition(field: str, op: str, value: object) -> set[int]:
    return matching_items(all=[{"field": field, "op": op, "value": value}])


EVERY = set(range(ITEMS))


@pytest.mark.parametrize(
    ("field", "op", "value", "expected"),
    [
        ("price", "<=", 5, {0, 1, 2, 3, 4, 5}),
        ("price", ">", 57.5, {58, 59}),
        ("price", "==", 7, {7}),
        ("price", "!=", 7, EVERY - {7}),
        ("price", "in", [1, 2.0, 99], {1, 2}),
        ("price", "not_in", [1, 2], EVERY - {1, 2}),
        ("brand", "==", "odd", {n for n in EVERY if n % 2}),
        ("brand", "in", ["odd", "even", "other"], EVERY),
        ("brand", "!=", "odd", {n for n in EVERY if n % 2 == 0}),
        ("category", "==", "shop/shelf 3", {n for n in EVERY if n % CATEGORIES == 3}),
        ("category", "==", "shop", set()),
        ("category", "under", "shop", EVERY),
        ("category", "under", "shop/shelf", set()),
        ("category", "under", "shop/shelf 3", {n for n in EVERY if n % CATEGORIES == 3}),
        ("title", "contains", "ITEM 5", {5, *range(50, 60)}),
        ("title", "contains", "%", set()),
        ("currency", "==", "EUR", EVERY),
        ("attributes.size", "==", 3, {n for n in EVERY if n % 5 == 3}),
        ("attributes.size", "in", ["3", 4], {n for n in EVERY if n % 5 in (3, 4)}),
        ("attributes.size", ">=", 3, {n for n in EVERY if n % 5 >= 3}),
        ("attributes.eco", "==", True, {n for n in EVERY if n % 4 == 0}),
        ("attributes.colour", "==", "red", set()),
        ("attributes.colour", "!=", "red", EVERY),
    ],
)
def test_conditions(field: str, op: str, value: object, expected: set[int]) -> None:
    assert matching_condition(field, op, value) == expected


CONDITIONS = st.lists(
    st.one_of(
        st.tuples(st.just("price"), st.sampled_from(["<", ">=", "=="]), st.integers(-1, ITEMS)),
        st.tuples(st.just("brand"), st.sampled_from(["==", "!="]), st.sampled_from(["odd", "even", "none"])),
    ).map(lambda c: dict(zip(("field", "op", "value"), c, strict=True))),
    max_size=4,
)


@examples(40)
@given(all_=CONDITIONS, any_=CONDITIONS, none=CONDITIONS)
def test_all_any_and_none_combine_as_sets(all_: list, any_: list, none: list) -> None:
    expected = set(EVERY)
    for condition in all_:
        expected &= matching_condition(**condition)
    if any_:
        expected &= set().union(*(matching_condition(**c) for c in any_))
    for condition in none:
        expected -= matching_condition(**condition)
    assert matching_items(all=all_, any=any_, none=none) == expected


@pytest.mark.parametrize(
    "condition",
    [
        {"field": "password", "op": "==", "value": "x"},
        {"field": "attributes.a'] or 1", "op": "==", "value": "x"},
        {"field": "price", "op": "==", "value": "5"},
        {"field": "price", "op": "<", "value": float("nan")},
        {"field": "price", "op": "in", "value": 5},
        {"field": "price", "op": "==", "value": [5]},
        {"field": "brand", "op": "<", "value": "x"},
        {"field": "brand", "op": "==", "value": 3},
        {"field": "brand", "op": "in", "value": ["x"] * 101},
        {"field": "category", "op": "like", "value": "x"},
        {"field": "price", "op": "==", "value": 1, "more": 2},
        {"field": "price", "op": "<", "value": 10**400},
        {"field": "attributes.size", "op": "==", "value": 10**5000},
    ],
)
def test_invalid_conditions_are_refused(condition: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Filter.model_validate({"all": [condition]})


def test_the_size_of_a_filter_is_limited() -> None:
    condition = {"field": "price", "op": "==", "value": 1}
    Filter.model_validate({"all": [condition] * MAX_CONDITIONS})
    with pytest.raises(ValidationError):
        Filter.model_validate({"all": [condition] * (MAX_CONDITIONS + 1)})
    with pytest.raises(ValidationError):
        Filter.model_validate({"all": [condition] * MAX_CONDITIONS, "none": [condition]})
    many = [{"field": f"attributes.a{n}", "op": "==", "value": 1} for n in range(MAX_ATTRIBUTES + 1)]
    with pytest.raises(ValidationError):
        Filter.model_validate({"any": many})
