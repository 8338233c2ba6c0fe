import csv
import io
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.common.errors import InputError
from features.sources.parsing.files import readers
from features.sources.parsing.text_files import chunks, csv_grammar

SEVERAL = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def read(file: Path, content: str | bytes, block: int = chunks.BLOCK) -> pl.DataFrame:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "BLOCK", block)
        return readers.read_table(file)


def cells_of(table: pl.DataFrame) -> list[tuple]:
    return table.drop(readers.RAGGED, readers.UNCLOSED, readers.REPEATED).rows()


def unclosed(table: pl.DataFrame) -> list[str]:
    return table[readers.UNCLOSED].drop_nulls().to_list()


@pytest.mark.parametrize("block", [1, 20, chunks.BLOCK])
@pytest.mark.parametrize(
    ("lines", "damaged"),
    [
        (['1,2026-01-05,"Tea', "2,2026-01-06,Mug", "3,2026-01-07,Pot"], [0]),  # open to the end of the file
        (['1,2026-01-05,"Tea', '2,2026-01-06,"Mug"', "3,2026-01-07,Pot"], [0]),  # another opens within it
        (['1,2026-01-05,"Tea', "2,2026-01-06,Mug", '3,2026-01-07,Pot 5"'], [0]),  # an inch mark closes it
        (['1,2026-01-05,"Tea', '2,2026-01-06,Pot 5"', "3,2026-01-07,Mug"], [0]),  # on the next line
        (['1,2026-01-05,"so" they say', "2,2026-01-06,Mug", "3,2026-01-07,Pot"], [0]),
        (['1,"2026-01-05,Tea', '2,"2026-01-06",Mug', "3,2026-01-07,Pot"], [0]),
        (["1,2026-01-05,Tea", "2,2026-01-06,Mug", '3,2026-01-07,"Pot'], [2]),
        (['"1,2026-01-05,Tea', '"2,2026-01-06,Mug', '3,2026-01-07,"Pot"'], [0, 1]),
    ],
)
def test_a_quote_that_does_not_close_costs_its_own_line_alone(
    tmp_path: Path, lines: list[str], damaged: list[int], block: int
):
    table = read(tmp_path / "a.csv", "\n".join(["id,day,title", *lines]) + "\n", block)
    assert table.height == len(lines)
    assert unclosed(table) == [lines[n] for n in damaged]
    whole = [row for n, row in enumerate(cells_of(table)) if n not in damaged]
    assert [row[0] for row in whole] == [str(n + 1) for n in range(3) if n not in damaged]
    assert all(not re.search("[\n,]", cell or "") for row in whole for cell in row)


def test_cells_of_several_lines_stay(tmp_path: Path):
    text = (
        'id,title,note,price\n1,"Tea\ngreen",,2.50\n2,Mug,"Dear shop,\nblue, please, and soon\nyours",8\n'
        '3,"Pot\n\n""the big one""\n",x,9\n'
    )
    table = read(tmp_path / "a.csv", text)
    assert cells_of(table) == [
        ("1", "Tea\ngreen", None, "2.50"),
        ("2", "Mug", "Dear shop,\nblue, please, and soon\nyours", "8"),
        ("3", 'Pot\n\n"the big one"\n', "x", "9"),
    ]
    assert unclosed(table) == []


def test_a_sentence_with_commas_is_no_record_where_others_have_numbers(tmp_path: Path):
    text = 'id,title,price\n1,Tea,2.50\n2,"Mug\nblue, white, or red\nin a box",8\n3,"Pot\nlarge, round",9\n'
    assert [row[2] for row in cells_of(read(tmp_path / "a.csv", text))] == ["2.50", "8", "9"]


def test_blank_lines_are_no_rows_but_rows_of_empty_cells_are(tmp_path: Path):
    table = read(tmp_path / "a.csv", 'a,b\n\n1,2\n   \n,\n"x\n\ny",\r\n\r\n3,4\n \n')
    assert cells_of(table) == [("1", "2"), (None, None), ("x\n\ny", None), ("3", "4")]
    table = read(tmp_path / "a.tsv", "a\tb\n\t\n\n1\t2\n")
    assert cells_of(table) == [(None, None), ("1", "2")]


def test_the_longest_record_does_not_depend_on_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(csv_grammar, "LONGEST", 30)
    for size, damaged in ((20, 0), (40, 1)):
        text = f'a,b\n1,"{"x" * size}\ny"\n2,z\n'
        for block in (1, 16, 64, chunks.BLOCK):
            assert len(unclosed(read(tmp_path / "a.csv", text, block))) == damaged


def test_a_header_that_comes_again_is_a_row_of_its_own(tmp_path: Path):
    table = read(tmp_path / "a.csv", 'a,b\n1,2\na, "b"\na,b\n3,4\n'.replace(' "b"', '"b"'))
    assert cells_of(table) == [("1", "2"), (None, None), (None, None), ("3", "4")]
    assert table[readers.REPEATED].to_list() == [None, "a,b", "a,b", None]
    with pytest.raises(InputError, match=r"the header comes again in another order \(b,a\)"):
        read(tmp_path / "a.csv", "a,b\n1,2\nb,a\n2,1\n")


