"""Ranking in process: whole calls against the bare LightGBM prediction and ALS product inside them.

python benchmarks/rank.py [--log LOG | --bundle DIR] [--repeat 31]

With USUAL_NATIVE=1 and lleaves also the compiled ranker (`models.compiled`), by which whole calls then rank.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import shop

from features.assemble import assemble
from features.visitors import Visitors
from models.bundle import Bundle
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
        product = shop.median_ms(
            lambda visitors=visitors: bundle.generators.als.scores(bundle.snapshot, visitors),
            args.repeat,
        )
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
            *("visitors", "candidates each", "whole ms", "propose ms", "LightGBM ms", "compiled ms", "ALS ms"),
            *("× limit", "visitors/s"),
        ],
        rows,
    )


if __name__ == "__main__":
    main()
