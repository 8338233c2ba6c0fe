import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ranking import feature_matrix as module
from features.ranking.feature_matrix import CROSS_COLUMNS, assemble, columns, names, schema_hash, score_columns
from features.ranking.snapshot import CUSTOMER, ITEM, Snapshot
from features.ranking.visitors import KIND, Visitors
from features.tables.columns import Column
from features.tables.history import COLUMN as HISTORY
from features.tables.history import COLUMNS as HISTORY_COLUMNS
from tests.features.shop import examples, row, same_arrays, snapshot

SCORES = ("buy_again", "popular", "popular_visit")  # any names: which there are is for models to say
COLUMNS, NAMES = columns(SCORES), names(SCORES)
PLACE = {name: n for n, name in enumerate(NAMES)}


def batch(s: Snapshot, customers: list[int], seed: int) -> tuple[Visitors, np.ndarray, np.ndarray, np.ndarray]:
    """Visitors with up to four events each, and up to nine candidates each with random scores."""
    rng = np.random.default_rng(seed)
    touched = rng.integers(0, 5, len(customers))
    query = np.repeat(np.arange(len(customers)), touched)
    item, kind = rng.integers(-1, len(s.items), len(query)), rng.integers(0, len(KIND), len(query))
    visitors = Visitors.from_events(np.array(customers), query, item, kind, 90 * rng.random(len(query)))
    candidates = rng.integers(1, 10, len(customers))
    query = np.repeat(np.arange(len(customers)), candidates)
    return visitors, query, rng.integers(0, len(s.items), len(query)), rng.random((len(query), len(SCORES)), np.float32)


@examples(25)
@given(st.lists(st.integers(-1, 60), min_size=1, max_size=8), st.integers(0, 999))
def test_a_row_does_not_depend_on_the_rest_of_the_call(simulated_snapshot, customers: list[int], seed: int):
    s: Snapshot = simulated_snapshot
    visitors, query, item, scores = batch(s, customers, seed)
    whole = assemble(s, visitors, query, item, scores, scores)
    assert whole.shape == (len(query), len(COLUMNS))
    assert whole.dtype == np.float32
    for q in range(len(customers)):
        own = query == q
        none = np.zeros(own.sum(), np.int64)
        alone = assemble(s, visitors.slice(q, q + 1), none, item[own], scores[own], scores[own])
        assert same_arrays(alone, whole[own])
    half = np.flatnonzero(own)[::2]
    assert same_arrays(assemble(s, visitors, query[half], item[half], scores[half], scores[half]), whole[half])


def rows_of(s: Snapshot, customer: int, items: list[int]) -> np.ndarray:
    zeros = np.zeros((len(items), len(SCORES)), np.float32)
    visitors = Visitors.of_customers(np.array([customer]))
    return assemble(s, visitors, np.zeros(len(items), np.int64), np.array(items), zeros, zeros)


def test_unknown_values_are_nan_and_known_ones_are_copied(simulated_snapshot: Snapshot):
    s = simulated_snapshot
    customer = int(np.argmax(np.diff(s.history.indptr)))
    own = s.history.items[s.history.indptr[customer]]
    touched = s.history.items[s.history.indptr[customer] : s.history.indptr[customer + 1]]
    other = np.setdiff1d(np.arange(len(s.items)), touched)[0]
    pair = slice(PLACE["pair_orders"], PLACE["pair_orders"] + len(HISTORY_COLUMNS))
    of_item = slice(PLACE["item_buyers_1d"], PLACE["item_buyers_1d"] + len(ITEM))
    of_customer = slice(len(NAMES) - len(CUSTOMER), len(NAMES))

    mine, new = rows_of(s, customer, [int(own), other])
    assert same_arrays(mine[pair], s.history.values[s.history.indptr[customer]])
    assert np.isnan(new[pair]).all()
    for line, item in ((mine, own), (new, other)):
        assert same_arrays(line[of_item], s.item_features[item])
        assert same_arrays(line[of_customer], s.customer_features[customer])

    (stranger,) = rows_of(s, -1, [int(own)])
    assert np.isnan(stranger[pair]).all()
    assert np.isnan(stranger[of_customer]).all()
    assert same_arrays(stranger[of_item], s.item_features[own])


def test_a_stranger_in_a_shop_without_customers():
    s = snapshot([row("view_item", -1, "d1", "i1", price=3.0)])
    (line,) = rows_of(s, -1, [0])
    assert line[PLACE["item_price"]] == 3
    assert np.isnan(line[len(NAMES) - len(CUSTOMER) :]).all()


