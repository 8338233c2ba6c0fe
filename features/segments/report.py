"""The segments as one HTML page that needs nothing else: numbers in tables, plots beside them.

It names groups, never a customer.
"""

from pathlib import Path

import numpy as np
import polars as pl

from features.common.clock import iso
from features.common.errors import InputError
from features.common.html import details, document, table_of, tiles
from features.segments import plots
from features.segments.build import LIFECYCLES, VALUE_TIERS, Segments, format_percent, share_table
from features.segments.preferences import label
from features.tables import rfm

LINES = 8  # of a traffic field; the others are summed up
UNKNOWN = "not known"


def validate_page(page: Path) -> None:
    """Raises `InputError` unless the name is that of a page: before the work, not after it."""
    if page.suffix not in (".html", ".htm"):
        raise InputError(f"--page is {page}; its name must end in .html")


def write_page(made: Segments, page: Path) -> None:
    validate_page(page)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render_html(made), encoding="utf-8")


def render_html(made: Segments) -> str:
    when = iso(made.as_of)
    sections = (
        _segments(made.table),
        f'<div class="two">{_heat(made.table)}{_lifecycle(made.table)}</div>',
        f'<div class="two">{_value(made.table)}{_churn(made.table)}</div>',
        _clusters(made),
        _traffic(made.table),
    )
    body = (
        f"<header><h1>Customer segments</h1>\n<p>From everything that happened before {when}.</p>"
        f"{_headline(made.table)}</header>\n<main>{''.join(sections)}</main>\n"
        f"<footer>Money is net of refunds, in the shop's currency, over the last {rfm.WINDOW_DAYS} days.\n"
        "Churn risk is the probability of no order in the next 90 days.</footer>"
    )
    return document(f"Customer segments as of {when}", body)


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
    return tiles((name, key, number) for name, (key, number) in numbers.items())


def _segments(table: pl.DataFrame) -> str:
    found = share_table(table, "segment", (*rfm.SEGMENTS, rfm.PROSPECT))
    labels = [_words(s) for s in found["segment"]]
    plot = plots.paired_bars(
        labels,
        found["share"].to_list(),
        found["revenue_share"].fill_null(0.0).to_list(),
        ("share of customers", "share of revenue"),
    )
    return (
        "<section><h2>RFM segments</h2><p>By how recently and how often customers order. Prospects have not ordered "
        f'yet.</p><div class="beside"><figure>{plot}</figure>'
        f"{table_of('rfm', ('segment', *_HEADER), zip(labels, _numbers(found), strict=True))}</div></section>"
    )


def _heat(table: pl.DataFrame) -> str:
    counts = np.zeros((5, 5), np.int64)
    buyers = table.filter(pl.col("r_score") >= 1)
    np.add.at(counts, tuple(buyers[s].to_numpy().astype(np.int64) - 1 for s in ("r_score", "f_score")), 1)
    rows = (
        (f"recency {r}", [f"{counts[r - 1, f - 1]:,} {_words(rfm.name_segment(r, f))}" for f in range(1, 6)])
        for r in range(5, 0, -1)
    )
    numbers = table_of("heat", ("", *(f"frequency {f}" for f in range(1, 6))), rows)
    return (
        "<section><h2>Recency × frequency</h2><p>Buyers by their scores, from 1 to 5 about a fifth each.</p>"
        f"{plots.heat(counts)}{details(numbers)}</section>"
    )


def _lifecycle(table: pl.DataFrame) -> str:
    found = share_table(table, "lifecycle", LIFECYCLES)
    labels = [_words(s) for s in found["lifecycle"]]
    plot = plots.paired_bars(
        labels,
        found["share"].to_list(),
        found["revenue_share"].fill_null(0.0).to_list(),
        ("share of customers", "share of revenue"),
    )
    numbers = table_of("lifecycle", ("lifecycle", *_HEADER), zip(labels, _numbers(found), strict=True))
    tiers = share_table(table, "value_tier", VALUE_TIERS)
    return (
        "<section><h2>Lifecycle</h2><p>By the time since the last order, in cycles of the customer's own."
        f"</p>{plot}{details(numbers)}"
        f"<details><summary>Value tiers</summary>"
        f"{table_of('tiers', ('value tier', *_HEADER), zip(tiers['value_tier'], _numbers(tiers), strict=True))}"
        "</details></section>"
    )


