import polars as pl
import pytest

from features.common import currencies


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("eur", "EUR"), (" EUR ", "EUR"), ("€", "EUR"), ("£", "GBP"), ("¥", "JPY"), ("￥", "JPY"), ("US$", "USD"),
        ("$US", "USD"), ("CA$", "CAD"), ("$ CA", "CAD"), ("C$", "CAD"), ("R$", "BRL"), ("USD$", "USD"), ("zł", "PLN"),
        ("Kč", "CZK"), ("Fr.", "CHF"), ("xbt", "XBT"), ("$", None), ("kr", None), ("", None), ("NULL", None),
        ("nan", None),
        ("N/A", None), ("points", None), ("E", None),
    ],
)  # fmt: skip
def test_a_currency_has_one_code(written: str, code: str | None):
    assert currencies.currency_code(written) == code
    assert currencies.parse_currency(pl.Series([written, None, "EUR"])).to_list() == [code, None, "EUR"]


def test_clean_codes_stay_as_they_are():
    codes = pl.Series("currency", ["EUR", None, "USD"])
    assert currencies.parse_currency(codes).equals(codes)
    assert currencies.parse_currency(codes.cast(pl.Categorical)).to_list() == codes.to_list()


def test_what_several_currencies_are_called_is_a_currency():
    assert currencies.is_currency("$")
    assert currencies.is_currency("kr.")
    assert not currencies.is_currency("pcs")
    assert not currencies.is_currency("%")


def test_signs_of_several_currencies():
    cells = pl.Series(["$12", "12 kr.", "US$ 1", "12 €", "KR", "krona", None, "1.5"])
    assert currencies.shared_signs(cells).to_list() == ["$", "KR", "$", None, "KR", None, None, None]
    assert currencies.may_stand_for("$", "USD")
    assert not currencies.may_stand_for("$", "EUR")
    assert currencies.may_stand_for("KR", "SEK")
    assert not currencies.may_stand_for("KR", "USD")
    assert currencies.may_stand_for("JPY", "CNY")
    assert not currencies.may_stand_for("JPY", "EUR")
