"""What item vectors in the catalog are worth: NDCG@10 on new arrivals, with and without them.

    python benchmarks/embedding.py [--shop fashion] [--customers 6000] [--seeds 3] [--noise 0.3]

Simulates a shop that launches items all the time. The vectors in its catalog carry each item's hidden style, with
noise. Two models are trained with the default recipe, with and without the vectors. Then each day of the following four
weeks their snapshot is refreshed, and both rank for the queries of that day. New arrivals have been on sale for at most
a week and are new to the visitor: neither touched in the visit nor bought before. For their NDCG@10 all other items are
left out of the lists and of the relevant items. The difference is paired, query by query, over all days and seeds.
"""

import argparse
import tempfile
from pathlib import Path

import shop  # first: BLAS reads its threads when numpy is imported

import numpy as np  # isort: skip

from features.common.clock import DAY, micros
from features.event_log.ingestion.ingest import ingest
from features.event_log.log import EventLog
from features.sources import read
from features.sources.simulator.config import build_config
from models.bundle import RECOMMENDERS, Bundle, RecommenderName
from training import recipe
from training.dataset.queries import Queries, build_queries
from training.evaluation.backtest import refresh_bundle
from training.evaluation.bootstrap import paired_difference
from training.evaluation.metrics import ndcg_at_10, top_lists
from training.evaluation.seen_items import find_seen_items, mask_pairs
from training.train import train

DIMENSIONS = 32
LAUNCHES_END = 0.8  # of the log: the simulator launches no item later
WINDOW_DAYS = 28
ARRIVAL_DAYS = 7
ITEMS = ("new arrivals", "all new to the visitor")
Key = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shop", default="fashion", choices=["general", "grocery", "fashion", "longtail", "wholesale"])
    parser.add_argument("--customers", type=int, default=6000)
    parser.add_argument("--launched", type=float, default=0.9, help="share of the items launched during the log")
    parser.add_argument("--noise", type=float, default=0.3, help="how wrong the vectors are about an item's traits")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    ndcg: dict[Key, list[np.ndarray]] = {(name, items): [] for name in RECOMMENDERS for items in ITEMS}
    for seed in range(args.seeds):
        settings = {"customers": args.customers, "launched": args.launched, "seed": seed, "vector_noise": args.noise}
        compare_shop(args.shop, settings, ndcg)
        print(f"seed {seed}: done", flush=True)
    rows = []
    for (name, items), parts in ndcg.items():
        with_vectors, without = np.concatenate(parts, axis=1)
        difference, low, high = paired_difference(with_vectors, without)
        rows.append(
            [name, items, f"{with_vectors.size:,}", f"{without.mean():.4f}", f"{with_vectors.mean():.4f}",
             f"{difference:+.4f}", f"{low:+.4f} to {high:+.4f}"]
        )  # fmt: skip
    shop.print_table(["recommender", "items", "queries", "without", "with vectors", "difference", "95% interval"], rows)


def compare_shop(kind: str, settings: dict[str, object], ndcg: dict[Key, list[np.ndarray]]) -> None:
    """Append to `ndcg` float64[2 × queries] of each day: with vectors and without."""
    with tempfile.TemporaryDirectory() as scratch:
        configs = [build_config(kind, {**settings, "vectors": size}) for size in (DIMENSIONS, 0)]
        logs = [ingest(read("simulated", config=c), Path(scratch) / str(n)).log for n, c in enumerate(configs)]
        if logs[0].fingerprint != logs[1].fingerprint:
            raise RuntimeError("the two logs hold different events: there is nothing to compare")
        first, last = micros(logs[0].first), micros(logs[0].last)
        end = first + int((last - first) * LAUNCHES_END) // DAY * DAY
        start = end - WINDOW_DAYS * DAY
        models = [train(log, recipe.load(), start).bundle for log in logs]
        for day in range(start, end, DAY):
            compare_day(models, logs, day, ndcg)


def compare_day(models: list[Bundle], logs: list[EventLog], day: int, ndcg: dict[Key, list[np.ndarray]]) -> None:
    refreshed = [refresh_bundle(model, log, day) for model, log in zip(models, logs, strict=True)]
    queries = build_queries(logs[0].scan(), refreshed[0].snapshot, day + DAY, recipe.load())
    for name in RECOMMENDERS:
        for items in ITEMS:
            values = np.array([measure(model, name, queries[name], items) for model in refreshed])
            ndcg[name, items].append(values[:, ~np.isnan(values).any(axis=0)])


def measure(model: Bundle, name: RecommenderName, queries: Queries, items: str) -> np.ndarray:
    """float64[queries]: NDCG@10 on `items`, NaN where none of them is relevant."""
    snapshot, n = model.snapshot, len(model.snapshot.items)
    counts = snapshot.item("age_days") <= ARRIVAL_DAYS if items == "new arrivals" else np.ones(n, bool)
    seen = find_seen_items(snapshot, queries.visitors)
    is_relevant = counts[queries.item] & ~mask_pairs(seen, queries.query, queries.item, n)
    relevant = np.bincount(queries.query, is_relevant, minlength=len(queries)).astype(np.int64)
    values = np.zeros(len(queries))
    for start, batch, candidates, _ in model.recommenders[name].rank(snapshot, queries.visitors):
        seen = find_seen_items(snapshot, batch)
        keep = counts[candidates.item] & ~mask_pairs(seen, candidates.query, candidates.item, n)
        query, item = candidates.query[keep], candidates.item[keep]
        hits = top_lists(query, queries.labels(query + start, item, n) > 0, len(batch), False)
        rows = slice(start, start + len(batch))
        values[rows] = ndcg_at_10(hits, relevant[rows])
    return np.where(relevant > 0, values, np.nan)


if __name__ == "__main__":
    main()
