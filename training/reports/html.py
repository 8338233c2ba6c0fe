"""A training run as one HTML page that needs nothing else: what was trained on what, how well, and for whom.

It names no customer: examples are told by a number and their RFM segment.
"""

from collections.abc import Mapping, Sequence
from html import escape

import polars as pl
import yaml

from features.common.clock import iso
from features.common.html import details, document, table_of, tiles
from features.event_log.log import EventLog
from models.bundle import RecommenderName
from training.dataset.candidate_budgets import Cut
from training.evaluation import revenue_tradeoff as value
from training.evaluation.bootstrap import difference
from training.evaluation.breakdown import baseline_columns, breakdown
from training.evaluation.evaluate import Evaluation
from training.reports.plots import Plot, budgets, words
from training.reports.samples import Sample
from training.result import TrainingResult

EXAMPLES = 6  # customers whose lists are shown
ITEMS = 6  # products of each
_COLUMNS = {"ndcg_at_10": "NDCG@10", "recall_at_20": "recall@20"}


def html(
    result: TrainingResult,
    event_log: EventLog,
    plots: Mapping[str, Plot],
    samples: Sequence[Sample],
    seconds: Sequence[tuple[str, float]] = (),
) -> str:
    """The page. `plots` as `training.reports.plots.of_run` makes them, `seconds` as a `Stopwatch` tells them."""
    start, end = (iso(at)[:10] for at in result.holdout)
    sections = [_recommender(name, evaluation, plots) for name, evaluation in result.evaluations.items()]
    sections += [value.section(t, result.recipe.of(n).ranker.value, n) for n, t in result.trade_offs.items()]
    sections += [_budgets(name, result.cuts[name]) for name in result.evaluations if name in result.cuts]
    sections += [_customers(result, plots), _examples(samples), _made_from(result, event_log, seconds)]
    sections.append(_recipe(result))
    body = (
        f"<header><h1>Training run until {iso(result.until)[:10]}</h1>"
        f"<p>Measured on {start} to {end}, which the measured model has not seen: the same recipe, trained on what "
        f"came before. What is shipped is then trained on everything before {iso(result.until)[:10]}.</p>"
        f"{_headline(result)}</header><main>{''.join(sections)}</main>"
        "<footer>NDCG@10: 1 if everything a customer went on to buy is on top of the list, 0 if none of it is among "
        "the first ten. Recall@20: the share of it among the first twenty. Intervals are 95% bootstrap intervals over "
        "queries; where one includes zero, chance alone may have made the difference.</footer>"
    )
    return document(f"Training run until {iso(result.until)[:10]}", body)


def _headline(result: TrainingResult) -> str:
    shown: list[tuple[str, str, str]] = []
    for name, evaluation in result.evaluations.items():
        s = evaluation.summary
        shown.append((f"NDCG@10, {words(name)}", f"{name}_ndcg", f"{s['ndcg_at_10']:.3f}"))
        if "over_best_baseline" in s:
            shown.append((f"ahead of the best simple method, {words(name)}", f"{name}_ahead", _signed(s)))
    shown.append(("events trained on", "events", f"{result.events:,}"))
    return tiles(shown)


def _signed(summary: Mapping[str, float]) -> str:
    return f"{summary['over_best_baseline']:+.3f}"


def _recommender(name: RecommenderName, evaluation: Evaluation, plots: Mapping[str, Plot]) -> str:
    s = evaluation.summary
    low, high = s["ndcg_at_10_low"], s["ndcg_at_10_high"]
    what = {
        "one_to_one": "For customers with history: what they buy in the weeks after.",
        "one_to_one_visit": "For customers with history, inside a visit: what they go on to look at and buy in it.",
        "predictive": "For visits of anyone: what they go on to buy, from what the visit has touched so far.",
    }[name]
    both = "".join(
        f"<section><h2>{escape(plots[key].title)}</h2><figure>{plots[key].svg()}</figure></section>"
        for key in (f"{name}_candidate_recall", f"{name}_importance", f"{name}_learning_curve")
        if key in plots
    )
    segments = ""
    if evaluation.per_query["segment"].n_unique() > 1:
        segments = (
            f'<section><h2>{words(name).capitalize()}, by RFM segment</h2><div class="beside">'
            f"{_figure(plots, f'{name}_ndcg_by_segment')}{_segments(name, evaluation)}</div></section>"
        )
    return (
        f"<section><h2>{words(name).capitalize()} against simple methods</h2><p>{what} {int(s['queries']):,} queries; "
        f'NDCG@10 {s["ndcg_at_10"]:.4f}, 95% interval {low:.4f} to {high:.4f}.</p><div class="beside">'
        f"{_figure(plots, f'{name}_against_baselines')}{_methods(name, evaluation)}</div></section>"
        f'{segments}<div class="two">{both}</div>'
    )


def _figure(plots: Mapping[str, Plot], key: str) -> str:
    return f"<figure>{plots[key].svg()}</figure>" if key in plots else "<div></div>"


def _methods(name: RecommenderName, evaluation: Evaluation) -> str:
    """Ours and each baseline, the best first, and what ours is ahead of each."""
    queries, s = evaluation.queries, evaluation.summary
    rows = [(words(name), [*(f"{s[c]:.4f}" for c in _COLUMNS), "–"])]
    columns = baseline_columns(queries, "ndcg_at_10")
    for baseline, column in sorted(columns.items(), key=lambda pair: -s[pair[1]]):
        ahead, low, high = difference(queries["ndcg_at_10"].to_numpy(), queries[column].to_numpy())
        found = [s.get(f"baseline_{baseline}_{c}") for c in _COLUMNS]
        numbers = ["–" if value is None else f"{value:.4f}" for value in found]
        rows.append((words(baseline), [*numbers, f"{ahead:+.4f} ({low:+.4f} to {high:+.4f})"]))
    return table_of(f"{name}_methods", ("method", *_COLUMNS.values(), "ours is ahead by"), rows)


