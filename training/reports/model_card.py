"""Model card (Mitchell et al. 2019) in Markdown: intended use, data, quality and limits of a registered version."""

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from features.common.clock import iso
from features.event_log.log import EventLog
from features.tables.left_out import LeftOut
from models.bundle import RecommenderName
from training.evaluation.breakdown import baseline_columns, break_down
from training.evaluation.evaluate import Evaluation
from training.reports.plots import display_name
from training.result import TrainingResult

_FEATURES = """- candidate scores: how each generator ranks the item for this visitor
- the customer's history with the item: orders, views, carts, time since, the customer's own cycle
- the current visit: the items of its last events, and how similar the item is to them
- the item: price, popularity and its trend, age, repurchase gap
- the customer: RFM scores, lifetime value, preferences for categories, brands and price tiers"""

_LIMITS = """- Quality is measured on past behaviour, when customers were shown other lists. New lists may change \
behaviour: only an experiment on live traffic measures that.
- The catalog has no history: prices, titles and categories are those of the log's catalog, not those of each boundary.
- Events without consent are excluded; customers who refused consent are treated as anonymous visitors.
- Cold start: an item without events is found by its title, category and brand alone; a visitor without events gets \
best sellers.
- Availability, margin and business rules are not learned: serving applies them after ranking.
- Metrics of small segments are uncertain: check the intervals."""


def render_card(result: TrainingResult, event_log: EventLog, libraries: Mapping[str, str], brief: bool = False) -> str:
    """Render the card. `libraries`: name → version; a `brief` card leaves out most of the comparisons."""
    start, end = (iso(at)[:10] for at in result.holdout)
    until = iso(result.until)
    snapshot = result.bundle.snapshot
    parts = [
        f"# The Usual, trained until {until[:10]}",
        "Ranks a shop's products for a visitor. The bundle holds two recommenders: **one-to-one** for customers with "
        "history, with one ranker for when they return and one for use during a visit, and **predictive** for everyone "
        "else.",
        render_headline(result),
        render_guard(result),
        "## Intended use",
        "Product recommendations in the shop whose events it was trained on: home page, product page, cart, e-mail. "
        "Not for other shops, and not for decisions about people: prices, credit or access.",
        "## Data",
        f"- event log `{event_log.path.name}`, fingerprint `{event_log.fingerprint}`: {event_log.info['rows']:,} "
        f"events, {result.events:,} of them before the end of training, {until}\n"
        f"- {len(snapshot.customers):,} customers, {len(snapshot.items):,} items\n"
        f"- hold-out {start} to {end}; {len(result.boundaries)} training boundaries, {iso(result.boundaries[-1])[:10]} "
        f"to {iso(result.boundaries[0])[:10]}\n"
        + "".join(f"- {line}\n" for line in describe_left_out(result.left_out))
        + "\n".join(f"- training rows, {display_name(name)}: {n:,}" for name, n in result.rows.items()),
        "## Features",
        _FEATURES,
        "## Quality on the hold-out",
        "Measured with a model of the same recipe trained before the hold-out. Intervals: 95%, bootstrap over queries.",
    ]
    for name, evaluation in result.evaluations.items():
        most = 2 if brief else None
        segments = "" if brief and name != "one_to_one" else _segments(evaluation)
        parts += [f"### {display_name(name).capitalize()}", _methods(name, evaluation, most), segments]
    parts += [
        "## Predictions for customers",
        "The bundle also predicts for each customer: probability to order within 7 and 28 days, churn risk, expected "
        "value, next category. Each is measured at the latest boundary whose outcome is known:",
        "\n".join(f"- {line}" for line in result.customers.lines()),
        "## Limits",
        _LIMITS,
        "## How to reproduce it",
        f"`recipe.yml` is next to this card.\n\n```\nusual train --log {event_log.path.name} --until {until} "
        "--recipe recipe.yml\n```",
        "Libraries: " + ", ".join(f"{library} {version}" for library, version in sorted(libraries.items())) + ".",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_headline(result: TrainingResult) -> str:
    """Render one line per recommender: NDCG@10 and the difference to the best baseline, with intervals."""
    return "\n".join(f"- {_line(name, e.summary)}" for name, e in result.evaluations.items())


def describe_left_out(left_out: LeftOut) -> list[str]:
    """Say what counts in no table, without the id of a device, as pages name nobody."""
    return replace(left_out, largest_device=None).describe()


def render_guard(result: TrainingResult) -> str:
    """Render what training was forced over, with the reason, and what it warned of; empty without either."""
    guard, parts = result.guard, list[str]()
    if guard.overruled:
        stops = "\n".join(f"- {message}" for message in guard.overruled)
        parts.append(f'**Trained in spite of these checks, for the reason "{guard.force}":**\n\n{stops}')
    if guard.warnings:
        parts.append("**Warnings of this training:**\n\n" + "\n".join(f"- {message}" for message in guard.warnings))
    return "\n\n".join(parts)


def render_summary(result: TrainingResult) -> str:
    """Render NDCG@10 of each recommender as one line without Markdown."""
    return "NDCG@10 " + ", ".join(
        f"{display_name(n)} {e.summary['ndcg_at_10']:.3f}" for n, e in result.evaluations.items()
    )


def _line(name: RecommenderName, s: Mapping[str, float]) -> str:
    low, high = s["ndcg_at_10_low"], s["ndcg_at_10_high"]
    line = f"**{display_name(name)}**: NDCG@10 {s['ndcg_at_10']:.3f} ({low:.3f} to {high:.3f})"
    if "over_best_baseline" in s:
        line += f", difference to the best baseline {s['over_best_baseline']:+.3f}"
        line += f" ({s['over_best_baseline_low']:+.3f} to {s['over_best_baseline_high']:+.3f})"
    return f"{line}, {int(s['queries']):,} queries"


def _methods(name: RecommenderName, evaluation: Evaluation, most: int | None) -> str:
    """Render a table of the recommender and its best baselines, at most `most` of them."""
    s = evaluation.summary
    baselines = baseline_columns(evaluation.queries, "ndcg_at_10")
    rows = [(f"**{display_name(name)}**", s["ndcg_at_10"], s["recall_at_20"])]
    for baseline, column in sorted(baselines.items(), key=lambda pair: -s[pair[1]])[:most]:
        rows.append((display_name(baseline), s[column], s.get(f"baseline_{baseline}_recall_at_20", 0.0)))
    lines = [f"| {label} | {ndcg:.4f} | {recall:.4f} |" for label, ndcg, recall in rows]
    return "\n".join(["| method | NDCG@10 | recall@20 |", "| --- | --: | --: |", *lines])


def _segments(evaluation: Evaluation) -> str:
    groups = break_down(evaluation.queries)
    groups = groups.filter(pl.col("facet") == "segment") if groups.width else groups
    if not groups.height:
        return ""
    lines = [
        f"| {display_name(g['group'])} | {g['queries']:,} | {g['ndcg_at_10']:.4f} | {g['ndcg_at_10_low']:.4f} to "
        f"{g['ndcg_at_10_high']:.4f} |"
        for g in groups.iter_rows(named=True)
    ]
    return "\n".join(["| RFM segment | queries | NDCG@10 | interval |", "| --- | --: | --: | --- |", *lines])
