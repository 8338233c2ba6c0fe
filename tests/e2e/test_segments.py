"""`usual segments` on real data: checked against SQL over the raw rows, its page opened in a real browser."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.e2e.conftest import SHARED, run_in

DATA = SHARED / "data" / "online_retail_II.parquet"
CHROMIUM = Path("/usr/bin/chromium")
AS_OF = "2011-12-10"

pytestmark = pytest.mark.e2e

# Sales and credit notes of goods by known customers, as the file's own rows say. Money counts for 730 days.
TABLES = """
create table good as select * from raw
    where customer is not null and price > 0 and stock glob '[0-9][0-9][0-9][0-9][0-9]*';
create table sale as select customer, min(at) as at, sum(quantity * price) as value from good
    where quantity > 0 and invoice glob '[0-9]*' group by customer, invoice;
create table credit as select customer, min(at) as at, -sum(quantity * price) as value from good
    where quantity < 0 and invoice glob 'C*' group by customer, invoice;
create table given_back as select customer, sum(value) as value from credit
    where at >= unixepoch('2011-12-10') - 730 * 86400 group by customer;
create table buyer as select sale.customer,
    unixepoch('2011-12-10') - max(at) as seconds,
    count(*) filter (where at >= unixepoch('2011-12-10') - 730 * 86400) as orders,
    coalesce(sum(sale.value) filter (where at >= unixepoch('2011-12-10') - 730 * 86400), 0)
        - coalesce(max(given_back.value), 0) as money
    from sale left join given_back using (customer) group by sale.customer;
create table place as select *,
    (rank() over (order by seconds desc) - 1 + 0.5 * count(*) over (partition by seconds)) / count(*) over () as r_at,
    (rank() over (partition by orders > 1 order by orders) - 1.0) / count(*) over (partition by orders > 1) as below
    from buyer;
create table score as select *,
    1 + (r_at > .2) + (r_at > .4) + (r_at > .6) + (r_at > .8) as r,
    case when orders > 1 then 2 + (below >= .25) + (below >= .5) + (below >= .75) else 1 end as f
    from place;
create table segment as select customer, money, case
    when r = 5 and f >= 4 then 'champions'
    when r in (3, 4) and f >= 4 then 'loyal'
    when r >= 4 and f in (2, 3) then 'potential loyalist'
    when r = 5 then 'new'
    when r = 4 then 'promising'
    when r = 3 and f = 3 then 'need attention'
    when r = 3 then 'about to sleep'
    when f = 5 then 'can''t lose'
    when f >= 3 then 'at risk'
    else 'hibernating' end as segment from score
union all
    select distinct customer, null, 'prospect' from credit where customer not in (select customer from sale);
