"""What somebody sends on purpose is named, with numbers and what to do; an honest shop has none of it."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from features.checks.finding import Finding
from features.checks.page import render_html
from features.checks.report import CheckReport, check_log
from features.tables.bots import PER_HOUR, UNPROVEN
from tests.features.checks.logs import START, Row, healthy_rows, write_log

CODES = {
    "absurd_orders",
    "absurd_refunds",
    "event_bursts",
    "order_number_runs",
    "unproven_devices",
    "claimed_customers",
    "flooded_customers",
}


def at(day: float) -> Row:
    return {"timestamp": START + timedelta(days=day)}


def order(n: int, price: float, customer: str = "1001", name: str = "purchase", number: str = "x") -> Row:
    bought = {"item_id": "item-001", "quantity": 1.0, "price": price, "currency": "EUR"}
    return {"name": name, "customer_id": customer, "order_id": f"{number}{n}", **bought, **at(30 + n / 50)}


def view(visitor: Row, day: float) -> Row:
    return {"name": "view_item", "item_id": "item-001", **visitor, **at(day)}


def flood(visitor: Row, n: int, day: float = 40.0) -> list[Row]:
    return [view(visitor, day + k * 8 / 86_400) for k in range(n)]


def report(path: Path, rows: Sequence[Row]) -> CheckReport:
    return check_log(write_log(path / "log", [*healthy_rows(), *rows]))


def find(path: Path, rows: Sequence[Row]) -> dict[str, Finding]:
    return {f.code: f for f in report(path, rows).findings if f.code in CODES}


def test_an_honest_shop_has_none(tmp_path: Path) -> None:
    assert find(tmp_path, []) == {}
    wholesale = [order(n, 900.0, "1002") for n in range(3)]
    assert find(tmp_path / "wholesale", wholesale) == {}


def test_absurd_orders_are_counted_with_their_share_of_revenue(tmp_path: Path) -> None:
    found = find(tmp_path, [order(n, 1e12, f"10{n % 4:02d}") for n in range(4)])
    assert set(found) == {"absurd_orders"}
    finding = found["absurd_orders"]
    assert finding.severity == "warn"
    assert finding.numbers["orders"] == 4
    assert finding.numbers["visitors"] == 4
    assert finding.numbers["share_of_revenue"] == 1.0
    assert "on 2026-01-31, over 99.9% of revenue" in finding.text
    assert finding.example.startswith("order 'x0' of '1000': 1,000,000,000,000.00")
    assert finding.advice


def test_absurd_refunds_are_named(tmp_path: Path) -> None:
    found = find(tmp_path, [order(1, 1e12, name="refund")])
    assert found["absurd_refunds"].numbers["lines"] == 1


def test_floods_in_customers_names_are_named(tmp_path: Path) -> None:
    found = find(tmp_path, [r for n in range(3) for r in flood({"customer_id": f"100{n}"}, PER_HOUR + 100)])
    assert found["flooded_customers"].severity == "warn"
    assert found["flooded_customers"].numbers["visitors"] == 3
    assert found["flooded_customers"].numbers["events"] >= 3 * PER_HOUR


def test_a_few_devices_that_make_a_day_are_named(tmp_path: Path) -> None:
    found = find(tmp_path, [r for n in range(5) for r in flood({"client_id": f"x{n}"}, PER_HOUR - 1)])
    assert set(found) == {"event_bursts"}
    assert found["event_bursts"].numbers["devices"] == 5
    assert "2026-02-10" in found["event_bursts"].text


def test_order_numbers_that_one_visitor_uses_up_are_named(tmp_path: Path) -> None:
    reserved = [order(n, 5.0, "1001", number="2026-") | at(30 + n / 86_400) for n in range(1000, 1040)]
    found = find(tmp_path, reserved)
    assert set(found) == {"order_number_runs"}
    assert found["order_number_runs"].numbers["orders"] == 40


def test_unproven_devices_are_named_with_what_to_do(tmp_path: Path) -> None:
    found = find(tmp_path, [view({"client_id": f"{UNPROVEN}d{n}"}, 30 + n / 100) for n in range(200)])
    assert set(found) == {"unproven_devices"}
    assert found["unproven_devices"].numbers["devices"] == 200
    assert found["unproven_devices"].severity == "warn"
    assert "USUAL_CLIENT_IDS=any" in found["unproven_devices"].advice


def test_a_device_that_claims_many_customers_is_named(tmp_path: Path) -> None:
    logins = [
        {"name": "login", "customer_id": f"ghost-{n}", "client_id": "d-new", **at(30 + n / 1000)} for n in range(30)
    ]
    found = find(tmp_path, logins)
    assert set(found) == {"claimed_customers"}
    assert found["claimed_customers"].numbers == {"devices": 1, "customers": 30, "only_there": 30}


def test_page_and_json_tell_it(tmp_path: Path) -> None:
    checked = report(tmp_path, [order(1, 1e12)])
    assert "absurd orders" in render_html(checked)
    assert "absurd_orders" in json.dumps(checked.as_dict())
    assert "what to do: look at them at their source" in checked.text()


@pytest.mark.parametrize("code", sorted(CODES))
def test_codes_are_documented(code: str) -> None:
    page = Path(__file__).parents[3] / "docs" / "check.md"
    assert f"`{code}`" in page.read_text()
