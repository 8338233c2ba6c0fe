from pathlib import Path

import pytest

from features.common.errors import InputError
from features.sources.parsing.mapping.expressions import ColumnPart, HashedPart, TemplatePart
from features.sources.parsing.mapping.mapping import Mapping

WHOLE = """
encoding: cp1252
delimiter: ";"
decimal: ","
dates: "%d.%m.%Y %H:%M"
timezone: Europe/Berlin
currency: €
rates: {usd: 0.92}
fill_down: {by: Name, columns: [Financial Status, Created at]}
explode: events
join: {has: [order_id, user_id], on: order_id}
where:
  Financial Status: [paid, partially_paid]
  Status: {not: [cancelled, no]}
  parent_item_id: empty
columns:
  item_id: [Lineitem sku, Lineitem name]
  order_id: "{store}-{Name}"
  customer_id: [Customer ID, {hash: Email}]
constants: {name: purchase, timestamp: 2022-08-01}
names: {1: view_item}
negative_quantity: refund
refunds: {where: {Financial Status: [refunded]}, timestamp: Cancelled at}
placeholders: {customer_id: [0]}
email: Email
payment_token: Card
catalog: {file: products.csv, columns: {item_id: SKU}}
items: {columns: {item_id: Variant SKU}}
files:
  - has: [Handle, Variant SKU]
    items: {columns: {item_id: Variant SKU}}
"""


def load(folder: Path, text: str) -> Mapping:
    (folder / "shop.yml").write_text(text)
    return Mapping.load(folder / "shop.yml")


def test_every_key_is_read(tmp_path: Path):
    mapping = load(tmp_path, WHOLE)
    assert mapping.columns["item_id"].columns == ("Lineitem sku", "Lineitem name")
    assert mapping.columns["order_id"].parts == (TemplatePart("{store}-{Name}"),)
    assert mapping.columns["customer_id"].parts == (ColumnPart("Customer ID"), HashedPart("Email"))
    assert mapping.constants["timestamp"] == "2022-08-01"
    assert [str(condition) for condition in mapping.where.values()] == [
        "[paid, partially_paid]", "{not: [cancelled, no]}", "empty",
    ]  # fmt: skip
    assert (mapping.currency, mapping.rates) == ("EUR", {"USD": 0.92})
    assert mapping.placeholders == {"customer_id": ["0"]}
    assert mapping.join[0].on == ["order_id"]
    assert mapping.hashed_columns == ("Email", "Card")
    assert mapping.catalog is not None
    assert mapping.catalog.file == tmp_path / "products.csv"


def test_parts_of_files_take_the_settings_around_them(tmp_path: Path):
    (part,) = load(tmp_path, WHOLE).files
    assert (part.decimal, part.timezone, part.names) == (",", "Europe/Berlin", {"1": "view_item"})
    assert part.columns == {}


def test_an_empty_mapping_is_one(tmp_path: Path):
    assert load(tmp_path, "") == Mapping()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("colums: {name: x}", "colums: no such key; did you mean columns"),
        ("zzz: 1", "zzz: no such key; there are has, encoding"),
        ("decimal: x", r"decimal: .*write it as in `decimal: \",\"`"),
        ("dates: foo", "dates: 'foo' is no format; write day first"),
        ("where: {a: {no: x}}", r"where\.a: .* is no condition; write a list of values"),
        ("where: {any: [{a: {no: x}}]}", r"where\.any: a: .* is no condition; write a list of values"),
        ("where: {all: [{any: [{a: []}]}]}", r"where\.all: any: a: .* is no condition"),
        ("where: {a: [{b: empty}]}", "where: a has several sets of conditions; .* and sets under any or all"),
        ("where: {any: []}", r"where\.any: .* is no condition"),
        ("where: {any: {a: empty}}", r"where\.any: .* is no condition"),
        ("price_of: lines", r"price_of: .*write it as in `price_of: line`"),
        ("where: {a: []}", r"where\.a: .* is no condition"),
        ("fill_down: {by: x}", r"fill_down\.columns: .*`fill_down: \{by"),
        ("files: [{columns: {name: x}}]", r"files\.0 says not which files it is for; write has"),
        ("files: [{has: a, fil_down: 2}]", r"files\.0\.fil_down: no such key; did you mean fill_down"),
        ("join: {on: order_id}", r"join\.0: says not which file is meant; write has"),
        ("encoding: utf-99", "encoding: no such encoding 'utf-99'; write utf-8"),
        ("delimiter: and", "delimiter: 'and' is no delimiter"),
        ("rates: {USD: 0.9}", "rates need the currency they lead to; write currency: EUR"),
        ("currency: Euro", "currency: 'EURO' is no currency; write its three letters"),
        ("catalog: {columns: {x: b}}", r"catalog\.columns\.x: no such column of a catalog; there are item_id"),
        ("placeholders: {name: [x]}", r"placeholders\.name.*no such id; there are event_id"),
        ("columns: {name: }", r"columns\.name: None is no column; write a column"),
        ("email: {hash: Email}", "email: takes a column or a list of columns"),
    ],
)
def test_a_fault_says_file_key_and_what_to_write(tmp_path: Path, text: str, fault: str):
    with pytest.raises(InputError, match=rf"(?s)shop\.yml does not fit: .*{fault}"):
        load(tmp_path, text)
