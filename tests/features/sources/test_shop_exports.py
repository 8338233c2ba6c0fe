"""Exports as shops have them: what mappings make of order lines, statuses, returns, nested lists and joined files."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.schema import FILE
from features.sources import events_file

Read = Callable[..., ParsedBatch]

SHOPIFY = """Name,Email,Financial Status,Currency,Created at,Lineitem quantity,Lineitem price,Lineitem sku,\
Lineitem name,Cancelled at,Id
#1001,ann@shop.example,paid,EUR,2026-03-01 09:50:24 +0200,1,12.00,00042,"Mug, blue",,741
#1001,ann@shop.example,,,2026-03-01 09:50:24 +0200,2,20.95,TEA/GR-1,"Tea
green",,
#1002,bob@shop.example,refunded,EUR,2026-03-02 10:00:00 +0200,1,12.00,00042,"Mug, blue",2026-03-03 10:00:00 +0200,742
#1003,,paid,EUR,2026-03-05 10:00:00 +0200,1,20.95,,"Tea
green",,743
#1004,cid@shop.example,voided,EUR,2026-03-06 10:00:00 +0200,1,12.00,00042,"Mug, blue",,744
"""
SHOPIFY_MAPPING = """
fill_down: {by: Name, columns: [Financial Status, Currency]}
where: {Financial Status: {not: [voided]}}
refunds: {where: {Financial Status: [refunded]}, timestamp: Cancelled at}
columns:
  timestamp: Created at
  item_id: [Lineitem sku, Lineitem name]
  quantity: Lineitem quantity
  price: Lineitem price
  order_id: "shop-{Name}"
  currency: Currency
constants: {name: purchase}
email: Email
"""


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "sixteen letters!")


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a file's text through a mapping as one batch."""

    def parse(text: str, mapping: str = "", name: str = "export.csv") -> ParsedBatch:
        (tmp_path / name).write_text(text)
        (tmp_path / "shop.yml").write_text(mapping)
        (parsed,) = events_file.read([tmp_path / name], tmp_path / "shop.yml")
        accounted = parsed.events.height + parsed.rejected.height + sum(parsed.left_out.values())
        assert parsed.rows_read + parsed.derived == accounted
        return parsed

    return parse


def lines(parsed: ParsedBatch, *columns: str) -> list[tuple]:
    return parsed.events.select(*columns).rows()


def says(parsed: ParsedBatch, *words: str) -> bool:
    """Whether one note has all of `words`."""
    return any(all(word in note for word in words) for note in parsed.notes)


def test_orders_exported_by_shopify(read: Read):
    parsed = read(SHOPIFY, SHOPIFY_MAPPING)
    assert lines(parsed, "name", "order_id", "item_id", "quantity") == [
        ("purchase", "shop-#1001", "00042", 1.0), ("purchase", "shop-#1001", "TEA/GR-1", 2.0),
        ("purchase", "shop-#1002", "00042", 1.0), ("purchase", "shop-#1003", "Tea\ngreen", 1.0),
        ("refund", "shop-#1002", "00042", 1.0),
    ]  # fmt: skip
    assert parsed.left_out == {"Financial Status: {not: [voided]}": 1}
    assert parsed.derived == 1
    first, second, other, guest, refund = parsed.events.rows(named=True)
    assert first["customer_id"] == second["customer_id"] != other["customer_id"] == refund["customer_id"]
    assert first["event_id"] == second["event_id"] != other["event_id"] != refund["event_id"]
    assert first["customer_id"].startswith("email:")
    assert (guest["customer_id"], guest["client_id"]) == (None, "order:shop-#1003")
    assert refund["timestamp"] == datetime(2026, 3, 3, 8, tzinfo=UTC)
    assert says(parsed, "filled down", "1 × Financial Status")
    assert says(parsed, "guest")
    assert says(parsed, "salted hash of their e-mail address")
    assert "shop.example" not in str(parsed.events.rows())
    # The same address from elsewhere leads to the same person.
    assert set(parsed.links["customer_id"]) == set(parsed.events["customer_id"].drop_nulls())