def _segments(name: RecommenderName, evaluation: Evaluation) -> str:
    groups = breakdown(evaluation.queries)
    groups = groups.filter(pl.col("facet") == "segment") if groups.width else groups
    rows = [
        (
            words(g["group"]),
            [
                f"{g['queries']:,}",
                f"{g['ndcg_at_10']:.4f} ({g['ndcg_at_10_low']:.4f} to {g['ndcg_at_10_high']:.4f})",
                f"{g['over_best_baseline']:+.4f}",
                words(g["best_baseline"]),
            ],
        )
        for g in groups.iter_rows(named=True)
    ]
    header = ("segment", "queries", "NDCG@10 (interval)", "ahead by", "best simple method")
    return table_of(f"{name}_segments", header, rows)


def _budgets(name: RecommenderName, cut: Cut) -> str:
    """What each generator's list is worth by depth; nothing where the recipe lets no budget be cut."""
    if not cut.table.height:
        return ""
    shown = budgets({g: (b, k) for g, b, k in cut.table.select("generator", "budget", "kept").iter_rows()}, name)
    rows = [
        (
            f"{words(r['generator'])}, from {r['depth'] + 1}",
            [
                *(f"{r[c]:,}" for c in ("proposed", "wanted", "alone", "wanted_alone")),
                f"{100 * r['wanted_alone'] / r['alone']:.2f}%" if r["alone"] else "–",
                f"{r['kept']} of {r['budget']}",
            ],
        )
        for r in cut.table.iter_rows(named=True)
    ]
    header = ("generator, place", "proposed", "wanted", "by no other", "of these wanted", "share", "kept")
    before, after = cut.candidates
    return (
        f"<section><h2>{words(name).capitalize()}: how deep generators are asked</h2>"
        f"<p>{after:.0f} candidates a query of {before:.0f}: a list ends where what no other generator proposes is "
        'hardly ever wanted, counted before the hold-out.</p><div class="beside">'
        f"<figure>{shown.svg()}</figure>{details(table_of(f'{name}_budgets', header, rows), 'By place in the list')}"
        "</div></section>"
    )


def _customers(result: TrainingResult, plots: Mapping[str, Plot]) -> str:
    """How what was expected of customers came true."""
    told = "".join(f"<li>{escape(line)}</li>" for line in result.customers.lines())
    shown = "".join(
        f"<section><h2>{escape(plot.title)}</h2><figure>{plot.svg()}</figure></section>"
        for name, plot in plots.items()
        if name.startswith(("propensity_", "churn_", "expected_value_"))
    )
    return f'<section><h2>What customers do next</h2><ul>{told}</ul></section><div class="two">{shown}</div>'


def _examples(samples: Sequence[Sample]) -> str:
    """One customer of as many segments as there are, and who nobody knows."""
    chosen: dict[str, Sample] = {}
    for sample in samples:
        chosen.setdefault(sample.segment if sample.usual else sample.customer, sample)
    told = [s for s in chosen.values() if s.usual][: EXAMPLES - 1] + [s for s in samples[-1:] if not s.usual]
    rows = [
        (
            f"{s.customer} ({words(s.segment)})",
            [", ".join(s.usual) or "–", ", ".join(title for title, _, _ in s.shown[:ITEMS])],
        )
        for s in told
    ]
    return (
        "<section><h2>What customers would be shown</h2><p>By the shipped model, before the shop's rules and stock. "
        "More of them are in sample_recommendations.json.</p>"
        f"{table_of('examples', ('customer', 'bought most', 'recommended, best first'), rows, words=(1, 2))}</section>"
    )


def _made_from(result: TrainingResult, event_log: EventLog, seconds: Sequence[tuple[str, float]]) -> str:
    start, end = (iso(at) for at in result.holdout)
    rows = [
        ("event log", [f"{event_log.path.name}, fingerprint {event_log.fingerprint}"]),
        ("events in it", [f"{event_log.info['rows']:,}"]),
        ("of these before the end", [f"{result.events:,}"]),
        ("first event", [str(event_log.info["first"])]),
        ("end of training", [iso(result.until)]),
        ("hold-out", [f"{start} to {end}"]),
        ("training boundaries", [", ".join(iso(at)[:10] for at in result.boundaries)]),
        ("customers, items", [f"{len(result.bundle.snapshot.customers):,}, {len(result.bundle.snapshot.items):,}"]),
        *((f"training rows, {words(name)}", [f"{n:,}"]) for name, n in result.rows.items()),
        *((f"trees, {words(n)}", [f"{t.ranker.trees:,}"]) for n, t in result.bundle.recommenders.items()),
    ]
    made = table_of("made_from", ("", ""), rows, words=(1,))
    took = ""
    if seconds:
        times = [(text, [f"{s:.1f}"]) for text, s in seconds]
        times.append(("in all", [f"{sum(s for _, s in seconds):.1f}"]))
        took = f"<section><h2>Where the time went</h2>{table_of('seconds', ('step', 'seconds'), times)}</section>"
    return f'<div class="two"><section><h2>What it was made from</h2>{made}</section>{took}</div>'


def _recipe(result: TrainingResult) -> str:
    text = yaml.safe_dump(result.recipe.model_dump(mode="json"), sort_keys=False)
    inner = f"<pre>{escape(text)}</pre>"
    return f"<section><h2>Recipe</h2>{details(inner, 'Every setting')}</section>"
