import bz2
import codecs
import gzip
import io
import json
import lzma
import zipfile
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.common.errors import InputError
from features.sources.parsing.files import readers
from features.sources.parsing.text_files import chunks
from features.sources.parsing.text_files.dialect import recognise

TABLE = "name,timestamp,customer_id,item_id\nview_item,2026-01-05,1,A\n"
ROW = {"name": "view_item", "timestamp": "2026-01-05", "customer_id": "1", "item_id": "A"}


def write(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def zipped(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return out.getvalue()


def rows_of(path: Path, **options: str) -> list[dict]:
    table = readers.read_table(path, **options)
    return table.drop(c for c in readers.ADDED if c in table.columns).to_dicts()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "lines",
    [
        ["name{d}price{d}day", "Tea{d}1,50{d}05.01.2026", "Mug{d}2,50{d}06.01.2026"],
        ['"name, long"{d}"price; net"{d}day', "Tea{d}2{d}3"],
        ["name{d}price{d}day"],
        ['name{d}price{d}day', '"a;b,c|d"{d}"1;2"{d}"x,y"', '"a\n1;2;3\n4,5,6"{d}2{d}3'],
    ],
)  # fmt: skip
def test_the_delimiter_is_found_from_more_than_the_header(tmp_path: Path, delimiter: str, lines: list[str]):
    if delimiter == "," and "1,50" in lines[-2 if len(lines) > 1 else 0]:
        lines = [line.replace("1,50", '"1,50"').replace("2,50", '"2,50"') for line in lines]
    text = "\n".join(lines).replace("{d}", delimiter) + "\n"
    found = recognise(write(tmp_path / "a.csv", text))
    assert (found.delimiter, len(found.columns)) == (delimiter, 3)


@pytest.mark.parametrize(
    ("text", "row", "columns"),
    [
        ("Report: Orders\nGenerated: 2026-01-09\n\n" + TABLE, 4, 4),
        ("Report: Orders,,,\nFrom,2026-01-01,,\n" + TABLE, 3, 4),
        ("Report; Jan 9, 2026\n" + TABLE, 2, 4),
        ("sep=,\n" + TABLE, 2, 4),
        ("\n\n" + TABLE, 3, 4),
        (TABLE, 1, 4),
        ("a,b\n1\n2,3,4\n5,6,7\n", 1, 2),  # lines that are too long are no reason to take one for the header
        ("x,y\nu,v,w\nr,s,t\n", 1, 2),
        ("id\n1\n2\n", 1, 1),
    ],
)
def test_lines_above_the_header_are_told(tmp_path: Path, text: str, row: int, columns: int):
    found = recognise(write(tmp_path / "a.csv", text))
    assert (found.header_row, len(found.columns)) == (row, columns)
    above = text.count("\n", 0, text.index(TABLE)) - text.startswith("sep=") if TABLE in text else 0
    assert bool(found.notes) == (above > 0 and not text.startswith("\n"))


def test_header_cells_lose_marks_spaces_and_quotes(tmp_path: Path):
    path = write(tmp_path / "a.csv", '\ufeff"name" , timestamp,"customer_id",\nx,y,z,\n')
    assert recognise(path).columns == ("name", "timestamp", "customer_id", "column_4")


def test_of_columns_of_one_name_the_first_keeps_it(tmp_path: Path):
    path = write(tmp_path / "a.csv", "price,price_2,price\n1,2,3\n")
    assert rows_of(path) == [{"price": "1", "price_2": "2", "price_3": "3"}]
    (note,) = recognise(path).notes
    assert "more than one column is named price; the first is read under that name, the others as price_3" in note


def test_a_delimiter_can_be_named(tmp_path: Path):
    path = write(tmp_path / "a.csv", "a^b,c\n1^2,3\n")
    assert rows_of(path, delimiter="^") == [{"a": "1", "b,c": "2,3"}]
    with pytest.raises(InputError, match="delimiter '::' cannot separate cells"):
        recognise(path, delimiter="::")


ENCODED = {"utf-8": "Größe – €", "utf-8-sig": "Größe – €", "cp1252": "Größe – “€”", "utf-16": "Größe – €",
           "utf-16-le": "Größe – €", "utf-16-be": "Größe – €"}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("block", [1, 3, 1 << 20])
def test_encodings_are_recognised(tmp_path: Path, encoding: str, block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunks, "BLOCK", block)
    text = ENCODED[encoding]
    assert rows_of(write(tmp_path / "a.csv", f"id,title\r\n1,{text}\r\n2,x\r\n", encoding))[0]["title"] == text
    objects = "".join(json.dumps({"id": n, "title": text}, ensure_ascii=False) + "\n" for n in range(3))
    assert rows_of(write(tmp_path / "a.jsonl", objects, encoding))[2] == {"id": "2", "title": text}


def test_letters_that_are_utf_8_by_chance_follow_the_rest_of_the_file(tmp_path: Path):
    chance = "id,title\n1,CAFÉ–1\n2,x\n".encode("cp1252")
    assert rows_of(write(tmp_path / "a.csv", chance + "3,é\n".encode("cp1252")))[0]["title"] == "CAFÉ–1"
    assert rows_of(write(tmp_path / "b.csv", chance))[0]["title"] == "CAF\u02561"  # as likely as not
    mixed = "id,title\n1,Größe\n2,Дом\n".encode() + "3,Größe\n".encode("cp1252")
    assert [row["title"] for row in rows_of(write(tmp_path / "c.csv", mixed))] == ["Größe", "Дом", "Größe"]


def test_a_far_line_of_another_encoding_is_read(tmp_path: Path):
    lines = [b"id,title", *(b"%d,x" % n for n in range(20_000)), "7,Gr\u00fc\u00dfe \u2013".encode("cp1252")]
    assert rows_of(write(tmp_path / "a.csv", b"\n".join(lines)))[-1]["title"] == "Grüße –"


def test_an_encoding_can_be_named(tmp_path: Path):
    path = write(tmp_path / "a.csv", "id,title\n1,日本\n", "shift_jis")
    assert rows_of(path, encoding="shift_jis") == [{"id": "1", "title": "日本"}]
    path = write(tmp_path / "b.csv", "id,title\n1,ok\n2,Größe\n", "latin-1")
    with pytest.raises(InputError, match=r"b\.csv: line 3 has the byte 0xf6, which is no utf-8; name the encoding"):
        readers.read_table(path, encoding="utf8")
    for unknown in ("klingon", "base64", ""):
        with pytest.raises(InputError, match=f"encoding '{unknown}' is unknown; write it as utf-8"):
            readers.read_table(path, encoding=unknown)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", TABLE.replace(",", "\t")),
        ("a.txt", TABLE),
        ("a.tab", TABLE.replace(",", "\t")),
        ("a.csv", TABLE.replace("\n", "\r")),
        ("a.csv", TABLE.replace("\n", "\r\n")),
        ("a.csv", gzip.compress(TABLE.encode())),
        ("1446840000000.1446843600000.11111.gz", gzip.compress(TABLE.encode())),
        ("1446840000000.1446843600000.11111.gz", gzip.compress(json.dumps(ROW).encode())),
        ("a.csv.gz", gzip.compress(TABLE[:20].encode()) + gzip.compress(TABLE[20:].encode())),
        ("a.csv", zipped(orders__csv=TABLE)),
        ("a.zip", zipped(orders__csv=TABLE, README__txt="Thank you", __MACOSX="")),
        ("a.zip", zipped(orders__jsonl=json.dumps(ROW))),
        ("a.csv.bz2", bz2.compress(TABLE.encode())),
        ("a.csv.xz", lzma.compress(TABLE.encode())),
        ("a.csv.gz.zip", zipped(x=TABLE)),
        ("a.csv", json.dumps(ROW) + "\n"),
        ("export", TABLE),
    ],
)
def test_a_file_is_what_is_in_it(tmp_path: Path, name: str, content: str | bytes):
    assert rows_of(write(tmp_path / name, content)) == [ROW]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.gz", "a.zip"])
