import json
from datetime import date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.sources.parsing.cells import coerce
from features.sources.parsing.rows import event_ids
from features.sources.parsing.rows.validate import raw_copier


def test_ids_stored_as_floats_are_whole_again():
    assert coerce.to_ids(pl.Series([13085.0, 1.5, None])).to_list() == ["13085", "1.5", None]
    assert coerce.to_ids(pl.Series([" 0042 ", "", "a b"])).to_list() == ["0042", None, "a b"]
    assert coerce.to_ids(pl.Series([42, None])).to_list() == ["42", None]


SPACES = " \t\n\r\u00a0\u2003"


@given(st.lists(st.none() | st.text(alphabet=f"ab1é{SPACES}", max_size=20), max_size=20))
def test_identifiers_are_stripped_whatever_their_length(values: list[str | None]):
    expected = [v.strip(SPACES) or None if v is not None else None for v in values]
    given_ = pl.Series(values, dtype=pl.String)
    assert coerce.to_ids(given_).to_list() == expected
    assert coerce.to_ids(given_.cast(pl.Categorical)).cast(pl.String).to_list() == expected


@pytest.mark.parametrize("dtype", [pl.Categorical(), pl.Enum(["7.5", " 3 ", "x", " "])], ids=str)
def test_dictionary_encoded_texts_are_read_as_plain_ones(dtype: pl.DataType):
    plain = pl.Series("price", ["7.5", " 3 ", "x", " ", None])
    for number in (pl.Float64(), pl.Int32()):
        expected = coerce.to_dtype(plain, "price", number, "UTC")
        assert coerce.to_dtype(plain.cast(dtype), "price", number, "UTC").equals(expected)
    assert coerce.is_filled(plain.cast(dtype)).to_list() == coerce.is_filled(plain).to_list()


def test_raw_rows_of_any_type_are_json():
    source = pl.DataFrame({
        "when": [datetime(2020, 1, 1, 12), None],
        "day": [date(2020, 1, 1), None],
        "bytes": [b"x\xff", None],
        "took": [timedelta(hours=1), None],
        "cost": [Decimal("1.10"), None],
        "ids": [[1, 2], None],
        "kind": pl.Series(["a", None], dtype=pl.Categorical),
        "n": [1, None],
    })  # fmt: skip
    empty, full = map(json.loads, raw_copier(source, 100)(pl.Series([101, 100])))
    assert set(empty.values()) == {None}
    assert full["n"] == 1
    assert full["ids"] == [1, 2]
    assert full["cost"] == "1.10"
    assert full["bytes"] == "x\ufffd"
    assert full["took"] == "PT1H"
    assert full["when"].startswith("2020-01-01 12:00")


ROWS = pl.DataFrame({
    "text": ["a", "", None, "é" * 9, "a", "a"],
    "kind": pl.Series(["x", "x", None, "x", "x", "x"], dtype=pl.Categorical),
    "number": [1.0, -0.0, 0.0, None, 1.0, 2.0],
    "at": [datetime(2024, 1, 1)] * 6,
})  # fmt: skip
COLUMNS = ["text", "kind", "number", "at"]


def test_content_ids_are_the_same_everywhere():
    # Written down: another machine or a later version must find the same.
    assert event_ids.hash_rows(ROWS, COLUMNS).to_list()[0] == "7d5ae99cfe5c01df5f73221814fa4f80"
    assert event_ids.hash_rows(ROWS.with_columns(pl.col("kind").cast(pl.String)), COLUMNS).equals(
        event_ids.hash_rows(ROWS, COLUMNS)
    )
    one_by_one = pl.concat([event_ids.hash_rows(row, COLUMNS) for row in ROWS.iter_slices(1)])
    assert one_by_one.equals(event_ids.hash_rows(ROWS, COLUMNS))