def test_a_line_without_a_customer_is_of_the_order_above(read: Read):
    mapping = SHOPIFY_MAPPING.replace("columns:\n  t", "columns:\n  customer_id: Id\n  t")
    parsed = read(SHOPIFY, mapping)
    assert lines(parsed, "order_id", "customer_id")[:2] == [("shop-#1001", "741")] * 2
    assert says(parsed, "1 order line", "the line above")


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_lines_of_an_order_across_batches(tmp_path: Path, rows: int):
    (tmp_path / "e.csv").write_text(SHOPIFY)
    (tmp_path / "shop.yml").write_text(SHOPIFY_MAPPING.replace("columns:\n  t", "columns:\n  customer_id: Id\n  t"))
    batches = [list(events_file.read([tmp_path / "e.csv"], tmp_path / "shop.yml", n)) for n in (rows, 100)]
    tables = [pl.concat([b.events for b in part]).sort("order_id", "name", "item_id") for part in batches]
    assert tables[0].equals(tables[1])
    assert batches[0][-1].notes == batches[1][-1].notes


def test_addresses_as_customers(read: Read, monkeypatch: pytest.MonkeyPatch):
    mapping = (
        "columns: {customer_id: Email, timestamp: Created at, item_id: Lineitem name, quantity: Lineitem quantity, "
    )
    mapping += "price: Lineitem price, order_id: Name}\nconstants: {name: purchase}"
    hashed = read(SHOPIFY, mapping)
    assert hashed.events["customer_id"].drop_nulls().str.starts_with("email:").all()
    assert says(hashed, "4 cells in customer_id are e-mail addresses")
    assert (
        read(SHOPIFY, mapping.replace("Email", "[{hash: Email}]"))
        .events["customer_id"]
        .equals(hashed.events["customer_id"])
    )
    monkeypatch.delenv("USUAL_IDENTITY_SALT")
    plain = read(SHOPIFY, mapping)
    assert plain.rejected["reason"].to_list() == ["email_as_id"] * 4
    assert says(plain, "USUAL_IDENTITY_SALT")


WOOCOMMERCE = """"Order Number","Order Status","Order Date","Customer User ID","Email (Billing)",SKU,\
"Quantity (- Refund)","Item Cost"
101,completed,"2026-01-05 10:11",7,ann@shop.example,SKU-1,2,12.50
102,completed,"2026-01-06 11:00",0,bob@shop.example,SKU-1,1,12.50
103,completed,"2026-01-07 12:00",0,cid@shop.example,SKU-2,1,4.00
104,refunded,"2026-01-08 12:00",7,ann@shop.example,SKU-2,3,4.00
105,cancelled,"2026-01-09 12:00",8,dee@shop.example,SKU-1,1,12.50
104,refunded,"2026-01-10 12:00",7,ann@shop.example,SKU-2,-3,4.00
"""
WOOCOMMERCE_MAPPING = """
columns: {timestamp: Order Date, customer_id: Customer User ID, item_id: SKU, quantity: Quantity (- Refund),
          price: Item Cost, order_id: Order Number}
constants: {name: purchase}
email: Email (Billing)
"""


def test_orders_exported_by_woocommerce(read: Read):
    returned = "where: {Order Status: {not: [cancelled]}}\nnegative_quantity: refund\n"
    parsed = read(WOOCOMMERCE, WOOCOMMERCE_MAPPING + returned)
    assert lines(parsed, "name", "order_id", "quantity") == [
        ("purchase", "101", 2.0), ("purchase", "102", 1.0), ("purchase", "103", 1.0), ("purchase", "104", 3.0),
        ("refund", "104", 3.0),
    ]  # fmt: skip
    assert parsed.left_out == {"Order Status: {not: [cancelled]}": 1}
    guests = parsed.events["customer_id"][1:3]
    assert guests.n_unique() == 2
    assert guests.str.starts_with("email:").all()
    assert says(parsed, "customer_id", "2 × 0", "placeholders: {customer_id: []}")


