"""HTML report of a training run: one self-contained page with its data, quality, examples and recipe.

Customers are anonymous in it: examples are identified by a number and their RFM segment.
"""

from collections.abc import Mapping, Sequence
from html import escape

import polars as pl
import yaml

from features.common.clock import iso
from features.common.html import render_details, render_page, render_table, render_tiles
from features.event_log.log import EventLog
from models.bundle import RecommenderName
from training.dataset.candidate_budgets import CandidateBudgets
from training.evaluation.bootstrap import paired_difference
from training.evaluation.breakdown import baseline_columns, break_down
from training.evaluation.evaluate import Evaluation
from training.reports.model_card import describe_left_out
from training.reports.plots import Plot, display_name, plot_budgets, plot_revenue_tradeoff
from training.reports.samples import Sample
from training.result import TrainingResult

SAMPLES = 6  # customers whose lists are on the page
SAMPLE_ITEMS = 6  # items of each list
_COLUMNS = {"ndcg_at_10": "NDCG@10", "recall_at_20": "recall@20"}


def render_report(
    result: TrainingResult,
    event_log: EventLog,
    plots: Mapping[str, Plot],
    samples: Sequence[Sample],
    seconds: Sequence[tuple[str, float]] = (),
) -> str:
    """Render the page. `plots`: as returned by `training.reports.plots.plot_run`; `seconds`: by `Stopwatch.seconds`."""
    start, end = (iso(at)[:10] for at in result.holdout)
    sections = [_recommender(name, evaluation, plots) for name, evaluation in result.evaluations.items()]
    sections += [
        render_revenue_tradeoff(t, result.recipe.recommender(n).ranker.value, n) for n, t in result.trade_offs.items()
    ]
    sections += [_budgets(name, result.budgets[name]) for name in result.evaluations if name in result.budgets]
    sections += [
        _left_out(result),
        _customers(result, plots),
        _sample_lists(samples),
        _provenance(result, event_log, seconds),
    ]
    sections.append(_recipe(result))
    body = (
        f"<header><h1>Training run until {iso(result.until)[:10]}</h1>"
        f"<p>Quality is measured on the hold-out, {start} to {end}, with a model of the same recipe trained on earlier "
        f"events only. The shipped model is then trained on all events before {iso(result.until)[:10]}.</p>"
        f"{_headline(result)}</header><main>{''.join(sections)}</main>"
        "<footer>NDCG@10: 1 if all items that a customer went on to buy are on top of the list, 0 if none of them is "
        "among the first ten. Recall@20: the share of them among the first twenty. Intervals are 95% bootstrap "
        "intervals over queries; if that of a difference includes zero, the difference may be due to chance.</footer>"
    )
    return render_page(f"Training run until {iso(result.until)[:10]}", body)


def _left_out(result: TrainingResult) -> str:
    """Render what counts in no table, what the training warned of, and what it was forced over."""
    guard = result.guard
    lists = [("Left out", describe_left_out(result.left_out)), ("Warnings", guard.warnings)]
    if guard.overruled:
        lists.append((f"Trained in spite of these checks, for the reason: {guard.force}", guard.overruled))
    inner = "".join(
        f"<h3>{escape(title)}</h3><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        for title, lines in lists
        if lines
    )
    return f"<section><h2>What to know of this training</h2>{inner}</section>"


def _headline(result: TrainingResult) -> str:
    numbers: list[tuple[str, str, str]] = []
    for name, evaluation in result.evaluations.items():
        s = evaluation.summary
        numbers.append((f"NDCG@10, {display_name(name)}", f"{name}_ndcg", f"{s['ndcg_at_10']:.3f}"))
        if "over_best_baseline" in s:
            numbers.append(
                (
                    f"difference to the best baseline, {display_name(name)}",
                    f"{name}_lead",
                    f"{s['over_best_baseline']:+.3f}",
                )
            )
    numbers.append(("events trained on", "events", f"{result.events:,}"))
    return render_tiles(numbers)


