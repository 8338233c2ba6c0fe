"""Ranking quality of the default recipe on simulated shops of several kinds.

    python benchmarks/shops.py [--shops general grocery fashion longtail] [--customers 3000]

Compares NDCG@10 of each recommender with the best baseline, the best single generator and the oracle. The model is
trained on all but the last 28 days, which it is measured on.
"""

import argparse
import tempfile
from pathlib import Path

import shop  # first: BLAS reads its threads when numpy is imported

import numpy as np  # isort: skip

from features.common.clock import DAY, micros
from features.event_log.ingestion.ingest import ingest
from features.ranking.snapshot import Snapshot
from features.sources import read
from features.sources.simulator.config import build_config
from features.sources.simulator.truth import Truth, write_truth
from models.candidates.generators import Generators
from models.candidates.registry import GeneratorName
from training import recipe
from training.dataset import queries
from training.dataset.queries import Queries
from training.evaluation.backtest import evaluate_bundle, refresh_bundle
from training.evaluation.breakdown import baseline_columns, nan_mean, oracle_share, over_best_baseline
from training.evaluation.evaluate import Evaluation
from training.evaluation.metrics import ndcg_at_10, top_lists
from training.train import train

KINDS = ("general", "grocery", "fashion", "longtail")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shops", nargs="+", default=KINDS, choices=[*KINDS, "wholesale"])
    parser.add_argument("--customers", type=int, default=3000)
    args = parser.parse_args()
    rows = []
    for kind in args.shops:
        with tempfile.TemporaryDirectory() as scratch:
            rows += compare_shop(kind, args.customers, Path(scratch))
    shop.print_table(
        ["shop", "recommender", "queries", "NDCG@10", "best baseline", "difference", "95% interval",
         "best single generator", "of the oracle"],
        rows,
    )  # fmt: skip


def compare_shop(kind: str, customers: int, scratch: Path) -> list[list[str]]:
    """Train and measure on one shop: a row per recommender, and one for visits from their third event on."""
    config = build_config(kind, {"customers": customers, "seed": 11})
    log = ingest(read("simulated", config=config), scratch / "log").log
    write_truth(config, scratch / "truth")
    settings = recipe.load()
    start, end = micros(log.last) + 1 - settings.horizon_days * DAY, micros(log.last) + 1
    bundle = refresh_bundle(train(log, settings, start).bundle, log, start)
    queries_by_recommender = queries.build_queries(log.scan(), bundle.snapshot, end, settings)
    evaluations = evaluate_bundle(bundle, queries_by_recommender, end, truth=Truth.load(scratch / "truth"))
    rows = []
    for name, evaluation in evaluations.items():
        table = evaluation.queries
        alone_ndcg = {
            g: generator_ndcg_at_10(g, bundle.generators, bundle.snapshot, queries_by_recommender[name])
            for g in bundle.generators.names
        }
        rows.append(format_row(kind, name, evaluation, alone_ndcg, np.ones(table.height, bool)))
        if name == "predictive":
            long_visits = (table["visit_events"] == "3_plus").to_numpy()
            rows.append(format_row(kind, "… from the third event", evaluation, alone_ndcg, long_visits))
    print(f"{kind}: {log.info['rows']:,} events", flush=True)
    return rows


def format_row(
    kind: str, name: str, evaluation: Evaluation, alone_ndcg: dict[GeneratorName, np.ndarray], part: np.ndarray
) -> list[str]:
    table = evaluation.queries.filter(part)
    best, lead, low, high = over_best_baseline(table)
    baseline_ndcg = nan_mean(table[baseline_columns(table, "ndcg_at_10")[best]])
    generator = max(alone_ndcg, key=lambda g: float(alone_ndcg[g][part].mean()))
    return [
        kind, name, f"{table.height:,}", f"{nan_mean(table['ndcg_at_10']):.4f}", f"{best} {baseline_ndcg:.4f}",
        f"{lead:+.4f}", f"{low:+.4f} to {high:+.4f}", f"{generator} {alone_ndcg[generator][part].mean():.4f}",
        f"{oracle_share(table):.0%}",
    ]  # fmt: skip


def generator_ndcg_at_10(
    name: GeneratorName, generators: Generators, snapshot: Snapshot, queries: Queries
) -> np.ndarray:
    """Return float64[queries]: NDCG@10 of the list of one generator alone."""
    scores = generators.scores(name, snapshot, queries.visitors)
    query, item = scores.top(10)
    order = np.lexsort((item, -scores.at(query, item), query))
    query, item = query[order], item[order]
    hits = top_lists(query, queries.labels(query, item, len(snapshot.items)) > 0, len(queries), False)
    return ndcg_at_10(hits, np.bincount(queries.query, minlength=len(queries)))


if __name__ == "__main__":
    main()
