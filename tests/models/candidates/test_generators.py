"""All generators together, on shops with very different logs, down to almost empty ones."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.clock import DAY
from features.event_log.ingestion.ingest import ParsedBatch
from features.ranking.feature_matrix import STATED, assemble, names
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import KIND, Visitors
from features.tables.build import build_from_events
from models.bundle import Bundle
from models.candidates.content import Content
from models.candidates.covisit import Covisit
from models.candidates.generators import Generators
from models.candidates.item_knn import ItemKnn
from models.candidates.registry import GENERATORS
from models.candidates.user_knn import UserKnn
from models.two_stage import propose
from tests.features.shop import AS_OF, CATALOG, Row, events, examples, row, same_arrays, snapshot
from tests.models import fitted

BUDGETS = dict.fromkeys(GENERATORS, 3)
BARE = CATALOG.with_columns(pl.lit(None, pl.String).alias(c) for c in ("category", "brand", "title"))


def everyone(s: Snapshot) -> Visitors:
    """Every customer and a stranger without a visit, and each again with one that touches the first and last item."""
    customers = np.concatenate([np.arange(len(s.customers)), [-1]])
    query = np.repeat(np.arange(len(customers)) + len(customers), 3)
    touched = np.tile([0, -1, len(s.items) - 1], len(customers))
    kind = np.tile([KIND["view_item"], KIND["search"], KIND["add_to_cart"]], len(customers))
    return Visitors.from_events(np.tile(customers, 2), query, touched, kind)


def check(s: Snapshot) -> None:
    """Every generator scores for everyone, and the same from its arrays and when refitted to the same shop."""
    generators = Generators.fit(s, fitted.CONFIG)
    visitors = everyone(s)
    c = propose(generators, s, visitors, BUDGETS)
    for values in (c.ranks, c.scores):
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    assert set(c.query.tolist()) == set(range(len(visitors)))  # best sellers are there for everyone
    assert (c.item < len(s.items)).all()
    matrix = assemble(s, visitors, c.query, c.item, c.ranks, c.scores, STATED in generators.names)
    assert matrix.shape == (len(c.query), len(names(generators.names)))
    for name in GENERATORS:
        fitted.best(generators, name, s, visitors, 2)
    for other in (Generators.from_arrays(generators.arrays()), generators.refit_to(s, s)):
        again = propose(other, s, visitors, BUDGETS)
        for part in ("query", "item", "ranks", "scores", "proposed"):
            assert same_arrays(getattr(again, part), getattr(c, part)), part


LOGIN = row("login", -1, "c1")
SHOPS: dict[str, list[Row]] = {
    "no purchases": [row("view_item", -d, who, f"i{d % 4}") for d in range(1, 9) for who in ("c1", "c2", "d1")],
    "one customer": [row("purchase", -d, "c1", f"i{d % 4}", 1.0, 2.0, f"o{d}") for d in range(1, 9)],
    "one item": [row(n, -d, who, "i0") for d in (1, 2, 40) for who in ("c1", "d1") for n in ("view_item", "purchase")],
    "only strangers": [row("view_item", -d, f"d{d % 3}", f"i{d % 4}") for d in range(1, 9)],
    "one event": [row("view_item", -1, "d1", "i0")],
    "customers who only log in": [LOGIN, row("login", -1, "c2"), row("view_item", -1, "d1", "i0")],
    "nothing lately": [row("purchase", -400, who, item) for who in ("c1", "c2") for item in ("i1", "i2")],
    "everything given back": [row(n, -3 + m, "c1", "i1", 1.0, 2.0, "o1") for m, n in enumerate(("purchase", "refund"))],
}


@pytest.mark.parametrize("catalog", [CATALOG, BARE], ids=["catalog", "bare"])
@pytest.mark.parametrize("name", SHOPS)
def test_a_shop_where_little_happened(name: str, catalog: pl.DataFrame):
    check(snapshot(SHOPS[name], catalog=catalog))


def only(rows: list[Row], kind: str) -> list[Row]:
    """The part of a log that is left in a poorer shop."""
    of = {
        "all": lambda r: True,
        "no purchases": lambda r: r["name"] != "purchase",
        "one customer": lambda r: r["customer_id"] in (None, "c1"),
        "one item": lambda r: r["item_id"] == "i1",
        "only strangers": lambda r: r["customer_id"] is None,
    }
    return [r for r in rows if of[kind](r)]


@examples(15)
@given(
    rows=events(-80, 0, newcomers=True),
    kind=st.sampled_from(["all", "no purchases", "one customer", "one item", "only strangers"]),
    catalog=st.sampled_from([CATALOG, BARE]),
)
def test_a_shop_where_anything_may_have_happened(rows: list[Row], kind: str, catalog: pl.DataFrame):
    check(snapshot([row("view_item", -1, "d1", "i1"), *only(rows, kind)], catalog=catalog))


@examples(5)
@given(events(-80, 0), events(-40, 20, newcomers=True))
def test_another_snapshot_may_have_other_customers_and_items(rows: list[Row], more: list[Row]):
    start = row("view_item", -1, "d1", "i1")
    old = snapshot([start, *rows])
    new = snapshot([start, *more], AS_OF + 20 * DAY)
    moved = Generators.fit(old, fitted.CONFIG).refit_to(old, new)
    visitors = everyone(new)
    c = propose(moved, new, visitors, BUDGETS)
    assert set(c.query.tolist()) == set(range(len(visitors)))
    assert np.isfinite(c.scores).all()
    fresh = Generators.fit(new, fitted.CONFIG).arrays()
    for name, array in moved.arrays().items():
        if name.split(".")[0] in ("neighbours", "content", "popular"):  # they follow from the snapshot alone
            assert same_arrays(array, fresh[name]), name


def test_refit_to_a_later_snapshot_keeps_similarities_with_their_items(bundle: Bundle, simulated: ParsedBatch):
    old, fit = bundle.snapshot, bundle.generators
    new = Snapshot.from_tables(build_from_events(simulated.events.lazy(), simulated.catalog, old.as_of + 9 * DAY))
    moved = fit.refit_to(old, new)
    place = old.items.find(new.items.values.to_pylist())
    remaining, at = np.flatnonzero(place >= 0), place[place >= 0]
    assert len(remaining) > 40
    for kind, part in ((ItemKnn, "similar"), (Covisit, "touches"), (Covisit, "orders")):
        before, after = (fitted.matrix(getattr(g[kind], part)) for g in (fit, moved))
        assert after.any()
        assert same_arrays(after[np.ix_(remaining, remaining)], before[np.ix_(at, at)])


def test_generators_are_restored_from_their_arrays(bundle: Bundle):
    s, generators = bundle.snapshot, bundle.generators
    arrays = generators.arrays()
    again = Generators.from_arrays(arrays)
    assert again.arrays().keys() == arrays.keys()
    assert all(same_arrays(a, again.arrays()[name]) for name, a in arrays.items())
    assert again[Content].config == fitted.CONFIG.content
    assert again[UserKnn].neighbours == fitted.CONFIG.neighbours.neighbours
    assert (again[ItemKnn].last_baskets, again[ItemKnn].visit_decay) == (2, 0.8)
    visitors = fitted.visitors_of(s, 9, 6)
    for name in GENERATORS:
        ours, theirs = (fitted.dense(g.scores(name, s, visitors), 15, len(s.items)) for g in (generators, again))
        assert same_arrays(ours, theirs)
