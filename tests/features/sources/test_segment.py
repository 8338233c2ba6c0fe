import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.schema import EVENT_SCHEMA, LINK_SCHEMA
from features.sources import segment

SAMPLE = Path(__file__).parent / "samples" / "segment.jsonl"
LINES = {line["messageId"]: line for line in map(json.loads, SAMPLE.read_text().splitlines())}
ORDER = LINES["ajs-5"]


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "sixteen letters!")


def read(path: Path, rows: int = 1000) -> ParsedBatch:
    parts = list(segment.read([path], rows))
    for part in parts:
        assert part.rows_read == part.events.height + part.merged + part.rejected.height
        assert part.events.schema == EVENT_SCHEMA
        assert part.links.schema == LINK_SCHEMA
    return ParsedBatch(
        rows_read=sum(p.rows_read for p in parts), events=pl.concat([p.events for p in parts]),
        rejected=pl.concat([p.rejected for p in parts]), links=pl.concat([p.links for p in parts]),
    )  # fmt: skip


@pytest.fixture
def parse(tmp_path: Path):
    def parse(*lines: dict | str) -> ParsedBatch:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "e.jsonl").write_text("\n".join(texts))
        return read(tmp_path / "e.jsonl")

    return parse


def with_properties(**changes: object) -> dict:
    return ORDER | {"properties": ORDER["properties"] | changes}


def test_events_and_products_of_the_sample():
    events = read(SAMPLE).events.select("name", "item_id", "quantity", "price").rows()
    monopoly, uno = "507f1f77bcf86cd799439011", "505bd76785ebb509fc183733"
    assert events == [
        ("search", None, None, None), ("view_item_list", monopoly, 1.0, 19.0), ("view_item_list", uno, 2.0, 3.5),
        ("view_item", monopoly, 1.0, 19.0), ("add_to_cart", uno, 2.0, 3.5), ("login", None, None, None),
        ("purchase", monopoly, 1.0, 19.0), ("purchase", uno, 2.0, 3.5), ("refund", uno, 2.0, 3.5),
        ("select_item", monopoly, 1.0, 19.0),
    ]  # fmt: skip


def test_a_purchase_in_full():
    row = read(SAMPLE).events.filter(name="purchase").row(0, named=True)
    noon = datetime(2024, 5, 1, 12, 5, tzinfo=UTC)
    assert {k: v for k, v in row.items() if v is not None} == {
        "event_id": "ajs-5", "name": "purchase", "timestamp": noon, "received_at": noon.replace(second=1),
        "customer_id": "97980cfea0067", "client_id": "anon-1", "item_id": "507f1f77bcf86cd799439011", "quantity": 1.0,
        "price": 19.0, "currency": "EUR", "order_id": "50314b8e9bcf000000000000", "position": 3,
        "source": "newsletter", "device": "ios", "country": "AT", "consent": True,
    }  # fmt: skip


def test_consent_is_refused_if_any_category_is():
    assert read(SAMPLE).events.filter(name="select_item")["consent"].to_list() == [False]


@pytest.mark.parametrize(
    ("context", "consent"),
    [
        ({"consent": {"categoryPreferences": {"Advertising": "false", "Analytics": "true"}}}, False),
        ({"consent": {"categoryPreferences": {"Advertising": " False"}}}, False),
        ({"consent": {"categoryPreferences": {"Advertising": "true"}}}, True),
        ({"consent": {"categoryPreferences": {}}}, None),
        ({"consentManagement": {"allowedConsentIds": ["c1"], "deniedConsentIds": ["c2"]}}, False),
        ({"consentManagement": {"deniedConsentIds": ["c2"]}}, False),
        ({"consentManagement": {"allowedConsentIds": ["c1"], "deniedConsentIds": []}}, True),
        ({"consentManagement": {"allowedConsentIds": [], "deniedConsentIds": []}}, None),
        ({"consentManagement": {"allowedConsentIds": None, "deniedConsentIds": None}}, None),
        ({"consentManagement": "none"}, None),
        ({"consent": {"categoryPreferences": {"a": True}}, "consentManagement": {"deniedConsentIds": ["a"]}}, False),
    ],
)
def test_consent_of_segment_and_rudderstack(parse, context: dict, consent: bool | None):
    assert parse(LINES["ajs-0"] | {"context": context}).events["consent"].to_list() == [consent]