def test_tables_of_other_formats_under_a_wrong_name(tmp_path: Path, name: str, write_xlsx):
    pl.DataFrame([ROW]).write_parquet(tmp_path / "right.parquet")
    book = write_xlsx(tmp_path / "right.xlsx", {"s": [list(ROW), list(ROW.values())]})
    pack = {"a.gz": gzip.compress}.get(name, bytes)
    for right in (tmp_path / "right.parquet", book):
        assert rows_of(write(tmp_path / name, pack(right.read_bytes()))) == [ROW]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "<html><body>Login</body></html>", "is a web page"),
        ("a.csv", "\n <!-- x --><!DOCTYPE html>\n<html>", "is a web page"),
        ("a.json", "<html></html>", "is a web page"),
        ("a.csv", "", r"a\.csv is empty"),
        ("a.csv", "\ufeff \n\n", r"a\.csv is empty"),
        ("a.csv", b"%PDF-1.7 ", "is a PDF document"),
        ("a.parquet", TABLE, "does not begin as Parquet does"),
        ("a.csv.gz", gzip.compress(TABLE.encode() * 50)[:60], "cannot be read as CSV: it is cut short.*complete"),
        (
            "a.csv.zip",
            zipped(orders__csv=TABLE * 50)[:90],
            "cannot be read as CSV: what packs it is damaged or cut short",
        ),
        ("a.zip", zipped(a__csv=TABLE, b__csv=TABLE), r"zip file with 2 files in it: a\.csv, b\.csv\. Unpack it"),
        ("a.zip", zipped(), "zip file with no file in it"),
        ("a.csv.zst", b"\x28\xb5\x2f\xfd....", "packed with zstd; unpack it first"),
        ("a.yml", "columns: x\n", r"cannot tell the format from '\.yml'"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, name: str, content: str | bytes, message: str):
    with pytest.raises(InputError, match=message):
        readers.read_table(write(tmp_path / name, content))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.gz"])
