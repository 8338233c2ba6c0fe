"""All checks: a log with one fault has the finding for it, a healthy one has none to stop or warn of."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from features.checks.finding import Finding, part, percent
from features.checks.ids import find_lookalikes
from features.checks.page import render_html
from features.checks.report import CheckReport, check_log
from features.common.clock import micros
from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.log import write
from features.event_log.schema import REJECTED_SCHEMA
from features.tables.build import build_tables
from tests.features import shop
from tests.features.checks.logs import START, Row, healthy_catalog, healthy_rows, write_log
from tests.features.event_log.ingestion.combined import combine_events


def find(
    path: Path, rows: list[Row] | None = None, catalog: list[Row] | None = None, **more: Any
) -> dict[str, Finding]:
    report = check_log(write_log(path / "log", rows, catalog, **more))
    return {f.code: f for f in report.findings}


def noticed(found: dict[str, Finding]) -> list[str]:
    return [code for code, f in found.items() if f.severity != "info"]


def purchases(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["name"] == "purchase"]


def changed(change: Callable[[int, Row], Row], rows: list[Row] | None = None) -> list[Row]:
    """The healthy rows, with what `change` gives for each."""
    return [row | change(n, row) for n, row in enumerate(healthy_rows() if rows is None else rows)]


def test_nothing_is_noticed_in_a_healthy_log(tmp_path: Path) -> None:
    report = check_log(write_log(tmp_path / "log"))
    assert noticed({f.code: f for f in report.findings}) == []
    assert not report.stopped
    assert report.totals["events"] == len(healthy_rows())
    assert report.totals["orders"] == len(healthy_rows()) // 3
    assert report.totals["last"] == "2026-03-01"


def test_nothing_is_noticed_in_a_simulated_shop(simulated: ParsedBatch, tmp_path: Path) -> None:
    report = check_log(ingest([simulated], tmp_path / "log").log)
    assert noticed({f.code: f for f in report.findings}) == []


def test_the_report_is_json_with_stable_keys(tmp_path: Path) -> None:
    report = check_log(write_log(tmp_path / "log"), micros(START + timedelta(days=40)))
    answer = json.loads(json.dumps(report.as_dict()))
    assert list(answer) == ["log", "fingerprint", "as_of", "totals", "counts", "findings"]
    assert answer["as_of"] == "2026-02-10T00:00:00Z"
    assert answer["totals"]["last"] == "2026-02-09"
    assert set(answer["findings"][0]) == {"code", "severity", "text", "advice", "example", "numbers"}
    assert answer["counts"] == {"stop": 0, "warn": 0, "info": len(answer["findings"])}


def test_before_the_first_event_there_is_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no events before"):
        check_log(write_log(tmp_path / "log"), micros(START))


def test_the_worst_comes_first(tmp_path: Path) -> None:
    catalog = [row | {"item_id": f"SKU{n}", "title": None} for n, row in enumerate(healthy_catalog())]
    report = check_log(write_log(tmp_path / "log", catalog=catalog))
    severities = [f.severity for f in report.findings]
    assert severities == sorted(severities, key=("stop", "warn", "info").index)
    assert report.stopped
    assert report.text().splitlines()[1].startswith(" stop  catalog_join: ")


def sold(change: Row, every: int = 2) -> list[Row]:
    """The healthy rows, with `change` in every so many purchases."""
    return changed(lambda n, r: change if r["name"] == "purchase" and n // 3 % every == 0 else {})


def cents(every: int) -> list[Row]:
    return [r | {"price": r["price"] * 100} if n % (3 * every) == 2 else r for n, r in enumerate(healthy_rows())]


def without_orders(days: range) -> list[Row]:
    rows = healthy_rows(customers=120)
    return [r for r in rows if r["name"] != "purchase" or (r["timestamp"] - START).days not in days]


FAULTS: dict[str, Callable[[], list[Row]]] = {
    "future": lambda: changed(lambda n, r: {"timestamp": r["timestamp"] + timedelta(days=40_000)}),
    "several_currencies": lambda: sold({"currency": "JPY"}),
    "currency_missing": lambda: changed(lambda n, r: {"currency": None} if n % 4 else {}),
    "price_outliers": lambda: cents(3),
    "free_items": lambda: changed(lambda n, r: {"price": 0.0} if r["name"] == "purchase" and n % 9 == 2 else {}),
    "largest_order": lambda: changed(lambda n, r: {"price": 9e6} if n == 5 else {}),
    "placeholder_ids_customer": lambda: changed(lambda n, r: {"customer_id": "NULL"} if n % 9 < 3 else {}),
    "scientific_ids_customer": lambda: changed(lambda n, r: {"customer_id": "6.7E+12"} if n % 9 < 3 else {}),
    "float_ids_customer": lambda: changed(lambda n, r: {"customer_id": f"{r['customer_id']}.0"} if n % 9 < 3 else {}),
    "untidy_ids_item": lambda: changed(lambda n, r: {"item_id": f"{r['item_id']}\ufeff"} if n % 9 < 3 else {}),
    "lookalike_items": lambda: changed(lambda n, r: {"item_id": r["item_id"].upper()} if n % 9 < 3 else {}),
    "lookalike_customers": lambda: changed(lambda n, r: {"customer_id": f"00{r['customer_id']}"} if n % 9 < 3 else {}),
    "heavy_customer": lambda: changed(lambda n, r: {"customer_id": "till-1"} if n % 9 < 3 else {}),
    "shared_order_ids": lambda: changed(lambda n, r: {"order_id": f"{n % 100}"} if r["name"] == "purchase" else {}),
    "shared_devices": lambda: changed(lambda n, r: {"client_id": "kiosk"}),
    "orders_without_id": lambda: changed(lambda n, r: {"order_id": None} if n % 9 < 3 else {}),
    "orders_without_customer": lambda: changed(lambda n, r: {"customer_id": None} if n % 9 > 1 else {}),
    "anonymous": lambda: changed(lambda n, r: {"customer_id": None}),
    "no_orders": lambda: [r for r in healthy_rows() if r["name"] != "purchase"],
    "days_without_orders": lambda: without_orders(range(30, 34)),
    "ends_early": lambda: without_orders(range(40, 60)),
    "copies": lambda: healthy_rows() + healthy_rows(days=20),
    "repeated_orders": lambda: healthy_rows()
    + [r | {"timestamp": r["timestamp"] + timedelta(hours=1)} for r in purchases(healthy_rows(days=20))],
    "purchases_without_views": lambda: changed(
        lambda n, r: {"item_id": f"item-{n % 7:03d}" if r["name"] == "view_item" else f"item-{10 + n % 9:03d}"}
    ),
    "unknown_names": lambda: changed(lambda n, r: {"name": "PURCHASE"} if r["name"] == "purchase" and n % 2 else {}),
    "consent": lambda: changed(lambda n, r: {"consent": n % 4 == 0}),
}  # fmt: skip


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_is_noticed(code: str, tmp_path: Path) -> None:
    found = find(tmp_path, FAULTS[code]())
    assert code in noticed(found)
    assert found[code].advice


def test_capitals_may_tell_items_apart_but_not_from_the_catalog(tmp_path: Path) -> None:
    rows = changed(lambda n, r: {"item_id": r["item_id"].upper()} if n % 9 < 3 else {})
    both = healthy_catalog() + [r | {"item_id": r["item_id"].upper()} for r in healthy_catalog()]
    assert find(tmp_path, rows, both)["lookalike_items"].severity == "info"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("42", "00042", True),
        ("SKU 1", "sku_1", True),
        ("42.0", "42", True),
        ("1-12", "11-2", False),
        ("A", "AA", False),
    ],
)
def test_ids_that_look_alike(one: str, other: str, alike: bool) -> None:
    assert find_lookalikes(pl.DataFrame({"id": [one, other], "weight": [1, 1]})).height == (2 if alike else 0)


def test_an_e_mail_address_is_found_and_not_shown(tmp_path: Path) -> None:
    rows = changed(lambda n, r: {"customer_id": f"jane{r['customer_id']}@example.org"})
    report = check_log(write_log(tmp_path / "log", rows))
    assert "address_ids_customer" in [f.code for f in report.findings]
    assert "example.org" not in json.dumps(report.as_dict())
    assert "jane" not in report.text()


def test_cents_among_whole_units_are_named(tmp_path: Path) -> None:
    finding = find(tmp_path, FAULTS["price_outliers"]())["price_outliers"]
    assert "cents" in finding.text
    assert "usually" in finding.example


def test_a_catalog_in_cents(tmp_path: Path) -> None:
    found = find(tmp_path, catalog=[row | {"price": row["price"] * 100} for row in healthy_catalog()])
    assert noticed(found) == ["catalog_prices"]
    assert found["catalog_prices"].numbers["ratio"] == pytest.approx(100)


def test_a_catalog_without_categories(tmp_path: Path) -> None:
    found = find(tmp_path, catalog=[row | {"category": None} for row in healthy_catalog()])
    assert noticed(found) == ["category_missing"]


def test_half_of_the_catalog_is_missing(tmp_path: Path) -> None:
    found = find(tmp_path, catalog=healthy_catalog()[:10])
    assert found["catalog_join"].severity == "warn"
    assert 0.3 < float(found["catalog_join"].numbers["share"]) < 0.7


@pytest.mark.parametrize(("first", "last", "severity"), [(30, 50, "warn"), (30, 35, "info"), (30, 31, None)])
def test_days_without_events(first: int, last: int, severity: str | None, tmp_path: Path) -> None:
    rows = [r for r in healthy_rows(days=90) if not first <= (r["timestamp"] - START).days < last]
    found = find(tmp_path, rows)
    assert (found["gap"].severity if "gap" in found else None) == severity
    if severity:
        assert found["gap"].numbers == {"days": last - first, "first": "2026-01-31"}


def test_a_shop_that_is_closed_on_sundays_has_no_gaps(tmp_path: Path) -> None:
    rows = [r for r in healthy_rows(days=90) if r["timestamp"].weekday() != 6]
    assert "gap" not in find(tmp_path, rows)


@pytest.mark.parametrize(("country", "hours", "noticed_"), [("DE", 0, False), ("DE", -9, True), ("NZ", -12, False)])
def test_shoppers_who_seem_to_shop_at_night(country: str, hours: int, noticed_: bool, tmp_path: Path) -> None:
    rows = changed(lambda n, r: {"timestamp": r["timestamp"] + timedelta(hours=hours), "country": country})
    rows *= 2
    found = find(tmp_path, rows)
    assert ("night_shoppers" in found) == noticed_


def test_a_repeat_by_whole_hours_is_a_second_time_zone(tmp_path: Path) -> None:
    assert "two time zones" in find(tmp_path, FAULTS["repeated_orders"]())["repeated_orders"].text


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shop.events(-30, 0, least=3))
def test_repeats_are_those_that_the_tables_leave_out(tmp_path: Path, rows: list[Row]) -> None:
    log = write(
        Path(mkdtemp(dir=tmp_path)) / "log",
        combine_events(shop.frame(rows)).sort("timestamp", "event_id", "item_id"),
        shop.CATALOG,
        pl.DataFrame(schema=REJECTED_SCHEMA),
    )
    try:
        left_out = build_tables(log, shop.AS_OF).left_out
    except InputError:
        return  # nothing that can be used
    found = {f.code: f for f in check_log(log).findings}
    lines = found["repeated_orders"].numbers["lines"] if "repeated_orders" in found else 0
    assert lines == left_out.repeated_orders


def test_equal_lines_that_count_are_no_repeats_and_no_copies(tmp_path: Path) -> None:
    # Lines of orders with event ids of their own; some orders hold the same item twice.
    rows = healthy_rows()
    for n, order in enumerate(purchases(rows)):
        rows.append(order | {"item_id": "item-000" if order["item_id"] != "item-000" else "item-001"})
        if n % 5 == 0:
            rows.append(order)
    found = find(tmp_path, rows)
    assert not found.keys() & {"repeated_orders", "copies"}
    assert found["equal_lines"].numbers["lines"] == len(purchases(healthy_rows())) / 5
    assert found["equal_lines"].severity == "info"
    twice = find(tmp_path / "twice", rows + purchases(rows))
    assert twice["equal_lines"].severity == "warn"


def test_bots_that_buy(tmp_path: Path) -> None:
    at = START + timedelta(days=30)
    bot = [
        {"name": "view_item", "timestamp": at + timedelta(seconds=2 * n), "item_id": "item-001", "client_id": "crawler"}
        for n in range(2000)
    ]
    found = find(tmp_path, healthy_rows() + bot)
    assert found["bots"].example == "client_id 'crawler'"
    assert found["bots"].severity == "warn"  # more than half of all events


def test_rejected_rows_by_reason(tmp_path: Path) -> None:
    rejected = pl.DataFrame(
        {
            "source": ["a.csv"] * 300,
            "row": range(300),
            "reason": ["bad_price"] * 299 + ["bad_timestamp"],
            "raw": [None] * 300,
        },
        schema_overrides={"row": pl.Int64, "raw": pl.String},
    )
    finding = find(tmp_path, rejected=rejected)["rejected_rows"]
    assert finding.severity == "warn"
    assert finding.numbers["bad_price"] == 299
    assert finding.example == "a.csv, row 0: bad_price"


def test_one_time_buyers_by_an_id_per_order(tmp_path: Path) -> None:
    rows = changed(lambda n, r: {"customer_id": f"{n}", "client_id": None}, purchases(healthy_rows(days=200)))
    assert find(tmp_path, rows)["orders_per_customer"].severity == "warn"


def test_shares_are_never_rounded_to_nothing_or_all() -> None:
    assert [percent(s) for s in (0, 1e-9, 0.0123, 0.9999, 1)] == ["0%", "under 0.1%", "1.2%", "over 99.9%", "100%"]
    assert part(1, 40, "order") == "1 order of 40 (2.5%) is"


def test_an_old_report_has_the_same_findings(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log")

    def findings(report: CheckReport) -> list[dict[str, Any]]:
        return [f.as_dict() for f in report.findings]

    assert findings(check_log(log)) == findings(check_log(log, micros(START + timedelta(days=60))))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=shop.events(-40, 0, least=1))
def test_any_log_can_be_checked(rows: list[shop.Row], tmp_path: Path) -> None:
    events = combine_events(shop.frame(rows))
    log = write(tmp_path / "log", events, shop.CATALOG, pl.DataFrame(schema=REJECTED_SCHEMA))
    report = check_log(log)
    json.dumps(report.as_dict())
    assert "None" not in report.text()
    assert all(
        0 <= v <= 1 for f in report.findings for k, v in f.numbers.items() if k == "share" and not isinstance(v, str)
    )
    render_html(report)
