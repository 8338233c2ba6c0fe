"""Time to rank in process, compared with its lower limit: LightGBM's prediction and the generators' matrix products.

    python benchmarks/rank.py [--log LOG | --bundle DIR] [--repeat 31]

Measured in milliseconds for batches of 1, 16 and 64 customers. The products are computed by scipy and BLAS on prepared
matrices: ALS, the neighbours' histories, item to item by behaviour (twice), by orders and by content. The calls
alternate, so that each finds the processor's caches as the others leave them, as in a server.

With USUAL_NATIVE=1 and lleaves, the compiled ranker (`models.native_ranker`) is used and measured as well.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shop  # first: BLAS reads its threads when numpy is imported, and what is served has one

import numpy as np  # isort: skip
from scipy import sparse

from features.common.memory import keep_freed_memory
from features.common.threads import THREADS
from features.ranking.feature_matrix import STATED, assemble
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
TIMINGS = ("whole", "propose", "LightGBM", "compiled", "products")


def main() -> None:
    parser = shop.build_parser(__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--repeat", type=int, default=31)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = args.bundle or shop.train_bundle(shop.open_log(args.log, Path(scratch))[0]).save(
            Path(scratch) / "bundle"
        )
        bundle = Bundle.load(path)
    keep_freed_memory()
    recommender, snapshot = BundleRecommender(bundle), bundle.snapshot
    regulars = np.flatnonzero(snapshot.has_history(np.arange(len(snapshot.customers))))
    customers = np.random.default_rng(7).permutation(regulars)
    rows = []
    for size in BATCHES:
        candidates, ms = measure(recommender, customers[:size], args.repeat)
        limit = ms.get("compiled", ms["LightGBM"]) + ms["products"]
        rows.append(
            [
                f"{size}",
                f"{candidates / size:.0f}",
                *(f"{ms[name]:.2f}" if name in ms else "–" for name in TIMINGS),
                f"{ms['whole'] / limit:.2f}",
                f"{size / ms['whole'] * 1e3:,.0f}",
            ]
        )
    trees = bundle.recommenders["one_to_one"].ranker.booster.num_trees()
    print(
        f"{len(snapshot.items):,} items, {len(snapshot.customers):,} customers, {trees} trees; median of {args.repeat}"
    )
    shop.print_table(
        ["visitors", "candidates per visitor", *(f"{name} ms" for name in TIMINGS), "× limit", "visitors/s"], rows
    )


def measure(recommender: BundleRecommender, customers: np.ndarray, repeat: int) -> tuple[int, dict[str, float]]:
    """Return how many candidates the customers have, and the milliseconds of each of `TIMINGS`."""
    bundle, snapshot = recommender.bundle, recommender.snapshot
    two_stage = bundle.recommenders["one_to_one"]
    native, booster = two_stage.ranker.native, two_stage.ranker.booster
    requests = [RankingRequest(limit=10, customer_id=c) for c in snapshot.customers.at(customers)]

    def propose_candidates(visitors: Visitors) -> Candidates:
        return propose(two_stage.generators, snapshot, visitors, two_stage.budgets)

    visitors = Visitors.of_customers(customers)
    candidates = propose_candidates(visitors)
    c, stated = candidates, STATED in two_stage.generators.names
    matrix = assemble(snapshot, visitors, c.query, c.item, c.ranks, c.scores, stated)
    ready = build_factors(bundle, visitors)
    calls: dict[str, Callable[[], Any]] = {
        "whole": lambda: recommender.recommend(requests),
        "propose": lambda: propose_candidates(Visitors.of_customers(customers)),
        "LightGBM": lambda: booster.predict(matrix, num_threads=THREADS),
        "products": lambda: [left @ right for left, right in ready],
    }
    if native:
        calls["compiled"] = lambda: native(matrix)
    return len(matrix), shop.medians_ms(calls, repeat)


def build_factors(bundle: Bundle, visitors: Visitors) -> list[tuple[Any, Any]]:
    """Return the left and right factor of each matrix product that generating candidates takes."""
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
    neighbours = g[UserKnn].data, g[UserKnn].indices, g[UserKnn].indptr
    # Copied once: scipy would otherwise copy the strided column in each product.
    purchases = s.history.column("bought_by_basket").copy(), s.history.items, s.history.indptr
    left = sparse.csr_matrix(neighbours, shape=(customers, customers))[visitors.customers]
    return [*pairs, (left, sparse.csr_matrix(purchases, shape=(customers, items)))]


if __name__ == "__main__":
    main()
