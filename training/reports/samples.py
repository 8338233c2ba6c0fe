"""What a bundle recommends to some of its customers, for people to look at: with titles, without names."""

from dataclasses import dataclass

import pandas as pd
import polars as pl

from models.bundle import Bundle
from models.interface import Request
from models.recommender import BundleRecommender

CUSTOMERS, DEPTH = 20, 10
USUALS = 4  # products shown of what a customer has bought
STRANGER = "someone new"


@dataclass(frozen=True)
class Sample:
    """One customer, told by a number of their own and their RFM segment, and what they are shown.

    `usual`: what they bought most often; `shown`: (title, item_id, generators that proposed it), best first.
    """

    customer: str
    segment: str
    strategy: str
    usual: list[str]
    shown: list[tuple[str, str, tuple[str, ...]]]


def samples(bundle: Bundle, catalog: pl.DataFrame) -> list[Sample]:
    """Of customers spread over the ids, and of someone nobody knows."""
    ids = bundle.snapshot.customers.values.to_pylist()
    step = max(1, len(ids) // CUSTOMERS)
    places = list(range(0, len(ids), step))[:CUSTOMERS]
    titles = dict(catalog.select("item_id", pl.coalesce("title", "item_id")).iter_rows())
    requests = [Request(limit=DEPTH, customer_id=c) for c in [*(ids[at] for at in places), None]]
    rankings = BundleRecommender(bundle).recommend(requests)
    names = [f"customer {n}" for n in range(1, len(places) + 1)] + [STRANGER]
    usual = [*(_usual(bundle, at, titles) for at in places), []]
    return [
        Sample(
            customer=name,
            segment=r.segment,
            strategy=r.strategy,
            usual=bought,
            shown=[(titles.get(i, i), i, g) for i, g in zip(r.item_ids, r.generators, strict=True)],
        )
        for name, bought, r in zip(names, usual, rankings, strict=True)
    ]


def table(told: list[Sample]) -> pd.DataFrame:
    """One row per product shown."""
    columns = ["customer", "segment", "rank", "title", "proposed_by", "strategy", "item_id"]
    rows = [
        (s.customer, s.segment, rank, title, ", ".join(generators), s.strategy, item)
        for s in told
        for rank, (title, item, generators) in enumerate(s.shown, 1)
    ]
    return pd.DataFrame(rows, columns=columns)


def _usual(bundle: Bundle, customer: int, titles: dict[str, str]) -> list[str]:
    history = bundle.snapshot.history
    start, end = history.indptr[customer], history.indptr[customer + 1]
    orders = history.column("orders")[start:end]
    items = history.items[start:end]
    best = [items[at] for at in (-orders).argsort(kind="stable")[:USUALS] if orders[at] > 0]
    return [titles.get(i, i) for i in bundle.snapshot.items.values.take(best).to_pylist()] if best else []
