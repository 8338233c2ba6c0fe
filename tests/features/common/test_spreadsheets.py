"""No cell of a CSV file that we write is a formula, and ids come back as they were."""

import csv
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.spreadsheets import unescape, write_csv
from features.sources.customer_ids import read_customer_ids
from tests.features.shop import examples

CELLS = [
    '=HYPERLINK("http://evil.example","x")',
    "+49 30 1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "＝1+1",
    "'=1",
    "''-1",
]
PLAIN = ["p1", "", "'quoted'", "1-2", "a=b", "'", "ä", " =1"]


def test_texts_that_are_formulas_get_an_apostrophe_and_numbers_stay(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {"=id": CELLS + PLAIN, "score": [-1.5] * 17, "category": pl.Series(CELLS + PLAIN, dtype=pl.Categorical)}
    )
    write_csv(table, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["'=id", "score", "category"]
    assert [row[0] for row in rows] == [row[2] for row in rows] == ["'" + cell for cell in CELLS] + PLAIN
    assert {row[1] for row in rows} == {"-1.5"}
    assert unescape(pl.Series([row[0] for row in rows])).to_list() == CELLS + PLAIN


@examples(200)
@given(texts=st.lists(st.text("'=+-@\t\r\nax, \";|", max_size=6), min_size=1, max_size=8))
def test_every_text_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    file = tmp_path_factory.getbasetemp() / "every.csv"
    write_csv(pl.DataFrame({"t": texts, "n": range(len(texts))}), file)
    with file.open(newline="", encoding="utf-8") as lines:
        cells = [row[0] for row in csv.reader(lines)][1:]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n")]
    assert unescape(pl.Series(cells, dtype=pl.String)).to_list() == texts


def test_a_list_of_customers_that_was_exported_has_their_ids(tmp_path: Path) -> None:
    customers = ["=1+1", "+49301", "-7", "@me", "'=x", "u'1", "u2"]
    table = pl.DataFrame({"customer_id": customers, "score": range(7)})
    write_csv(table, tmp_path / "segments.csv")
    table.write_parquet(tmp_path / "segments.parquet")
    assert read_customer_ids(tmp_path / "segments.csv") == customers
    assert read_customer_ids(tmp_path / "segments.parquet") == customers
