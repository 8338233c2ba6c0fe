"""Text output of `usual train`, `usual demo` and `usual evaluate`: metrics, baselines and breakdowns as tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from features.common.clock import iso
from features.common.paths import check_out_file
from models.bundle import RecommenderName
from training.evaluation.bootstrap import paired_difference
from training.evaluation.breakdown import baseline_columns
from training.evaluation.evaluate import Evaluation, flatten_metrics
from training.result import LoggedRun, TrainingResult

_LABEL, _GROUP = 24, 40  # widths of the first column
_MAX_GROUPS, _MIN_QUERIES = 12, 20  # rows of one breakdown; queries that a group must have to be listed
_FACET = {"segment": "RFM segment", "visit_events": "events so far in the visit"}
_COLUMNS = ("ndcg_at_10", "recall_at_20", "map_at_12", "hit_rate_at_10", "mrr")


def render_metrics(evaluations: Mapping[RecommenderName, Evaluation]) -> str:
    """Render one row per recommender, for all items and without seen items, then a table of baselines for each."""
    lines = [f"{'':<{_LABEL}}{'queries':>8}" + "".join(f"{c:>16}" for c in _COLUMNS)]
    for name, evaluation in evaluations.items():
        s = evaluation.summary
        lines.append(f"{name:<{_LABEL}}{int(s['queries']):>8,}" + "".join(f"{s[c]:>16.4f}" for c in _COLUMNS))
        if "unseen_ndcg_at_10" in s:
            lines.append(f"{'  not seen in the visit':<{_LABEL}}{'':>8}{s['unseen_ndcg_at_10']:>16.4f}")
        else:
            new = "".join(f"{s['new_' + c]:>16.4f}" for c in _COLUMNS)
            lines.append(f"{'  new to the customer':<{_LABEL}}{'':>8}{new}")
    for name, evaluation in evaluations.items():
        lines += ["", *_baselines(name, evaluation)]
    return "\n".join(lines)


def _baselines(name: str, evaluation: Evaluation) -> list[str]:
    """Render the recommender, then each baseline, the best first, with the difference in NDCG@10."""
    table, s = evaluation.queries, evaluation.summary
    columns = baseline_columns(table, "ndcg_at_10")
    if not columns:
        return []
    own_ndcg = table["ndcg_at_10"].to_numpy()
    new = "unseen_ndcg_at_10" if "unseen_ndcg_at_10" in s else "new_ndcg_at_10"
    lines = [
        f"{name} and its baselines (difference: {name} minus baseline, in ndcg_at_10)",
        f"{'':<{_LABEL}}{'ndcg_at_10':>12}{'recall_at_20':>14}{new:>19}   difference (95% interval)",
        f"  {name:<{_LABEL - 2}}{s['ndcg_at_10']:>12.4f}{s['recall_at_20']:>14.4f}{s[new]:>19.4f}",
    ]
    for baseline in sorted(columns, key=lambda b: -s[columns[b]]):
        lead, low, high = paired_difference(own_ndcg, table[columns[baseline]].to_numpy())
        row = f"  {baseline:<{_LABEL - 2}}{s[columns[baseline]]:>12.4f}{s[f'baseline_{baseline}_recall_at_20']:>14.4f}"
        lines.append(f"{row}{s[f'baseline_{baseline}_{new}']:>19.4f}   {_interval(lead, low, high)}")
    if "oracle_share" in s:
        share = f"{name} reaches {s['oracle_share']:.0%} of it, on {int(s['oracle_queries']):,} queries"
        lines.append(f"  {'oracle':<{_LABEL - 2}}{s['oracle_ndcg_at_10']:>12.4f}   {share}")
    return lines


def render_breakdown(evaluations: Mapping[RecommenderName, Evaluation]) -> str:
    """Render one row per group of queries: NDCG@10, and the difference to the best baseline within that group."""
    lines = []
    for name, evaluation in evaluations.items():
        facets = evaluation.groups
        oracle = "oracle_share" in facets.columns
        for facet in facets["facet"].unique(maintain_order=True) if facets.width else ():
            groups = facets.filter(pl.col("facet") == facet)
            large_groups = groups.filter(pl.col("queries") >= _MIN_QUERIES).head(_MAX_GROUPS)
            if large_groups.is_empty():
                continue
            title = f"{name} by {_FACET.get(facet, facet)}"
            header = f"{title:<{_GROUP}}{'queries':>8}{'ndcg_at_10':>12}   {'best baseline':<24}"
            header += f"{'difference (95% interval)':<30}"
            lines += ["", header + ("of the oracle" if oracle else "")]
            lines += [_group(row) for row in large_groups.iter_rows(named=True)]
            if rest := groups.height - large_groups.height:
                lines.append(
                    f"  and {rest} smaller groups (of less than {_MIN_QUERIES} queries, or beyond {_MAX_GROUPS} rows); "
                    "see --json"
                )
    return "\n".join(line.rstrip() for line in lines)


def _group(row: dict[str, Any]) -> str:
    best = row["best_baseline"]
    baseline = f"{best} {row[f'baseline_{best}_ndcg_at_10']:.4f}"
    lead = _interval(*(row[f"over_best_baseline{end}"] for end in ("", "_low", "_high")))
    label = row["group"].replace("_plus", " or more")
    line = f"  {label:<{_GROUP - 2}}{row['queries']:>8,}{row['ndcg_at_10']:>12.4f}   {baseline:<24}{lead:<30}"
    return line + (f"{row['oracle_share']:>13.0%}" if "oracle_share" in row else "")


def render_evaluations(evaluations: Mapping[RecommenderName, Evaluation], out: Path | None = None) -> str:
    """Render both tables, and the path that the queries were written to."""
    tables = f"{render_metrics(evaluations)}\n{render_breakdown(evaluations)}"
    return tables + (f"\n\nwritten to {out}" if out else "")


def evaluations_to_dict(evaluations: Mapping[RecommenderName, Evaluation]) -> dict[str, Any]:
    """Return every metric by its prefixed name, and `groups`: recommender → rows of its breakdown."""
    groups = {name: evaluation.groups.to_dicts() for name, evaluation in evaluations.items()}
    return {**flatten_metrics(evaluations), "groups": groups}


def check_output_path(out: Path) -> None:
    """Raise `InputError` if no Parquet file can be written at `out`; called before the evaluation, which takes long."""
    check_out_file(out, ".parquet")


def write_queries(evaluations: Mapping[RecommenderName, Evaluation], out: Path) -> None:
    """Write Parquet with one row per query: the recommender, and all metrics of the query."""
    tables = [e.queries.select(pl.lit(name).alias("recommender"), pl.all()) for name, e in evaluations.items()]
    out.parent.mkdir(parents=True, exist_ok=True)
    pl.concat(tables, how="diagonal").write_parquet(out)


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


def render_run(result: TrainingResult, logged: LoggedRun) -> str:
    """Render a training run: its quality on the hold-out, and where it was logged and registered."""
    start, end = (iso(t)[:10] for t in result.holdout)
    return "\n".join(
        [
            f"hold-out {start} to {end}, measured with a model of the same recipe trained before it:",
            render_metrics(result.evaluations),
            "",
            "predictions for customers:",
            *(f"  {line}" for line in result.customers.lines()),
            "",
            *result.left_out.describe(),
            *_guard_lines(result),
            f"registered {logged.model_uri} as challenger",
            f"MLflow run {logged.run_id} in experiment {logged.experiment} at {logged.tracking_uri}",
            "open it with: usual ui",
        ]
    )


def _guard_lines(result: TrainingResult) -> list[str]:
    """Render what training was forced over, and its warnings, with an empty line after them."""
    guard, lines = result.guard, list[str]()
    if guard.overruled:
        lines += [f"trained in spite of this, for the reason {guard.force!r}:", *(f"  - {m}" for m in guard.overruled)]
    if guard.warnings:
        lines += ["warnings:", *(f"  - {m}" for m in guard.warnings)]
    return [*lines, ""] if lines else []


def run_to_dict(result: TrainingResult, logged: LoggedRun) -> dict[str, Any]:
    """Return a training run for `--json`."""
    return {
        "model_uri": logged.model_uri,
        "run_id": logged.run_id,
        "tracking_uri": logged.tracking_uri,
        "until": iso(result.until),
        "holdout": [iso(t) for t in result.holdout],
        "metrics": result.bundle.metrics,
        "left_out": result.left_out.as_dict(),
        "forced": result.guard.force if result.guard.overruled else None,
        "overruled": result.guard.overruled,
        "warnings": result.guard.warnings,
    }