def test_what_a_mapping_ignores_is_told(read: Read):
    parsed = read(WOOCOMMERCE, WOOCOMMERCE_MAPPING)
    assert says(parsed, "Order Status says 2 × refunded, 1 × cancelled", "all were read as purchases", "where:")
    assert says(parsed, "negative quantity", "`negative_quantity: refund`")


FLAGS = """Order ID,Date,User ID,SKU,Quantity,Price,Fulfillment status,Qty refunded,Refunded,Refund Amount,Item state
1,2026-01-05,1,A,1,10,pending,0.0000,0,0.00,sold
2,2026-01-06,1,B,2,10,returned,1.0000,1,4.00,cancelled
"""
FLAGS_MAPPING = """columns: {timestamp: Date, customer_id: User ID, item_id: SKU, quantity: Quantity, price: Price}
constants: {name: purchase}
"""


def test_advice_on_what_a_mapping_ignores_fits_its_cells(read: Read):
    parsed = read(FLAGS, FLAGS_MAPPING)
    assert says(parsed, "Fulfillment status says 1 × returned;")  # not that something is not sent yet
    assert says(parsed, "Item state says 1 × cancelled;")
    assert says(parsed, "Refund Amount says something of 1 purchase", "what was paid back is not taken off")
    assert says(parsed, '`where: {Refunded: ["", "0"]}` in a mapping', '{where: {Refunded: {not: ["", "0"]}}}`')
    quantity = '{where: {Qty refunded: {not: ["", "0"]}}, quantity: Qty refunded}'
    assert says(parsed, f"Qty refunded says something of 1 purchase, read as if it did not; `refunds: {quantity}`")
    back = read(FLAGS, f"{FLAGS_MAPPING}refunds: {quantity}\n").events.filter(pl.col("name") == "refund")
    assert back.select("item_id", "quantity").rows() == [("B", 1.0)]


OWN_NAMES = """Order ID,Date,User ID,SKU,Quantity,Price,Currency
1,2026-01-05,1,A,1,10,EUR
1,,1,B,2,10,
2,2026-01-06,1,B,2,10,USD
"""
OWN_NAMES_MAPPING = """columns: {timestamp: Date, customer_id: User ID, item_id: SKU}
constants: {name: purchase}
fill_down: {by: Order ID, columns: [Date, Currency]}
where: {Currency: [EUR]}
"""


def test_columns_that_rows_are_chosen_and_filled_by_are_read_under_our_names_too(read: Read):
    parsed = read(OWN_NAMES, OWN_NAMES_MAPPING)
    assert lines(parsed, "item_id", "order_id", "currency") == [("A", "1", "EUR"), ("B", "1", "EUR")]


def test_placeholders_may_be_ids(read: Read):
    parsed = read(WOOCOMMERCE, WOOCOMMERCE_MAPPING + "placeholders: {customer_id: []}\nnegative_quantity: refund\n")
    assert parsed.events["customer_id"].to_list() == ["7", "0", "0", "7", "8", "7"]


RETURNS = """name,timestamp,customer_id,item_id,quantity,price,order_id
purchase,2026-01-05,1,A,3,10,1
purchase,2026-01-06,1,A,-2,10,1
purchase,2026-01-07,1,B,1,-5,2
purchase,2026-01-08,1,C,0,10,3
refund,2026-01-09,1,A,-1,10,1
refund,2026-01-09,1,A,1,10,1
"""