def _recommender(name: RecommenderName, evaluation: Evaluation, plots: Mapping[str, Plot]) -> str:
    s = evaluation.summary
    low, high = s["ndcg_at_10_low"], s["ndcg_at_10_high"]
    purpose = {
        "one_to_one": "For customers with history: items they buy in the following weeks.",
        "one_to_one_visit": "For customers with history, during a visit: items they view and buy later in the visit.",
        "predictive": "For visits of anybody: items viewed and bought later in the visit, given its events so far.",
    }[name]
    figures = "".join(
        f"<section><h2>{escape(plots[key].title)}</h2><figure>{plots[key].svg()}</figure></section>"
        for key in (f"{name}_candidate_recall", f"{name}_importance", f"{name}_learning_curve")
        if key in plots
    )
    segments = ""
    if evaluation.per_query["segment"].n_unique() > 1:
        segments = (
            f'<section><h2>{display_name(name).capitalize()}, by RFM segment</h2><div class="beside">'
            f"{_figure(plots, f'{name}_ndcg_by_segment')}{_segments(name, evaluation)}</div></section>"
        )
    return (
        f"<section><h2>{display_name(name).capitalize()} against the baselines</h2><p>{purpose} "
        f"{int(s['queries']):,} queries; NDCG@10 {s['ndcg_at_10']:.4f}, 95% interval {low:.4f} to {high:.4f}. "
        'Differences are the recommender minus the baseline, in NDCG@10.</p><div class="beside">'
        f"{_figure(plots, f'{name}_against_baselines')}{_methods(name, evaluation)}</div></section>"
        f'{segments}<div class="two">{figures}</div>'
    )


def _figure(plots: Mapping[str, Plot], key: str) -> str:
    return f"<figure>{plots[key].svg()}</figure>" if key in plots else "<div></div>"


def _methods(name: RecommenderName, evaluation: Evaluation) -> str:
    """Render the recommender, then each baseline, the best first, with the difference to it."""
    queries, s = evaluation.queries, evaluation.summary
    rows = [(display_name(name), [*(f"{s[c]:.4f}" for c in _COLUMNS), "–"])]
    columns = baseline_columns(queries, "ndcg_at_10")
    for baseline, column in sorted(columns.items(), key=lambda pair: -s[pair[1]]):
        lead, low, high = paired_difference(queries["ndcg_at_10"].to_numpy(), queries[column].to_numpy())
        values = [s.get(f"baseline_{baseline}_{c}") for c in _COLUMNS]
        numbers = ["–" if value is None else f"{value:.4f}" for value in values]
        rows.append((display_name(baseline), [*numbers, f"{lead:+.4f} ({low:+.4f} to {high:+.4f})"]))
    return render_table(f"{name}_methods", ("method", *_COLUMNS.values(), "difference (95% interval)"), rows)


def _segments(name: RecommenderName, evaluation: Evaluation) -> str:
    groups = break_down(evaluation.queries)
    groups = groups.filter(pl.col("facet") == "segment") if groups.width else groups
    rows = [
        (
            display_name(g["group"]),
            [
                f"{g['queries']:,}",
                f"{g['ndcg_at_10']:.4f} ({g['ndcg_at_10_low']:.4f} to {g['ndcg_at_10_high']:.4f})",
                f"{g['over_best_baseline']:+.4f}",
                display_name(g["best_baseline"]),
            ],
        )
        for g in groups.iter_rows(named=True)
    ]
    header = ("segment", "queries", "NDCG@10 (95% interval)", "difference", "best baseline")
    return render_table(f"{name}_segments", header, rows)


def render_revenue_tradeoff(table: pl.DataFrame, chosen: float, name: RecommenderName) -> str:
    """Render the trade-off of quality against revenue, plot and table."""
    plot = plot_revenue_tradeoff(table, chosen, name)
    rows = [
        (
            f"{p['value']:g}{' (chosen)' if p['value'] == chosen else ''}",
            [
                *(f"{p['ndcg_at_10']:.4f}", _change(p, "ndcg", 4)),
                *(f"{p['revenue_at_10']:.2f}", _change(p, "revenue", 2)),
                f"{p['trees']:,.0f}",
            ],
        )
        for p in table.iter_rows(named=True)
    ]
    header = ("value", "NDCG@10", "difference to value 0", "revenue@10", "difference to value 0", "trees")
    return (
        f"<section><h2>{display_name(name).capitalize()}: quality against revenue</h2>"
        "<p>The same recipe with other values of <code>ranker.value</code>. Revenue@10: the summed price of the "
        "relevant items among the first ten, one unit each, as a mean over lists, in the shop's currency. These lists "
        "were not shown to anybody: relevant is what customers bought anyway.</p>"
        f'<div class="beside"><figure>{plot.svg()}</figure>'
        f"{render_table(f'{name}_value', header, rows)}</div></section>"
    )


