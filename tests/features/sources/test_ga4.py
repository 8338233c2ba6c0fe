import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.schema import EVENT_SCHEMA
from features.sources import ga4

SAMPLE = Path(__file__).parent / "samples" / "ga4.jsonl"
LINES = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
BOUGHT = next(line for line in LINES if line["event_name"] == "purchase")


def read(path: Path, rows: int = 1000) -> ParsedBatch:
    parts = list(ga4.read([path], rows))
    for part in parts:
        assert part.rows_read == part.events.height + part.merged + part.rejected.height
        assert part.events.schema == EVENT_SCHEMA
    return ParsedBatch(
        rows_read=sum(p.rows_read for p in parts), events=pl.concat([p.events for p in parts]),
        rejected=pl.concat([p.rejected for p in parts]), catalog=pl.concat([p.catalog for p in parts]),
        merged=sum(p.merged for p in parts),
    )  # fmt: skip


@pytest.fixture
def parse(tmp_path: Path):
    def parse(*lines: dict | str) -> ParsedBatch:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "e.json").write_text("\n".join(texts))
        return read(tmp_path / "e.json")

    return parse


def test_events_and_items_of_the_sample():
    parsed = read(SAMPLE)
    assert parsed.events.select("name", "item_id", "quantity").rows() == [
        ("view_item", "GGOEGXXX0906", 1.0), ("view_item_list", "GGOEGXXX0906", 1.0), ("view_item_list", "9195902", 1.0),
        ("search", None, None), ("add_to_cart", "9195902", 2.0), ("begin_checkout", "9195902", 2.0),
        ("purchase", "GGOEGXXX0906", 1.0), ("purchase", "9195902", 2.0), ("login", None, None),
    ]  # fmt: skip
    assert parsed.merged == 1  # two sizes of the joggers


def test_a_purchase_in_full():
    row = read(SAMPLE).events.filter(name="purchase").row(1, named=True)
    assert {k: v for k, v in row.items() if v is not None and k != "event_id"} == {
        "name": "purchase", "timestamp": datetime(2021, 1, 31, 5, 6, 10, 766_593, tzinfo=UTC) , "customer_id": "c-77",
        "client_id": "1026454.4271112504", "session_id": "1026454.4271112504.661084800", "item_id": "9195902",
        "quantity": 2.0, "price": 30.0, "currency": "USD", "order_id": "T-1", "list_id": "related",
        "source": "newsletter", "device": "mobile", "country": "United States",
    }  # fmt: skip


def test_an_item_without_an_id_is_known_by_its_name_and_told(tmp_path: Path):
    items = [
        {"item_name": "Mug"}, {"item_id": "(not set)", "item_name": " Mug "}, {"item_name": "(not set)"},
        {"item_id": "undefined", "item_name": "Tea"}, {"item_id": "7", "item_name": "Tea"},
    ]  # fmt: skip
    line = BOUGHT | {"items": [{"price": "2", "quantity": "1"} | item for item in items]}
    (tmp_path / "e.json").write_text(json.dumps(line))
    parsed = read(tmp_path / "e.json")
    assert sorted(parsed.events.select("item_id", "quantity").rows()) == [("7", 1), ("Mug", 2), ("Tea", 1)]
    assert parsed.rejected["reason"].to_list() == ["missing_item_id"]
    *_, last = ga4.read([tmp_path / "e.json"])
    assert last.notes == ("3 items of events had no item_id: the item_name is taken as it",)


def test_search_list_and_consent():
    events = {e["name"]: e for e in read(SAMPLE).events.rows(named=True)}
    assert events["search"]["query"] == "joggers"
    assert events["view_item"]["position"] == 4
    assert events["view_item"]["source"] == "google"
    assert [events[n]["consent"] for n in ("view_item", "add_to_cart", "begin_checkout")] == [None, True, False]


def test_other_events_are_counted_and_their_copies_are_short():
    rejected = read(SAMPLE).rejected
    assert rejected.select("row", "reason").rows() == [(n, "not_a_shop_event") for n in (0, 1, 9)]
    assert [json.loads(raw) for raw in rejected["raw"]] == [
        {"event": "page_view"}, {"event": "session_start"}, {"event": "scroll"},
    ]  # fmt: skip


def test_catalog(tmp_path: Path):
    catalog = ingest(ga4.read([SAMPLE]), tmp_path / "log").log.catalog()
    assert catalog.select("item_id", "title", "category", "brand", "price").rows() == [
        ("9195902", "Super G Unisex Joggers", "Apparel", "Google", 30.0),
        ("GGOEGXXX0906", "Google Cork Tablet and Phone Stand", "Home/Shop by Brand", None, 5.0),
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [1, 7])
def test_batches_of_any_size_read_the_same(rows: int):
    assert read(SAMPLE, rows).events.equals(read(SAMPLE).events)
    assert read(SAMPLE, rows).rejected.equals(read(SAMPLE).rejected)


def test_an_event_exported_twice_is_one(parse, tmp_path: Path):
    parse(BOUGHT, BOUGHT, BOUGHT | {"event_bundle_sequence_id": "7"})
    report = ingest(ga4.read([tmp_path / "e.json"]), tmp_path / "log")
    assert (report.kept, report.duplicates, report.merged) == ({"purchase": 4}, 2, 3)


