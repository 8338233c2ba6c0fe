"""Ranking in process: whole calls against the bare LightGBM prediction and matrix products inside them.

The products are those of the generators, by scipy and BLAS on matrices that lie ready: ALS, the neighbours' histories,
item to item by behaviour (twice), by orders and by content.

python benchmarks/rank.py [--log LOG | --bundle DIR] [--repeat 31]

With USUAL_NATIVE=1 and lleaves also the compiled ranker (`models.compiled`), by which whole calls then rank.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import shop  # first: BLAS reads its threads when numpy is imported, and what is served has one

import numpy as np  # isort: skip
from scipy import sparse

from features.assemble import assemble
from features.visitors import Visitors
from models.bundle import Bundle
from models.candidates.similar import Similar
from models.candidates.taste import Basis, asked
from models.ranking import Request
from models.recommender import BundleRecommender
from models.two_stage import propose

BATCHES = (1, 16, 64)


def main() -> None:
    parser = shop.arguments(__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--repeat", type=int, default=31)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = args.bundle or shop.bundle(shop.event_log(args.log, Path(scratch))[0]).save(Path(scratch) / "bundle")
        bundle = Bundle.load(made)
    recommender, snapshot = BundleRecommender(bundle), bundle.snapshot
    two_stage = bundle.recommenders["one_to_one"]
    native, lightgbm = two_stage.ranker.native, replace(two_stage.ranker, native=None)
    regulars = np.flatnonzero(snapshot.has_history(np.arange(len(snapshot.customers))))
    chosen = np.random.default_rng(7).permutation(regulars)
    rows = []
    for size in BATCHES:
        customers = chosen[:size]
        visitors = Visitors.of_customers(customers)
        requests = [Request(limit=10, customer_id=c) for c in snapshot.customers.at(customers)]
        found = propose(two_stage.generators, snapshot, visitors, two_stage.budgets)
        matrix = assemble(snapshot, visitors, found.query, found.item, found.ranks, found.scores)

        def proposing(visitors: Visitors = visitors) -> object:
            return propose(two_stage.generators, snapshot, visitors, two_stage.budgets)

        whole = shop.median_ms(lambda requests=requests: recommender.recommend(requests), args.repeat)
        candidates = shop.median_ms(proposing, args.repeat)
        predict = shop.median_ms(lambda matrix=matrix: lightgbm.predict(matrix), args.repeat)
        compiled = shop.median_ms(lambda matrix=matrix: native(matrix), args.repeat) if native else None
        ready = factors(bundle, visitors)
        product = shop.median_ms(lambda ready=ready: [left @ right for left, right in ready], args.repeat)
        limit = (compiled or predict) + product
        rows.append(
            [
                f"{size}",
                f"{len(matrix) / size:.0f}",
                *("–" if ms is None else f"{ms:.2f}" for ms in (whole, candidates, predict, compiled, product)),
                f"{whole / limit:.2f}",
                f"{size / whole * 1e3:,.0f}",
            ]
        )
    trees = two_stage.ranker.booster.num_trees()
    print(
        f"{len(snapshot.items):,} items, {len(snapshot.customers):,} customers, {trees} trees; median of {args.repeat}"
    )
    shop.table(
        [
            *("visitors", "candidates each", "whole ms", "propose ms", "LightGBM ms", "compiled ms", "products ms"),
            *("× limit", "visitors/s"),
        ],
        rows,
    )


def factors(bundle: Bundle, visitors: Visitors) -> list[tuple[Any, Any]]:
    """Left and right factor of each product that the visitors' candidates take."""
    g, s = bundle.generators, bundle.snapshot
    n, items = len(visitors), len(s.items)
    pairs: list[tuple[Any, Any]] = [(g.als.customers[visitors.customers], g.als.items.T)]
    bases: tuple[tuple[Basis, Similar], ...] = (
        ("history", g.item_knn.similar),
        ("last_baskets", g.item_knn.similar),
        ("last_baskets", g.covisit.orders),
        ("history", g.content.similar),
    )
    for basis, similar in bases:
        query, item, weight = asked(s, visitors, basis)
        pairs.append((sparse.csr_matrix((weight, (query, item)), shape=(n, items)), similar.matrix))
    customers = len(s.customers)
    alike = g.neighbours.data, g.neighbours.indices, g.neighbours.indptr
    # A copy: scipy would make one of a column in each product.
    bought = s.history.column("bought_by_basket").copy(), s.history.items, s.history.indptr
    left = sparse.csr_matrix(alike, shape=(customers, customers))[visitors.customers]
    return [*pairs, (left, sparse.csr_matrix(bought, shape=(customers, items)))]


if __name__ == "__main__":
    main()