@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('[{"a": 1}]', r"one JSON array; .*`jq -c '\.\[\]'` does it"),
        (' [\n {\n "a": 1}\n]', r"one JSON array; .*`jq -c '\.\[\]'` does it"),
        ("[\n", r"one JSON array"),
        ("[]", r"one JSON array"),
        ('{\n  "a": 1\n}\n', r"one JSON object over several lines; .*`jq -c \.` does it"),
        ('{"a": [\n1]}', r"one JSON object over several lines"),
    ],
)
def test_json_that_is_not_one_object_per_line_is_told_how_to_be(tmp_path: Path, name: str, text: str, hint: str):
    path = write(tmp_path / name, gzip.compress(text.encode()) if name == "a.gz" else text)
    for read in (readers.read_table, readers.read_column_names, lambda p: list(readers.read_lines(p))):
        with pytest.raises(InputError, match=hint):
            read(path)


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": 1, "tags": ["a"]}, {"id": "2"}]',
        '{"products": [\n{"id": 1, "tags": ["a"]}, {"id": "2"}], "count": 2, "next": []}',
        '{"products": [{"id": 1, "tags": ["a"]}, {"id": "2"}]}',
        '{"id": 1, "tags": ["a"]}\n{"id": "2"}\n',
    ],
)
def test_catalogs_may_be_one_json_document(tmp_path: Path, text: str):
    table = readers.read_catalog_table(write(tmp_path / "a.json", text))
    assert table["id", "tags"].rows() == [("1", '["a"]'), ("2", None)]


def test_a_catalog_of_one_line_is_its_product(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", '{"id": 1, "variants": [{"sku": "a"}, {"sku": "b"}]}\n')
    assert readers.read_catalog_table(path)["id"].to_list() == ["1"]


def test_a_json_document_without_one_array_is_refused(tmp_path: Path):
    path = write(tmp_path / "a.json", '{"a": [{"id": 1}], "b": [{"id": 2}]}')
    with pytest.raises(InputError, match=r"several arrays of objects: a, b; .*jq -c '\.a\[\]'"):
        readers.read_catalog_table(path)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["a.csv", "a.json", "a.txt", "a.xml", "a.gz", "a"]))
def test_bytes_of_any_kind_are_read_or_refused(tmp_path: Path, content: bytes, name: str):
    path = write(tmp_path / name, content)
    with suppress(InputError):  # and nothing else
        readers.read_table(path)


def test_marks_of_utf_16_without_an_end(tmp_path: Path):
    with pytest.raises(InputError, match=r"a\.csv cannot be read as CSV: .*complete"):
        readers.read_table(write(tmp_path / "a.csv", codecs.BOM_UTF16_LE + "a,b\n1,2".encode("utf-16-le") + b"\x31"))
