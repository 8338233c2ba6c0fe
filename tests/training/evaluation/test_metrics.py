import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from tests.features.shop import examples
from training.evaluation import bootstrap, metrics
from training.evaluation.metrics import DEPTH, PER_QUERY

Case = tuple[list[bool], int]


def slowly(hits: list[bool], relevant: int) -> dict[str, float]:
    """The textbook definitions, one query at a time."""
    gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits[:10], 1) if hit)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(10, relevant) + 1))
    precisions = [sum(hits[:rank]) / rank for rank, hit in enumerate(hits[:12], 1) if hit]
    first = next((rank for rank, hit in enumerate(hits, 1) if hit), None)
    return {
        "ndcg_at_10": gain / ideal,
        "recall_at_20": sum(hits[:20]) / relevant,
        "map_at_12": sum(precisions) / min(12, relevant),
        "hit_rate_at_10": float(any(hits[:10])),
        "mrr": 1 / first if first else 0.0,
    }


@st.composite
def cases(draw: st.DrawFn) -> Case:
    hits = draw(st.lists(st.booleans(), min_size=DEPTH, max_size=DEPTH))
    return hits, max(1, sum(hits)) + draw(st.integers(0, 15))


@examples(100)
@given(st.lists(cases(), min_size=1, max_size=5))
def test_metrics_follow_their_definitions(queries: list[Case]):
    hits, relevant = np.array([h for h, _ in queries]), np.array([n for _, n in queries])
    expected = [slowly(h, n) for h, n in queries]
    assert set(expected[0]) == set(PER_QUERY)
    for name, metric in PER_QUERY.items():
        values = metric(hits, relevant)
        assert values.tolist() == pytest.approx([e[name] for e in expected])
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()


def at(*ranks: int) -> np.ndarray:
    hits = np.zeros((1, DEPTH), bool)
    hits[0, [r - 1 for r in ranks]] = True
    return hits


@pytest.mark.parametrize(
    ("name", "ranks", "relevant", "value"),
    [
        ("ndcg_at_10", (1,), 1, 1),
        ("ndcg_at_10", (2,), 1, 1 / math.log2(3)),
        ("ndcg_at_10", (1,), 2, 1 / (1 + 1 / math.log2(3))),
        ("ndcg_at_10", tuple(range(1, 11)), 400, 1),  # the ideal list has ten places
        ("ndcg_at_10", (11,), 1, 0),
        ("recall_at_20", (1, 20), 8, 0.25),
        ("map_at_12", (1, 3), 2, (1 + 2 / 3) / 2),
        ("map_at_12", (13,), 1, 0),
        ("map_at_12", tuple(range(1, 13)), 50, 1),
        ("hit_rate_at_10", (10,), 3, 1),
        ("hit_rate_at_10", (11,), 3, 0),
        ("mrr", (4, 5), 2, 0.25),
        ("mrr", (), 2, 0),
    ],
)
def test_metrics_on_hand_computed_examples(name: str, ranks: tuple[int, ...], relevant: int, value: float):
    assert PER_QUERY[name](at(*ranks), np.array([relevant])).tolist() == pytest.approx([value])


def test_a_query_with_nothing_relevant_scores_zero():
    for metric in PER_QUERY.values():
        assert metric(at(), np.array([0])).tolist() == [0]


def lists(*rows: list[int]) -> np.ndarray:
    return np.array([[*r, *[-1] * (10 - len(r))] for r in rows])


def test_one_item_for_everyone_has_the_largest_gini():
    values = metrics.beyond_accuracy(lists([2], [2], [2]), np.array([1, 1, 9, 1]))
    assert values["coverage"] == 1 / 4
    assert values["gini"] == pytest.approx(3 / 4)  # (n - 1) / n, the largest there is with n items
    assert values["novelty"] == pytest.approx(-math.log2(10 / 16))