def _change(row: Mapping[str, float], name: str, digits: int) -> str:
    change, low, high = (row[f"{name}_change{end}"] for end in ("", "_low", "_high"))
    return f"{change:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _budgets(name: RecommenderName, budgets: CandidateBudgets) -> str:
    """Render the candidate budgets by depth of each generator's list; empty if the recipe cuts no budget."""
    if not budgets.table.height:
        return ""
    plot = plot_budgets(
        {g: (b, k) for g, b, k in budgets.table.select("generator", "recipe_budget", "budget").iter_rows()}, name
    )
    rows = [
        (
            f"{display_name(r['generator'])}, from {r['depth'] + 1}",
            [
                *(f"{r[c]:,}" for c in ("candidates", "relevant", "exclusive", "exclusive_relevant")),
                f"{100 * r['exclusive_relevant'] / r['exclusive']:.2f}%" if r["exclusive"] else "–",
                f"{r['budget']} of {r['recipe_budget']}",
            ],
        )
        for r in budgets.table.iter_rows(named=True)
    ]
    header = ("generator, rank", "candidates", "relevant", "of no other generator", "relevant", "share", "kept")
    before, after = budgets.candidates_per_query
    return (
        f"<section><h2>{display_name(name).capitalize()}: candidate budgets</h2>"
        f"<p>{after:.0f} of {before:.0f} candidates per query are kept: a generator's list ends where candidates that "
        "no other generator proposes are hardly ever relevant, measured before the hold-out.</p>"
        '<div class="beside">'
        f"<figure>{plot.svg()}</figure>"
        f"{render_details(render_table(f'{name}_budgets', header, rows), 'By rank in the list')}"
        "</div></section>"
    )


def _customers(result: TrainingResult, plots: Mapping[str, Plot]) -> str:
    """Render how good the predictions for customers were."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in result.customers.lines())
    figures = "".join(
        f"<section><h2>{escape(plot.title)}</h2><figure>{plot.svg()}</figure></section>"
        for name, plot in plots.items()
        if name.startswith(("propensity_", "churn_", "expected_value_"))
    )
    return f'<section><h2>Predictions for customers</h2><ul>{lines}</ul></section><div class="two">{figures}</div>'


def _sample_lists(samples: Sequence[Sample]) -> str:
    """Render the lists of one customer from each of several segments, and of an anonymous visitor."""
    by_segment: dict[str, Sample] = {}
    for sample in samples:
        by_segment.setdefault(sample.segment if sample.purchases else sample.customer, sample)
    samples_to_show = [s for s in by_segment.values() if s.purchases][: SAMPLES - 1] + [
        s for s in samples[-1:] if not s.purchases
    ]
    rows = [
        (
            f"{s.customer} ({display_name(s.segment)})",
            [", ".join(s.purchases) or "–", ", ".join(title for title, _, _ in s.recommended[:SAMPLE_ITEMS])],
        )
        for s in samples_to_show
    ]
    header = ("customer", "most frequent purchases", "recommendations, best first")
    return (
        "<section><h2>Sample recommendations</h2><p>By the shipped model, before business rules and availability are "
        "applied. More of them are in sample_recommendations.json.</p>"
        f"{render_table('examples', header, rows, wrap=(1, 2))}</section>"
    )


def _provenance(result: TrainingResult, event_log: EventLog, seconds: Sequence[tuple[str, float]]) -> str:
    start, end = (iso(at) for at in result.holdout)
    rows = [
        ("event log", [f"{event_log.path.name}, fingerprint {event_log.fingerprint}"]),
        ("events in the log", [f"{event_log.info['rows']:,}"]),
        ("events before the end of training", [f"{result.events:,}"]),
        ("first event", [str(event_log.info["first"])]),
        ("end of training", [iso(result.until)]),
        ("hold-out", [f"{start} to {end}"]),
        ("training boundaries", [", ".join(iso(at)[:10] for at in result.boundaries)]),
        ("customers, items", [f"{len(result.bundle.snapshot.customers):,}, {len(result.bundle.snapshot.items):,}"]),
        *((f"training rows, {display_name(name)}", [f"{n:,}"]) for name, n in result.rows.items()),
        *((f"trees, {display_name(n)}", [f"{t.ranker.trees:,}"]) for n, t in result.bundle.recommenders.items()),
    ]
    sources = render_table("provenance", ("", ""), rows, wrap=(1,))
    timing = ""
    if seconds:
        steps = [(text, [f"{s:.1f}"]) for text, s in seconds]
        steps.append(("total", [f"{sum(s for _, s in seconds):.1f}"]))
        timing = f"<section><h2>Time per step</h2>{render_table('seconds', ('step', 'seconds'), steps)}</section>"
    return f'<div class="two"><section><h2>Data and models</h2>{sources}</section>{timing}</div>'


def _recipe(result: TrainingResult) -> str:
    text = yaml.safe_dump(result.recipe.model_dump(mode="json"), sort_keys=False)
    inner = f"<pre>{escape(text)}</pre>"
    return f"<section><h2>Recipe</h2>{render_details(inner, 'All settings')}</section>"