def test_amounts_of_whole_lines_are_divided_by_the_quantity(read: Read):
    orders = "Order,Date,Who,SKU,Qty,Row total\n1,2026-01-05,1,A,4,10\n1,2026-01-05,1,B,1,3\n2,2026-01-06,1,A,-2,-5\n"
    mapping = """
columns: {order_id: Order, timestamp: Date, customer_id: Who, item_id: SKU, quantity: Qty, price: Row total}
constants: {name: purchase}
price_of: line
negative_quantity: refund
"""
    parsed = read(orders + "3,2026-01-07,1,A,0,5\n", mapping)
    assert sorted(parsed.events.select("item_id", "name", "quantity", "price").rows()) == [
        ("A", "purchase", 4, 2.5), ("A", "refund", 2, 2.5), ("B", "purchase", 1, 3),
    ]  # fmt: skip
    assert parsed.rejected.height == 1, "no amount can be divided by no pieces"


def test_negative_quantities_are_returns_where_said(read: Read):
    parsed = read(RETURNS, "negative_quantity: refund")
    assert lines(parsed, "name", "item_id", "quantity", "price") == [
        ("purchase", "A", 3.0, 10.0), ("refund", "A", 2.0, 10.0), ("refund", "B", 1.0, 5.0),
        ("refund", "A", 1.0, 10.0), ("refund", "A", 1.0, 10.0),
    ]  # fmt: skip
    assert parsed.rejected.select("row", "reason").rows() == [(3, "bad_quantity")]
    by_default = read(RETURNS)
    assert by_default.rejected["row"].to_list() == [1, 2, 3, 4]


def test_parts_of_a_configurable_product(read: Read):
    magento = (
        "increment_id,created_at,customer_id,item_id,parent_item_id,sku,qty_ordered,price\n"
        "000000001,2026-01-05 10:11:12,12,1,,WS12-M,1.0000,22.0000\n"
        "000000001,2026-01-05 10:11:12,12,2,1,WS12-M,1.0000,0.0000\n"
    )
    mapping = "columns: {timestamp: created_at, item_id: sku, quantity: qty_ordered, order_id: increment_id}\n"
    mapping += "constants: {name: purchase}\n"
    assert says(
        read(magento, mapping), "parent_item_id names the parent of 1 purchased line", "where: {parent_item_id: empty}"
    )
    only_parents = read(magento, mapping + "where: {parent_item_id: empty}")
    assert lines(only_parents, "item_id", "quantity", "price") == [("WS12-M", 1.0, 22.0)]
    assert only_parents.left_out == {"parent_item_id: empty": 1}


EURO = """\ufeffname;timestamp;customer_id;item_id;quantity;price;currency;order_id
purchase;2026-01-05 10:00:00;1;A;1;19,99;EUR;1
purchase;2026-01-05 10:00:00;2;B;2;1.299,00;EUR;2
purchase;2026-01-05 10:00:00;3;B;2;1.299;EUR;3
"""


def test_a_decimal_mark_is_decided_for_the_column(read: Read, tmp_path: Path):
    assert read(EURO).events["price"].to_list() == [19.99, 1299.0, 1299.0]
    lone = "\n".join([EURO.splitlines()[0], EURO.splitlines()[3], ""])
    alone = read(lone)
    assert alone.rejected.select("row", "reason").rows() == [(0, "ambiguous_price")]
    assert says(alone, "price", "'1.299'", 'decimal: ","')
    assert read(lone, 'decimal: ","').events["price"].to_list() == [1299.0]
    assert read(lone, 'decimal: "."').events["price"].to_list() == [1.299]
    # What another file of the command says counts too, whichever comes first.
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    files[0].write_text(lone)
    files[1].write_text(EURO)
    for order in (files, files[::-1]):
        found = pl.concat([b.events for b in events_file.read(order, rows=1)])
        assert sorted(found["price"]) == [19.99, 1299.0, 1299.0, 1299.0]


def test_numbers_of_json_and_databases_are_never_ambiguous(read: Read):
    row = {"name": "view_item", "timestamp": "2026-01-05", "client_id": "d", "item_id": "A"}
    text = "".join(json.dumps(row | {"price": p}) + "\n" for p in (1.299, "1.299"))
    parsed = read(text, name="e.jsonl")
    assert parsed.events["price"].to_list() == [1.299]
    assert parsed.rejected.select("row", "reason").rows() == [(1, "ambiguous_price")]