def test_refused_consent_prevents_links(parse, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("USUAL_IDENTITY_SALT")  # of whom nothing is hashed no salt is needed
    refusals = [
        {"consent": {"categoryPreferences": {"Advertising": False}}},
        {"consentManagement": {"deniedConsentIds": ["c2"]}},
    ]
    calls = [
        LINES[n] | {"messageId": f"{n}-{i}", "context": c} for n in ("ajs-4", "ajs-8") for i, c in enumerate(refusals)
    ]
    parsed = parse(*calls)
    assert parsed.events.select("name", "consent").rows() == [("login", False)] * 2
    assert parsed.links.is_empty()


def test_other_calls_are_counted():
    rejected = read(SAMPLE).rejected
    assert rejected.select("row", "reason").rows() == [(n, "not_a_shop_event") for n in (4, 8, 9)]
    assert [json.loads(r)["event"] for r in rejected["raw"]] == ["page", "Coupon Applied", "alias"]


def test_links_hold_hashes_only():
    links = read(SAMPLE).links.sort("kind")
    assert links.select("kind", "client_id", "customer_id").rows() == [
        ("email", "anon-1", "97980cfea0067"), ("merge", "anon-0", "97980cfea0067"),
    ]  # fmt: skip
    assert len(links["token"][0]) == 32
    assert links["token"][1] is None


def test_an_address_without_a_salt_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("USUAL_IDENTITY_SALT")
    with pytest.raises(InputError, match="USUAL_IDENTITY_SALT is not set"):
        read(SAMPLE)


def test_no_address_is_stored(parse, tmp_path: Path):
    mail = "Peter@Example.com"
    order = with_properties(email=mail, products=[{"product_id": "x", "price": "?"}])
    lines = [ORDER, order, ORDER | {"userId": mail}, LINES["ajs-0"] | {"properties": {"query": f"mail {mail}"}}]
    parse(*lines, json.dumps(order)[:-9], LINES["ajs-8"] | {"previousId": mail})
    report = ingest(segment.read([tmp_path / "e.jsonl"]), tmp_path / "log")
    assert report.rejected == {"bad_price": 1, "bad_json": 1, "email_as_id": 2, "not_a_shop_event": 1}
    for file in (tmp_path / "log").rglob("*.parquet"):
        assert "example.com" not in pl.read_parquet(file).write_ndjson().lower()


@pytest.mark.parametrize("rows", [1, 7])
def test_batches_of_any_size_read_the_same(rows: int):
    assert read(SAMPLE, rows).events.equals(read(SAMPLE).events)
    assert read(SAMPLE, rows).rejected.equals(read(SAMPLE).rejected)


def test_a_call_delivered_twice_is_one_event(parse, tmp_path: Path):
    nameless = ORDER | {"messageId": None}
    parse(ORDER, ORDER, nameless, nameless)
    report = ingest(segment.read([tmp_path / "e.jsonl"]), tmp_path / "log")
    assert (report.kept, report.duplicates) == ({"purchase": 4}, 4)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{oops", "bad_json"),
        (ORDER | {"timestamp": "soon", "receivedAt": None}, "bad_timestamp"),
        (ORDER | {"type": "wink"}, "missing_name"),
        (ORDER | {"event": None}, "missing_name"),
        (ORDER | {"userId": None, "anonymousId": None}, "no_customer_or_client"),
        (with_properties(products=[]), "missing_item_id"),
        (with_properties(products="none"), "missing_item_id"),
        (with_properties(products=[{"product_id": "x", "price": "?"}]), "bad_price"),
        (with_properties(products=[{"product_id": "x", "price": -1}]), "negative_price"),
        (with_properties(products=[{"product_id": "x", "price": 1, "quantity": 0}]), "bad_quantity"),
        (with_properties(products=[{"product_id": "x", "price": 1, "position": 1.5}]), "bad_position"),
        (with_properties(products=[{"product_id": "x"}]), "missing_quantity_or_price"),
    ],
)
def test_a_bad_line_is_rejected(parse, line: dict | str, reason: str):
    parsed = parse(ORDER, line, LINES["ajs-3"])
    assert set(parsed.rejected.select("row", "reason").rows()) == {(1, reason)}
    assert parsed.events["name"].to_list() == ["purchase", "purchase", "add_to_cart"]


def test_other_files_are_refused(tmp_path: Path):
    (tmp_path / "e.jsonl").write_text('{"name": "purchase"}\n')
    with pytest.raises(InputError, match="holds no Segment calls"):
        read(tmp_path / "e.jsonl")


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ("Viewed Product Category", "view_item_list"), ("Viewed Product", "view_item"),
        ("Added Product", "add_to_cart"),
        ("Removed Product", "remove_from_cart"), ("Completed Order", "purchase"), ("order_completed", "purchase"),
        ("orderCompleted", "purchase"), ("Refunded Order", "refund"), ("Order Cancelled", "refund"),
    ],
)  # fmt: skip
def test_names_of_version_1_and_other_spellings(parse, event: str, name: str):
    assert parse(ORDER | {"event": event}).events["name"].to_list() == [name] * 2


