"""Ranking in process: whole calls against the bare LightGBM prediction and matrix products inside them.

The products are those of the generators, by scipy and BLAS on matrices that lie ready: ALS, the neighbours' histories,
item to item by behaviour (twice), by orders and by content. The calls take turns, so that each finds the processor's
caches as the others leave them, as in a server.

python benchmarks/rank.py [--log LOG | --bundle DIR] [--repeat 31]

With USUAL_NATIVE=1 and lleaves also the compiled ranker (`models.native_ranker`), by which whole calls then rank.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shop  # first: BLAS reads its threads when numpy is imported, and what is served has one

import numpy as np  # isort: skip
from scipy import sparse

from features.common.threads import THREADS
from features.ranking.feature_matrix import assemble
from features.ranking.visitors import Visitors
from models.bundle import Bundle
from models.candidates.als import Als
from models.candidates.content import Content
from models.candidates.covisit import Covisit
from models.candidates.item_knn import ItemKnn
from models.candidates.similarity import ItemSimilarity
from models.candidates.user_knn import UserKnn
from models.candidates.user_profile import Basis, profile_items
from models.interface import RankingRequest
from models.recommender import BundleRecommender
from models.two_stage import Candidates, propose

BATCHES = (1, 16, 64)
SHOWN = ("whole", "propose", "LightGBM", "compiled", "products")


def main() -> None:
    parser = shop.arguments(__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--repeat", type=int, default=31)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = args.bundle or shop.bundle(shop.event_log(args.log, Path(scratch))[0]).save(Path(scratch) / "bundle")
        bundle = Bundle.load(made)
    recommender, snapshot = BundleRecommender(bundle), bundle.snapshot
    regulars = np.flatnonzero(snapshot.has_history(np.arange(len(snapshot.customers))))
    chosen = np.random.default_rng(7).permutation(regulars)
    rows = []
    for size in BATCHES:
        candidates, ms = measured(recommender, chosen[:size], args.repeat)
        limit = ms.get("compiled", ms["LightGBM"]) + ms["products"]
        rows.append(
            [
                f"{size}",
                f"{candidates / size:.0f}",
                *(f"{ms[name]:.2f}" if name in ms else "–" for name in SHOWN),
                f"{ms['whole'] / limit:.2f}",
                f"{size / ms['whole'] * 1e3:,.0f}",
            ]
        )
    trees = bundle.recommenders["one_to_one"].ranker.booster.num_trees()
    print(
        f"{len(snapshot.items):,} items, {len(snapshot.customers):,} customers, {trees} trees; median of {args.repeat}"
    )
    shop.table(["visitors", "candidates each", *(f"{name} ms" for name in SHOWN), "× limit", "visitors/s"], rows)


def measured(recommender: BundleRecommender, customers: np.ndarray, repeat: int) -> tuple[int, dict[str, float]]:
    """How many candidates some customers have, and the milliseconds of each of `SHOWN`."""
    bundle, snapshot = recommender.bundle, recommender.snapshot
    two_stage = bundle.recommenders["one_to_one"]
    native, booster = two_stage.ranker.native, two_stage.ranker.booster
    requests = [RankingRequest(limit=10, customer_id=c) for c in snapshot.customers.at(customers)]

    def proposed(visitors: Visitors) -> Candidates:
        return propose(two_stage.generators, snapshot, visitors, two_stage.budgets)

    visitors = Visitors.of_customers(customers)
    found = proposed(visitors)
    matrix = assemble(snapshot, visitors, found.query, found.item, found.ranks, found.scores)
    ready = factors(bundle, visitors)
    calls: dict[str, Callable[[], Any]] = {
        "whole": lambda: recommender.recommend(requests),
        "propose": lambda: proposed(Visitors.of_customers(customers)),
        "LightGBM": lambda: booster.predict(matrix, num_threads=THREADS),
        "products": lambda: [left @ right for left, right in ready],
    }
    if native:
        calls["compiled"] = lambda: native(matrix)
    return len(matrix), shop.medians_ms(calls, repeat)


def factors(bundle: Bundle, visitors: Visitors) -> list[tuple[Any, Any]]:
    """Left and right factor of each product that the visitors' candidates take."""
    g, s = bundle.generators, bundle.snapshot
    n, items = len(visitors), len(s.items)
    pairs: list[tuple[Any, Any]] = [(g[Als].customers[visitors.customers], g[Als].items.T)]
    bases: tuple[tuple[Basis, ItemSimilarity], ...] = (
        ("history", g[ItemKnn].similar),
        ("last_baskets", g[ItemKnn].similar),
        ("last_baskets", g[Covisit].orders),
        ("history", g[Content].similar),
    )
    for basis, similar in bases:
        query, item, weight = profile_items(s, visitors, basis)
        pairs.append((sparse.csr_matrix((weight, (query, item)), shape=(n, items)), similar.matrix))
    customers = len(s.customers)
    alike = g[UserKnn].data, g[UserKnn].indices, g[UserKnn].indptr
    # A copy: scipy would make one of a column in each product.
    bought = s.history.column("bought_by_basket").copy(), s.history.items, s.history.indptr
    left = sparse.csr_matrix(alike, shape=(customers, customers))[visitors.customers]
    return [*pairs, (left, sparse.csr_matrix(bought, shape=(customers, items)))]


if __name__ == "__main__":
    main()
