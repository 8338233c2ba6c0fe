"""Of who refuses consent a log keeps no id, whatever source the event comes from."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from features.checks.report import check_log
from features.event_log.erase import erase
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.log import EventLog
from features.event_log.schema import LINK_SCHEMA, REJECTED_SCHEMA, conform
from features.sources import read
from features.tables.build import build_tables
from tests.features.event_log.test_erase import all_texts

IDS = ["customer_id", "client_id", "session_id", "order_id"]
REFUSED = ["cust-refused", "device-refused", "visit-refused", "order-refused"]
ROWS = [
    {
        "event_id": f"e{n}", "name": "purchase", "timestamp": f"2026-05-0{1 + n}T12:00:00Z", "item_id": f"i{n}",
        "customer_id": REFUSED[0] if n % 2 else "cust-known", "client_id": REFUSED[1] if n % 2 else "device-known",
        "session_id": REFUSED[2] if n % 2 else "visit-known",
        "order_id": f"{REFUSED[3]}-{n}" if n % 2 else f"order-{n}",
        "quantity": 1.0, "price": 5.0, "consent": n % 2 == 0,
    }
    for n in range(6)
]  # fmt: skip
# Rows that cannot be used are kept with their reason: also without ids, where they refuse.
BAD = [row | {"event_id": f"{row['event_id']}-bad", "price": -1.0} for row in ROWS[:2]]


def write_csv(folder: Path) -> Path:
    pl.DataFrame(ROWS + BAD).write_csv(folder / "events.csv")
    return folder / "events.csv"


def write_parquet(folder: Path) -> Path:
    pl.DataFrame(ROWS + BAD).write_parquet(folder / "events.parquet")
    return folder / "events.parquet"


def write_json_lines(folder: Path) -> Path:
    (folder / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS + BAD))
    return folder / "events.jsonl"


def write_ga4(folder: Path) -> Path:
    lines = [
        {
            "event_name": "purchase", "event_timestamp": str(1777636800000000 + n * 10**6),
            "user_id": row["customer_id"], "user_pseudo_id": row["client_id"],
            "event_params": [{"key": "ga_session_id", "value": {"string_value": row["session_id"]}}],
            "ecommerce": {"transaction_id": row["order_id"]},
            "privacy_info": {"analytics_storage": "Yes", "ads_storage": "Yes" if row["consent"] else "No"},
            "items": [{"item_id": row["item_id"], "quantity": "1", "price": row["price"]}],
        }
        for n, row in enumerate(ROWS + BAD)
    ]  # fmt: skip
    (folder / "ga4.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "ga4.jsonl"


def write_segment(folder: Path) -> Path:
    calls = [
        {
            "type": "track", "event": "Order Completed", "messageId": row["event_id"], "timestamp": row["timestamp"],
            "userId": row["customer_id"], "anonymousId": row["client_id"],
            "context": {"consent": {"categoryPreferences": {"Analytics": row["consent"]}}, "sessionId": 7,
                        "traits": {"email": f"{row['customer_id']}@example.org"}},
            "properties": {
                "order_id": row["order_id"],
                "products": [{"product_id": row["item_id"], "quantity": 1, "price": row["price"]}],
            },
        }
        for row in ROWS + BAD
    ]  # fmt: skip
    calls.append(calls[1] | {"type": "identify", "messageId": "who", "traits": {"email": "refused@example.org"}})
    (folder / "segment.jsonl").write_text("".join(json.dumps(call) + "\n" for call in calls))
    return folder / "segment.jsonl"


FILES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "csv": ("events", write_csv),
    "parquet": ("events", write_parquet),
    "json lines": ("events", write_json_lines),
    "ga4": ("ga4", write_ga4),
    "segment": ("segment", write_segment),
}


def assert_nothing_of_them(log: EventLog) -> None:
    events = log.scan_all_times().collect()
    refused = events.filter(pl.col("consent").eq_missing(False))
    assert refused.height >= 3
    assert refused.select(pl.col(IDS).is_null().all()).row(0) == (True,) * 4
    assert refused["item_id"].null_count() == 0, "what was bought is still counted"
    known = events.filter("consent")
    assert known["customer_id"].to_list() == ["cust-known"] * known.height
    for word in REFUSED:
        assert word not in all_texts(log.path), word


@pytest.mark.parametrize("kind", FILES)
def test_no_id_of_theirs_comes_into_the_log(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "a salt of at least sixteen characters")
    source, write = FILES[kind]
    report = ingest(read(source, [write(tmp_path)]), tmp_path / "log")
    report.check()
    assert_nothing_of_them(report.log)
    assert any("refuse consent: of them no id" in note for note in report.notes)
    again = ingest(read(source, [write(tmp_path)]), tmp_path / "log")
    assert (sum(again.kept.values()), again.log.info["rows"]) == (0, report.log.info["rows"])


def test_nor_from_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute(f"CREATE TABLE events ({', '.join(ROWS[0])})")
        places = ", ".join("?" * len(ROWS[0]))
        values = [tuple(row.values()) for row in ROWS + BAD]
        database.executemany(f"INSERT INTO events VALUES ({places})", values)  # noqa: S608
    monkeypatch.setenv("USUAL_SOURCE_DSN", f"sqlite:///{tmp_path / 'shop.db'}")
    report = ingest(read("sql", table="events"), tmp_path / "log")
    assert_nothing_of_them(report.log)


def test_no_address_or_card_links_who_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "a salt of at least sixteen characters")
    rows = [row | {"mail": f"{row['customer_id']}@example.org", "card": f"card {row['customer_id']}"} for row in ROWS]
    pl.DataFrame(rows).write_csv(tmp_path / "events.csv")
    (tmp_path / "map.yml").write_text("email: mail\npayment_token: card\n")
    report = ingest(read("events", [tmp_path / "events.csv"], mapping=tmp_path / "map.yml"), tmp_path / "log")
    assert set(report.log.links()["customer_id"]) == {"cust-known"}
    assert_nothing_of_them(report.log)


def test_lines_of_an_order_are_one_if_any_refuses(tmp_path: Path):
    lines = [
        {"name": "purchase", "timestamp": "2026-05-01T12:00:00Z", "customer_id": REFUSED[0], "item_id": "i1",
         "quantity": 1, "price": 5, "order_id": REFUSED[3], "consent": consent}
        for consent in (True, False)
    ]  # fmt: skip
    other = lines[0] | {"customer_id": "cust-known", "order_id": "o-known"}
    pl.DataFrame([*lines, other]).write_csv(tmp_path / "events.csv")
    report = ingest(read("events", [tmp_path / "events.csv"]), tmp_path / "log")
    assert report.merged == 1
    rows = report.log.scan_all_times().sort("quantity").collect()
    assert rows.select("quantity", "consent", *IDS).rows()[1] == (2.0, False, None, None, None, None)
    assert REFUSED[0] not in all_texts(report.log.path)


def batch(*rows: dict) -> ParsedBatch:
    table = pl.DataFrame(rows).with_columns(timestamp=pl.col("timestamp").str.to_datetime(time_zone="UTC"))
    return ParsedBatch(table.height, table)


def test_rows_of_an_earlier_version_lose_their_ids_when_they_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as earlier:
        for module in ("intake", "combine"):
            earlier.setattr(f"features.event_log.ingestion.{module}.forget_refused", lambda events: (events, 0))
        log = ingest([batch(*ROWS)], tmp_path / "log").log
    assert REFUSED[0] in all_texts(log.path)
    report = ingest([batch(*ROWS)], tmp_path / "log")
    assert report.log.info["rows"] == len(ROWS)
    assert_nothing_of_them(report.log)


def test_erased_customers_who_refuse_are_counted_as_erased(tmp_path: Path):
    given = [row | {"consent": True} for row in ROWS]
    ingest([batch(*given)], tmp_path / "log")
    erase(REFUSED[0], tmp_path / "log")
    report = ingest([batch(*[row | {"event_id": f"later-{row['event_id']}"} for row in ROWS])], tmp_path / "log")
    assert (report.erased, sum(report.kept.values())) == (3, 3)


def test_amounts_that_no_rate_fits_keep_no_ids_either(tmp_path: Path):
    ingest([batch(*[row | {"currency": "EUR"} for row in ROWS])], tmp_path / "log")
    foreign = [row | {"event_id": f"x{row['event_id']}", "currency": "USD"} for row in ROWS]
    report = ingest([batch(*foreign)], tmp_path / "log")
    assert sum(report.rejected.values()) == 6
    assert REFUSED[0] not in all_texts(report.log.path)
    assert report.log.rejected()["raw"].str.contains("cust-known").sum() == 3


def test_tables_and_checks_take_rows_without_ids(tmp_path: Path):
    """They are as those of a log without these rows, and report how many there were."""
    rows = [
        row | {"event_id": f"{row['event_id']}-{n}", "order_id": f"{row['order_id']}-{n}"}
        for n in range(30)
        for row in ROWS
    ]
    whole = ingest([batch(*rows)], tmp_path / "whole").log
    known = ingest([batch(*[row for row in rows if row["consent"]])], tmp_path / "known").log
    at = 1_780_000_000_000_000
    tables, others = build_tables(whole, at), build_tables(known, at)
    assert tables.customers.to_dicts() == others.customers.to_dicts()
    assert tables.left_out.without_consent == 90
    report, other = check_log(whole), check_log(known)
    of_people = ("customers", "clients", "orders")
    assert {k: v for k, v in report.totals.items() if k in of_people} == {
        k: v for k, v in other.totals.items() if k in of_people
    }
    assert "None" not in report.text()


WHO = [("", "false"), ("", ""), ("", "true"), ("c1", "")]


def test_schemas_let_nothing_else_in_without_ids(tmp_path: Path):
    header = "event_id,name,timestamp,customer_id,item_id,consent\n"
    rows = [f"{n},view_item,2026-05-01T12:00:00Z,{who},i1,{consent}\n" for n, (who, consent) in enumerate(WHO)]
    csv = "".join([header, *rows])
    (tmp_path / "e.csv").write_text(csv)
    report = ingest(read("events", [tmp_path / "e.csv"]), tmp_path / "log")
    assert (report.kept, report.rejected) == ({"view_item": 2}, {"no_customer_or_client": 2})
    assert conform(report.log.rejected(), REJECTED_SCHEMA).height == 2
    assert report.log.links().schema == LINK_SCHEMA