def test_properties_of_version_1(parse):
    products = [{"id": "1", "sku": "S-1", "price": 1}, {"productId": 77, "price": 2}]
    call = {"type": "track", "messageId": "v1", "anonymousId": "a", "timestamp": "2026-01-05T10:00:00Z"}
    order = call | {"event": "Completed Order", "properties": {"orderId": 6, "products": products}}
    modern = call | {"messageId": "v2", "event": "Product Viewed", "properties": {"id": "line-1", "sku": "S-1"}}
    events = parse(order, modern).events
    assert events.select("order_id", "item_id", "quantity").rows() == [
        ("6", "1", 1),
        ("6", "77", 1),
        (None, "S-1", None),
    ]


def test_products_that_a_warehouse_stored_as_text(parse):
    text = json.dumps([{"product_id": "1", "price": 2}, {"product_id": "2", "price": 3}], indent=1)
    events = parse(LINES["ajs-3"], with_properties(products=text), ORDER | {"messageId": "other"}).events
    assert events.filter(event_id="ajs-5").select("item_id", "price").rows() == [("1", 2), ("2", 3)]
    assert events.height == 5


REFUND = ORDER | {
    "event": "Order Refunded", "messageId": "back", "timestamp": "2024-05-03T00:00:00Z",
    "properties": {"order_id": ORDER["properties"]["order_id"]},
}  # fmt: skip


@pytest.mark.parametrize("event", ["Order Refunded", "Order Cancelled"])
@pytest.mark.parametrize("first", [True, False])
def test_a_refund_without_products_takes_back_the_whole_order(tmp_path: Path, event: str, first: bool):
    calls = [REFUND | {"event": event}, ORDER, ORDER | {"messageId": "reload", "timestamp": "2024-05-01T12:06:00Z"}]
    for n, call in enumerate(calls if first else calls[::-1]):
        (tmp_path / f"{n}.jsonl").write_text(json.dumps(call))
    parts = list(segment.read(sorted(tmp_path.glob("*.jsonl"))))
    events = pl.concat([part.events for part in parts])
    items = ["item_id", "quantity", "price", "currency", "order_id"]
    bought, returned = events.filter(event_id="ajs-5").select(items), events.filter(name="refund").select(items)
    assert returned.sort("item_id").equals(bought.sort("item_id"))
    assert sum(part.rows_read for part in parts) == events.height == 6
    assert "it takes back the whole order" in parts[-1].notes[0]


def test_a_refund_without_products_of_an_unknown_order_is_rejected_and_told(parse, tmp_path: Path):
    parse(LINES["ajs-3"], REFUND, with_properties(order_id="another"))
    parts = list(segment.read([tmp_path / "e.jsonl"]))
    rejected = pl.concat([part.rejected for part in parts])
    assert rejected.select("row", "reason").rows() == [(1, "missing_item_id")]
    assert json.loads(rejected["raw"][0])["messageId"] == "back"
    assert "no purchase of its order is in this input" in parts[-1].notes[0]


@pytest.mark.parametrize(
    ("price", "expected"),
    [("19,99", 19.99), ("€19.99", 19.99), ("1.299,00", 1299), (1.299, 1.299), ("1.299", 1.299), ("1e2", 100)],
)
def test_prices_as_shops_write_them(parse, price: str | float, expected: float):
    added = LINES["ajs-3"] | {"properties": {"product_id": "77", "price": price}}
    assert parse(added).events.select("price", "quantity").rows() == [(expected, 1)]


def test_a_price_of_which_the_decimals_are_unknown_is_rejected(parse):
    added = LINES["ajs-3"] | {"properties": {"product_id": "77", "price": "1,299"}}
    assert parse(LINES["ajs-0"], added).rejected["reason"].to_list() == ["ambiguous_price"]


WORDS = ["undefined", "null", "NULL", "0", "(not set)", "00000000-0000-0000-0000-000000000000"]


@pytest.mark.parametrize("word", WORDS)
def test_words_for_nobody_are_nobody(parse, word: str):
    events = parse(LINES["ajs-0"] | {"userId": word}, LINES["ajs-3"]).events
    assert events["customer_id"].to_list() == [None, LINES["ajs-3"].get("userId")]


def test_words_for_nobody_are_told(parse, tmp_path: Path):
    parse(LINES["ajs-0"] | {"userId": "undefined"}, LINES["ajs-3"] | {"userId": "undefined"})
    notes = list(segment.read([tmp_path / "e.jsonl"], rows=1))[-1].notes
    assert notes == ("2 events have 'undefined' as the customer, which is no id: they have no customer",)


def test_an_order_without_a_number_is_no_order(parse):
    orders = [with_properties(order_id=word) for word in ("undefined", "(not set)", "0", " ")]
    calls = [order | {"messageId": str(n)} for n, order in enumerate(orders)]
    assert parse(*calls).events["order_id"].to_list() == [None] * 8
