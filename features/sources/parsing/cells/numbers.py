"""Numbers: quantities and amounts as shops write them, in any notation.

A cell such as `19,99`, `1.299,00` or `1'299.50` says by itself which sign is its decimal mark. One such as `1.299`,
with a single point or comma before exactly three digits, does not: it is read by the column's decision, which
`evidence` over the column's other cells gives.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import polars as pl

from features.common.currencies import is_currency, named_currency
from features.common.text_views import Rows, TextViews
from features.sources.parsing.cells.characters import to_ascii

DecimalMark = Literal[".", ","]

_CURRENCY = r"\p{L}{0,3} ?\p{Sc}(?: ?\p{L}{1,3})?|\p{L}{1,5}\.?"
# Sign and currency may stand before or behind; what is in brackets is negative.
_AMOUNT = (
    r"^(?P<open>\()?\s*(?P<sign_1>[+-])?\s*(?P<currency_1>" + _CURRENCY + r")?\s*(?P<sign_2>[+-])?\s*"
    r"(?P<number>[0-9.,٫][0-9.,٫' ]*)"
    r"(?P<sign_3>-)?\s*(?P<currency_2>" + _CURRENCY + r")?\s*(?P<sign_4>-)?\s*(?P<close>\))?$"
)  # fmt: skip
_EVEN = r"([0-9])([.,]) ?--?"  # 5,- and 5.-- are even amounts

_GROUP = r"[1-9][0-9]{0,2}"
_AMBIGUOUS = rf"^{_GROUP}[.,][0-9]{{3}}$"
_INDIAN = r"[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}"
# Pattern → the mark of decimals it shows; the other signs are of thousands.
_POINT = (
    rf"^(?:[0-9]*\.[0-9]+|{_GROUP}(?:[', ][0-9]{{3}})+\.[0-9]+|{_GROUP}(?:,[0-9]{{3}}){{2,}}\.?"
    rf"|{_INDIAN}(?:\.[0-9]*)?)$"
)
_COMMA = rf"^(?:[0-9]*,[0-9]+|{_GROUP}(?:[.' ][0-9]{{3}})+,[0-9]+|{_GROUP}(?:\.[0-9]{{3}}){{2,}},?)$"
_NEITHER = rf"^(?:[0-9]+[.,٫]?|{_GROUP}(?:'[0-9]{{3}})+[.,٫]?|{_GROUP}(?: [0-9]{{3}})+[.,٫]?|[0-9' ]*٫[0-9]+)$"
_MIXED = r"'.* | .*'|,[0-9]*['. ].*,|\.[0-9]*[', ].*\.|,.* .*\.|\..* .*,|,.*'.*\.|\..*'.*,"


def parse(values: pl.Series, decimal: DecimalMark | None = None) -> pl.Series:
    """Parse `values` as float64; null where a value is no finite number.

    Cells that are ambiguous by themselves have `decimal` as their decimal mark, and are null without one. Amounts may
    have a currency before or behind them.
    """
    return split_amount(values, decimal)[0]


def split_amount(values: pl.Series, decimal: DecimalMark | None = None) -> tuple[pl.Series, pl.Series]:
    """Parse `values` as `parse` does; also return the code of the currency in each cell, null where it has none."""
    no_currency = pl.Series("currency", [None], pl.String).new_from_index(0, values.len())
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        number = values.cast(pl.Float64, strict=False)
        return number.set(~number.is_finite(), None), no_currency
    texts = values.cast(pl.String, strict=False)
    plain, rows = _parse_plain(texts)
    if not len(rows):
        return plain, no_currency
    cells = _read_distinct(texts.gather(rows))
    by_mark = {".": "as_point", ",": "as_comma", None: "as_neither"}
    number = cells.select(pl.coalesce("number", by_mark[decimal])).to_series()
    return plain.scatter(rows, number), no_currency.scatter(rows, cells["currency"])


def is_infinite(values: pl.Series) -> pl.Series:
    """Whether each cell is infinity, in a number or in words: what a division by zero left."""
    number = values if values.dtype.is_float() else values.cast(pl.String, strict=False).str.strip_chars()
    return number.cast(pl.Float64, strict=False).is_infinite().fill_null(False)


def is_ambiguous(values: pl.Series) -> pl.Series:
    """Whether each cell is a number whose decimal mark cannot be told from itself; null is none."""
    none = pl.repeat(False, values.len(), dtype=pl.Boolean, eager=True)
    if values.dtype.is_numeric():
        return none
    texts = values.cast(pl.String, strict=False)
    _, rows = _parse_plain(texts)
    if not len(rows):
        return none
    return none.scatter(rows, _read_distinct(texts.gather(rows))["as_point"].is_not_null())


def evidence(values: pl.Series) -> tuple[int, int]:
    """Count the cells that show a decimal point, and those that show a decimal comma, by themselves."""
    if values.dtype.is_numeric():
        return 0, 0
    texts = values.cast(pl.String, strict=False)
    _, rows = _parse_plain(texts)
    plain = texts.clone().scatter(rows, None) if len(rows) else texts
    points = int(plain.str.contains(r"\.[0-9]").sum())
    cells = _read_distinct(texts.gather(rows))
    return points + int((cells["mark"] == ".").sum()), int((cells["mark"] == ",").sum())


def _parse_plain(texts: pl.Series) -> tuple[pl.Series, Rows]:
    """Parse cells as a computer writes numbers; also return the rows that are left, null as yet."""
    number = texts.cast(pl.Float64, strict=False)
    left = texts.is_not_null() & ~number.is_finite().fill_null(False)
    views = TextViews.of(texts)
    if views is None:
        ambiguous = texts.str.contains(_SIGNED_AMBIGUOUS).fill_null(False).arg_true().to_numpy()
    else:
        likely = views.rows(np.flatnonzero((views.sizes >= 5) & (views.sizes <= 8) & (views.tail(4) == 0x2E)))
        ambiguous = likely[texts.gather(likely).str.contains(_SIGNED_AMBIGUOUS).to_numpy()]
    rows = np.union1d(left.arg_true().to_numpy().astype(np.int64), ambiguous.astype(np.int64))
    return (number.scatter(rows, None) if rows.size else number), rows


_SIGNED_AMBIGUOUS = rf"^[+-]?{_AMBIGUOUS[1:]}"


def _read_distinct(texts: pl.Series) -> pl.DataFrame:
    """Read `texts`, each distinct one once."""
    distinct = texts.unique().alias("text")
    cells = _read(distinct)
    return texts.alias("text").to_frame().join(cells, on="text", how="left", maintain_order="left", nulls_equal=True)


def _read(texts: pl.Series) -> pl.DataFrame:
    """Read each text: text, number where it is clear, as_point and as_comma where it is not, mark and currency."""
    plain = to_ascii(texts).str.replace(_EVEN, "${1}${2}0")
    part = plain.str.extract_groups(_AMOUNT).struct.unnest()
    body = part["number"].str.strip_chars(" ")
    signs = [part[f"sign_{n}"].is_not_null().cast(pl.Int8) for n in range(1, 5)]
    brackets = part["open"].is_not_null()
    marks = signs[0] + signs[1] + signs[2] + signs[3] + brackets.cast(pl.Int8)
    negative = brackets | pl.concat([part[f"sign_{n}"].to_frame() for n in range(1, 5)], how="horizontal").select(
        pl.any_horizontal((pl.all() == "-").fill_null(False))
    ).to_series()  # fmt: skip
    valid = (marks <= 1) & (brackets == part["close"].is_not_null()) & ~body.str.contains(_MIXED)
    codes, known = _currencies(part["currency_1"], part["currency_2"])
    body = body.set(~(valid & known).fill_null(False), None)
    ambiguous = body.str.contains(_AMBIGUOUS).fill_null(False)
    clear = body.set(ambiguous, None)
    point, comma = clear.str.contains(_POINT).fill_null(False), clear.str.contains(_COMMA).fill_null(False)
    neither = clear.str.contains(_NEITHER).fill_null(False)
    as_point, as_comma = _value(body, "."), _value(body, ",")
    sign = negative.cast(pl.Float64) * -2.0 + 1.0
    frame = pl.DataFrame({
        "text": texts, "point": as_point * sign, "comma": as_comma * sign, "currency": codes,
        "is_point": point | neither, "is_comma": comma, "ambiguous": ambiguous,
        "mark": pl.select(pl.when(point).then(pl.lit(".")).when(comma).then(pl.lit(","))).to_series(),
    })  # fmt: skip
    return frame.select(
        "text",
        "mark",
        pl.when("is_point").then("point").when("is_comma").then("comma").alias("number"),
        pl.when("ambiguous").then("point").alias("as_point"),
        pl.when("ambiguous").then("comma").alias("as_comma"),
        pl.lit(None, pl.Float64).alias("as_neither"),
        "currency",
    ).with_columns(pl.when(pl.coalesce("number", "as_point").is_not_null()).then("currency").alias("currency"))


def _value(body: pl.Series, mark: DecimalMark) -> pl.Series:
    other = "," if mark == "." else "."
    digits = body.str.replace_many({other: "", "'": "", " ": ""}).str.replace_many({mark: ".", "٫": "."})
    return digits.str.strip_chars_end(".").cast(pl.Float64, strict=False)


def _currencies(first: pl.Series, second: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The code of the currency in two places, and whether what is there is a currency, and one only."""
    known = _apply(first, is_currency, pl.Boolean()).fill_null(True) & _apply(
        second, is_currency, pl.Boolean()
    ).fill_null(True)
    codes = [_apply(place, named_currency, pl.String()) for place in (first, second)]
    both = codes[0].is_not_null() & codes[1].is_not_null() & (codes[0] != codes[1]).fill_null(False)
    return codes[0].zip_with(codes[0].is_not_null(), codes[1]), known & ~both


def _apply(texts: pl.Series, function: Callable[[str], object], dtype: pl.DataType) -> pl.Series:
    distinct = texts.unique().drop_nulls()
    results = pl.Series([function(t) for t in distinct], dtype=dtype)
    return texts.replace_strict(distinct, results, default=None, return_dtype=dtype)