def test_days_and_months_are_decided_for_the_column(read: Read):
    head = "name,timestamp,customer_id,item_id\n"
    clear = "view_item,25/01/2026 10:00,1,A\n"
    unclear = "view_item,05/01/2026 10:00,1,A\n"
    days = [t.day for t in read(head + unclear + clear).events["timestamp"]]
    assert days == [5, 25]
    alone = read(head + unclear)
    assert alone.rejected["reason"].to_list() == ["ambiguous_timestamp"]
    assert says(alone, "dates: day first")
    assert read(head + unclear, "dates: month first").events["timestamp"][0].month == 5
    assert read(head + unclear, 'dates: "%d/%m/%Y %H:%M"').events["timestamp"][0].month == 1
    both = head + unclear + clear + "view_item,01/25/2026 10:00,1,A\n"
    assert read(both).rejected.select("row", "reason").rows() == [(0, "ambiguous_timestamp")]


def test_amounts_with_currency_are_converted(read: Read):
    text = "name,timestamp,customer_id,item_id,quantity,price,order_id\n"
    text += "".join(f"purchase,2026-01-05,1,A,1,{p},{n}\n" for n, p in enumerate(["12.00 EUR", "$10 USD", "5", "¥900"]))
    parsed = read(text.replace("$10 USD", "10 USD"), "currency: EUR\nrates: {USD: 0.92}")
    assert lines(parsed, "price", "currency") == [(12.0, "EUR"), (10 * 0.92, "EUR"), (5.0, "EUR")]
    assert parsed.rejected.select("row", "reason").rows() == [(3, "no_rate_for_currency")]
    assert says(parsed, "converted", "1 × USD")


def test_a_sign_of_several_currencies_is_told(read: Read):
    text = "name,timestamp,customer_id,item_id,quantity,price,order_id\npurchase,2026-01-05,1,A,1,$5.00,1\n"
    assert says(read(text), "1 price is in $ or kr", "`currency: USD`")
    assert lines(read(text, "currency: USD"), "price", "currency") == [(5.0, "USD")]


def test_a_catalog_without_events_is_read(tmp_path: Path):
    (tmp_path / "p.csv").write_text("item_id,title\ni1,Mug\n")
    (tmp_path / "shop.yml").write_text("catalog: p.csv")
    (tmp_path / "e.csv").write_text("name,timestamp,customer_id\n")
    batches = list(events_file.read([tmp_path / "e.csv"], tmp_path / "shop.yml"))
    assert pl.concat([b.catalog for b in batches], how="diagonal")["title"].to_list() == ["Mug"]


OTTO = [
    {"session": 0, "events": [{"aid": 15, "ts": 1659304800025, "type": "clicks"},
                              {"aid": 16, "ts": 1659304904511, "type": "orders"}]},
    {"session": 1, "events": []},
    {"session": 2, "events": [{"aid": 17, "ts": "never", "type": "clicks"}]},
]  # fmt: skip
OTTO_MAPPING = """
explode: events
columns: {timestamp: events.ts, client_id: session, item_id: events.aid, name: events.type}
constants: {quantity: 1, price: 1}
names: {clicks: view_item, orders: purchase}
"""


@pytest.mark.parametrize("extension", ["jsonl", "parquet"])
def test_lists_become_rows(tmp_path: Path, extension: str):
    file = tmp_path / f"otto.{extension}"
    if extension == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in OTTO))
    else:
        entry = pl.Struct({"aid": pl.Int64, "ts": pl.String, "type": pl.String})
        texts = [row | {"events": [e | {"ts": str(e["ts"])} for e in row["events"]]} for row in OTTO]
        pl.DataFrame(texts, schema={"session": pl.Int64, "events": pl.List(entry)}).write_parquet(file)
    (tmp_path / "shop.yml").write_text(OTTO_MAPPING)
    for rows in (1, 100):
        batches = list(events_file.read([file], tmp_path / "shop.yml", rows))
        assert sum(b.rows_read for b in batches) == 4
        events, rejected = pl.concat([b.events for b in batches]), pl.concat([b.rejected for b in batches])
        assert events.select("client_id", "name", "item_id").rows() == [
            ("0", "view_item", "15"),
            ("0", "purchase", "16"),
        ]
        assert rejected.select("row", "reason").rows() == [(1, "no_entries"), (2, "bad_timestamp")]