def test_content_ids_differ_where_rows_do():
    ids = event_ids.hash_rows(ROWS, COLUMNS)
    assert ids[0] == ids[4]
    assert ids.n_unique() == 5
    assert event_ids.hash_rows(ROWS, COLUMNS[::-1])[0] != ids[0]
    swapped = pl.DataFrame({"a": ["x", None], "b": [None, "x"]})
    assert event_ids.hash_rows(swapped, ["a", "b"]).n_unique() == 2
    assert set(ids.str.len_bytes()) == {32}


def test_content_ids_of_many_similar_rows_do_not_collide():
    n = pl.int_range(200_000, eager=True)
    rows = pl.DataFrame({"a": n.cast(pl.String), "b": n // 7, "c": (n % 7).cast(pl.Float64)})
    assert event_ids.hash_rows(rows, ["a"]).n_unique() == rows.height
    assert event_ids.hash_rows(rows, ["b", "c"]).n_unique() == rows.height


@pytest.mark.parametrize(("cell", "expected"), [("yes", True), (" T ", True), ("0", False), ("1.0", True), ("?", None)])
def test_yes_and_no(cell: str, expected: bool | None):
    assert coerce.to_dtype(pl.Series([cell]), "consent", pl.Boolean(), "UTC").to_list() == [expected]


@pytest.mark.parametrize(
    "cell",
    ["in stock", "In_Stock", "instock", "available", "TRUE", "yes", "1", "y", "preorder", "backorder", "12", "Ja",
     "auf Lager"],
)  # fmt: skip
def test_what_can_be_had_is_available(cell: str):
    assert coerce.parse_availability(pl.Series([cell, None])).to_list() == [True, None]


@pytest.mark.parametrize(
    "cell",
    ["out of stock", "out_of_stock", "OutOfStock", "discontinued", "false", "no", "0", "n", "Sold out", "0.0", "-3",
     "Nein", "ausverkauft",
     "https://schema.org/OutOfStock"],
)  # fmt: skip
def test_what_cannot_be_had_is_not_available(cell: str):
    assert coerce.to_dtype(pl.Series([cell, None]), "available", pl.Boolean(), "UTC").to_list() == [False, None]


@pytest.mark.parametrize("cell", ["", "NULL", "nan", "maybe", "3 left", "-"])
def test_other_words_say_nothing_of_availability(cell: str):
    assert coerce.parse_availability(pl.Series([cell])).to_list() == [None]


def test_typed_availability_stays():
    assert coerce.parse_availability(pl.Series([True, None, False])).to_list() == [True, None, False]
    assert coerce.parse_availability(pl.Series([3, 0, None])).to_list() == [True, False, None]


def test_words_for_nothing_fill_no_cell():
    cells = pl.Series(["NULL", "nan", " ", None, "N/A", "inf", "0", "x"])
    assert coerce.is_filled(cells).to_list() == [False] * 5 + [True] * 3
    assert coerce.is_filled(pl.Series([float("nan"), 0.0, None])).to_list() == [False, True, False]
    assert coerce.to_dtype(cells, "price", pl.Float64(), "UTC").to_list() == [None] * 6 + [0.0, None]
    assert coerce.to_dtype(pl.Series([float("nan"), 1.0]), "price", pl.Float64(), "UTC").to_list() == [None, 1.0]


def test_columns_of_the_log_are_coerced_by_what_they_hold():
    cells = pl.Series(["0", " a ", "undefined"])
    text = pl.String()
    assert coerce.to_dtype(cells, "customer_id", text, "UTC").to_list() == [None, "a", None]
    assert coerce.to_dtype(cells, "session_id", text, "UTC").to_list() == ["0", "a", None]
    assert coerce.to_dtype(cells, "device", pl.Categorical(), "UTC").to_list() == ["0", "a", None]
    # Somebody may have searched for it.
    assert coerce.to_dtype(cells, "query", text, "UTC").to_list() == ["0", "a", "undefined"]
    assert coerce.to_dtype(pl.Series(["eur", "€", "US$", "$"]), "currency", text, "UTC").to_list() == [
        "EUR",
        "EUR",
        "USD",
        None,
    ]
