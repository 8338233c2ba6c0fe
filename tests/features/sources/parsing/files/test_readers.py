import gzip
import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.common.errors import InputError
from features.sources.parsing.cells import pii
from features.sources.parsing.files import readers
from features.sources.parsing.rows.nested import flatten
from features.sources.parsing.text_files import chunks, json_lines


def cells_of(table: pl.DataFrame) -> list[dict]:
    return table.drop(c for c in readers.ADDED if c in table.columns).to_dicts()


def test_csv_cells_stay_as_written(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_text("id,price\n007, 1.50\n8,abc\n")
    assert cells_of(readers.read_table(file)) == [{"id": "007", "price": " 1.50"}, {"id": "8", "price": "abc"}]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_separator_is_detected(tmp_path: Path, separator: str):
    file = tmp_path / "a.csv"
    file.write_text(f"a{separator}b\n1{separator}2\n")
    assert cells_of(readers.read_table(file)) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_csv_encodings(tmp_path: Path, encoding: str):
    file = tmp_path / "a.csv"
    file.write_bytes("title\n£5 café\n".encode(encoding))
    assert cells_of(readers.read_table(file)) == [{"title": "£5 café"}]


def test_a_csv_line_too_short_or_too_long_does_not_stop_the_file(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_text("a,b\n1\n2,3,4\n5,6,\n7,8,,9\n")
    table = readers.read_table(file)
    assert cells_of(table) == [
        {"a": "1", "b": None}, {"a": "2", "b": "3"}, {"a": "5", "b": "6"}, {"a": "7", "b": "8"},
    ]  # fmt: skip
    assert table[readers.RAGGED].to_list() == [None, "4", None, "9"]


@pytest.mark.parametrize("stray", ['5" pipe', 'say "hi', 'a "b" c'])
def test_a_quote_within_a_cell_is_a_character(tmp_path: Path, stray: str):
    file = tmp_path / "a.csv"
    file.write_text(f'a,b\n1,{stray}\n2,x\n3,"y, z"\n')
    table = readers.read_table(file)
    assert table["a"].to_list() == ["1", "2", "3"]
    assert table["b"].to_list() == [stray, "x", "y, z"]


def test_line_breaks_in_quotes_and_blank_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "a.csv"
    rows = [{"a": str(n), "b": f"two\nlines, {n}"} for n in range(50)]
    pl.DataFrame(rows).write_csv(file)
    monkeypatch.setattr(chunks, "BLOCK", 64)  # every piece ends somewhere in a row
    assert cells_of(readers.read_table(file)) == rows


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv"])
def test_compressed_files_are_decompressed(tmp_path: Path, name: str):
    file = tmp_path / name
    file.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert cells_of(readers.read_table(file)) == [{"a": "1", "b": "2"}]
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"cannot be read as CSV.*complete"):
        readers.read_table(file)


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_batches_hold_the_file_in_order(tmp_path: Path, name: str, rows: int, write_table):
    table = pl.DataFrame({"n": range(40), "t": [None, "x"] * 20})
    file = write_table(tmp_path / name, table)
    batches = list(readers.read_batches(file, rows))
    assert [offset for offset, _ in batches] == list(range(0, 40, rows))
    assert pl.concat([b for _, b in batches])["n"].cast(pl.Int64).to_list() == list(range(40))


def test_json_lines_read_the_same_beside_any_others(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1, "b": "x"}\n\n{"a": 2.0}\n{"a": "3", "b": {"c": [1]}}\n{"a": 4e1, "a": 5}\n')
    table = readers.read_table(file)
    assert table["a"].to_list() == ["1", "2", "3", "40"]
    assert table["b"].to_list()[:2] == ["x", None]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**140), 2**140) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abx"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
