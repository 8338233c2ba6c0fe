"""Segments report: one self-contained HTML page, numbers in tables with plots beside them.

It names groups, never a customer.
"""

from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import polars as pl

from features.common.clock import iso
from features.common.errors import InputError
from features.common.html import render_details, render_page, render_table, render_tiles
from features.segments import plots
from features.segments.build import LIFECYCLES, VALUE_TIERS, Segments, format_percent, share_table
from features.segments.preferences import label
from features.tables import rfm

LINES = 8  # rows per traffic field; the other values are summed up
UNKNOWN = "not known"


def validate_page(page: Path) -> None:
    """Raise `InputError` unless the name is that of a page: before the work, not after it."""
    if page.suffix not in (".html", ".htm"):
        raise InputError(f"--page is {page}; its name must end in .html")


def write_page(segments: Segments, page: Path) -> None:
    """Write the page. Raises `InputError` unless its name ends in .html."""
    validate_page(page)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render_html(segments), encoding="utf-8")


def render_html(segments: Segments) -> str:
    """Render the whole page."""
    when = iso(segments.as_of)
    sections = (
        _segments(segments.table),
        f'<div class="two">{_heat(segments.table)}{_lifecycle(segments.table)}</div>',
        f'<div class="two">{_value(segments.table)}{_churn(segments.table)}</div>',
        _clusters(segments),
        _traffic(segments.table),
        _left_out(segments),
    )
    body = (
        f"<header><h1>Customer segments</h1>\n<p>From everything that happened before {when}.</p>"
        f"{_headline(segments.table)}</header>\n<main>{''.join(sections)}</main>\n"
        f"<footer>Money is net of refunds, in the shop's currency, over the last {rfm.WINDOW_DAYS} days.\n"
        "Churn risk is the probability of no order in the next 90 days.</footer>"
    )
    return render_page(f"Customer segments as of {when}", body)


def _headline(table: pl.DataFrame) -> str:
    buyers = table["recency_days"].count()
    expected = table["expected_value_365d"].cast(pl.Float64).sum()
    numbers = {
        "Customers": ("customers", f"{table.height:,}"),
        "Buyers": ("buyers", f"{buyers:,}"),
        f"Revenue, {rfm.WINDOW_DAYS} days": ("revenue", f"{table['monetary'].cast(pl.Float64).sum():,.0f}"),
        f"Orders, {rfm.WINDOW_DAYS} days": ("orders", f"{table['frequency'].cast(pl.Float64).sum():,.0f}"),
        "Expected, next 365 days": ("expected", f"{expected:,.0f}" if table["expected_value_365d"].count() else "–"),
    }
    return render_tiles((name, key, number) for name, (key, number) in numbers.items())


def _segments(table: pl.DataFrame) -> str:
    groups = share_table(table, "segment", (*rfm.SEGMENTS, rfm.PROSPECT))
    labels = [_words(s) for s in groups["segment"]]
    plot = plots.paired_bars(
        labels,
        groups["share"].to_list(),
        groups["revenue_share"].fill_null(0.0).to_list(),
        ("share of customers", "share of revenue"),
    )
    return (
        "<section><h2>RFM segments</h2><p>By how recently and how often customers order. Prospects have not ordered "
        f'yet.</p><div class="beside"><figure>{plot}</figure>'
        f"{render_table('rfm', ('segment', *_HEADER), zip(labels, _numbers(groups), strict=True))}</div></section>"
    )


def _heat(table: pl.DataFrame) -> str:
    counts = np.zeros((5, 5), np.int64)
    buyers = table.filter(pl.col("r_score") >= 1)
    np.add.at(counts, tuple(buyers[s].to_numpy().astype(np.int64) - 1 for s in ("r_score", "f_score")), 1)
    rows = (
        (f"recency {r}", [f"{counts[r - 1, f - 1]:,} {_words(rfm.name_segment(r, f))}" for f in range(1, 6)])
        for r in range(5, 0, -1)
    )
    numbers = render_table("heat", ("", *(f"frequency {f}" for f in range(1, 6))), rows)
    return (
        "<section><h2>Recency × frequency</h2><p>Buyers by their scores, from 1 to 5 about a fifth each.</p>"
        f"{plots.heat(counts)}{render_details(numbers)}</section>"
    )


def _lifecycle(table: pl.DataFrame) -> str:
    groups = share_table(table, "lifecycle", LIFECYCLES)
    labels = [_words(s) for s in groups["lifecycle"]]
    plot = plots.paired_bars(
        labels,
        groups["share"].to_list(),
        groups["revenue_share"].fill_null(0.0).to_list(),
        ("share of customers", "share of revenue"),
    )
    numbers = render_table("lifecycle", ("lifecycle", *_HEADER), zip(labels, _numbers(groups), strict=True))
    tiers = share_table(table, "value_tier", VALUE_TIERS)
    return (
        "<section><h2>Lifecycle</h2><p>By the time since the last order, in cycles of the customer's own."
        f"</p>{plot}{render_details(numbers)}"
        f"<details><summary>Value tiers</summary>"
        f"{render_table('tiers', ('value tier', *_HEADER), zip(tiers['value_tier'], _numbers(tiers), strict=True))}"
        "</details></section>"
    )


