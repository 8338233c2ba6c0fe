import numpy as np
import pytest

from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.bundle import Bundle
from models.candidates.user_knn import UserKnn, UserKnnConfig
from tests.features.shop import row, same_arrays, snapshot
from tests.models import fitted

CONFIG = UserKnnConfig()


def weights(of: UserKnn) -> np.ndarray:
    """float32[customers × customers]."""
    n = len(of.indptr) - 1
    out = np.zeros((n, n), np.float32)
    out[np.repeat(np.arange(n), np.diff(of.indptr)), of.indices] = of.data
    return out


@pytest.fixture(scope="module")
def small() -> Snapshot:
    """One order of each customer, at the same instant: c0 i0 i1, c1 i0 i2, c2 i3, c3 i0 i1 i2; c4 has none."""
    baskets = {"c0": "01", "c1": "02", "c2": "3", "c3": "012"}
    rows = [row("purchase", -90, who, f"i{n}", 1.0, 2.0, who) for who, items in baskets.items() for n in items]
    return snapshot([*rows, row("login", -1, "c4")])


def test_neighbours_by_hand(small: Snapshot):
    half, two, three = 1 / 2, 2 / np.sqrt(6), 2 / np.sqrt(6)
    expected = np.zeros((5, 5))
    expected[0, [1, 3]] = np.array([half, two]) / (half + two)
    expected[1, [0, 3]] = np.array([half, three]) / (half + three)
    expected[3, [0, 1]] = 0.5
    np.testing.assert_allclose(weights(UserKnn.fit(small, CONFIG)), expected, rtol=1e-5)


def test_scores_are_the_weighted_mean_of_the_neighbours(small: Snapshot):
    of = UserKnn.fit(small, CONFIG)
    scores = fitted.dense(of.scores("neighbours", small, Visitors.of_customers(np.array([0, -1, 2, 4]))), 4, 4)
    value = 1 + 0.5  # one order, the latest, and half of it after ninety days
    near, nearer = weights(of)[0, [1, 3]]
    np.testing.assert_allclose(scores[0], value * np.array([1, nearer, 1, 0]), rtol=1e-5)
    assert near < nearer
    assert not scores[1:].any()


def test_no_customer_is_their_own_neighbour_and_weights_add_up_to_1(bundle: Bundle, small: Snapshot):
    of = bundle.generators[UserKnn]
    w = weights(of)
    assert not w.diagonal().any()
    assert (of.data > 0).all()
    total = w.sum(axis=1)
    np.testing.assert_allclose(total[total > 0], 1, rtol=1e-5)
    assert (total > 0).sum() > len(total) // 2
    assert weights(UserKnn.fit(small, CONFIG)).sum(axis=1).tolist() == pytest.approx([1, 1, 0, 1, 0])


def test_only_the_most_similar_are_kept(small: Snapshot):
    w = weights(UserKnn.fit(small, UserKnnConfig(neighbours=1)))
    assert [np.flatnonzero(line).tolist() for line in w[:3]] == [[3], [3], []]
    assert w[0, 3] == 1


def test_equal_customers_have_equal_weights():
    """There are more than `neighbours`, so it is chance whether a customer is among their own nearest."""
    s = snapshot([row("purchase", -5, f"c{n:02}", "i0", 1.0, 2.0, f"o{n}") for n in range(12)])
    w = weights(UserKnn.fit(s, UserKnnConfig(neighbours=3)))
    assert not w.diagonal().any()
    for line in w:
        assert (line > 0).sum() in (3, 4)
        assert len(set(line[line > 0].tolist())) == 1
    np.testing.assert_allclose(w.sum(axis=1), 1, rtol=1e-5)


def test_refit_to_another_snapshot_fits_anew(small: Snapshot, bundle: Bundle):
    of = UserKnn.fit(bundle.snapshot, UserKnnConfig(neighbours=2))
    fresh = UserKnn.fit(small, UserKnnConfig(neighbours=2)).arrays()
    assert all(
        same_arrays(array, fresh[name]) for name, array in of.refit_to(small, np.zeros(0, np.int64)).arrays().items()
    )
