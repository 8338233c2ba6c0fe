"""Sample recommendations of a bundle for people to inspect, with item titles and without customer ids."""

from dataclasses import dataclass

import pandas as pd
import polars as pl

from models.bundle import Bundle
from models.interface import RankingRequest
from models.recommender import BundleRecommender

SAMPLED_CUSTOMERS, DEPTH = 20, 10
SHOWN_PURCHASES = 4  # most frequent purchases listed per customer
ANONYMOUS = "someone new"


@dataclass(frozen=True)
class Sample:
    """One anonymised customer, identified by a number and an RFM segment, and the recommendations for them.

    `purchases`: titles of what they bought most often; `recommended`: (title, item_id, generators that proposed it),
    best first.
    """

    customer: str
    segment: str
    strategy: str
    purchases: list[str]
    recommended: list[tuple[str, str, tuple[str, ...]]]


def sample_customers(bundle: Bundle, catalog: pl.DataFrame) -> list[Sample]:
    """Recommend to customers spread evenly over the ids, and to an anonymous visitor, who comes last."""
    ids = bundle.snapshot.customers.values.to_pylist()
    step = max(1, len(ids) // SAMPLED_CUSTOMERS)
    places = list(range(0, len(ids), step))[:SAMPLED_CUSTOMERS]
    titles = dict(catalog.select("item_id", pl.coalesce("title", "item_id")).iter_rows())
    requests = [RankingRequest(limit=DEPTH, customer_id=c) for c in [*(ids[at] for at in places), None]]
    rankings = BundleRecommender(bundle).recommend(requests)
    names = [f"customer {n}" for n in range(1, len(places) + 1)] + [ANONYMOUS]
    purchases = [*(_top_purchases(bundle, at, titles) for at in places), []]
    return [
        Sample(
            customer=name,
            segment=r.segment,
            strategy=r.strategy,
            purchases=top,
            recommended=[(titles.get(i, i), i, g) for i, g in zip(r.item_ids, r.generators, strict=True)],
        )
        for name, top, r in zip(names, purchases, rankings, strict=True)
    ]


def to_table(samples: list[Sample]) -> pd.DataFrame:
    """Return one row per recommended item."""
    columns = ["customer", "segment", "rank", "title", "proposed_by", "strategy", "item_id"]
    rows = [
        (s.customer, s.segment, rank, title, ", ".join(generators), s.strategy, item)
        for s in samples
        for rank, (title, item, generators) in enumerate(s.recommended, 1)
    ]
    return pd.DataFrame(rows, columns=columns)


def _top_purchases(bundle: Bundle, customer: int, titles: dict[str, str]) -> list[str]:
    history = bundle.snapshot.history
    start, end = history.indptr[customer], history.indptr[customer + 1]
    orders = history.column("orders")[start:end]
    items = history.items[start:end]
    best = [items[at] for at in (-orders).argsort(kind="stable")[:SHOWN_PURCHASES] if orders[at] > 0]
    return [titles.get(i, i) for i in bundle.snapshot.items.values.take(best).to_pylist()] if best else []