SHAPE = {
    "a": pl.String(),
    "b": pl.List(pl.Struct({"a": pl.String(), "x": pl.String()})),
    "x": pl.Struct({"b": pl.String()}),
}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abx"), JSON, max_size=3), min_size=1, max_size=6))
def test_a_line_reads_the_same_alone_and_beside_others(objects: list[dict]):
    lines = [json.dumps(o) for o in objects]
    alone = pl.concat([json_lines.parse([line], SHAPE) for line in lines])
    assert json_lines.parse(lines, SHAPE).equals(alone)
    beside_a_broken_one = json_lines.parse([*lines, "{"], SHAPE)
    assert beside_a_broken_one.head(len(lines)).equals(alone)
    assert beside_a_broken_one[readers.UNPARSED].to_list() == [None] * len(lines) + ["{"]


def test_a_json_array_is_an_error_with_a_hint(tmp_path: Path):
    (tmp_path / "a.json").write_text('[{"a": 1}]')
    with pytest.raises(InputError, match="one object per line"):
        list(readers.read_lines(tmp_path / "a.json"))


@pytest.mark.parametrize("bad", ["{oops", "[1, 2]", "7", '{"a": 1e999}'])
def test_a_line_that_is_no_json_object_is_a_row_of_its_own(tmp_path: Path, bad: str):
    file = tmp_path / "a.ndjson"
    file.write_text(f'{{"a": 1}}\n{bad}\n{{"a": "x"}}\n')
    table = readers.read_table(file)
    assert table["a"].to_list() == ["1", None, "x"]
    assert table[readers.UNPARSED].to_list() == [None, bad, None]


def test_excel_sheets_follow_one_another(tmp_path: Path, write_xlsx):
    sheets = {
        "one": [["a", "b"], [1, "x"]],
        "empty": [],
        "two": [["b", "a"], [datetime(2010, 12, 1, 8, 26), 2.5]],
    }
    table = readers.read_table(write_xlsx(tmp_path / "a.xlsx", sheets))
    assert table.to_dicts() == [
        {"a": "1", "b": "x", readers.SHEET: "one"},
        {"a": "2.5", "b": "2010-12-01 08:26:00", readers.SHEET: "two"},
    ]


@pytest.mark.parametrize("name", ["a.parquet", "a.xlsx", "a.csv", "a.PARQUET"])
def test_an_empty_file_is_an_error_that_names_it(tmp_path: Path, name: str):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=name):
        readers.read_table(tmp_path / name)


def test_truncated_parquet(tmp_path: Path):
    file = tmp_path / "a.parquet"
    pl.DataFrame({"a": range(1000)}).write_parquet(file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"a\.parquet cannot be read as Parquet.*complete"):
        readers.read_table(file)


def test_missing_file_directory_and_unknown_extension(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        readers.read_table(tmp_path / "a.csv")
    with pytest.raises(InputError, match="is a directory"):
        readers.read_table(tmp_path)
    (tmp_path / "a.yml").write_text("a\n1\n")
    with pytest.raises(InputError, match=r"'\.yml' or from what is in it; expected one of \.parquet"):
        readers.read_table(tmp_path / "a.yml")


@pytest.mark.parametrize("line", ['{"mail": "a@b.de", "x": 1}', '{"mail": "a\\u0040b.de"}', '{"u": "/?m=a%40b.de"}'])
def test_addresses_do_not_reach_the_copy_of_a_row(line: str):
    assert "b.de" not in pii.redact_text(line)
    assert "[redacted]" in pii.redact_text(line)


def test_bytes_in_parquet_are_texts(tmp_path: Path):
    cells = [b"caf\xc3\xa9", bytes.fromhex("ff" * 16), None]
    nested = [{"id": cell} for cell in cells]
    pl.DataFrame({"id": cells, "user": nested, "lines": [[n] for n in nested]}).write_parquet(tmp_path / "a.parquet")
    table = readers.read_table(tmp_path / "a.parquet")
    assert table["id"].to_list() == ["café", "ff" * 16, None]
    flat = flatten(table, "lines")
    assert flat["user.id"].to_list() == flat["lines.id"].to_list() == ["café", "ff" * 16, None]
