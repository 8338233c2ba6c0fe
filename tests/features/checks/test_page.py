"""`usual check` as it is typed, and its page in a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from features.checks.page import write_page
from features.checks.report import CheckReport, check_log
from features.common.errors import InputError
from tests.features.checks.logs import healthy_catalog, healthy_rows, write_log
from usual.cli import app

FILES_OUTSIDE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> CheckReport:
    """A log with faults of all severities, and ids that would like to be HTML."""
    rows = [row | {"item_id": f"{row['item_id']}{FILES_OUTSIDE}"} for row in healthy_rows()]
    rows = [row | ({"price": row["price"] * 100} if n % 9 == 2 else {}) for n, row in enumerate(rows)]
    return check_log(write_log(tmp_path_factory.mktemp("check") / "log", rows))


@pytest.fixture(scope="module")
def page(report: CheckReport, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    file = tmp_path_factory.mktemp("page") / "deep" / "check.html"
    write_page(report, file)
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    errors: list[str] = []
    urls: list[str] = []
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: urls.append(request.url))
    tab.goto(file.as_uri())
    inks = []
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        inks.append(tab.evaluate("getComputedStyle(document.querySelector('svg text')).fill"))
    cells = "rows => rows.map(r => [...r.cells].map(c => c.innerText))"
    yield {
        "errors": errors,
        "urls": [url for url in urls if url != file.as_uri()],
        "rows": {s: tab.eval_on_selector_all(f"#{s} tbody tr", cells) for s in ("stop", "warn", "info")},
        "tiles": {key: tab.inner_text(f"#{key}") for key in ("events", "customers", "orders", "days")},
        "plots": tab.eval_on_selector_all(
            "svg[role=img]", "plots => plots.map(p => [p.getBoundingClientRect().width, p.getAttribute('aria-label')])"
        ),
        "wide": tab.evaluate("document.documentElement.scrollWidth > innerWidth"),
        "inks": inks,
    }
    tab.close()


def test_the_page_shows_every_finding(page: dict[str, Any], report: CheckReport) -> None:
    assert page["errors"] == []
    assert page["urls"] == []
    shown = [(severity, row[1]) for severity, rows in page["rows"].items() for row in rows]
    assert shown == [(f.severity, f.text) for f in report.findings]
    assert {severity for severity, _ in shown} == {"stop", "warn", "info"}
    assert page["tiles"]["events"] == f"{len(healthy_rows()):,}"
    assert page["tiles"]["days"] == "60"


def test_the_plots_are_read_and_seen(page: dict[str, Any]) -> None:
    assert len(page["plots"]) == 4
    assert all(width > 250 and len(label) > 40 for width, label in page["plots"])
    assert not page["wide"]
    assert page["inks"][0] != page["inks"][1]


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["check", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.stdout


def test_the_command_ends_with_1_only_where_a_fault_stops(tmp_path: Path) -> None:
    write_log(tmp_path / "good")
    write_log(tmp_path / "bad", catalog=[row | {"item_id": f"SKU{n}"} for n, row in enumerate(healthy_catalog())])
    assert "0 stop, 0 warn" in run("--log", tmp_path / "good")
    assert "catalog_join" in run("--log", tmp_path / "bad", code=1)
    answer = json.loads(run("--log", tmp_path / "bad", "--json", "--as-of", "2026-02-01", code=1))
    assert answer["counts"]["stop"] == 1
    assert answer["totals"]["last"] == "2026-01-31"


def test_a_page_is_written_beside_the_answer_and_its_name_checked_first(tmp_path: Path) -> None:
    write_log(tmp_path / "log", healthy_rows(days=3))  # so few that no plot has much to show
    run("--log", tmp_path / "log", "--page", tmp_path / "check.html", code=0)
    assert "Event log check" in (tmp_path / "check.html").read_text()
    done = CliRunner().invoke(app, ["check", "--log", str(tmp_path / "nowhere"), "--page", str(tmp_path / "check.pdf")])
    assert isinstance(done.exception, InputError)
    assert ".html" in str(done.exception)
