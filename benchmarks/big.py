"""A bundle as large as wanted, without training on as many events: `python benchmarks/big.py OUT [--items 100000]`.

Rankers and feature rows are those of a bundle trained on a simulated shop, rows drawn again and again; histories,
neighbours and vectors are drawn at random, items by a Zipf law. It answers as a trained one does and as slowly, but
what it answers means nothing.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import shop  # first: BLAS reads its threads when numpy is imported

import numpy as np  # isort: skip
import polars as pl

from features.ranking.id_index import IdIndex
from features.ranking.snapshot import Snapshot, catalog_table
from features.tables.history import COLUMN as HISTORY
from features.tables.history import Histories
from models.bundle import Bundle
from models.candidates.als import Als
from models.candidates.buy_again import BuyAgain
from models.candidates.content import Content
from models.candidates.covisit import Covisit
from models.candidates.generators import Generators
from models.candidates.item_knn import ItemKnn
from models.candidates.popular import Popular
from models.candidates.similarity import ItemSimilarity
from models.candidates.user_knn import UserKnn

TOUCHED = 12  # items in a customer's history, on average
ITEM_NEIGHBOURS, CUSTOMER_NEIGHBOURS = 100, 50


def enlarged(small: Bundle, items: int, customers: int, seed: int = 7) -> Bundle:
    """`small` with so many items and customers."""
    random = np.random.default_rng(seed)
    zipf = 1 / np.arange(1, items + 1) ** 0.8
    share = np.cumsum(random.permutation(zipf) / zipf.sum())

    def some_items(n: int) -> np.ndarray:
        found: np.ndarray = np.minimum(np.searchsorted(share, random.random(n)), items - 1)
        return found

    snapshot = _snapshot(small.snapshot, items, customers, random, some_items)
    generators = _generators(small.generators, snapshot, random, some_items)
    return replace(
        small,
        snapshot=snapshot,
        generators=generators,
        recommenders={name: replace(r, generators=generators) for name, r in small.recommenders.items()},
        mapped=None,
    )


def _snapshot(s: Snapshot, items: int, customers: int, random: np.random.Generator, some_items) -> Snapshot:  # type: ignore[no-untyped-def]
    like_item, like_customer = random.integers(0, len(s.items), items), random.integers(0, len(s.customers), customers)
    sizes = np.minimum(random.geometric(1 / TOUCHED, customers), 200)
    owner = np.repeat(np.arange(customers), sizes)
    pairs = np.unique(owner.astype(np.int64) * items + some_items(len(owner)))
    owner, touched = pairs // items, pairs % items
    values = s.history.values[random.integers(0, len(s.history.items), len(pairs))]
    catalog = pl.DataFrame(
        {
            "title": [f"Item number {n}" for n in range(items)],
            "brand": [f"brand {n % 500}" for n in range(items)],
            "currency": "EUR",
            "attributes": None,
            "available": True,
            "list_price": random.random(items) * 100,
        }
    )
    return replace(
        s,
        customers=IdIndex.from_ids([f"customer-{n:07}" for n in range(customers)]),
        segments=s.segments[like_customer],
        customer_features=s.customer_features[like_customer],
        lifetime=s.lifetime[like_customer],
        items=IdIndex.from_ids([f"item-{n:06}" for n in range(items)]),
        categories=s.categories[like_item],
        departments=s.departments[like_item],
        brands=(np.arange(items) % 500).astype(np.int32),
        item_features=s.item_features[like_item],
        catalog=catalog_table(catalog),
        history=Histories.build(owner, touched, values, customers=customers),
        fitting_data=None,
    )


def _generators(g: Generators, s: Snapshot, random: np.random.Generator, some_items) -> Generators:  # type: ignore[no-untyped-def]
    items, customers, factors = len(s.items), len(s.customers), g[Als].items.shape[1]

    def similar() -> ItemSimilarity:
        indices = np.sort(some_items(items * ITEM_NEIGHBOURS).reshape(items, -1), axis=1).astype(np.int32)
        indptr = np.arange(items + 1, dtype=np.int64) * ITEM_NEIGHBOURS
        return ItemSimilarity(indptr, indices.ravel(), random.random(indices.size, np.float32))

    vectors = random.standard_normal((items, factors), np.float32) * 0.1
    gram = (vectors.T @ vectors).astype(np.float64) + g[Als].regularization * np.eye(factors)
    alike = np.sort(random.integers(0, customers, (customers, CUSTOMER_NEIGHBOURS), dtype=np.int32), axis=1)
    weights = np.full(alike.size, 1 / CUSTOMER_NEIGHBOURS, np.float32)
    strength = np.nan_to_num(s.history.values[:, HISTORY["bought_by_basket"]]) + np.float32(0.1)
    return Generators.of(
        Als(
            random.standard_normal((customers, factors), np.float32) * 0.1,
            vectors, gram, g[Als].alpha, g[Als].regularization,
        ),
        ItemKnn(similar(), g[ItemKnn].last_baskets, g[ItemKnn].visit_decay),
        UserKnn(
            np.arange(customers + 1, dtype=np.int64) * CUSTOMER_NEIGHBOURS,
            alike.ravel(), weights, strength.astype(np.float32), CUSTOMER_NEIGHBOURS,
        ),
        Covisit(similar(), similar()),
        Content(similar(), g[Content].config),
        Popular.fit(s),
        BuyAgain(),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--from", dest="small", type=Path, help="a trained bundle; default: of a simulated shop")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        small = Bundle.load(args.small) if args.small else shop.bundle(shop.simulated(Path(scratch)))
        made = enlarged(small, args.items, args.customers).save(args.out)
    size = sum(f.stat().st_size for f in made.rglob("*") if f.is_file())
    print(f"{made}: {args.items:,} items, {args.customers:,} customers, {size / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