def test_blank_lines_do_not_depend_on_blocks(tmp_path: Path):
    for block in (1, 5, chunks.BLOCK):
        assert cells_of(read(tmp_path / "a.csv", "a,b\n1,2\n \n\n3,4\n", block)) == [("1", "2"), ("3", "4")]


def test_names_may_have_quotes_and_delimiters(tmp_path: Path):
    table = read(tmp_path / "a.csv", '"size ""inch""",5" pipe,"a, b"\n1,2,3\n')
    assert table.columns[:3] == ['size "inch"', '5" pipe', "a, b"]
    assert cells_of(table) == [("1", "2", "3")]


def test_columns_named_as_our_own_are_kept(tmp_path: Path):
    table = read(tmp_path / "a.csv", "_ragged,_extra_1,a\n1,2,3\n")
    assert cells_of(table) == [("1", "2", "3")]


TEXTS = st.text(st.sampled_from('aé–1" \n,;\t|'), max_size=8)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], str]:
    """Column names, rows, and the table as CSV. The first column numbers the rows: a shop's tables have such ones."""
    width = draw(st.integers(2, 5))
    rows = draw(st.lists(st.lists(TEXTS, min_size=width - 1, max_size=width - 1), min_size=1, max_size=6))
    names = [f"col {n}" for n in range(width)]
    rows = [[f"{n}.5", *row] for n, row in enumerate(rows)]
    out = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.writer(
        out,
        delimiter=draw(st.sampled_from(",;\t|")),
        quoting=quoting,
        lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
    )
    writer.writerows([names, *rows])
    return names, rows, out.getvalue()


@SEVERAL
@given(tables(), st.sampled_from([1, 7, 50]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]))
def test_what_was_written_is_read(tmp_path: Path, table: tuple, block: int, encoding: str):
    names, rows, text = table
    read_back = read(tmp_path / "a.csv", text.encode(encoding), block)
    assert read_back.equals(read(tmp_path / "a.csv", text))
    if not unclosed(read_back):
        assert [[cell or "" for cell in row] for row in cells_of(read_back)] == rows
        assert read_back.columns[: len(names)] == names
    else:  # only where a line within a cell is a record too
        # and its last line goes on with the cells behind it.
        lines = (line for row in rows for n in range(len(row)) for line in "|".join(row[n:]).split("\n")[1:])
        assert any(len(re.split("[,;\t|]", line)) >= len(names) for line in lines)


@st.composite
def damaged_tables(draw: st.DrawFn) -> str:
    """CSV of which each row's cells say its number, with quotes put in and taken out, and perhaps an end cut off."""
    width, height = draw(st.integers(3, 5)), draw(st.integers(2, 7))
    kinds = st.sampled_from(["{0}", "{0}, {0}", '{0} "q" {0}', "", "{0} y", "{0}\n{0}"])
    kind = [[draw(kinds) for _ in range(width - 1)] for _ in range(height)]
    rows = [[f"{n}.0", *(k.format(f"r{n}x") for k in ks)] for n, ks in enumerate(kind)]
    out = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    csv.writer(out, quoting=quoting, lineterminator="\n").writerows(rows)
    body = out.getvalue()
    change = draw(st.sampled_from(["insert", "at a cell", "remove", "cut"]))
    places = {
        "insert": range(len(body) + 1),
        "at a cell": [m.end() for m in re.finditer("(^|[,\n])", body)],
        "remove": [n for n, c in enumerate(body) if c == '"'] or [0],
        "cut": range(1, len(body)),
    }[change]
    at = draw(st.sampled_from(places))
    body = {
        "insert": f'{body[:at]}"{body[at:]}',
        "at a cell": f'{body[:at]}"{body[at:]}',
        "remove": body[:at] + body[at:].removeprefix('"'),
        "cut": body[:at],
    }[change]
    return ",".join(f"col{n}" for n in range(width)) + "\n" + body


@SEVERAL
@given(damaged_tables(), st.sampled_from([1, 9, 60]))
def test_every_line_of_a_damaged_file_is_accounted_for(tmp_path: Path, text: str, block: int):
    table = read(tmp_path / "a.csv", text)
    assert table.equals(read(tmp_path / "a.csv", text, block))
    lost = unclosed(table)
    rows = [row for row in cells_of(table) if any(cell is not None for cell in row)]
    lines = len(lost) + sum(1 + sum((cell or "").count("\n") for cell in row) for row in rows)
    assert lines == sum(bool(line.strip()) for line in text.split("\n")[1:])
    assert set(lost) <= set(text.split("\n"))
    for row in rows:  # no cell says what another row's cells say
        assert len(set(re.findall(r"r\d+x", " ".join(cell or "" for cell in row)))) <= 1
