"""Page about a log: one self-contained HTML file with the findings by severity, and what they were read from."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from features.checks import plots
from features.checks.finding import SEVERITIES, Finding, Severity, count
from features.checks.report import CheckReport
from features.checks.times import EPOCH, count_days
from features.common.clock import iso
from features.common.errors import InputError
from features.common.html import render_details, render_page, render_table, render_tiles

_HEADINGS: dict[Severity, tuple[str, str]] = {
    "stop": ("Stop", "What is computed from the log means nothing until this is put right."),
    "warn": ("Look at", "Some numbers are wrong, or worse than they could be."),
    "info": ("Know", "As a shop may well be."),
}
MOST_ORDERS = 10  # customers with more orders share the last bar


def validate_page(page: Path) -> None:
    """Raise `InputError` unless the name is that of a page: before the work, not after it."""
    if page.suffix not in (".html", ".htm"):
        raise InputError(f"--page is {page}; its name must end in .html")


def write_page(report: CheckReport, page: Path) -> None:
    """Write the page."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render_html(report), encoding="utf-8")


def render_html(report: CheckReport) -> str:
    """Render the whole page."""
    totals = report.totals
    span = f"Events from {totals['first']} to {totals['last']}"
    span += f", before {iso(report.facts.as_of)}" if report.facts.as_of is not None else ""
    sections = "".join(_findings(report, severity) for severity in SEVERITIES)
    if not report.findings:
        sections = "<section><h2>Nothing found</h2></section>"
    body = (
        f"<header><h1>Event log check</h1>\n<p>{_verdict(report)} {span}.</p>"
        f"{_tiles(report)}</header>\n<main>{sections}"
        f'<div class="two">{_days(report)}{_hours(report)}</div>\n'
        f'<div class="two">{_buyers(report)}{_prices(report)}</div>'
        "</main>\n<footer>Times are UTC. Examples are the shop's own ids; addresses are never shown.</footer>"
    )
    return render_page("Event log check", body)


def _verdict(report: CheckReport) -> str:
    stops, warnings = (sum(f.severity == s for f in report.findings) for s in ("stop", "warn"))
    if stops:
        return f"{count(stops, 'fault')} that {'makes' if stops == 1 else 'make'} any result meaningless."
    look = f"{count(warnings, 'thing')} to look at" if warnings else "nothing to look at"
    return f"No fault that makes results meaningless; {look}."


def _tiles(report: CheckReport) -> str:
    totals = report.totals
    numbers = [
        (key.capitalize(), key, f"{totals[key]:,.0f}") for key in ("events", "customers", "items", "orders", "revenue")
    ]
    return render_tiles([*numbers, ("Days", "days", f"{report.facts.span_days:,}")])


def _findings(report: CheckReport, severity: Severity) -> str:
    findings = [f for f in report.findings if f.severity == severity]
    if not findings:
        return ""
    title, meaning = _HEADINGS[severity]
    rows = ((_words(f), (f.text, f.example or "–", _sentence(f.advice) or "–")) for f in findings)
    table = render_table(severity, ("", "what was found", "for example", "what to do"), rows, wrap=(1, 2, 3))
    return f"<section><h2>{title}</h2><p>{meaning}</p>{table}</section>"


def _days(report: CheckReport) -> str:
    facts = report.facts
    events, orders = count_days(facts, None), count_days(facts, "purchase")
    first = EPOCH + timedelta(days=int(facts.days["day"][0]))
    months = facts.days.with_columns(month=(pl.col("day") * 86_400_000).cast(pl.Datetime("ms")).dt.strftime("%Y-%m"))
    rows = months.group_by("month").agg(pl.col("events").sum()).sort("month")
    numbers = render_table("months", ("month", "events"), ((m, [f"{n:,}"]) for m, n in rows.iter_rows()))
    return (
        f"<section><h2>Day by day</h2><p>Gaps are exports that are missing.</p>{plots.daily(first, events, orders)}"
        f"{render_details(numbers)}</section>"
    )


def _hours(report: CheckReport) -> str:
    counts = np.zeros(24, np.int64)
    hours = report.facts.hours.group_by(hour=pl.col("hour") % 24).agg(pl.col("events").sum())
    counts[hours["hour"].to_numpy()] = hours["events"].to_numpy()
    labels = [f"{hour:02d}" for hour in range(24)]
    rows = render_table("hours", ("hour", "events"), ((h, [f"{n:,}"]) for h, n in zip(labels, counts, strict=True)))
    return (
        "<section><h2>Hour by hour</h2><p>People sleep: at the shop's place the quiet hours are around four in the "
        f"morning.</p>{plots.bars(labels, counts.tolist(), ('hour of the day (UTC)', 'events'))}"
        f"{render_details(rows)}</section>"
    )


def _buyers(report: CheckReport) -> str:
    orders = report.facts.buyers["orders"].to_numpy()
    head = "<section><h2>Orders per customer</h2>"
    if not len(orders):
        return f"{head}<p>No order of a known customer.</p></section>"
    counts = np.bincount(np.minimum(orders, MOST_ORDERS), minlength=MOST_ORDERS + 1)[1:].tolist()
    labels = [*(str(n) for n in range(1, MOST_ORDERS)), f"{MOST_ORDERS}+"]
    numbers = render_table(
        "buyers", ("orders", "customers"), ((o, [f"{n:,}"]) for o, n in zip(labels, counts, strict=True))
    )
    return (
        f"{head}<p>Who buys once and who returns.</p>{plots.bars(labels, counts, ('orders', 'customers'))}"
        f"{render_details(numbers)}</section>"
    )


def _prices(report: CheckReport) -> str:
    paid = report.facts.prices["median"].to_numpy()
    head = "<section><h2>Prices</h2>"
    if not len(paid):
        return f"{head}<p>Nothing was sold at a price.</p></section>"
    rows = [(f"{q}% of items cost at most", [f"{np.quantile(paid, q / 100):,.2f}"]) for q in (1, 10, 50, 90, 99, 100)]
    return (
        f"{head}<p>What is usually paid for each item. Two hills a hundred times apart are cents among whole units.</p>"
        f"{plots.prices(paid)}{render_details(render_table('prices', ('', 'price'), rows))}</section>"
    )


def _words(finding: Finding) -> str:
    return finding.code.replace("_", " ")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