def _value(table: pl.DataFrame) -> str:
    values = table["expected_value_365d"].drop_nulls().cast(pl.Float64).to_numpy()
    head = "<section><h2>Lifetime value</h2><p>What buyers are expected to spend in the next 365 days.</p>"
    if not len(values):
        return f"{head}<p>Too few repeat buyers to tell.</p></section>"
    rows = [(f"{q}% have at most", [f"{np.quantile(values, q / 100):,.2f}"]) for q in (10, 25, 50, 75, 90, 99)]
    rows.append(("mean", [f"{values.mean():,.2f}"]))
    numbers = render_table("value", ("buyers", "expected value"), rows)
    return f"{head}{plots.value_histogram(values)}{render_details(numbers)}</section>"


def _churn(table: pl.DataFrame) -> str:
    head = (
        "<section><h2>Churn</h2><p>How sure it is that buyers do not order in the next 90 days, and that they have not "
        "stopped for good.</p>"
    )
    columns = [table[c].drop_nulls().cast(pl.Float64).to_numpy() for c in ("churn_risk_90d", "alive")]
    if not len(columns[0]):
        return f"{head}<p>Too few repeat buyers to tell.</p></section>"
    risk, alive = (np.histogram(c, bins=10, range=(0, 1))[0].tolist() for c in columns)
    rows = [(f"{10 * n}–{10 * n + 10}%", [f"{risk[n]:,}", f"{alive[n]:,}"]) for n in range(10)]
    plot = plots.tenths(risk, alive, ("churn risk: no order in 90 days", "alive: has not stopped buying"))
    return (
        f"{head}{plot}{render_details(render_table('churn', ('probability', 'churn risk', 'alive'), rows))}</section>"
    )


def _clusters(segments: Segments) -> str:
    head = "<section><h2>Behavioural clusters</h2>"
    if not segments.clustering.clusters:
        return f"{head}<p>Nobody has touched an item yet.</p></section>"
    silhouettes = segments.clustering.silhouettes
    best = max(silhouettes.values(), default=0.0)
    fit = f" They are as many as fit best: the mean silhouette is {best:.3f}." if silhouettes else ""
    groups = {r["cluster_name"]: r for r in share_table(segments.table, "cluster_name").iter_rows(named=True)}
    none = {"customers": 0, "share": 0.0, "revenue_share": None, "churn_risk": None}
    rows = []
    for n, cluster in enumerate(segments.clustering.clusters, 1):
        r = groups.get(cluster.name, none)
        marks = "; ".join(f"{label(f, v)} {share:.0%} (all {every:.0%})" for f, v, share, every in cluster.marks)
        sizes = (
            f"{r['customers']:,}",
            format_percent(r["share"]),
            format_percent(r["revenue_share"]),
            format_percent(r["churn_risk"]),
        )
        rows.append((f"{n}. {cluster.name}", [*sizes, marks or "–"]))
    header = ("cluster", "customers", "share", "of revenue", "churn risk", "what sets it apart")
    return (
        f"{head}<p>Customers with similar preferences, named by what sets them apart from all customers.{fit}</p>"
        f"{render_table('clusters', header, rows, wrap=(0, 5))}</section>"
    )


def _traffic(table: pl.DataFrame) -> str:
    rows: list[tuple[str, list[str]]] = []
    fields = {"visitor": "visitor", "first_source": "first source", "source": "latest source"}
    for field, name in {**fields, "device": "device", "country": "country"}.items():
        if not table[field].count():
            continue
        top = share_table(table.drop_nulls(field), field)[field].to_list()
        largest = top if len(top) <= LINES else top[: LINES - 1]
        grouped = table.with_columns(
            pl.when(pl.col(field).is_in(largest))
            .then(field)
            .when(pl.col(field).is_not_null())
            .then(pl.lit(""))
            .alias(field)
        )
        groups = share_table(grouped, field, [*largest, ""])
        names = {"": f"{len(top) - len(largest)} others", None: UNKNOWN}
        labels = (f"{name}: {names.get(value, value)}" for value in groups[field])
        rows += zip(labels, _numbers(groups), strict=True)
    return (
        "<section><h2>Traffic segments</h2><p>Where customers come from and what they come with.</p>"
        f"{render_table('traffic', ('segment', *_HEADER), rows)}</section>"
    )


def _left_out(segments: Segments) -> str:
    # Without the id of the largest device: the page names groups only.
    lines = replace(segments.left_out, largest_device=None).describe()
    return f"<section><h2>What does not count</h2><ul>{''.join(f'<li>{escape(s)}</li>' for s in lines)}</ul></section>"


_HEADER = ("customers", "share", "mean value", "of revenue", "churn risk")


def _numbers(groups: pl.DataFrame) -> list[list[str]]:
    """Return the cells under `_HEADER` for each row of `features.segments.build.share_table`."""
    return [
        [
            f"{r['customers']:,}",
            format_percent(r["share"]),
            "–" if r["mean_value"] is None else f"{r['mean_value']:,.0f}",
            format_percent(r["revenue_share"]),
            format_percent(r["churn_risk"]),
        ]
        for r in groups.iter_rows(named=True)
    ]


def _words(name: str) -> str:
    return {"cant_lose": "can't lose"}.get(name, name.replace("_", " "))