"""


@dataclass
class SegmentsRun:
    """The output of the command, and the same shop in SQL."""

    summary: dict[str, Any]
    table: pl.DataFrame
    page: Path
    sql: sqlite3.Connection


@pytest.fixture(scope="module")
def segments_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SegmentsRun]:
    if not DATA.exists():
        pytest.skip("needs UCI Online Retail II (doi 10.24432/C5CG6D) as ../shared/data/online_retail_II.parquet")
    root = tmp_path_factory.mktemp("segments")
    run = run_in(root / "home")
    raw = pl.read_parquet(DATA).select(
        "Invoice",
        "StockCode",
        pl.col("Quantity").cast(pl.Float64),
        pl.col("InvoiceDate").dt.epoch("s"),
        pl.col("Price").cast(pl.Float64),
        pl.col("Customer ID").cast(pl.Int64).cast(pl.String),
        "Country",
    )
    sql = sqlite3.connect(":memory:")
    sql.execute("create table raw (invoice, stock, quantity, at, price, customer, country)")
    rows = raw.filter(pl.col("Customer ID").is_not_null()).iter_rows()
    sql.executemany("insert into raw values (?, ?, ?, ?, ?, ?, ?)", rows)
    sql.executescript(TABLES)
    germans = [c for (c,) in sql.execute("select distinct customer from good where country = 'Germany'")]
    (root / "seeds.txt").write_text("\n".join([*germans, "nobody"]))
    run("ingest", "online-retail", DATA, "--out", root / "log")
    page = root / "page.html"
    process = run(
        *("segments", "--log", root / "log", "--as-of", AS_OF, "--out", root / "out" / "segments.csv", "--json"),
        *("--page", page, "--seeds", root / "seeds.txt", "--lookalikes", 50, "--clusters", 4),
    )
    table = pl.read_csv(root / "out" / "segments.csv", schema_overrides={"customer_id": pl.String})
    yield SegmentsRun(json.loads(process.stdout), table, page, sql)
    sql.close()


def test_recency_frequency_and_money_of_every_customer(segments_run: SegmentsRun) -> None:
    expected = {
        c: numbers for c, *numbers in segments_run.sql.execute("select customer, seconds, orders, money from buyer")
    }
    buyers = segments_run.table.drop_nulls("recency_days")
    assert set(buyers["customer_id"]) == set(expected)
    for customer, days, orders, money in buyers.select(
        "customer_id", "recency_days", "frequency", "monetary"
    ).iter_rows():
        seconds, n, value = expected[customer]
        assert days * 86400 == pytest.approx(seconds, abs=5)
        assert orders == n
        assert money == pytest.approx(value, rel=1e-6, abs=0.01)


def test_segments_and_totals(segments_run: SegmentsRun) -> None:
    expected = dict(segments_run.sql.execute("select segment, count(*) from segment group by segment"))
    counted = segments_run.table["segment"].str.replace_all("_", " ").str.replace("cant", "can't").value_counts()
    assert dict(counted.iter_rows()) == expected
    customers, revenue = segments_run.sql.execute("select count(*), sum(money) from segment").fetchone()
    assert segments_run.summary["customers"] == segments_run.table.height == customers
    assert segments_run.summary["revenue"] == pytest.approx(revenue, rel=1e-6)
    assert sum(s["customers"] for s in segments_run.summary["segments"]) == customers
    assert [s["customers"] > 0 for s in segments_run.summary["clusters"]] == [True] * 4 + [
        True
    ]  # and one for customers without interactions


def test_lookalikes_of_the_german_customers(segments_run: SegmentsRun) -> None:
    (germans,) = segments_run.sql.execute(
        "select count(distinct customer) from good where country = 'Germany'"
    ).fetchone()
    assert segments_run.summary["lookalikes"]["seeds"] == germans
    assert segments_run.summary["lookalikes"]["unknown"] == 1
    assert 0.6 < segments_run.summary["lookalikes"]["auc"] < 0.95
    assert segments_run.table["lookalike_rank"].drop_nulls().sort().to_list() == list(range(1, 51))


def test_a_wrong_suffix_is_an_error_before_the_work(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    arguments = ("segments", "--log", tmp_path / "nowhere", "--as-of", AS_OF, "--out")
    assert ".parquet or .csv" in run(*arguments, tmp_path / "segments.xls", code=2).stderr
    assert ".html" in run(*arguments, tmp_path / "segments.csv", "--page", tmp_path / "page", code=2).stderr
    assert "--seeds" in run(*arguments, tmp_path / "segments.csv", "--lookalikes", 5, code=2).stderr


def test_clusters_keep_their_names(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    size = ("--customers", 500, "--items", 300, "--days", 150)
    run("ingest", "simulated", "--out", tmp_path / "log", *size)
    out = tmp_path / "segments.parquet"
    clusters = ("--keep-clusters", tmp_path / "clusters.json")
    run("segments", "--log", tmp_path / "log", "--as-of", "2026-04-01", "--out", out, *clusters)
    names = pl.read_parquet(out)["cluster_name"].drop_nulls().unique()
    process = run("segments", "--log", tmp_path / "log", "--as-of", "2026-05-01", "--out", out, *clusters)
    assert pl.read_parquet(out)["cluster_name"].drop_nulls().is_in(names.implode()).all()
    assert all(word in process.stdout for word in ("champions", "cluster 1: ", "churn risk"))


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium: apt-get install chromium")
def test_the_page_in_a_browser(segments_run: SegmentsRun) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    errors, urls = [], []
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: urls.append(request.url))
        page.goto(segments_run.page.as_uri())
        rows = page.eval_on_selector_all("#rfm tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.innerText))")
        heat = page.eval_on_selector_all("#heat td", "cells => cells.map(c => c.textContent)")
        tiles = {key: page.inner_text(f"#{key}") for key in ("customers", "buyers", "revenue", "orders")}
        plots = page.eval_on_selector_all(
            "svg[role=img]",
            """plots => plots.map(p => ({box: p.getBoundingClientRect(), marks: p.querySelectorAll('path').length,
                label: p.getAttribute('aria-label')}))""",
        )
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        inks = []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            inks.append(page.evaluate("getComputedStyle(document.querySelector('svg text')).fill"))
        browser.close()
    assert errors == []
    assert urls == [segments_run.page.as_uri()]
    assert len(plots) == 5
    assert all(p["box"]["width"] > 250 and p["box"]["height"] > 150 and p["marks"] > 10 for p in plots)
    assert all(len(p["label"]) > 40 for p in plots)
    assert not wide  # on a phone only tables scroll sideways
    assert inks[0] != inks[1]

    query = """select segment, count(*), avg(money), coalesce(sum(money), 0) / (select sum(money) from segment)
        from segment group by segment"""
    expected = {
        s: [f"{n:,}", "–" if mean is None else f"{mean:,.0f}", f"{share:.1%}"]
        for s, n, mean, share in segments_run.sql.execute(query)
    }
    assert {name: [n, mean, revenue] for name, n, _, mean, revenue, _ in rows} == expected
    cells = {(r, f): n for r, f, n in segments_run.sql.execute("select r, f, count(*) from score group by r, f")}
    counts = [cells.get((r, f), 0) for r in range(5, 0, -1) for f in range(1, 6)]
    assert [int(c.split()[0].replace(",", "")) for c in heat] == counts
    customers, buyers, money = segments_run.sql.execute(
        "select count(*), count(money), sum(money) from segment"
    ).fetchone()
    (orders,) = segments_run.sql.execute("select sum(orders) from buyer").fetchone()
    assert tiles == {
        "customers": f"{customers:,}",
        "buyers": f"{buyers:,}",
        "revenue": f"{money:,.0f}",
        "orders": f"{orders:,}",
    }
