"""A model card (Mitchell et al. 2019) in Markdown: what a registered version is for, how good, and what it cannot."""

from collections.abc import Mapping

import polars as pl

from features.common.clock import iso
from features.event_log.log import EventLog
from models.bundle import RecommenderName
from training.evaluation.breakdown import baseline_columns, breakdown
from training.evaluation.evaluate import Evaluation
from training.reports.plots import words
from training.result import TrainingResult

_FEATURES = """- candidate scores: how each generator ranks the item for this visitor
- the customer's history with the item: orders, views, carts, time since, the customer's own cycle
- this visit: what its last events touched, and how near the item is to that
- the item: price, popularity and its trend, age, repurchase gap
- the customer: RFM scores, lifetime value, leanings to categories, brands and price tiers"""

_LIMITS = """- Quality is measured on what customers did when they were shown something else: a new kind of list may \
change what they do. Only an experiment on live traffic tells what it is worth.
- The catalog has no past: prices, titles and categories are those of the log's catalog, not those of each boundary.
- Events without consent are kept out; who refused is treated as someone unknown.
- Cold start: an item without events is found by its title, category and brand alone; a visitor without events gets \
what sells.
- Availability, margin and business rules are not learnt: serving applies them after ranking.
- Numbers of small segments are uncertain: look at the intervals."""


def markdown(result: TrainingResult, event_log: EventLog, libraries: Mapping[str, str], brief: bool = False) -> str:
    """The card; `libraries`: name → version. A `brief` one leaves out most of the comparisons."""
    start, end = (iso(at)[:10] for at in result.holdout)
    until = iso(result.until)
    snapshot = result.bundle.snapshot
    parts = [
        f"# The Usual, trained until {until[:10]}",
        "Ranks a shop's products for a visitor. Two recommenders in one bundle: **one-to-one** for customers with "
        "history, with a ranker for when they come back and one for inside their visits, and **predictive** for "
        "everyone else.",
        headline(result),
        "## Intended use",
        "Product recommendations in the shop whose events it was trained on: home page, product page, cart, e-mail. "
        "Not for other shops, and not for decisions about people: prices, credit or access.",
        "## Data",
        f"- event log `{event_log.path.name}`, fingerprint `{event_log.fingerprint}`: {event_log.info['rows']:,} "
        f"events, {result.events:,} of them before the end of training, {until}\n"
        f"- {len(snapshot.customers):,} customers, {len(snapshot.items):,} items\n"
        f"- hold-out {start} to {end}; {len(result.boundaries)} training boundaries, {iso(result.boundaries[-1])[:10]} "
        f"to {iso(result.boundaries[0])[:10]}\n"
        + "\n".join(f"- training rows, {words(name)}: {n:,}" for name, n in result.rows.items()),
        "## Features",
        _FEATURES,
        "## Quality on the hold-out",
        "Measured on the same recipe trained before the hold-out. Intervals: 95%, bootstrap over queries.",
    ]
    for name, evaluation in result.evaluations.items():
        most = 2 if brief else None
        segments = "" if brief and name != "one_to_one" else _segments(evaluation)
        parts += [f"### {words(name).capitalize()}", _methods(name, evaluation, most), segments]
    parts += [
        "## What customers do next",
        "Predictions for each customer, that come with the bundle: probability to order within 7 and 28 days, churn "
        "risk, expected value, next category. Each measured at the latest boundary whose outcome is known:",
        "\n".join(f"- {line}" for line in result.customers.lines()),
        "## Limits",
        _LIMITS,
        "## How to make it again",
        f"`recipe.yml` is beside this card.\n\n```\nusual train --log {event_log.path.name} --until {until} "
        "--recipe recipe.yml\n```",
        "Libraries: " + ", ".join(f"{library} {version}" for library, version in sorted(libraries.items())) + ".",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def headline(result: TrainingResult) -> str:
    """One line per recommender."""
    return "\n".join(f"- {_line(name, e.summary)}" for name, e in result.evaluations.items())


def summary(result: TrainingResult) -> str:
    """A few words, without marks."""
    return "NDCG@10 " + ", ".join(f"{words(n)} {e.summary['ndcg_at_10']:.3f}" for n, e in result.evaluations.items())


def _line(name: RecommenderName, s: Mapping[str, float]) -> str:
    told = f"**{words(name)}**: NDCG@10 {s['ndcg_at_10']:.3f} ({s['ndcg_at_10_low']:.3f} to {s['ndcg_at_10_high']:.3f})"
    if "over_best_baseline" in s:
        told += f", {s['over_best_baseline']:+.3f} against the best simple method"
        told += f" ({s['over_best_baseline_low']:+.3f} to {s['over_best_baseline_high']:+.3f})"
    return f"{told}, {int(s['queries']):,} queries"


def _methods(name: RecommenderName, evaluation: Evaluation, most: int | None) -> str:
    """Ours and the `most` best baselines."""
    s = evaluation.summary
    baselines = baseline_columns(evaluation.queries, "ndcg_at_10")
    rows = [(f"**{words(name)}**", s["ndcg_at_10"], s["recall_at_20"])]
    for baseline, column in sorted(baselines.items(), key=lambda pair: -s[pair[1]])[:most]:
        rows.append((words(baseline), s[column], s.get(f"baseline_{baseline}_recall_at_20", 0.0)))
    lines = [f"| {label} | {ndcg:.4f} | {recall:.4f} |" for label, ndcg, recall in rows]
    return "\n".join(["| method | NDCG@10 | recall@20 |", "| --- | --: | --: |", *lines])


def _segments(evaluation: Evaluation) -> str:
    groups = breakdown(evaluation.queries)
    groups = groups.filter(pl.col("facet") == "segment") if groups.width else groups
    if not groups.height:
        return ""
    lines = [
        f"| {words(g['group'])} | {g['queries']:,} | {g['ndcg_at_10']:.4f} | {g['ndcg_at_10_low']:.4f} to "
        f"{g['ndcg_at_10_high']:.4f} |"
        for g in groups.iter_rows(named=True)
    ]
    return "\n".join(["| RFM segment | queries | NDCG@10 | interval |", "| --- | --: | --: | --- |", *lines])
