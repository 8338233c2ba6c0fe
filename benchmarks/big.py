"""Write a bundle of any size for other benchmarks, without training on a log of that size.

    python benchmarks/big.py OUT [--items 100000] [--customers 1000000] [--from BUNDLE]

Rankers and feature rows come from a bundle trained on a simulated shop, with rows repeated at random; histories,
neighbours and vectors are random, items follow a Zipf law. The bundle answers as a trained one does and takes as long,
but its recommendations are meaningless.
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

HISTORY_ITEMS = 12  # items in a customer's history, on average
ITEM_NEIGHBOURS, CUSTOMER_NEIGHBOURS = 100, 50


def enlarge(small: Bundle, items: int, customers: int, seed: int = 7) -> Bundle:
    """Return `small` with this many items and customers."""
    random = np.random.default_rng(seed)
    zipf = 1 / np.arange(1, items + 1) ** 0.8
    share = np.cumsum(random.permutation(zipf) / zipf.sum())

    def draw_items(n: int) -> np.ndarray:
        positions: np.ndarray = np.minimum(np.searchsorted(share, random.random(n)), items - 1)
        return positions

    snapshot = _snapshot(small.snapshot, items, customers, random, draw_items)
    generators = _generators(small.generators, snapshot, random, draw_items)
    return replace(
        small,
        snapshot=snapshot,
        generators=generators,
        recommenders={name: replace(r, generators=generators) for name, r in small.recommenders.items()},
        saved_predictions=None,
    )


def _snapshot(s: Snapshot, items: int, customers: int, random: np.random.Generator, draw_items) -> Snapshot:  # type: ignore[no-untyped-def]
    item_template, customer_template = (
        random.integers(0, len(s.items), items),
        random.integers(0, len(s.customers), customers),
    )
    sizes = np.minimum(random.geometric(1 / HISTORY_ITEMS, customers), 200)
    owner = np.repeat(np.arange(customers), sizes)
    pairs = np.unique(owner.astype(np.int64) * items + draw_items(len(owner)))
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
        segments=s.segments[customer_template],
        customer_features=s.customer_features[customer_template],
        lifetime=s.lifetime[customer_template],
        items=IdIndex.from_ids([f"item-{n:06}" for n in range(items)]),
        categories=s.categories[item_template],
        departments=s.departments[item_template],
        brands=(np.arange(items) % 500).astype(np.int32),
        item_features=s.item_features[item_template],
        catalog=catalog_table(catalog),
        history=Histories.build(owner, touched, values, customers=customers),
        fitting_data=None,
    )


def _generators(g: Generators, s: Snapshot, random: np.random.Generator, draw_items) -> Generators:  # type: ignore[no-untyped-def]
    items, customers, factors = len(s.items), len(s.customers), g[Als].items.shape[1]

    def random_similarity() -> ItemSimilarity:
        indices = np.sort(draw_items(items * ITEM_NEIGHBOURS).reshape(items, -1), axis=1).astype(np.int32)
        indptr = np.arange(items + 1, dtype=np.int64) * ITEM_NEIGHBOURS
        return ItemSimilarity(indptr, indices.ravel(), random.random(indices.size, np.float32))

    vectors = random.standard_normal((items, factors), np.float32) * 0.1
    gram = (vectors.T @ vectors).astype(np.float64) + g[Als].regularization * np.eye(factors)
    neighbours = np.sort(random.integers(0, customers, (customers, CUSTOMER_NEIGHBOURS), dtype=np.int32), axis=1)
    weights = np.full(neighbours.size, 1 / CUSTOMER_NEIGHBOURS, np.float32)
    strength = np.nan_to_num(s.history.values[:, HISTORY["bought_by_basket"]]) + np.float32(0.1)
    return Generators.of(
        Als(
            random.standard_normal((customers, factors), np.float32) * 0.1,
            vectors, gram, g[Als].alpha, g[Als].regularization,
        ),
        ItemKnn(random_similarity(), g[ItemKnn].last_baskets, g[ItemKnn].visit_decay),
        UserKnn(
            np.arange(customers + 1, dtype=np.int64) * CUSTOMER_NEIGHBOURS,
            neighbours.ravel(), weights, strength.astype(np.float32), CUSTOMER_NEIGHBOURS,
        ),
        Covisit(random_similarity(), random_similarity()),
        Content(random_similarity(), g[Content].config),
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
        small = Bundle.load(args.small) if args.small else shop.train_bundle(shop.simulate_log(Path(scratch)))
        path = enlarge(small, args.items, args.customers).save(args.out)
    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    print(f"{path}: {args.items:,} items, {args.customers:,} customers, {size / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
