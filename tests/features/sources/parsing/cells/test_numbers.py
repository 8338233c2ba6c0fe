from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.sources.parsing.cells import numbers


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("19,99", 19.99), ("19.99", 19.99), ("5", 5), ("1.299,00", 1299), ("1,299.00", 1299), ("1.299.000", 1299000),
        ("1,299,000", 1299000), ("1'299.50", 1299.5), ("1’299,50", 1299.5), ("1 299", 1299), ("1\u00a0299,5", 1299.5),
        ("1\u202f299,5", 1299.5), ("1,00,000", 100000), ("1,00,000.5", 100000.5), ("0.299", 0.299), ("0,299", 0.299),
        ("1234.567", 1234.567), ("1234,567", 1234.567), (".5", 0.5), (",5", 0.5), ("5.", 5), ("1e3", 1000), ("+5", 5),
        ("-5", -5), ("5-", -5), ("\u22125", -5), ("(5.00)", -5), ("５.５０", 5.5), ("٥٫٥", 5.5), ("١٬٢٩٩٫٥", 1299.5),
        ("'00042", 42), ("5,-", 5), ("5.--", 5), (" 5 ", 5), ("5\ufeff", 5),
    ],
)  # fmt: skip
def test_a_number_is_read_in_any_notation(written: str, number: float):
    column = pl.Series([written, None, "7"])
    for decimal in (None, ".", ","):
        assert numbers.parse(column, decimal).to_list() == [number, None, 7]
    assert not numbers.is_ambiguous(column).any()


@pytest.mark.parametrize(
    ("written", "number", "currency"),
    [
        ("$5.00", 5, None), ("12.00 EUR", 12, "EUR"), ("EUR 12,00", 12, "EUR"), ("1 234,50 €", 1234.5, "EUR"),
        ("€12", 12, "EUR"),
        ("-€5.00", -5, "EUR"), ("€ -5,00", -5, "EUR"), ("(€5.00)", -5, "EUR"), ("US$ 1,234.50", 1234.5, "USD"),
        ("5,00 $ CA", 5, "CAD"), ("$10.00 USD", 10, "USD"), ("R$ 1.234,50", 1234.5, "BRL"), ("kr 5,50", 5.5, None),
        ("Rs.500", 500, "INR"), ("1.299,- €", 1299, "EUR"), ("5,- €", 5, "EUR"), ("￥1,234,567", 1234567, "JPY"),
    ],
)  # fmt: skip
def test_an_amount_may_have_a_currency(written: str, number: float | None, currency: str | None):
    amounts, currencies = numbers.split_amount(pl.Series([written, "3"]))
    assert amounts.to_list() == [number, 3]
    assert currencies.to_list() == [currency, None]


@pytest.mark.parametrize(
    "bad",
    ["5%", "NaN", "nan", "NULL", "inf", "-Infinity", "", " ", "x", "1.2.3", "1,2345.67", "12 50", "1,299 000",
    "1'299 000",
     "(-5)", "--5", "-5-", "(5", "5 pcs", "EUR 5 USD", "5 10", "0x10", "1_000", ".", ",", "-", "€", "1.299,5,5",
     "2026-01-05"],
)  # fmt: skip
def test_other_texts_are_no_numbers(bad: str):
    for decimal in (None, ".", ","):
        assert numbers.parse(pl.Series([bad, "7"]), decimal).to_list() == [None, 7]
    assert not numbers.is_ambiguous(pl.Series([bad])).any()


@pytest.mark.parametrize("written", ["1.299", "1,299", "-1.299", "€1.299", "12,999 EUR", "(123.456)"])
def test_one_mark_before_three_digits_is_ambiguous(written: str):
    column = pl.Series([written])
    assert numbers.is_ambiguous(column).to_list() == [True]
    assert numbers.parse(column).to_list() == [None]
    by_mark = {mark: abs(numbers.parse(column, mark)[0]) for mark in (".", ",")}
    mark = "." if "." in written else ","
    assert by_mark[mark] < 1000 < by_mark["," if mark == "." else "."]


