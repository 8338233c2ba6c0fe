import math
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.common import ids
from features.common.errors import InputError

KINDS = list(ids.PLACEHOLDERS)
WORDS = [
    "NULL",
    "nan",
    "None",
    "undefined",
    r"\N",
    "null",
    "N/A",
    "(not set)",
    "<NA>",
    "nil",
    "#N/A",
    "(null)",
    "[object Object]",
]
ODD = [
    "777.0", "777.00", "777.0000", "777,0", "1.000", "1,000", "-5.0", "00042", "'00042", '="007"', "'x", "x.0", "0",
    "0.0", "-", "--", "guest", "Anonymous", "unknown", "not set", "00000000-0000-0000-0000-000000000000", "GA1.1.5",
    "100", "",
    " ", "e\u0301", "\u00e9", "\ufeffa", "a\u200b", "\u00a0b\u202f", "6.71235E+12", "nullx", "nanny", "none-such",
    "\0", "a\0\x1f",
    "zz" * 20, "a b", "x" * 30 + "e\u0301", "y" * 30 + " ", "z" * 13 + ".0", *WORDS,
]  # fmt: skip
texts = (
    st.sampled_from(ODD)
    | st.text(alphabet="0123456789.,'=\"-+eE aé\u0301\ufeff\u00a0NULnul", max_size=16)
    | st.text(max_size=40)
)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(values=st.lists(st.none() | texts, max_size=12))
def test_a_column_and_a_single_value_are_normalized_alike(kind, values):
    expected = [ids.normalize_id(v, kind) for v in values]
    column = pl.Series("id", values, pl.String)
    assert ids.normalize_ids(column, kind).to_list() == expected
    assert ids.normalize_ids(column, kind).name == "id"
    assert ids.normalize_ids(column.cast(pl.Categorical), kind).cast(pl.String).to_list() == expected
    # A slice of a longer column, whose texts share its buffers.
    assert ids.normalize_ids(pl.concat([column] * 3)[len(values) :], kind).to_list() == expected * 2
    assert ids.is_scientific(column).to_list() == [v is not None and ids.is_scientific_id(v) for v in values]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(value=texts)
def test_normalizing_twice_changes_nothing(kind, value):
    once = ids.normalize_id(value, kind)
    assert ids.normalize_id(once, kind) == once


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(values=st.lists(st.none() | st.floats() | st.integers(-(2**60), 2**60).map(float), max_size=8))
def test_floats_are_normalized_alike(kind, values):
    assert ids.normalize_ids(pl.Series(values, dtype=pl.Float64), kind).to_list() == [
        ids.normalize_id(v, kind) for v in values
    ]
    single = pl.Series(values, dtype=pl.Float64).cast(pl.Float32)
    assert ids.normalize_ids(single, kind).to_list() == [
        ids.normalize_id(None if v is None else np.float32(v), kind) for v in single
    ]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(values=st.lists(st.none() | st.integers(-(2**63), 2**64 - 1), max_size=8))
def test_integers_are_normalized_alike(kind, values):
    column = pl.Series(values, dtype=pl.Int128)
    assert ids.normalize_ids(column, kind).to_list() == [ids.normalize_id(v, kind) for v in values]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("777.0", "777"), (777.0, "777"), (777, "777"), (np.int64(777), "777"), (np.float32(777), "777"),
        (Decimal("777.000"), "777"), (" 777\u00a0", "777"), ("\ufeff777", "777"), ("'00042", "00042"),
        ('="00042"', "00042"), ("777,0", "777"), ("1.5", "1.5"), (1.5, "1.5"), ("x.0", "x.0"), (True, "true"),
        (math.nan, None), (None, None),
        (pd.NA, None), (pd.NaT, None), ("Zoe\u0308", "Zoë"),
    ],
)  # fmt: skip
def test_one_id_has_one_form(written, expected):
    assert ids.normalize_id(written, "item") == expected


def test_three_zeros_may_be_thousands():
    assert ids.normalize_id("777.000", "item") == "777.000"
    assert ids.normalize_id("777.0000", "item") == "777"


@pytest.mark.parametrize("word", [*WORDS, *map(str.upper, WORDS), *(f" {w} " for w in WORDS)])
def test_words_for_nothing_are_no_id_of_any_kind(word: str):
    assert [ids.normalize_id(word, kind) for kind in KINDS] == [None] * len(KINDS)