def test_equally_frequent_items_have_gini_zero():
    values = metrics.beyond_accuracy(lists([0, 1], [2, 3]), np.array([0, 0, 0, 12]))
    assert values["coverage"] == 1
    assert values["gini"] == pytest.approx(0)
    assert values["novelty"] == pytest.approx((3 * 4 - math.log2(13 / 16)) / 4)


def test_empty_lists_have_no_coverage_gini_or_novelty():
    assert metrics.beyond_accuracy(lists([]), np.array([3, 1])) == {"coverage": 0, "gini": 0, "novelty": 0}


@examples(20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_interval_contains_the_mean_and_is_reproducible(values: list[float]):
    low, high = bootstrap.mean_interval(np.array(values), samples=200)
    assert min(values) - 1e-9 <= low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high <= max(values) + 1e-9
    assert (low, high) == bootstrap.mean_interval(np.array(values), samples=200)


def test_the_interval_has_the_theoretical_width():
    few, many = (np.tile([0.0, 1.0], n) for n in (50, 800))
    widths = [high - low for low, high in (bootstrap.mean_interval(few), bootstrap.mean_interval(many))]
    assert widths == pytest.approx([2 * 1.96 * 0.5 / 10, 2 * 1.96 * 0.5 / 40], rel=0.1)


def test_diversity_is_one_minus_the_mean_similarity_of_pairs():
    similarity = sparse.csr_matrix(([0.6, 0.2, 0.3], ([0, 1, 2], [1, 0, 3])), shape=(5, 5))
    # Similar are 0 and 1 (0.6, the larger of both directions) and 2 and 3 (0.3).
    assert metrics.diversity(lists([0, 1, 2]), similarity) == pytest.approx(1 - 0.6 / 3)
    assert metrics.diversity(lists([0, 1, 2], [3, 2]), similarity) == pytest.approx(1 - (0.6 / 3 + 0.3) / 2)
    assert metrics.diversity(lists([0, 1, 2], [4]), similarity) == pytest.approx(1 - 0.6 / 3)
    assert metrics.diversity(lists([4]), similarity) == 0


def test_list_bias_is_the_difference_of_means():
    price = np.array([1.0, 2.0, 4.0, np.nan])
    relevant = np.array([0, 0, 1, 2]), np.array([0, 1, 3, 2])  # the item of query 1 has no price
    # Query 0: (2 + 4) / 2 less (1 + 2) / 2; query 2: 2, the mean of what is known, less 4.
    values = metrics.list_bias(lists([1, 2], [0], [1, 3]), *relevant, price)
    assert values == pytest.approx((1.5 - 2.0) / 2)
    assert metrics.list_bias(lists([3], [3], [3]), *relevant, price) == 0


def test_percentiles_are_mid_ranks():
    assert metrics.percentile_ranks(np.array([7, 1, 1, 9])).tolist() == [5 / 8, 2 / 8, 2 / 8, 7 / 8]


def test_differences_are_paired_by_query():
    hard = np.random.default_rng(1).random(200)
    mean, low, high = bootstrap.paired_difference(hard + 0.1, hard)
    assert (mean, low, high) == pytest.approx((0.1, 0.1, 0.1))  # what is hard for both cancels out
    mean, low, high = bootstrap.paired_difference(np.tile([0.3, 0.0], 50), np.tile([0.0, 0.1], 50))
    assert mean == pytest.approx(0.1)
    assert (low, high) == pytest.approx((0.1 - 1.96 * 0.02, 0.1 + 1.96 * 0.02), abs=0.006)
    assert bootstrap.paired_difference(np.zeros(3), np.array([1.0, 2.0, 3.0]))[0] == -2


def test_queries_without_a_value_on_either_side_are_left_out():
    nan = np.nan
    a, b = np.array([1.0, nan, 5.0, nan]), np.array([0.5, 3.0, nan, nan])
    assert bootstrap.paired_difference(a, b) == (0.5, 0.5, 0.5)
    assert bootstrap.paired_difference(a[1:], b[1:]) == (0.0, 0.0, 0.0)
