import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from features.errors import InputError
from features.sources import tables


def test_csv_cells_stay_as_written(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_text("id,price\n007, 1.50\n8,abc\n")
    assert tables.read(file).to_dicts() == [{"id": "007", "price": " 1.50"}, {"id": "8", "price": "abc"}]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_separator_is_found(tmp_path: Path, separator: str):
    file = tmp_path / "a.csv"
    file.write_text(f"a{separator}b\n1{separator}2\n")
    assert tables.read(file).to_dicts() == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_csv_encodings(tmp_path: Path, encoding: str):
    file = tmp_path / "a.csv"
    file.write_bytes("title\n£5 café\n".encode(encoding))
    assert tables.read(file).to_dicts() == [{"title": "£5 café"}]


def test_a_csv_line_too_short_or_too_long_does_not_stop_the_file(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_text("a,b\n1\n2,3,4\n5,6\n")
    assert tables.read(file).to_dicts() == [{"a": "1", "b": None}, {"a": "2", "b": "3"}, {"a": "5", "b": "6"}]


def test_json_lines_keep_their_types(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1, "b": "x"}\n\n{"a": 2}\n')
    assert tables.read(file).to_dicts() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]


@pytest.mark.parametrize("bad", ["{oops", "[1, 2]", "7", '{"a": NaN}'])
def test_a_line_that_is_no_json_object_is_a_row_of_its_own(tmp_path: Path, bad: str):
    file = tmp_path / "a.ndjson"
    file.write_text(f'{{"a": 1}}\n{bad}\n{{"a": "x"}}\n')
    table = tables.read(file)
    assert table["a"].to_list() == ["1", None, "x"]
    assert table[tables.UNPARSED].to_list() == [None, bad, None]


def test_excel_sheets_follow_one_another(tmp_path: Path, write_xlsx):
    sheets = {
        "one": [["a", "b"], [1, "x"]],
        "empty": [],
        "two": [["b", "a"], [datetime(2010, 12, 1, 8, 26), 2.5]],
    }
    table = tables.read(write_xlsx(tmp_path / "a.xlsx", sheets))
    assert table.to_dicts() == [
        {"a": "1", "b": "x", tables.SHEET: "one"},
        {"a": "2.5", "b": "2010-12-01 08:26:00", tables.SHEET: "two"},
    ]


@pytest.mark.parametrize("name", ["a.parquet", "a.xlsx", "a.csv", "a.PARQUET"])
def test_an_empty_file_is_an_error_that_names_it(tmp_path: Path, name: str):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=name):
        tables.read(tmp_path / name)


def test_truncated_parquet(tmp_path: Path):
    file = tmp_path / "a.parquet"
    pl.DataFrame({"a": range(1000)}).write_parquet(file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"a\.parquet cannot be read as Parquet.*complete"):
        tables.read(file)


def test_missing_file_directory_and_unknown_extension(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        tables.read(tmp_path / "a.csv")
    with pytest.raises(InputError, match="is a directory"):
        tables.read(tmp_path)
    (tmp_path / "a.txt").write_text("a\n1\n")
    with pytest.raises(InputError, match=r"'\.txt'; expected one of \.parquet"):
        tables.read(tmp_path / "a.txt")


def test_ids_stored_as_floats_are_whole_again():
    assert tables.identifiers(pl.Series([13085.0, 1.5, None])).to_list() == ["13085", "1.5", None]
    assert tables.identifiers(pl.Series([" 0042 ", "", "a b"])).to_list() == ["0042", None, "a b"]
    assert tables.identifiers(pl.Series([42, None])).to_list() == ["42", None]


def test_raw_rows_of_any_type_are_json():
    source = pl.DataFrame({
        "when": [datetime(2020, 1, 1, 12), None],
        "day": [date(2020, 1, 1), None],
        "bytes": [b"x", None],
        "cost": [Decimal("1.10"), None],
        "ids": [[1, 2], None],
        "kind": pl.Series(["a", None], dtype=pl.Categorical),
        "n": [1, None],
    })  # fmt: skip
    rejected = pl.DataFrame({"row": [1, 0], "raw": [None, None]})
    empty, full = map(json.loads, tables.with_raw(rejected, source)["raw"])
    assert set(empty.values()) == {None}
    assert full["n"] == 1
    assert full["ids"] == [1, 2]
    assert full["cost"] == "1.10"
    assert full["when"].startswith("2020-01-01 12:00")