def test_cross_features_of_customer_and_item():
    rows = [row("purchase", -d, "c1", "i1", 2.0, 3.0, f"o{d}") for d in (10, 30, 50)]
    rows += [row("purchase", -2, "c1", "i2", 1.0, 6.0, "o2"), row("view_item", -1, "c1", "i3", price=1.0)]
    bought, once, viewed = rows_of(snapshot(rows), 0, [0, 1, 2])
    expected = {
        "order_share": 3 / 4,
        "behind_last_order_days": 10 - 2,
        "own_gap_days": 20,
        "own_cycle": 10 / 20,
        "item_cycle": 10 / 20,
        "order_cycle": 10 / 16,
        "price_to_paid": 3 / (24 / 7),
        "units_per_order": 2,
    }
    assert list(expected) == [c.name for c in CROSS_COLUMNS]
    assert {k: bought[PLACE[k]] for k in expected} == pytest.approx(expected, rel=1e-6)
    assert np.isnan([once[PLACE["own_gap_days"]], once[PLACE["own_cycle"]], viewed[PLACE["units_per_order"]]]).all()
    assert viewed[PLACE["order_share"]] == 0
    assert np.isfinite(bought[PLACE["pair_orders"] :][: len(HISTORY)][0])


def test_scores_and_ranks_come_first(simulated_snapshot: Snapshot):
    visitors, query, item, scores = batch(simulated_snapshot, [0, 1], 1)
    ranks = scores + 1
    matrix = assemble(simulated_snapshot, visitors, query, item, ranks, scores)
    for n, name in enumerate(SCORES):
        assert same_arrays(matrix[:, PLACE[f"{name}_rank"]], ranks[:, n])
        assert same_arrays(matrix[:, PLACE[f"{name}_score"]], scores[:, n])


def test_every_feature_has_a_name_of_its_own():
    assert len(set(NAMES)) == len(NAMES) == len(COLUMNS)
    assert all(c.unit and c.meaning for c in COLUMNS)


def test_the_hash_depends_on_every_name_unit_meaning_and_position(monkeypatch: pytest.MonkeyPatch):
    changes = [c._replace(**{f: f"{getattr(c, f)}!"}) for c in COLUMNS for f in Column._fields]
    hashes = {schema_hash(SCORES)}

    def add(columns: tuple[Column, ...]) -> None:
        monkeypatch.setattr(module, "columns", lambda generators: columns)
        hashes.add(schema_hash.__wrapped__(SCORES))  # past the cache

    for n, changed in enumerate(changes):
        at = n // len(Column._fields)
        add((*COLUMNS[:at], changed, *COLUMNS[at + 1 :]))
    for other in (COLUMNS[:-1], COLUMNS[::-1], (*COLUMNS, Column("more", "", ""))):
        add(other)
    assert len(hashes) == 1 + len(changes) + 3


def test_the_columns_follow_from_the_generators():
    assert [c.name for c in score_columns(("a", "b"))] == ["a_rank", "b_rank", "a_score", "b_score"]
    assert columns(("a", "b"))[4:] == columns(())
    assert len({schema_hash(generators) for generators in ((), ("a",), ("b",), ("a", "b"), ("b", "a"))}) == 5


def test_the_hash_of_the_features_that_bundles_were_trained_on():
    """Another hash refuses every bundle that was trained before."""
    generators = (
        "history", "visit", "neighbours", "als", "item_knn", "item_knn_last", "item_knn_visit", "covisit_last",
        "covisit_visit", "content", "content_visit", "popular", "popular_segment", "popular_category", "arrivals",
    )  # fmt: skip
    assert schema_hash(generators) == "b8c7266609251837"


def test_assemble_does_not_change_its_arguments(simulated_snapshot: Snapshot):
    s = simulated_snapshot
    before = {f.name: getattr(s, f.name) for f in dataclasses.fields(s)}
    copies = {k: v.copy() for k, v in before.items() if isinstance(v, np.ndarray)} | {"values": s.history.values.copy()}
    visitors, query, item, scores = batch(s, [-1, 0, 3], 5)
    given_scores = scores.copy()
    assemble(s, visitors, query, item, scores, scores)
    assert same_arrays(scores, given_scores)
    assert same_arrays(s.history.values, copies.pop("values"))
    assert all(same_arrays(before[k], v) for k, v in copies.items())