def test_nested_keys_are_columns(read: Read):
    entries = [{"sku": "A", "n": 1, "cost": {"amount": "2.50"}}, {"sku": "B", "n": 2, "cost": {"amount": 3}}]
    order = {"id": 1, "user": {"id": "u"}, "at": "2026-01-05", "name": "purchase", "lines": entries}
    mapping = """
    explode: lines
    columns: {timestamp: at, customer_id: user.id, order_id: id, item_id: lines.sku, quantity: lines.n,
              price: lines.cost.amount}
    """
    parsed = read(json.dumps(order) + "\n", mapping, "orders.jsonl")
    assert lines(parsed, "customer_id", "item_id", "quantity", "price") == [("u", "A", 1.0, 2.5), ("u", "B", 2.0, 3.0)]


def test_a_nested_file_without_explode_is_an_error_that_says_so(read: Read):
    text = json.dumps(OTTO[0]) + "\n"
    with pytest.raises(InputError, match=r"events holds lists of objects with aid, ts, type: `explode: events`"):
        read(text, "columns: {timestamp: ts, client_id: session, item_id: aid, name: type}", "otto.jsonl")


LINES = "order_id,product_id,quantity,price\n10,196,1,2.5\n10,14084,2,1.5\n11,196,1,2.5\n12,196,1,2.5\n"
HEADERS = "order_id,user_id,at\n10,1,2026-01-05\n11,2,2026-01-06\n"
JOINED = """
join: {has: [order_id, user_id], on: order_id}
columns: {customer_id: user_id, timestamp: at, item_id: product_id}
constants: {name: purchase}
"""


def test_lines_are_joined_with_their_headers(tmp_path: Path):
    for name, text in [("lines.csv", LINES), ("orders.csv", HEADERS), ("shop.yml", JOINED)]:
        (tmp_path / name).write_text(text)
    for files in (["lines.csv", "orders.csv"], ["orders.csv", "lines.csv"]):
        (parsed,) = events_file.read([tmp_path / f for f in files], tmp_path / "shop.yml")
        assert lines(parsed, "customer_id", "order_id", "item_id") == [
            ("1", "10", "196"), ("1", "10", "14084"), ("2", "11", "196"),
        ]  # fmt: skip
        assert parsed.rejected.select("row", "reason").rows() == [(3, "bad_timestamp")]
        assert says(parsed, "orders.csv has no row for 1 line")
    with pytest.raises(InputError, match=r"none of the files has the columns order_id, user_id of the mapping's join"):
        list(events_file.read([tmp_path / "lines.csv"], tmp_path / "shop.yml"))


def test_lines_without_dates_and_customers_say_what_is_needed(tmp_path: Path):
    (tmp_path / "lines.csv").write_text(LINES)
    (tmp_path / "orders.csv").write_text("order_id,user_id,order_dow\n10,1,2\n")
    with pytest.raises(
        InputError, match=r"missing columns name, timestamp, customer_id.*`join: \{has: \[order_id, user_id"
    ):
        list(events_file.read([tmp_path / "lines.csv", tmp_path / "orders.csv"]))


