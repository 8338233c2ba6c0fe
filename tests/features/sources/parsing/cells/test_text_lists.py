import json

import polars as pl
import pytest

from features.sources.parsing.cells import text_lists

CELL = (
    "Product ID: 100, Product Qty: 1, Product SKU: A-1, Product Name: Leopard, blue | Legging, "
    "Product Variation Details: Size: S (4), Colour: Blue, Product Unit Price: 67.50|Product ID: 115, Product Qty: 2, "
    "Product SKU: , Product Name: Capri, Product Variation Details: , Product Unit Price: $66.50"
)
ENTRIES = [
    {"Product SKU": "A-1", "Product Name": "Leopard, blue | Legging", "Product Unit Price": "67.50"},
    {"Product SKU": None, "Product Name": "Capri", "Product Unit Price": "$66.50"},
]


@pytest.mark.parametrize("between", ["|", " | ", " ", "\n"])
def test_entries_of_named_values(between: str):
    cells = pl.Series("products", [CELL.replace("|Product", f"{between}Product")])
    assert text_lists.parse(cells, list(ENTRIES[0])).to_list() == [ENTRIES]


def test_a_list_of_json():
    cells = pl.Series("p", [json.dumps([{"sku": "A", "qty": 1, "price": 1.10}, {"sku": None}, 7]), "[{broken", "{}"])
    parsed = text_lists.parse(cells, ["sku", "qty", "price"])
    first, second = {"sku": "A", "qty": "1", "price": "1.1"}, {"sku": None, "qty": None, "price": None}
    assert parsed.to_list() == [[first, second], [], []]


def test_cells_that_hold_no_list_are_empty():
    assert text_lists.parse(pl.Series("p", [None, "", "none", "42", ": x"]), ["a"]).to_list() == [[]] * 5


def test_keys_are_found_in_order():
    keys = text_lists.find_keys([None, CELL, '[{"more": 1}]'])
    assert keys == [
        "Product ID", "Product Qty", "Product SKU", "Product Name", "Product Variation Details", "Product Unit Price",
        "more",
    ]  # fmt: skip