def test_words_of_one_kind_are_ids_of_another():
    assert (
        ids.normalize_id("0", "customer") is ids.normalize_id("0.0", "order") is ids.normalize_id(0, "customer") is None
    )
    # Real data sets number their sessions, clients and items from 0.
    assert [ids.normalize_id("0", kind) for kind in ("session", "client", "item", "event")] == ["0"] * 4
    assert ids.normalize_id("Guest", "customer") is None
    assert ids.normalize_id("guest", "item") == "guest"
    assert ids.normalize_id("00000000-0000-0000-0000-000000000000", "client") is None
    assert ids.normalize_ids(pl.Series([0, 1, None]), "customer").to_list() == [None, "1", None]
    assert ids.normalize_ids(pl.Series([0, 1, None]), "session").to_list() == ["0", "1", None]


def test_own_placeholders_stand_in_place_of_the_built_in_ones():
    column = pl.Series(["0", "Walk-In", "NULL", "", None, "7"])
    assert ids.normalize_ids(column, "customer", ["walk-in"]).to_list() == ["0", None, "NULL", None, None, "7"]
    assert ids.normalize_ids(pl.Series([0, 99]), "customer", ["99"]).to_list() == ["0", None]
    assert ids.normalize_ids(pl.Series([0, 99]), "customer", []).to_list() == ["0", "99"]
    assert ids.normalize_id("0", "customer", []) == "0"


def test_placeholders_are_counted_as_written():
    column = pl.Series(["NULL", "NULL", " nan", "7", "", None, "0"])
    assert ids.placeholder_counts(column, ids.normalize_ids(column, "customer")) == {"0": 1, "NULL": 2, "nan": 1}
    assert ids.placeholder_counts(pl.Series([0, 0, 7]), ids.normalize_ids(pl.Series([0, 0, 7]), "customer")) == {"0": 2}
    numbers = pl.Series([math.nan, 7.0])
    assert ids.placeholder_counts(numbers, ids.normalize_ids(numbers, "customer")) == {"NaN": 1}


@pytest.mark.parametrize("text", ["6.71235E+12", "6,71235E+12", "4e+11", "-1.5E+3", "6.7E12"])
def test_scientific_notation_is_found(text: str):
    assert ids.is_scientific_id(text)
    assert ids.is_scientific(pl.Series([text, None, "a"])).to_list() == [True, False, False]
    assert ids.is_scientific(pl.Series([text, None, "a"], dtype=pl.Categorical)).to_list() == [True, False, False]


@pytest.mark.parametrize("text", ["5E12", "1e", "E+12", "12E+12", "6.71235", "a1.5E+12", "SKU-1E+5"])
def test_other_texts_are_not_scientific(text: str):
    assert not ids.is_scientific_id(text)
    assert not ids.is_scientific(pl.Series([text])).any()


def test_floats_beyond_exactness_are_not_joined_in_silence():
    spoiled = ids.normalize_ids(pl.Series([2.0**53 - 1, 1.2345678901234568e17]), "item")
    assert spoiled[0] == "9007199254740991"
    assert ids.is_scientific(spoiled).to_list() == [False, True]
    assert ids.is_scientific(ids.normalize_ids(pl.Series([20_000_001.0], dtype=pl.Float32), "item")).all()


def test_values_of_other_types_are_texts():
    assert ids.normalize_ids(pl.Series([Decimal("7.00"), Decimal("7.50")]), "item").to_list() == ["7", "7.50"]
    assert ids.normalize_ids(pl.Series([True, None]), "item").to_list() == ["true", None]
    assert ids.normalize_ids(pl.Series([datetime(2026, 1, 5, tzinfo=UTC)]), "item")[0].startswith("2026-01-05")
    assert ids.normalize_ids(pl.Series([None, None]), "item").to_list() == [None, None]


def test_the_column_given_is_not_changed():
    column = pl.Series(["NULL", " a ", "b"])
    ids.normalize_ids(column, "customer")
    assert column.to_list() == ["NULL", " a ", "b"]


def test_a_person_is_told_which_id_is_none():
    assert ids.require_id(" 777.0 ", "customer", "the customer_id") == "777"
    with pytest.raises(InputError, match="the customer_id is 'NULL', which is no customer's id"):
        ids.require_id("NULL", "customer", "the customer_id")
    with pytest.raises(InputError, match="export the column as text"):
        ids.normalize_id_list(["7", "6.71235E+12"], "item", "the list")
