"""The segments as one HTML page that needs nothing else: numbers in tables, plots beside them.

It names groups, never a customer. Everything that comes from the shop's data is escaped, and the page's policy
lets nothing load or run, whatever a name in the data looks like.
"""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
import polars as pl

from features import rfm, segments_plots
from features.clock import iso
from features.errors import InputError
from features.leanings import label
from features.segments import LIFECYCLES, VALUE_TIERS, Segments, percent, shares

LINES = 8  # of a traffic field; the others are summed up
UNKNOWN = "not known"

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fbfaf7; --card: #fff; --line: #c9ced6; --soft: #5b6675;
  --one: #3f73a8; --two: #c8613c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --paper: #14181d; --card: #1d232a; --line: #3c4653;
  --soft: #a3adba; --one: #6ea6dd; --two: #e58a63; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.2rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 0 0 .3rem; font-size: 1.15rem; }
p { margin: 0 0 .8rem; color: var(--soft); max-width: 44rem; }
section { margin-top: 1rem; padding: 1rem; }
section, dl div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin: 1rem 0 0; }
dl div { padding: .8rem 1rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.45rem; font-variant-numeric: tabular-nums; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0 1rem; }
.two > section { min-width: 0; }
.wide { overflow-x: auto; }
.beside { display: grid; gap: 1rem; align-items: start; }
@media (min-width: 66rem) { .beside { grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); } }
.beside > * { min-width: 0; margin: 0; }
svg { display: block; width: 100%; max-width: 34rem; height: auto; margin: 0 auto; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { padding: .28rem .4rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 500; }
tbody th { font-weight: 500; text-align: left; }
.words { white-space: normal; text-align: left; min-width: 14rem; }
summary { cursor: pointer; color: var(--soft); margin-top: .5rem; }
footer { margin: 1.2rem 0; color: var(--soft); font-size: .85rem; }
"""


def check_page(page: Path) -> None:
    """Raises `InputError` unless the name is that of a page: before the work, not after it."""
    if page.suffix not in (".html", ".htm"):
        raise InputError(f"--page is {page}; its name must end in .html")


def write(made: Segments, page: Path) -> None:
    check_page(page)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html(made), encoding="utf-8")


def html(made: Segments) -> str:
    when = iso(made.as_of)
    sections = (
        _segments(made.table),
        f'<div class="two">{_heat(made.table)}{_lifecycle(made.table)}</div>',
        f'<div class="two">{_value(made.table)}{_churn(made.table)}</div>',
        _clusters(made),
        _traffic(made.table),
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Customer segments as of {when}</title><style>{_STYLE}</style></head>
<body><header><h1>Customer segments</h1>
<p>From everything that happened before {when}.</p>{_headline(made.table)}</header>
<main>{"".join(sections)}</main>
<footer>Money is net of refunds, in the shop's currency, over the last {rfm.WINDOW_DAYS} days.
Churn risk is the probability of no order in the next 90 days.</footer></body></html>
"""


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
    tiles = (f'<div><dt>{name}</dt><dd id="{key}">{n}</dd></div>' for name, (key, n) in numbers.items())
    return f"<dl>{''.join(tiles)}</dl>"


def _segments(table: pl.DataFrame) -> str:
    found = shares(table, "segment", (*rfm.SEGMENTS, rfm.PROSPECT))
    labels = [_words(s) for s in found["segment"]]
    plot = segments_plots.paired_bars(
        labels,
        found["share"].to_list(),
        found["revenue_share"].fill_null(0.0).to_list(),
        ("share of customers", "share of revenue"),
    )
    return (
        "<section><h2>RFM segments</h2><p>By how recently and how often customers order. Prospects have not ordered "
        f'yet.</p><div class="beside"><figure>{plot}</figure>'
        f"{_table('rfm', ('segment', *_HEADER), zip(labels, _numbers(found), strict=True))}</div></section>"
    )


def _heat(table: pl.DataFrame) -> str:
    counts = np.zeros((5, 5), np.int64)
    buyers = table.filter(pl.col("r_score") >= 1)
    np.add.at(counts, tuple(buyers[s].to_numpy().astype(np.int64) - 1 for s in ("r_score", "f_score")), 1)
    rows = (
        (f"recency {r}", [f"{counts[r - 1, f - 1]:,} {_words(rfm.segment_of(r, f))}" for f in range(1, 6)])
        for r in range(5, 0, -1)
    )
    numbers = _table("heat", ("", *(f"frequency {f}" for f in range(1, 6))), rows)
    return (
        "<section><h2>Recency × frequency</h2><p>Buyers by their scores, from 1 to 5 about a fifth each.</p>"
        f"{segments_plots.heat(counts)}{_details(numbers)}</section>"
    )


def _lifecycle(table: pl.DataFrame) -> str:
    found = shares(table, "lifecycle", LIFECYCLES)
    labels = [_words(s) for s in found["lifecycle"]]
    plot = segments_plots.paired_bars(
        labels,
        found["share"].to_list(),
        found["revenue_share"].fill_null(0.0).to_list(),
        ("share of customers", "share of revenue"),
    )
    tiers = shares(table, "value_tier", VALUE_TIERS)
    return (
        "<section><h2>Lifecycle</h2><p>By the time since the last order, in cycles of the customer's own."
        f"</p>{plot}{_details(_table('lifecycle', ('lifecycle', *_HEADER), zip(labels, _numbers(found), strict=True)))}"
        f"<details><summary>Value tiers</summary>"
        f"{_table('tiers', ('value tier', *_HEADER), zip(tiers['value_tier'], _numbers(tiers), strict=True))}"
        "</details></section>"
    )


def _value(table: pl.DataFrame) -> str:
    values = table["expected_value_365d"].drop_nulls().cast(pl.Float64).to_numpy()
    head = "<section><h2>Lifetime value</h2><p>What buyers are expected to spend in the next 365 days.</p>"
    if not len(values):
        return f"{head}<p>Too few repeat buyers to tell.</p></section>"
    rows = [(f"{q}% have at most", [f"{np.quantile(values, q / 100):,.2f}"]) for q in (10, 25, 50, 75, 90, 99)]
    rows.append(("mean", [f"{values.mean():,.2f}"]))
    numbers = _table("value", ("buyers", "expected value"), rows)
    return f"{head}{segments_plots.value_histogram(values)}{_details(numbers)}</section>"


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
    plot = segments_plots.tenths(risk, alive, ("churn risk: no order in 90 days", "alive: has not stopped buying"))
    return f"{head}{plot}{_details(_table('churn', ('probability', 'churn risk', 'alive'), rows))}</section>"


def _clusters(made: Segments) -> str:
    head = "<section><h2>Behavioural clusters</h2>"
    if not made.clustering.clusters:
        return f"{head}<p>Nobody has touched an item yet.</p></section>"
    tried = made.clustering.silhouettes
    chosen = f" They are as many as fit best: the mean silhouette is {max(tried.values()):.3f}." if tried else ""
    found = {r["cluster_name"]: r for r in shares(made.table, "cluster_name").iter_rows(named=True)}
    none = {"customers": 0, "share": 0.0, "revenue_share": None, "churn_risk": None}
    rows = []
    for n, cluster in enumerate(made.clustering.clusters, 1):
        r = found.get(cluster.name, none)
        marks = "; ".join(f"{label(f, v)} {share:.0%} (all {every:.0%})" for f, v, share, every in cluster.marks)
        sizes = (f"{r['customers']:,}", percent(r["share"]), percent(r["revenue_share"]), percent(r["churn_risk"]))
        rows.append((f"{n}. {cluster.name}", [*sizes, marks or "–"]))
    header = ("cluster", "customers", "share", "of revenue", "churn risk", "what sets it apart")
    return (
        f"{head}<p>Customers who lean to the same things, named by what sets them apart from all customers.{chosen}</p>"
        f"{_table('clusters', header, rows, words=(0, 5))}</section>"
    )


def _traffic(table: pl.DataFrame) -> str:
    rows: list[tuple[str, list[str]]] = []
    fields = {"visitor": "visitor", "first_source": "first source", "source": "latest source"}
    for field, name in {**fields, "device": "device", "country": "country"}.items():
        if not table[field].count():
            continue
        top = shares(table.drop_nulls(field), field)[field].to_list()
        kept = top if len(top) <= LINES else top[: LINES - 1]
        grouped = table.with_columns(
            pl.when(pl.col(field).is_in(kept))
            .then(field)
            .when(pl.col(field).is_not_null())
            .then(pl.lit(""))
            .alias(field)
        )
        found = shares(grouped, field, [*kept, ""])
        names = {"": f"{len(top) - len(kept)} others", None: UNKNOWN}
        labels = (f"{name}: {names.get(value, value)}" for value in found[field])
        rows += zip(labels, _numbers(found), strict=True)
    return (
        "<section><h2>Traffic segments</h2><p>Where customers come from and what they come with.</p>"
        f"{_table('traffic', ('segment', *_HEADER), rows)}</section>"
    )


_HEADER = ("customers", "share", "mean value", "of revenue", "churn risk")


def _numbers(found: pl.DataFrame) -> list[list[str]]:
    """The cells under `_HEADER` of each row of `features.segments.shares`."""
    return [
        [
            f"{r['customers']:,}",
            percent(r["share"]),
            "–" if r["mean_value"] is None else f"{r['mean_value']:,.0f}",
            percent(r["revenue_share"]),
            percent(r["churn_risk"]),
        ]
        for r in found.iter_rows(named=True)
    ]


def _table(
    key: str, header: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], words: Sequence[int] = ()
) -> str:
    """A table in a box that scrolls on a narrow screen; the cells of the columns `words` may wrap."""

    def cell(tag: str, n: int, value: str, scope: str = "") -> str:
        wraps = ' class="words"' if n in words else ""
        return f"<{tag}{scope}{wraps}>{escape(value)}</{tag}>"

    top = "".join(cell("th", n, name, ' scope="col"') for n, name in enumerate(header))
    scope = ' scope="row"'
    lines = ""
    for name, cells in rows:
        row = "".join(cell("td", n, value) for n, value in enumerate(cells, 1))
        lines += f"<tr>{cell('th', 0, name, scope)}{row}</tr>"
    table = f'<table id="{key}"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'
    return f'<div class="wide" tabindex="0">{table}</div>'  # a box that the keyboard can scroll, too


def _details(numbers: str) -> str:
    return f"<details><summary>Numbers</summary>{numbers}</details>"


def _words(name: str) -> str:
    return {"cant_lose": "can't lose"}.get(name, name.replace("_", " "))
