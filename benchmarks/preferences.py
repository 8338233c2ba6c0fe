"""What quiz answers are worth: NDCG@10 of the first request of new visitors who answered, with and without answers.

    python benchmarks/preferences.py [--shop fashion] [--customers 1500] [--seeds 1] [--quizzes 0.5] [--noise 0.15]

Simulates the same shop with and without a quiz: apart from the answers the logs hold the same events. Two models are
trained with the default recipe, one on each. Each week of the following four their snapshots are refreshed, and both
rank at the first request of the visits of strangers, nothing of which is known but what they answered as they came in.
`hidden` is the model with a quiz, where the answers are not told to it. The difference is paired, query by query.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import shop  # first: BLAS reads its threads when numpy is imported

import numpy as np  # isort: skip

from features.common.clock import DAY, micros
from features.event_log.ingestion.ingest import ingest
from features.event_log.log import EventLog
from features.ranking.snapshot import Snapshot
from features.ranking.stated_preferences import NOTHING_STATED
from features.sources import read
from features.sources.simulator.config import build_config
from models.bundle import Bundle
from training import recipe
from training.dataset.queries import Queries, build_queries
from training.evaluation.backtest import refresh_bundle
from training.evaluation.bootstrap import paired_difference
from training.evaluation.metrics import ndcg_at_10, top_lists
from training.train import train

WEEKS = 4
WAYS = ("best sellers", "without a quiz", "hidden", "with a quiz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shop", default="fashion", choices=["general", "grocery", "fashion", "longtail", "wholesale"])
    parser.add_argument("--customers", type=int, default=1500)
    parser.add_argument("--days", type=int, default=180)
    parser.add_argument("--quizzes", type=float, default=0.5, help="share of new visitors who answer")
    parser.add_argument("--noise", type=float, default=0.15, help="chance that an answer is drawn at random")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    parts: list[np.ndarray] = []
    for seed in range(args.seeds):
        settings = {"customers": args.customers, "days": args.days, "seed": seed, "quiz_noise": args.noise}
        parts += compare_shop(args.shop, settings, args.quizzes)
        print(f"seed {seed}: {parts[-1].shape[1]:,} queries in its last week", flush=True)
    values = np.concatenate(parts, axis=1)
    rows = []
    for way, ndcg in zip(WAYS, values, strict=True):
        difference, low, high = paired_difference(values[-1], ndcg)
        rows.append(
            [way, f"{ndcg.size:,}", f"{ndcg.mean():.4f}", f"{values[-1].mean() / ndcg.mean():.2f}",
             f"{difference:+.4f}", f"{low:+.4f} to {high:+.4f}"]
        )  # fmt: skip
    shop.print_table(["ranking", "queries", "NDCG@10", "with a quiz / this", "difference", "95% interval"], rows)


def compare_shop(kind: str, settings: dict[str, object], quizzes: float) -> list[np.ndarray]:
    """Return float64[ways × queries] of each week."""
    with tempfile.TemporaryDirectory() as scratch:
        configs = [build_config(kind, {**settings, "quizzes": share}) for share in (0.0, quizzes)]
        logs = [ingest(read("simulated", config=c), Path(scratch) / str(n)).log for n, c in enumerate(configs)]
        end = micros(logs[0].last) // DAY * DAY
        start = end - WEEKS * 7 * DAY
        models = [train(log, recipe.load(), start).bundle for log in logs]
        weeks = range(start, end, 7 * DAY)
        return [compare_week(models, logs, week) for week in weeks]


def compare_week(models: list[Bundle], logs: list[EventLog], week: int) -> np.ndarray:
    without, with_quiz = (refresh_bundle(model, log, week) for model, log in zip(models, logs, strict=True))
    plain, asked = (
        build_queries(log.scan(), model.snapshot, week + 7 * DAY, recipe.load())["predictive"]
        for log, model in zip(logs, (without, with_quiz), strict=True)
    )
    if plain.context is None or asked.context is None or not plain.context.equals(asked.context):
        raise RuntimeError("the two logs hold different visits: there is nothing to compare")
    answered = np.zeros(len(asked), bool)
    answered[asked.visitors.stated.query] = True
    first = np.flatnonzero(answered & (asked.context["visit_events"].to_numpy() == 0))
    plain, asked = (take(queries, first) for queries in (plain, asked))
    hidden = replace(asked, visitors=replace(asked.visitors, stated=NOTHING_STATED))
    return np.array(
        [
            measure_best_sellers(without.snapshot, plain),
            *(measure(m, q) for m, q in ((without, plain), (with_quiz, hidden), (with_quiz, asked))),
        ]
    )


def take(queries: Queries, rows: np.ndarray) -> Queries:
    place = np.full(len(queries), -1)
    place[rows] = np.arange(len(rows))
    pairs = place[queries.query] >= 0
    return Queries(queries.visitors.only(rows), place[queries.query[pairs]], queries.item[pairs], queries.grade[pairs])


def measure(model: Bundle, queries: Queries) -> np.ndarray:
    """NDCG@10 of each query."""
    snapshot, n = model.snapshot, len(model.snapshot.items)
    relevant = np.bincount(queries.query, minlength=len(queries))
    values = np.zeros(len(queries))
    for start, batch, candidates, _ in model.recommenders["predictive"].rank(snapshot, queries.visitors):
        hits = queries.labels(candidates.query + start, candidates.item, n) > 0
        rows = slice(start, start + len(batch))
        values[rows] = ndcg_at_10(top_lists(candidates.query, hits, len(batch), False), relevant[rows])
    return values


def measure_best_sellers(snapshot: Snapshot, queries: Queries) -> np.ndarray:
    best = np.argsort(-snapshot.item("buyers_28d"), kind="stable")[:10]
    query = np.arange(len(queries)).repeat(len(best))
    hits = queries.labels(query, np.tile(best, len(queries)), len(snapshot.items)) > 0
    return ndcg_at_10(hits.reshape(len(queries), -1), np.bincount(queries.query, minlength=len(queries)))


if __name__ == "__main__":
    main()
