"""No leak: nothing that is fitted or computed as of an instant knows an event at or after it."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.clock import DAY, moment
from features.ranking.feature_matrix import STATED, assemble
from features.ranking.visitors import KIND, Visitors
from features.tables.build import Tables, build_from_events
from models.bundle import Bundle
from models.candidates.registry import GENERATORS
from models.ranker import Ranker
from models.two_stage import Candidates, propose
from tests.features.shop import (
    AS_OF,
    CATALOG,
    Row,
    events,
    examples,
    frame,
    row,
    same_arrays,
    same_snapshots,
    same_tables,
)
from tests.training.recipes import small
from training.dataset.folds import Fold, build_fold

BUDGETS = dict.fromkeys(GENERATORS, 3)
TICK = 1 / DAY  # a microsecond
# Enough to fit on: two customers who share an item, and a visitor without an account.
START = [
    row("purchase", -3, "c0", "i0", 1.0, 2.0, "o1"),
    row("purchase", -9, "c0", "i1", 1.0, 2.0, "o2"),
    row("purchase", -2, "c1", "i0", 2.0, 2.5, "o3"),
    row("view_item", -1, "d0", "i1"),
    row("view_item", -1, "d0", "i2"),
    row("preferences", -4, "c1", question="brand", answer='["Alder"]'),
]


@dataclass(frozen=True)
class State:
    """Everything that is built as of `AS_OF`."""

    tables: Tables
    fold: Fold
    candidates: Candidates
    matrix: np.ndarray
    scores: np.ndarray

    def differences(self, other: "State") -> list[str]:
        mine, theirs = self.fold.generators.arrays(), other.fold.generators.arrays()
        same = {
            "tables": same_tables(self.tables, other.tables),
            "snapshot": same_snapshots(self.fold.snapshot, other.fold.snapshot),
            "generators": all(same_arrays(mine[k], theirs[k]) for k in mine),
            "candidates": all(
                same_arrays(getattr(self.candidates, f), getattr(other.candidates, f))
                for f in ("query", "item", "ranks", "scores", "proposed")
            ),
            "matrix": same_arrays(self.matrix, other.matrix),
            "scores": same_arrays(self.scores, other.scores),
        }
        return [what for what, alike in same.items() if not alike]


def build_state(rows: list[Row], ranker: Ranker) -> State:
    log = frame(rows).lazy()
    fold = build_fold(log, CATALOG, AS_OF, small())
    s = fold.snapshot
    customers = np.concatenate([np.arange(len(s.customers)), [-1]])
    last = len(customers) - 1
    kind = np.array([KIND["view_item"], KIND["add_to_cart"]])
    visitors = Visitors.from_events(customers, np.array([last, last]), np.array([0, len(s.items) - 1]), kind)
    candidates = propose(fold.generators, s, visitors, BUDGETS)
    c, stated = candidates, STATED in fold.generators.names
    matrix = assemble(s, visitors, c.query, c.item, c.ranks, c.scores, stated)
    return State(build_from_events(log, CATALOG, AS_OF), fold, candidates, matrix, ranker.predict(matrix))


@st.composite
def past_and_future(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Events before the boundary, and these with others from it on, in any order."""
    past = [r | {"event_id": f"p{n}"} for n, r in enumerate([*START, *draw(events(-60, 0))])]
    later = st.integers(0, 30 * DAY).map(lambda after: moment(AS_OF + after))
    echoes = draw(st.lists(st.tuples(st.sampled_from(past), later), max_size=6))
    future = [*draw(events(0, 40, newcomers=True, least=1)), *(r | {"timestamp": t} for r, t in echoes)]
    renamed = [r | {"event_id": f"f{n}"} for n, r in enumerate(future)]
    return past, draw(st.permutations(past + renamed))


@pytest.fixture(scope="module")
def ranker(bundle: Bundle) -> Ranker:
    return bundle.recommenders["one_to_one"].ranker


@examples(12)
@given(past_and_future())
def test_later_events_change_nothing(ranker, logs: tuple[list[Row], list[Row]]):
    past, whole = logs
    assert build_state(past, ranker).differences(build_state(whole, ranker)) == []


EVERYTHING = ["tables", "snapshot", "generators", "candidates", "matrix", "scores"]


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (row("purchase", -TICK, "c1", "i1", 1.0, 9.0), EVERYTHING),
        (row("purchase", 0, "c1", "i1", 1.0, 9.0), []),
        (row("purchase", -TICK, "c1", "i1", 1.0, 9.0, consent=False), []),
        (row("tea_brewed", -TICK, "c1", "i1", 1.0, 9.0), []),
        (row("purchase", -TICK, "c9", "new", 1.0, 9.0), EVERYTHING),
        (row("purchase", 0, "c9", "new", 1.0, 9.0), []),
        (row("view_item", -TICK, "c1", "i2", price=9.0), EVERYTHING),
        (row("view_item", 0, "c1", "i2", price=9.0), []),
        (row("add_to_cart", -TICK, "d0", "i0"), EVERYTHING),
        (row("add_to_cart", 0, "d0", "i0"), []),
        (row("refund", -TICK, "c1", "i0", 2.0, 2.5, "o3"), ["tables", "snapshot", "matrix"]),
        (row("refund", 0, "c1", "i0", 2.0, 2.5, "o3"), []),
        (row("login", -TICK, "c1"), ["tables", "snapshot", "matrix"]),
        (row("login", 0, "c1"), []),
    ],
)
def test_the_instant_itself_belongs_to_the_future(ranker: Ranker, event: Row, changed: list[str]):
    differences = build_state(START, ranker).differences(build_state([*START, event], ranker))
    assert set(changed) - {"scores"} <= set(differences)
    assert set(differences) <= {*changed, "scores"} if changed else differences == []


def test_later_events_are_the_labels():
    later = [
        row("purchase", 0, "c0", "i2", 1.0, 2.0),
        row("view_item", 1, "c8", "i0"),
        row("purchase", 10, "c1", "i1", 1.0, 2.0),  # the horizon is over
        row("view_item", 5, "d7", "i0"),  # so are the days from which visits are taken
    ]
    fold = build_fold(frame([*START, *later]).lazy(), CATALOG, AS_OF, small(horizon_days=10, visit_days=5))
    s = fold.snapshot
    assert s.customers.at(fold.queries["one_to_one"].visitors.customers) == ["c0"]
    assert s.items.at(fold.queries["one_to_one"].item) == ["i2"]
    assert s.items.at(fold.queries["predictive"].item) == ["i0"]
    assert len(fold.queries["predictive"]) == 1
    unlabelled = build_fold(frame(START).lazy(), CATALOG, AS_OF, small())
    assert (len(unlabelled.queries["one_to_one"]), len(unlabelled.queries["predictive"])) == (0, 0)
