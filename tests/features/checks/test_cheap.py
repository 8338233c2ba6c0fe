"""The checks that stop a training: each on a log with that one fault, and none on a healthy one."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from features.checks.cheap import cheap_checks
from features.checks.finding import Finding
from features.checks.report import check_log
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from tests.features.checks.logs import START, Row, healthy_catalog, healthy_rows, write_log


def stops(path: Path, rows: list[Row] | None = None, catalog: list[Row] | None = None) -> dict[str, Finding]:
    findings = cheap_checks(write_log(path / "log", rows, catalog))
    assert all(f.severity == "stop" and f.text.endswith(".") and f.advice for f in findings)
    return {f.code: f for f in findings}


def test_a_healthy_log_is_trained_on(tmp_path: Path) -> None:
    assert stops(tmp_path) == {}


def test_a_simulated_shop_is_trained_on(simulated: ParsedBatch, tmp_path: Path) -> None:
    assert cheap_checks(ingest([simulated], tmp_path / "log").log) == []


def test_without_a_catalog_there_is_no_join_to_break(tmp_path: Path) -> None:
    assert stops(tmp_path, catalog=[]) == {}


def test_a_catalog_with_other_ids(tmp_path: Path) -> None:
    catalog = [row | {"item_id": f"SKU{n}"} for n, row in enumerate(healthy_catalog())]
    finding = stops(tmp_path, catalog=catalog)["catalog_join"]
    assert finding.numbers["share"] == 0
    assert "'item-" in finding.example
    assert "'SKU0'" in finding.example


def test_a_catalog_of_which_nothing_is_available(tmp_path: Path) -> None:
    catalog = [row | {"available": False} for row in healthy_catalog()]
    assert list(stops(tmp_path, catalog=catalog)) == ["nothing_available"]


@pytest.mark.parametrize("visitor", ["~d1", "u1.signed", "many"])
@pytest.mark.parametrize("item", ["no-such-item", "item-000"])
def test_no_flood_of_page_events_stops_a_training(tmp_path: Path, visitor: str, item: str) -> None:
    """Anybody with the key of the page can send them: of items that there are not, or that are not available."""
    catalog = [row | {"available": row["item_id"] != "item-000"} for row in healthy_catalog()]
    rows = healthy_rows()
    latest = max(row["timestamp"] for row in rows)
    for n in range(30 * len(rows)):
        client = f"u1.signed{n % 500}" if visitor == "many" else visitor
        at = latest - timedelta(days=n % 20, seconds=n)
        rows.append({"name": "view_item", "timestamp": at, "item_id": item, "client_id": client})
    assert stops(tmp_path, rows, catalog) == {}


def test_nor_does_one_customer(tmp_path: Path) -> None:
    rows = healthy_rows()
    flood = {"name": "select_item", "item_id": "no-such-item", "customer_id": "attacker"}
    rows += [flood | {"timestamp": START + timedelta(days=50, seconds=n)} for n in range(30 * len(rows))]
    assert stops(tmp_path, rows) == {}


@pytest.mark.parametrize("days", [20_000, -19_000])
def test_one_event_far_from_all_others_stops_where_all_times_count(tmp_path: Path, days: int) -> None:
    rows = healthy_rows()
    rows.append(rows[0] | {"timestamp": START + timedelta(days=days)})
    log = write_log(tmp_path / "log", rows)
    assert cheap_checks(log) == []  # set aside
    (aside,) = (f for f in check_log(log).findings if f.code == "times_set_aside")
    assert aside.numbers["events"] == 1
    (finding,) = cheap_checks(replace(log, info=log.info | {"span": None, "all_times": True}))
    assert finding.code == "isolated_times"
    assert "--no-all-times" in finding.advice
    assert finding.numbers == {"events": 1, "first": "2026-01-01", "last": "2026-03-01"}


def test_a_quiet_day_is_not_far_from_the_others(tmp_path: Path) -> None:
    rows = healthy_rows()
    rows.append(rows[0] | {"timestamp": START + timedelta(days=64)})
    assert stops(tmp_path, rows) == {}


def test_a_shop_that_closes_for_a_season_is_not_isolated(tmp_path: Path) -> None:
    rows = healthy_rows()
    later = [
        row | {"timestamp": row["timestamp"] + timedelta(days=300), "order_id": None} for row in rows[: len(rows) // 4]
    ]
    assert stops(tmp_path, rows + later) == {}


def test_nobody_there(tmp_path: Path) -> None:
    rows = [row for row in healthy_rows(days=10) if row["customer_id"] in ("1000", "1001")]
    assert list(stops(tmp_path, rows)) == ["few_visitors", "few_orders"]


def test_names_that_are_not_known(tmp_path: Path) -> None:
    rows = [row | {"name": {"view_item": "Product View", "purchase": "order"}[row["name"]]} for row in healthy_rows()]
    found = stops(tmp_path, rows)
    assert "order: purchase" in found["unknown_names"].advice
    assert "Product View: view_item" in found["unknown_names"].advice


def test_a_guest_account_that_has_nearly_all_orders(tmp_path: Path) -> None:
    rows = [row | ({"customer_id": "guest7"} if n % 10 else {}) for n, row in enumerate(healthy_rows())]
    found = stops(tmp_path, rows)
    assert set(found) >= {"one_visitor_events", "one_visitor_orders"}
    assert "'guest7'" in found["one_visitor_orders"].example


def test_a_bot_that_is_nearly_all_traffic_stops_nothing(tmp_path: Path) -> None:
    at = START + timedelta(days=30)
    seconds = range(0, 20_000, 2)
    bot = [row("view_item", at + timedelta(seconds=n), "crawler") for n in seconds]
    assert stops(tmp_path, healthy_rows() + bot) == {}


def row(name: str, at: datetime, client: str) -> Row:
    return {"name": name, "timestamp": at, "item_id": "item-001", "client_id": client}
