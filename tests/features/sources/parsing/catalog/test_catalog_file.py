"""Catalog files: products in the shop's own columns and in Google's, damaged rows, and words of availability."""

import json
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.sources.parsing.catalog.catalog_file import ShopCatalog
from features.sources.parsing.mapping.mapping import Mapping

FEEDS = {
    "feed.csv": "id,title,availability,price,brand,product_type\n"
    '00042,"Mug, blue",in_stock,12.00 EUR,Leaf,Home > Kitchen\n',
    "feed.tsv": "id\ttitle\tavailability\tprice\tbrand\tgoogle_product_category\tproduct_type\tsale_price\n"
    "00042\tMug, blue\tin_stock\t15.00 EUR\tLeaf\t\tHome > Kitchen\t12.00 EUR\n",
    "feed.xml": '<?xml version="1.0"?>\n<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>Shop'
    "</title><item><g:id>00042</g:id><g:title>Mug, blue</g:title><g:price>12.00 EUR</g:price><g:availability>in_stock"
    "</g:availability><g:brand>Leaf</g:brand><g:product_type>Home &gt; Kitchen</g:product_type></item></channel></rss>",
    "feed.json": json.dumps([{"id": "00042", "title": "Mug, blue", "availability": "in stock", "price": "12.00 EUR",
                              "brand": "Leaf", "product_type": "Home > Kitchen"}]),
    "own.csv": "item_id,title,available,price,brand,category\n"
    '00042,"Mug, blue",In Stock,12.00 EUR,Leaf,Home > Kitchen\n',
}  # fmt: skip


def load(
    folder: Path, text: str, settings: str = "", name: str = "p.csv"
) -> tuple[pl.DataFrame, list[tuple], list[str]]:
    """The rows, the numbers and reasons of rejected rows, and the notes of a catalog."""
    (folder / name).write_text(text)
    (folder / "shop.yml").write_text(f"catalog: {{file: {name}, {settings}}}")
    mapping = Mapping.load(folder / "shop.yml").catalog
    assert mapping is not None
    catalog = ShopCatalog.read(mapping)
    rows, rejected = catalog.take()
    assert catalog.take()[0].is_empty()
    return rows, rejected.select("row", "reason").rows(), catalog.notes


@pytest.mark.parametrize("name", FEEDS)
def test_product_feeds_are_recognised(tmp_path: Path, name: str):
    (row,) = load(tmp_path, FEEDS[name], name=name)[0].rows(named=True)
    assert (row["item_id"], row["title"], row["brand"]) == ("00042", "Mug, blue", "Leaf")
    assert (row["price"], row["currency"], row["available"]) == (12.0, "EUR", True)
    assert row["category"] == "Home/Kitchen"


@pytest.mark.parametrize(
    ("word", "available"),
    [
        ("in stock", True), ("OUT_OF_STOCK", False), ("preorder", True), ("https://schema.org/InStock", True),
        ("12", True), ("0", False), ("-3", False), ("", True), ("draft", False), ("maybe", None),
    ],
)  # fmt: skip
def test_words_of_availability(tmp_path: Path, word: str, available: bool | None):
    rows, rejected, _ = load(tmp_path, f"item_id,available\ni0,yes\ni1,{word}\n")
    assert rows["available"].to_list() == [True, *([] if available is None else [available])]
    assert rejected == ([(1, "catalog_bad_available")] if available is None else [])


def test_own_columns_conditions_and_cells_filled_down(tmp_path: Path):
    text = "Handle;Title;SKU;Price;Status\nmug;Mug;00042;1.299,00;active\nmug;;00043;1.299;active\nmug;;;;\n"
    text += "tea;Tea;00044;4,50;archived\n"
    settings = "columns: {item_id: SKU, title: Title, price: Price}, fill_down: {by: Handle, columns: [Title]}, "
    rows, rejected, notes = load(tmp_path, text, settings + "where: {Status: {not: [archived]}, sku: filled}")
    assert rows.select("item_id", "title", "price").rows() == [("00042", "Mug", 1299.0), ("00043", "Mug", 1299.0)]
    assert rejected == []
    assert "p.csv: 1 row of the catalog left out by Status: {not: [archived]}" in notes
    assert notes[-1] == "p.csv: catalog of 2 items"


def test_prices_are_converted(tmp_path: Path):
    text = "item_id,price\na,12 EUR\nb,10 USD\nc,900 JPY\nd,5\n"
    rows, rejected, _ = load(tmp_path, text, "currency: EUR, rates: {USD: 0.5}")
    assert rows.select("item_id", "price", "currency").rows() == [("a", 12, "EUR"), ("b", 5, "EUR"), ("d", 5, "EUR")]
    assert rejected == [(2, "catalog_no_rate_for_currency")]


@pytest.mark.parametrize(
    ("text", "settings", "fault"),
    [
        (
            "sku,title\n1,Mug\n",
            "",
            r"has no column item_id\. Say which it is, as in `catalog: \{file.*Its columns: sku, title",
        ),
        (
            "sku,title\n1,Mug\n",
            "columns: {item_id: SKUs}",
            r"lacks columns the mapping names: SKUs \(for item_id; did you mean sku\?\)",
        ),
        (
            "item_id,price\n1,x\n,2\n",
            "",
            r"no usable row: all 2 are rejected\. Row 0 \(from 0\) is bad_price, as price 'x'",
        ),
        ("item_id,price\n1,2\n", "where: {price: [3]}", "has no row that may be read; see `where`"),
    ],
)
def test_a_catalog_that_names_no_items_is_refused(tmp_path: Path, text: str, settings: str, fault: str):
    with pytest.raises(InputError, match=fault):
        load(tmp_path, text, settings)