def test_several_kinds_of_files(tmp_path: Path):
    mapping = """
    files:
      - has: [Lineitem sku, Created at]
        columns: {timestamp: Created at, customer_id: Id, item_id: Lineitem sku, quantity: Lineitem quantity,
                  price: Lineitem price, order_id: Name}
        constants: {name: purchase}
      - has: [Handle, Variant SKU]
        items: {columns: {item_id: Variant SKU, title: Title, category: Type, brand: Vendor, price: Variant Price},
                fill_down: {by: Handle, columns: [Title, Type]}, where: {Variant SKU: filled}}
    """
    (tmp_path / "orders.csv").write_text(SHOPIFY)
    (tmp_path / "products.csv").write_text(
        "Handle,Title,Type,Vendor,Variant SKU,Variant Price\nmug,Mug,Home > Kitchen,Leaf,00042,12.00\n"
        "mug,,,Leaf,00043,13.00\nmug,,,,,\n"
    )
    (tmp_path / "views.csv").write_text("who,what\n1,2\n")
    (tmp_path / "shop.yml").write_text(mapping)
    files = [tmp_path / "products.csv", tmp_path / "orders.csv"]
    log = ingest(events_file.read(files, tmp_path / "shop.yml"), tmp_path / "log").log
    products = log.catalog().filter(pl.col("item_id").is_in(["00042", "00043"]))
    assert products.select("item_id", "title", "category", "price").rows() == [
        ("00042", "Mug", "Home/Kitchen", 12.0), ("00043", "Mug", "Home/Kitchen", 13.0),
    ]  # fmt: skip
    with pytest.raises(
        InputError, match=r"views\.csv is none of the files that the mapping reads, which have.*Its columns: who, what"
    ):
        list(events_file.read([*files, tmp_path / "views.csv"], tmp_path / "shop.yml"))


def test_columns_are_found_whatever_their_case(read: Read):
    text = "Name,TIMESTAMP,Customer ID,itemId,Quantity,PRICE,Order_ID\npurchase,2026-01-05,1,A,1,10,7\n"
    assert lines(read(text), "customer_id", "item_id", "price", "order_id") == [("1", "A", 10.0, "7")]


def test_lines_carry_the_number_of_their_file(tmp_path: Path):
    rows = "purchase,2026-01-05,1,A,1,10\nview_item,2026-01-05,1,A,,10\n"
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("name,timestamp,customer_id,item_id,quantity,price\n" + rows)
    first, second = events_file.read([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert [b.events[FILE].to_list() for b in (first, second)] == [[0, None], [1, None]]
    assert says(second, "2 purchases and refunds have no order_id")


def test_spoiled_ids_are_refused_by_name(read: Read):
    text = "name,timestamp,customer_id,item_id\nview_item,2026-01-05,6.71235E+12,A\nview_item,2026-01-05,7.0,A\n"
    parsed = read(text)
    assert parsed.rejected.select("row", "reason").rows() == [(0, "scientific_id")]
    assert parsed.events["customer_id"].to_list() == ["7"]
    assert says(parsed, "scientific notation", "column as text")


def test_secrets_are_masked_in_rejected_rows(read: Read):
    mapping = SHOPIFY_MAPPING.replace("columns:\n  t", "columns:\n  customer_id: [{hash: Email}]\n  t").replace(
        "email: Email", "payment_token: Id"
    )
    parsed = read(SHOPIFY.replace("12.00", "cheap", 1), mapping)
    assert parsed.rejected["reason"].to_list() == ["bad_price"]
    assert "ann@" not in parsed.rejected["raw"][0]
    assert "741" not in parsed.rejected["raw"][0]


def test_a_refund_that_cannot_be_read_is_named_by_its_own_cell(read: Read):
    text = "order,date,cust,sku,qty,price,status,back\n1,2026-01-05,c,A,2,1.5,refunded,31.31.2026\n"
    mapping = "columns: {order_id: order, timestamp: date, customer_id: cust, item_id: sku, quantity: qty}\n"
    mapping += "constants: {name: purchase}\nrefunds: {where: {status: [refunded]}, timestamp: back}\n"
    parsed = read(text, mapping)
    assert parsed.events["name"].to_list() == ["purchase"]
    assert parsed.rejected["reason"].to_list() == ["bad_refund_timestamp"]
    assert parsed.columns["refund_timestamp"] == "back"
