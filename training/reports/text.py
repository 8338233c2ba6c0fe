"""What the commands print of a training run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from features.common.clock import iso
from features.common.errors import InputError
from models.bundle import RecommenderName
from training.evaluation.bootstrap import difference
from training.evaluation.breakdown import baseline_columns
from training.evaluation.evaluate import Evaluation, prefixed
from training.result import LoggedRun, TrainingResult

_LABEL, _GROUP = 24, 40  # widths of the first column
_MOST_GROUPS, _FEWEST = 12, 20  # rows of one breakdown; queries of a group that an interval can be given for
_FACET = {"segment": "RFM segment", "visit_events": "events so far in the visit"}
_COLUMNS = ("ndcg_at_10", "recall_at_20", "map_at_12", "hit_rate_at_10", "mrr")


def metrics_table(evaluations: Mapping[RecommenderName, Evaluation]) -> str:
    """One row per recommender, for all items and for discoveries; below, what it has to beat."""
    lines = [f"{'':<{_LABEL}}{'queries':>8}" + "".join(f"{c:>16}" for c in _COLUMNS)]
    for name, evaluation in evaluations.items():
        s = evaluation.summary
        lines.append(f"{name:<{_LABEL}}{int(s['queries']):>8,}" + "".join(f"{s[c]:>16.4f}" for c in _COLUMNS))
        if "unseen_ndcg_at_10" in s:
            lines.append(f"{'  not yet in the visit':<{_LABEL}}{'':>8}{s['unseen_ndcg_at_10']:>16.4f}")
        else:
            new = "".join(f"{s['new_' + c]:>16.4f}" for c in _COLUMNS)
            lines.append(f"{'  new to the customer':<{_LABEL}}{'':>8}{new}")
    for name, evaluation in evaluations.items():
        lines += ["", *_baselines(name, evaluation)]
    return "\n".join(lines)


def _baselines(name: str, evaluation: Evaluation) -> list[str]:
    """One row per baseline, the best first, with what the recommender is ahead in NDCG@10."""
    table, s = evaluation.queries, evaluation.summary
    columns = baseline_columns(table, "ndcg_at_10")
    if not columns:
        return []
    ours = table["ndcg_at_10"].to_numpy()
    new = "unseen_ndcg_at_10" if "unseen_ndcg_at_10" in s else "new_ndcg_at_10"
    head = f"{name + ' against':<{_LABEL}}{'ndcg_at_10':>12}{'recall_at_20':>14}"
    own = f"{'  itself':<{_LABEL}}{s['ndcg_at_10']:>12.4f}{s['recall_at_20']:>14.4f}{s[new]:>19.4f}"
    lines = [f"{head}{new:>19}   ahead by, in ndcg_at_10 (95% interval)", own]
    for baseline in sorted(columns, key=lambda b: -s[columns[b]]):
        ahead, low, high = difference(ours, table[columns[baseline]].to_numpy())
        row = f"  {baseline:<{_LABEL - 2}}{s[columns[baseline]]:>12.4f}{s[f'baseline_{baseline}_recall_at_20']:>14.4f}"
        lines.append(f"{row}{s[f'baseline_{baseline}_{new}']:>19.4f}   {_interval(ahead, low, high)}")
    if "oracle_share" in s:
        asked = f"of {int(s['oracle_queries']):,} queries it knows about"
        lines.append(
            f"  {'oracle':<{_LABEL - 2}}{s['oracle_ndcg_at_10']:>12.4f}   {s['oracle_share']:.0%} reached, {asked}"
        )
    return lines


def breakdown_table(evaluations: Mapping[RecommenderName, Evaluation]) -> str:
    """One row per group of queries: NDCG@10, and what it is ahead of the baseline that is best in that group."""
    lines = []
    for name, evaluation in evaluations.items():
        facets = evaluation.groups
        oracle = "oracle_share" in facets.columns
        for facet in facets["facet"].unique(maintain_order=True) if facets.width else ():
            groups = facets.filter(pl.col("facet") == facet)
            shown = groups.filter(pl.col("queries") >= _FEWEST).head(_MOST_GROUPS)
            if shown.is_empty():
                continue
            title = f"{name} by {_FACET.get(facet, facet)}"
            heads = f"{title:<{_GROUP}}{'queries':>8}{'ndcg_at_10':>12}   {'best baseline':<24}{'ahead by':<30}"
            lines += ["", heads + ("of oracle" if oracle else "")]
            lines += [_group(row) for row in shown.iter_rows(named=True)]
            if rest := groups.height - shown.height:
                lines.append(
                    f"  and {rest} smaller: of fewer than {_FEWEST} queries or beyond {_MOST_GROUPS} rows; see --json"
                )
    return "\n".join(line.rstrip() for line in lines)


def _group(row: dict[str, Any]) -> str:
    best = row["best_baseline"]
    theirs = f"{best} {row[f'baseline_{best}_ndcg_at_10']:.4f}"
    ahead = _interval(*(row[f"over_best_baseline{end}"] for end in ("", "_low", "_high")))
    label = row["group"].replace("_plus", " or more")
    line = f"  {label:<{_GROUP - 2}}{row['queries']:>8,}{row['ndcg_at_10']:>12.4f}   {theirs:<24}{ahead:<30}"
    return line + (f"{row['oracle_share']:>9.0%}" if "oracle_share" in row else "")


def evaluations_text(evaluations: Mapping[RecommenderName, Evaluation], out: Path | None = None) -> str:
    """Both tables, and the file the queries were written to."""
    tables = f"{metrics_table(evaluations)}\n{breakdown_table(evaluations)}"
    return tables + (f"\n\nwritten to {out}" if out else "")


def evaluations_as_dict(evaluations: Mapping[RecommenderName, Evaluation]) -> dict[str, Any]:
    """Every metric by its prefixed name, and `groups`: recommender → rows of its breakdown."""
    groups = {name: evaluation.groups.to_dicts() for name, evaluation in evaluations.items()}
    return {**prefixed(evaluations), "groups": groups}


def check_out(out: Path) -> None:
    """Raise `InputError` for a file of a kind that cannot be written, before hours are spent."""
    if out.suffix != ".parquet":
        raise InputError(f"--out {out} must end in .parquet")


def write_queries(evaluations: Mapping[RecommenderName, Evaluation], out: Path) -> None:
    """Parquet: recommender, then a row per query with everything that was measured of it."""
    tables = [e.queries.select(pl.lit(name).alias("recommender"), pl.all()) for name, e in evaluations.items()]
    out.parent.mkdir(parents=True, exist_ok=True)
    pl.concat(tables, how="diagonal").write_parquet(out)


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


def text(result: TrainingResult, logged: LoggedRun) -> str:
    start, end = (iso(t)[:10] for t in result.holdout)
    return "\n".join(
        [
            f"hold-out {start} to {end}, ranked by the same recipe trained before it:",
            metrics_table(result.evaluations),
            "",
            "what customers do next:",
            *(f"  {line}" for line in result.customers.lines()),
            "",
            f"registered {logged.model_uri} as challenger",
            f"MLflow run {logged.run_id} in experiment {logged.experiment} at {logged.tracking_uri}",
            "look at it with: make ui",
        ]
    )


def as_dict(result: TrainingResult, logged: LoggedRun) -> dict[str, Any]:
    return {
        "model_uri": logged.model_uri,
        "run_id": logged.run_id,
        "tracking_uri": logged.tracking_uri,
        "until": iso(result.until),
        "holdout": [iso(t) for t in result.holdout],
        "metrics": result.bundle.metrics,
    }