def test_numbers_may_be_numbers(parse):
    typed = BOUGHT | {"event_timestamp": int(BOUGHT["event_timestamp"])}
    typed["items"] = [item | {"quantity": int(item["quantity"])} for item in BOUGHT["items"]]
    assert parse(typed).events.equals(parse(BOUGHT).events)


ITEM = BOUGHT["items"][0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"event_name": "purchase"', "bad_json"),
        ("7", "bad_json"),
        (BOUGHT | {"event_timestamp": "soon"}, "bad_timestamp"),
        (BOUGHT | {"event_name": None}, "missing_name"),
        (BOUGHT | {"user_id": None, "user_pseudo_id": None}, "no_customer_or_client"),
        (BOUGHT | {"user_id": "jane@example.org"}, "email_as_id"),
        (BOUGHT | {"items": []}, "missing_item_id"),
        (BOUGHT | {"items": "none"}, "missing_item_id"),
        (BOUGHT | {"items": [ITEM | {"price": None}]}, "missing_quantity_or_price"),
        (BOUGHT | {"items": [ITEM | {"price": "cheap"}]}, "bad_price"),
        (BOUGHT | {"items": [ITEM | {"price": -1}]}, "negative_price"),
        (BOUGHT | {"items": [ITEM | {"quantity": "two"}]}, "bad_quantity"),
        (BOUGHT | {"items": [ITEM | {"quantity": "0"}]}, "bad_quantity"),
    ],
)
def test_a_bad_line_is_rejected(parse, line: dict | str, reason: str):
    parsed = parse(BOUGHT, line, LINES[2])
    assert set(parsed.rejected.select("row", "reason").rows()) == {(1, reason)}
    assert parsed.events["name"].to_list() == ["purchase", "purchase", "view_item"]
    assert "jane@" not in parsed.rejected["raw"][0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"quantity": "-1"}, "bad_quantity"),
        ({"quantity": "two"}, "bad_quantity"),
        ({"price": "cheap"}, "bad_price"),
        ({"price": -5}, "negative_price"),
        ({"price": None}, "missing_quantity_or_price"),
    ],
)
def test_a_bad_row_is_not_merged_with_good_ones(parse, change: dict, reason: str):
    good = ITEM | {"quantity": "2", "price": 4}
    parsed = parse(BOUGHT | {"items": [good, ITEM | change, good | {"price": 6}]})
    assert parsed.rejected.select("row", "reason").rows() == [(0, reason)]
    assert parsed.events.select("quantity", "price").rows() == [(4.0, 5.0)]
    alone = parse(BOUGHT | {"items": [ITEM | change, good]})
    assert alone.rejected["reason"].to_list() == [reason]
    assert alone.events.select("quantity", "price").rows() == [(2.0, 4.0)]


def test_other_files_are_refused(tmp_path: Path):
    (tmp_path / "e.json").write_text('{"name": "purchase"}\n')
    with pytest.raises(
        InputError, match=r"is not GA4's export: no line has event_name or event_timestamp\..*Its columns: name"
    ):
        list(ga4.read([tmp_path / "e.json"]))
    (tmp_path / "e.csv").write_text("event_name,event_timestamp\n")
    with pytest.raises(InputError, match="this source reads JSON lines"):
        list(ga4.read([tmp_path / "e.csv"]))


def test_a_refund_without_items_takes_back_the_whole_order(parse, tmp_path: Path):
    refund = BOUGHT | {"event_name": "refund", "items": [], "event_timestamp": str(int(BOUGHT["event_timestamp"]) + 9)}
    parse(refund, BOUGHT, refund | {"ecommerce": {"transaction_id": "T-9"}})
    parts = list(ga4.read([tmp_path / "e.json"]))
    events, rejected = (pl.concat([getattr(p, c) for p in parts]) for c in ("events", "rejected"))
    items = ["item_id", "quantity", "price", "currency", "order_id"]
    bought, returned = events.filter(name="purchase").select(items), events.filter(name="refund").select(items)
    assert returned.sort("item_id").equals(bought.sort("item_id"))
    assert rejected.select("row", "reason").rows() == [(2, "missing_item_id")]
    assert [note.split(" ", 1)[0] for note in parts[-1].notes] == ["1", "1"]


@pytest.mark.parametrize("word", ["(not set)", "undefined", "null", "0", "-"])
def test_a_transaction_without_a_number_is_no_order(parse, word: str):
    unknown = BOUGHT | {"ecommerce": {"transaction_id": word}, "event_params": []}
    events = parse(unknown, unknown | {"user_pseudo_id": "another"}).events
    assert events["order_id"].to_list() == [None] * events.height
    assert events["event_id"].n_unique() == 2


def test_words_for_nobody_are_nobody(parse, tmp_path: Path):
    nobody = [line | {"user_id": "undefined", "user_pseudo_id": "undefined"} for line in LINES]
    assert set(parse(*nobody).rejected["reason"]) == {"no_customer_or_client", "not_a_shop_event"}
    assert "as the customer, which is no id" in list(ga4.read([tmp_path / "e.json"]))[-1].notes[0]