def _value(table: pl.DataFrame) -> str:
    values = table["expected_value_365d"].drop_nulls().cast(pl.Float64).to_numpy()
    head = "<section><h2>Lifetime value</h2><p>What buyers are expected to spend in the next 365 days.</p>"
    if not len(values):
        return f"{head}<p>Too few repeat buyers to tell.</p></section>"
    rows = [(f"{q}% have at most", [f"{np.quantile(values, q / 100):,.2f}"]) for q in (10, 25, 50, 75, 90, 99)]
    rows.append(("mean", [f"{values.mean():,.2f}"]))
    numbers = table_of("value", ("buyers", "expected value"), rows)
    return f"{head}{plots.value_histogram(values)}{details(numbers)}</section>"


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
    return f"{head}{plot}{details(table_of('churn', ('probability', 'churn risk', 'alive'), rows))}</section>"


def _clusters(made: Segments) -> str:
    head = "<section><h2>Behavioural clusters</h2>"
    if not made.clustering.clusters:
        return f"{head}<p>Nobody has touched an item yet.</p></section>"
    tried = made.clustering.silhouettes
    chosen = f" They are as many as fit best: the mean silhouette is {max(tried.values()):.3f}." if tried else ""
    found = {r["cluster_name"]: r for r in share_table(made.table, "cluster_name").iter_rows(named=True)}
    none = {"customers": 0, "share": 0.0, "revenue_share": None, "churn_risk": None}
    rows = []
    for n, cluster in enumerate(made.clustering.clusters, 1):
        r = found.get(cluster.name, none)
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
        f"{head}<p>Customers who lean to the same things, named by what sets them apart from all customers.{chosen}</p>"
        f"{table_of('clusters', header, rows, words=(0, 5))}</section>"
    )


def _traffic(table: pl.DataFrame) -> str:
    rows: list[tuple[str, list[str]]] = []
    fields = {"visitor": "visitor", "first_source": "first source", "source": "latest source"}
    for field, name in {**fields, "device": "device", "country": "country"}.items():
        if not table[field].count():
            continue
        top = share_table(table.drop_nulls(field), field)[field].to_list()
        kept = top if len(top) <= LINES else top[: LINES - 1]
        grouped = table.with_columns(
            pl.when(pl.col(field).is_in(kept))
            .then(field)
            .when(pl.col(field).is_not_null())
            .then(pl.lit(""))
            .alias(field)
        )
        found = share_table(grouped, field, [*kept, ""])
        names = {"": f"{len(top) - len(kept)} others", None: UNKNOWN}
        labels = (f"{name}: {names.get(value, value)}" for value in found[field])
        rows += zip(labels, _numbers(found), strict=True)
    return (
        "<section><h2>Traffic segments</h2><p>Where customers come from and what they come with.</p>"
        f"{table_of('traffic', ('segment', *_HEADER), rows)}</section>"
    )


_HEADER = ("customers", "share", "mean value", "of revenue", "churn risk")


def _numbers(found: pl.DataFrame) -> list[list[str]]:
    """The cells under `_HEADER` of each row of `features.segments.build.shares`."""
    return [
        [
            f"{r['customers']:,}",
            format_percent(r["share"]),
            "–" if r["mean_value"] is None else f"{r['mean_value']:,.0f}",
            format_percent(r["revenue_share"]),
            format_percent(r["churn_risk"]),
        ]
        for r in found.iter_rows(named=True)
    ]


def _words(name: str) -> str:
    return {"cant_lose": "can't lose"}.get(name, name.replace("_", " "))
