import gzip
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.sources.inputs import describe_inputs, merge_currency, stated_currency


def mapping(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_mapping_is_its_content_not_its_layout(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_text("x\n1\n")
    texts = [
        "columns: {item_id: sku, customer_id: who}\ntimezone: UTC\n",
        "# comment\ntimezone: UTC\ncolumns:\n  customer_id: who\n  item_id: sku\n",
        "columns: {item_id: sku, customer_id: who}\ntimezone: Europe/Berlin\n",
    ]
    one, same, other = (
        describe_inputs("events", [file], mapping(tmp_path / f"{n}.yml", text)) for n, text in enumerate(texts)
    )
    assert None not in (one, same, other)
    assert one.mapping == same.mapping != other.mapping


def test_columns_are_known_of_text_parquet_and_json(tmp_path: Path):
    csv, packed, table, lines = (tmp_path / name for name in ("a.csv", "b.csv.gz", "c.parquet", "d.jsonl"))
    csv.write_text("a;b\n1;2\n")
    packed.write_bytes(gzip.compress(b"a;b\n1;2\n"))
    pl.DataFrame({"a": [1], "b": [2]}).write_parquet(table)
    lines.write_text('{"b": 1, "a": 2}\n')
    described = describe_inputs("events", [csv, packed, table, lines])
    assert described
    assert described.columns == ["a;b", "a;b", "a\nb", "a\nb"]


def test_a_file_that_is_not_there_is_left_to_the_reader(tmp_path: Path):
    assert describe_inputs("events", [tmp_path / "nowhere.csv"]) is None


def test_presets_and_tables_are_part_of_it():
    shopify = describe_inputs("events", preset="shopify")
    ga4 = describe_inputs("events", preset="ga4")
    table = describe_inputs("postgres", table="shop.orders")
    assert None not in (shopify, ga4, table)
    assert "Lineitem" in shopify.mapping
    assert ga4.source == "ga4"
    assert table.place == "shop.orders"


def test_currencies_of_mapping_and_command_line(tmp_path: Path):
    path = mapping(tmp_path / "m.yml", "currency: EUR\nrates: {USD: 0.92}\n")
    stated = stated_currency(path)
    assert stated == ("EUR", {"USD": 0.92})
    assert merge_currency(stated, None, ["GBP=1.2", "USD=0.9"]) == ("EUR", {"USD": 0.9, "GBP": 1.2})
    assert merge_currency((None, {}), "CHF", []) == ("CHF", {})
    with pytest.raises(InputError, match="a log has one currency"):
        merge_currency(stated, "USD", [])
    with pytest.raises(InputError, match=r"write it as USD=0\.92"):
        merge_currency(stated, None, ["USD:3"])
