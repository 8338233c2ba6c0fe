import json
from pathlib import Path

import polars as pl
import pytest

from features.event_log.ingestion.ingest import ParsedBatch
from features.sources import events_file

GOOD = {"name": "purchase", "timestamp": "2026-01-05", "customer_id": "c1", "item_id": "A", "quantity": 1, "price": 2}


def read(path: Path, mapping: str = "") -> ParsedBatch:
    (path.parent / "m.yml").write_text(mapping)
    (parsed,) = events_file.read([path], path.parent / "m.yml")
    assert parsed.rows_read == parsed.events.height + parsed.rejected.height
    return parsed


def prices(parsed: ParsedBatch) -> list[float]:
    return parsed.events["price"].to_list()


def sheet(*changes: dict[str, object]) -> list[list[object]]:
    return [list(GOOD), *(list((GOOD | change).values()) for change in changes)]


@pytest.mark.parametrize("mapping", ["", 'decimal: ","'])
def test_numbers_of_a_workbook_are_never_ambiguous(tmp_path: Path, write_xlsx, mapping: str):
    file = write_xlsx(tmp_path / "e.xlsx", {"s": sheet({"price": 1.299}, {"price": 2.345})})
    assert prices(read(file, mapping)) == [1.299, 2.345]


def test_texts_of_a_workbook_follow_the_other_texts(tmp_path: Path, write_xlsx):
    rows = sheet({"price": 1.299}, {"price": "2.499"}, {"price": "19,99"}, {"price": 5.5})
    assert prices(read(write_xlsx(tmp_path / "e.xlsx", {"s": rows}))) == [1.299, 2499.0, 19.99, 5.5]
    parsed = read(write_xlsx(tmp_path / "f.xlsx", {"s": sheet({"price": "2.499"}, {"price": 5.5})}))
    assert prices(parsed) == [5.5]
    assert parsed.rejected["reason"].to_list() == ["ambiguous_price"]


def test_ids_that_a_workbook_has_shortened_are_refused(tmp_path: Path, write_xlsx):
    lost, kept = 12345678901234567890.0, "12345678901234567890"
    rows = sheet({"customer_id": lost}, {"customer_id": kept}, {"customer_id": 1234567890123456})
    parsed = read(write_xlsx(tmp_path / "e.xlsx", {"s": rows}))
    assert parsed.events["customer_id"].to_list() == [kept, "1234567890123456"]
    assert parsed.rejected.select("row", "reason").rows() == [(0, "scientific_id")]


@pytest.mark.parametrize("mapping", ["", 'decimal: ","'])
def test_numbers_of_json_are_never_ambiguous(tmp_path: Path, mapping: str):
    file = tmp_path / "e.jsonl"
    rows = [{"price": 1.299, "item_id": "1.299"}, {"price": 2.345}]
    file.write_text("".join(json.dumps(GOOD | row) + "\n" for row in rows))
    assert prices(read(file, mapping)) == [1.299, 2.345]


def test_texts_of_json_are_told_by_their_key(tmp_path: Path):
    file = tmp_path / "e.jsonl"
    lines = [
        json.dumps(GOOD | {"price": "1.299"}), json.dumps(GOOD | {"price": "2.499"}, separators=(",", ":")),
        json.dumps(GOOD | {"price": "3.499"}).replace(": ", "  :  "), json.dumps(GOOD | {"price": 1.299}),
    ]  # fmt: skip
    file.write_text("\n".join(lines))
    assert prices(read(file, 'decimal: ","')) == [1299.0, 2499.0, 3499.0, 1.299]
    file.write_text("\n".join([*lines, json.dumps(GOOD | {"price": 19.99})]))
    parsed = read(file)  # a number says nothing of texts
    assert prices(parsed) == [1.299, 19.99]
    assert set(parsed.rejected["reason"]) == {"ambiguous_price"}


def test_numbers_in_exploded_lists(tmp_path: Path):
    file = tmp_path / "e.jsonl"
    entries = [{"item_id": "1.299", "price": 1.299}, {"item_id": "B", "price": "2.499"}]
    file.write_text(json.dumps(GOOD | {"lines": entries}))
    mapping = 'explode: lines\ndecimal: ","\ncolumns: {item_id: lines.item_id, price: lines.price}'
    assert prices(read(file, mapping)) == [1.299, 2499.0]


def test_the_first_of_several_numbers(tmp_path: Path):
    rows = [GOOD | {"price": None, "a": 1.299, "b": 0.0}, GOOD | {"price": None, "a": None, "b": 1.125}]
    pl.DataFrame(rows).drop("price").write_parquet(tmp_path / "e.parquet")
    assert prices(read(tmp_path / "e.parquet", "columns: {price: [a, b]}")) == [1.299, 1.125]


def test_a_number_before_a_text(tmp_path: Path):
    table = pl.DataFrame([GOOD | {"a": 1.299, "b": "x"}, GOOD | {"a": None, "b": "2.499"}]).drop("price")
    table.write_parquet(tmp_path / "e.parquet")
    assert prices(read(tmp_path / "e.parquet", 'columns: {price: [a, b]}\ndecimal: ","')) == [1.299, 2499.0]


def test_a_joined_text_is_none_of_the_lines_numbers(tmp_path: Path):
    lines, orders = tmp_path / "lines.jsonl", tmp_path / "orders.csv"
    lines.write_text(json.dumps({"order_id": 1, "item_id": "A", "quantity": 1}))
    orders.write_text("order_id;customer_id;timestamp;price\n1;c;2026-01-05;1.299\n")
    (tmp_path / "m.yml").write_text(
        'join: {has: [customer_id, timestamp], on: order_id}\nconstants: {name: purchase}\ndecimal: ","\n'
    )
    (parsed,) = events_file.read([lines, orders], tmp_path / "m.yml")
    assert prices(parsed) == [1299.0]


def test_numbers_of_catalogs(tmp_path: Path):
    events, products = tmp_path / "e.jsonl", tmp_path / "p.json"
    events.write_text(json.dumps(GOOD))
    products.write_text(json.dumps([{"item_id": "A", "price": 1.299}, {"item_id": "B", "price": "2.499"}]))
    catalog = read(events, 'catalog: {file: p.json, decimal: ","}').catalog
    assert dict(catalog.filter(pl.col("price") != 2).select("item_id", "price").iter_rows()) == {"A": 1.299, "B": 2499}