def test_evidence_is_what_cells_say_by_themselves():
    assert numbers.evidence(pl.Series(["1.299", "5", "5.", "x", None, "1'299"])) == (0, 0)
    assert numbers.evidence(pl.Series(["19.99", "1,299.00", "$5.5", "1,299,000", "0.299"])) == (5, 0)
    assert numbers.evidence(pl.Series(["19,99", "1.299,00", "5,5 €", "1.299.000", "0,299"])) == (0, 5)
    assert numbers.evidence(pl.Series([1.5, 2.5])) == (0, 0)


def test_typed_numbers_are_never_ambiguous():
    assert numbers.parse(pl.Series([1.299, float("nan"), float("inf"), None])).to_list() == [1.299, None, None, None]
    assert numbers.parse(pl.Series([1299])).to_list() == [1299]
    assert numbers.parse(pl.Series([Decimal("1.299")])).to_list() == [1.299]
    assert not numbers.is_ambiguous(pl.Series([1.299])).any()


# How locales write numbers: thousands, decimal mark, sizes of groups from the right.
LOCALES = {
    "en": (",", ".", 3), "de": (".", ",", 3), "fr": ("\u202f", ",", 3), "fr_old": ("\u00a0", ",", 3),
    "sv": (" ", ",", 3),
    "de_CH": ("’", ".", 3), "fr_CH": ("'", ",", 3), "hi": (",", ".", 2), "plain": ("", ".", 3),
    "plain_comma": ("", ",", 3),
}  # fmt: skip
DIGITS = ["0123456789", "０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९"]


def render(value: Decimal, thousands: str, decimal: str, group: int) -> str:
    sign, plain = ("-" if value < 0 else ""), f"{abs(value):f}"
    whole, _, fraction = plain.partition(".")
    head, groups = whole, []
    if thousands:
        size = 3
        while len(head) > size:
            head, part = head[:-size], head[-size:]
            groups.insert(0, part)
            size = group
    return sign + thousands.join([head, *groups]) + (decimal + fraction if fraction else "")


@settings(deadline=None, max_examples=200)
@given(
    st.decimals(min_value=-(10**9), max_value=10**9, places=3)
    | st.decimals(min_value=-(10**6), max_value=10**6, places=2)
    | st.decimals(min_value=-(10**9), max_value=10**9, places=0),
    st.sampled_from(sorted(LOCALES)),
    st.sampled_from(["{}", "{} €", "€{}", "EUR {}", "{}EUR", " {}\u00a0kr"]),
    st.sampled_from(DIGITS),
)
def test_a_number_is_read_as_itself_or_is_ambiguous(value: Decimal, locale: str, shape: str, digits: str):
    thousands, decimal, group = LOCALES[locale]
    written = render(value, thousands, decimal, group)
    written = shape.format(written.translate(str.maketrans("0123456789", digits)))
    column = pl.Series([written])
    read = numbers.parse(column)[0]
    # The locale's own mark always reads it, and no other number is read without one.
    assert numbers.parse(column, decimal).to_list() == [pytest.approx(float(value))]  # type: ignore[arg-type]
    if numbers.is_ambiguous(column)[0]:
        assert read is None
    else:
        assert read == pytest.approx(float(value))
    points, commas = numbers.evidence(column)
    assert not (commas if decimal == "." else points)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["1.299", "1,299", "19,99", "5", "x", None, "$5.00", "1e5", "nan"]), max_size=12))
def test_cells_are_read_alike_in_any_company(cells: list[str | None]):
    column = pl.Series(cells, dtype=pl.String)
    for decimal in (None, ".", ","):
        alone = [numbers.parse(pl.Series([c], dtype=pl.String), decimal)[0] for c in cells]
        assert numbers.parse(column, decimal).to_list() == alone
        assert numbers.parse(column.cast(pl.Categorical), decimal).to_list() == alone
    assert numbers.is_ambiguous(column).to_list() == [c in ("1.299", "1,299") for c in cells]


def test_infinity_in_words_is_infinite():
    cells = pl.Series(["inf", " -Infinity ", "NaN", "5", None, "x"])
    assert numbers.is_infinite(cells).to_list() == [True, True, False, False, False, False]
    assert numbers.is_infinite(pl.Series([float("inf"), 1.0, None])).to_list() == [True, False, False]
