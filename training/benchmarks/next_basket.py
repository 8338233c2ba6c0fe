"""Next-basket protocol: the items of a customer's last order, from all orders before it.

Recall@k is the share of the basket's items among the first k, NDCG@k with the ideal list cut at min(k, basket), both
in percent, as TIFU-KNN (Hu et al. 2020) reports them.
"""

import numpy as np
import polars as pl

from features.common.progress import Progress
from models.bundle import Bundle
from models.interface import RankingRequest
from models.recommender import BundleRecommender
from training.benchmarks.benchmark import Figures, Outcome, Row

DEPTHS = (10, 20)
METRICS = ("NDCG@10", "Recall@10", "NDCG@20", "Recall@20")
BATCH = 2048  # customers per call, which bounds memory


def run(bundle: Bundle, last: pl.DataFrame, earlier: pl.DataFrame, step: Progress) -> Outcome:
    """Rank for the customers of `last` (customer_id, item_id) and compare; `earlier`: the lines that were known."""
    baskets = dict(last.group_by("customer_id", maintain_order=True).agg("item_id").iter_rows())
    recommender = BundleRecommender(bundle)
    customers, lists = list(baskets), []
    for n, start in enumerate(range(0, len(customers), BATCH)):
        step(f"rank for {len(customers):,} customers", n + 1, -(-len(customers) // BATCH))
        batch = customers[start : start + BATCH]
        requests = [RankingRequest(limit=max(DEPTHS), customer_id=customer) for customer in batch]
        lists += [ranking.item_ids for ranking in recommender.recommend(requests)]
    frequent = rank_own_purchases(earlier, customers)
    rows = [
        Row("The Usual, one_to_one", score(lists, [baskets[c] for c in customers])),
        Row("own purchases by count, then recency", score(frequent, [baskets[c] for c in customers])),
    ]
    return Outcome(rows, len(customers))


def rank_own_purchases(earlier: pl.DataFrame, customers: list[str]) -> list[list[str]]:
    """Rank each customer's own items by how often, then how lately they were bought."""
    counted = earlier.group_by("customer_id", "item_id").agg(pl.len(), pl.col("timestamp").max())
    ordered = counted.sort("len", "timestamp", "item_id", descending=[True, True, False])
    lists = dict(ordered.group_by("customer_id", maintain_order=True).agg(pl.col("item_id").head(20)).iter_rows())
    return [lists.get(customer, []) for customer in customers]


def score(lists: list[list[str]], baskets: list[list[str]]) -> Figures:
    """`METRICS` in percent: the mean over the customers."""
    gain = 1 / np.log2(np.arange(2, max(DEPTHS) + 2))
    figures: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for ranking, basket in zip(lists, baskets, strict=True):
        relevant = set(basket)
        hits = np.array([item in relevant for item in ranking[: max(DEPTHS)]], float)
        for depth in DEPTHS:
            top_hits = hits[:depth]
            ideal = gain[: min(depth, len(relevant))].sum()
            figures[f"NDCG@{depth}"].append(float((top_hits * gain[: len(top_hits)]).sum() / ideal))
            figures[f"Recall@{depth}"].append(float(top_hits.sum() / len(relevant)))
    return {metric: 100 * float(np.mean(values)) for metric, values in figures.items()}
