import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.tables import rfm
from tests.features.shop import build, examples, one, row

# The usual segment map, r before f.
PATTERNS = {
    "champions": "5[45]",
    "loyal": "[34][45]",
    "potential_loyalist": "[45][23]",
    "new": "51",
    "promising": "41",
    "need_attention": "33",
    "about_to_sleep": "3[12]",
    "at_risk": "[12][34]",
    "cant_lose": "[12]5",
    "hibernating": "[12][12]",
}

REFUNDS = [
    # Two orders; a part of the first was refunded.
    row("purchase", -30, "c1", "i1", 2.0, 10.0, "o1"),
    row("purchase", -30, "c1", "i2", 1.0, 5.0, "o1"),
    row("purchase", -10, "c1", "i1", 1.0, 10.0, "o2"),
    row("refund", -5, "c1", "i2", 1.0, 5.0, "o1"),
    # One order, refunded whole in two equal parts; within a week the second would be a repeat of the first.
    row("purchase", -20, "c2", "i1", 2.0, 4.0, "o3"),
    row("refund", -15, "c2", "i1", 1.0, 4.0, "o3"),
    row("refund", -7, "c2", "i1", 1.0, 4.0, "o3"),
    # A credit note that names no order of the shop.
    row("purchase", -40, "c3", "i1", 1.0, 12.0, "o4"),
    row("refund", -1, "c3", "i1", 1.0, 5.0, "credit note"),
    # Never bought.
    row("login", -3, "c4"),
    row("refund", -3, "c5", "i1", 1.0, 5.0, "o1"),
]


@pytest.mark.parametrize(
    ("customer", "recency", "frequency", "monetary", "average", "tenure"),
    [
        ("c1", 10, 2, 30, 15, 30),
        ("c2", 20, 0, 0, None, 20),
        ("c3", 40, 1, 7, 7, 40),
        ("c4", None, None, None, None, None),
        ("c5", None, None, None, None, None),
    ],
)
def test_money_is_net_of_refunds(customer, recency, frequency, monetary, average, tenure):
    values = one(build(REFUNDS).customers, customer_id=customer)
    assert [values[c.name] for c in rfm.COLUMNS] == [recency, frequency, monetary, average, tenure]


def test_money_and_orders_count_over_the_window():
    rows = [
        row("purchase", -rfm.WINDOW_DAYS - 1, "c1", "i1", 1.0, 100.0, "old"),
        row("purchase", -rfm.WINDOW_DAYS, "c1", "i1", 1.0, 10.0, "o1"),
        row("refund", -3, "c1", "i1", 1.0, 40.0, "old"),  # counts with the order it names
        row("refund", -rfm.WINDOW_DAYS - 1, "c1", "i1", 1.0, 5.0, "credit note"),
        row("purchase", -rfm.WINDOW_DAYS - 9, "c2", "i1", 1.0, 7.0, "o2"),
    ]
    table = build(rows).customers
    values = one(table, customer_id="c1")
    assert (values["frequency"], values["monetary"], values["tenure_days"]) == (1, 10, rfm.WINDOW_DAYS + 1)
    lapsed = one(table, customer_id="c2")
    assert (lapsed["recency_days"], lapsed["frequency"], lapsed["monetary"]) == (rfm.WINDOW_DAYS + 9, 0, 0)
    assert lapsed["segment"] != rfm.PROSPECT


def test_without_orders_a_customer_is_a_prospect():
    customers = build(REFUNDS).customers
    assert customers.filter(pl.col("segment") == rfm.PROSPECT)["customer_id"].to_list() == ["c4", "c5"]
    for customer in ("c4", "c5"):
        values = one(customers, customer_id=customer)
        assert [values[c.name] for c in rfm.SCORES] == [0, 0, 0]


def test_a_shop_without_orders_has_prospects_only():
    customers = build([row("view_item", -1, "c1", "i1"), row("login", -1, "c2")]).customers
    assert customers["segment"].to_list() == [rfm.PROSPECT] * 2


def test_equal_customers_score_equally_whatever_the_order_of_rows():
    rows = [row("purchase", -20, f"c{n:02}", "i1", 1.0, 8.0) for n in range(12)]
    for n in range(12, 20):
        rows += [row("purchase", -k, f"c{n:02}", "i1", 1.0, float(n)) for k in range(1, n - 9)]
    for shuffled in (rows, rows[::-1], rows[7:] + rows[:7]):
        customers = build(shuffled).customers
        equal = customers.head(12).select("r_score", "f_score", "m_score", "segment")
        assert equal.n_unique() == 1
        assert equal.row(0) == (1, 1, 2, "hibernating")
        assert customers["f_score"].to_list()[12:] == [2, 2, 3, 3, 4, 4, 5, 5]


def test_every_pair_of_scores_has_exactly_one_segment():
    assert set(PATTERNS) == set(rfm.SEGMENTS)
    for r in range(1, 6):
        for f in range(1, 6):
            matches = [s for s, p in PATTERNS.items() if re.fullmatch(p, f"{r}{f}")]
            assert [rfm.SEGMENT_MAP[r - 1, f - 1]] == matches
    assert rfm.SEGMENT_MAP.shape == (5, 5)


def table(recency: list[float], frequency: list[float], monetary: list[float]) -> pl.DataFrame:
    columns = {"recency_days": recency, "frequency": frequency, "monetary": monetary}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Float32))


VALUES = st.lists(st.integers(0, 12).map(float), min_size=1, max_size=30)


def mid_rank(values: list[float], value: float) -> int:
    share = (sum(v < value for v in values) + sum(v == value for v in values) / 2) / len(values)
    return 1 + sum(share > q for q in (0.2, 0.4, 0.6, 0.8))


@examples(60)
@given(VALUES)
def test_recency_and_money_score_the_fifth_of_the_mid_rank(values: list[float]):
    scores = table(values, values, values)
    scores = rfm.score(scores, rfm.fit_cut_points(scores))
    negated = [-v for v in values]
    for n, value in enumerate(values):
        assert scores["m_score"][n] == mid_rank(values, value)
        if value == min(values):
            assert scores["r_score"][n] == 5
        elif value == max(values):
            assert scores["r_score"][n] == 1
        else:
            assert scores["r_score"][n] == mid_rank(negated, -value)


@examples(60)
@given(VALUES)
def test_one_order_scores_1_and_more_orders_by_the_share_of_returning_customers_with_fewer(values: list[float]):
    scores = table(values, values, values)
    cuts = rfm.fit_cut_points(scores)
    returned = [v for v in values if v >= 2]
    for value, score in zip(values, rfm.score(scores, cuts)["f_score"], strict=True):
        assert score == (1 if value < 2 else 2 + 4 * sum(v < value for v in returned) // len(returned))
    later = [*map(float, range(20))]
    below = [4 * sum(v < value for v in returned) // max(1, len(returned)) for value in later]
    frozen = rfm.score(table(later, later, later), cuts)["f_score"].to_list()
    assert frozen == [1, 1, *(min(5, 2 + b) for b in below[2:])]


def test_all_ten_segments_can_be_reached():
    rows = []
    for n in range(200):
        # Two thirds ordered once; the others up to nine times, whether long ago or lately.
        orders = 1 if n % 3 else 2 + n // 3 % 8
        last = 1 + n * 37 % 200
        rows += [row("purchase", -last - 20 * k, f"c{n:03}", "i1", 1.0, 5.0) for k in range(orders)]
    assert set(build(rows).customers["segment"]) == set(rfm.SEGMENTS)


def test_where_most_ordered_once_a_first_order_is_new_and_an_old_one_hibernates():
    rows = [row("purchase", -1 - n, f"c{n:02}", "i1", 1.0, 5.0) for n in range(80)]
    rows += [row("purchase", -2 * n - 3 * k, f"r{n:02}", "i1", 1.0, 5.0) for n in range(1, 21) for k in range(2)]
    rows = [r | {"customer_id": r["customer_id"] or r["client_id"], "client_id": None} for r in rows]
    customers = build(rows).customers
    assert one(customers, customer_id="c00")["segment"] == "new"
    assert one(customers, customer_id="c79")["segment"] == "hibernating"
    assert customers.filter(pl.col("frequency") == 1)["f_score"].unique().to_list() == [1]


def test_a_shop_whose_customers_all_came_on_one_day_has_new_ones():
    rows = [row("purchase", -1, f"c{n}", "i1", 1.0, 5.0) for n in range(9)]
    assert build(rows).customers["segment"].unique().to_list() == ["new"]


def test_orders_refunded_whole_or_long_ago_score_as_one():
    rows = [row("purchase", -k, f"c{n}", "i1", 1.0, 5.0, f"o{n}-{k}") for n in range(4) for k in range(1, n + 2)]
    rows += [row("purchase", -9, "c8", "i1", 1.0, 5.0, "o8"), row("refund", -8, "c8", "i1", 1.0, 5.0, "o8")]
    rows += [row("purchase", -rfm.WINDOW_DAYS - 9, "c9", "i1", 1.0, 5.0)]
    customers = build(rows).customers
    for customer in ("c8", "c9"):
        values = one(customers, customer_id=customer)
        assert (values["frequency"], values["f_score"]) == (0, 1)


@examples(40)
@given(VALUES, VALUES)
def test_later_values_are_scored_against_the_same_cut_points(values: list[float], later: list[float]):
    cuts = rfm.fit_cut_points(table(values, values, values))
    scores = rfm.score(table(later, later, later), cuts)
    order = np.argsort(later, kind="stable")
    assert (np.diff(scores["f_score"].to_numpy()[order]) >= 0).all()
    assert (np.diff(scores["m_score"].to_numpy()[order]) >= 0).all()
    assert (np.diff(scores["r_score"].to_numpy()[order]) <= 0).all()
    assert scores["f_score"].is_between(1, 5).all()
    original = rfm.score(table(values, values, values), cuts)
    by_value = dict(zip(values, original["f_score"], strict=True))
    assert all(by_value.get(v, s) == s for v, s in zip(later, scores["f_score"], strict=True))


def test_one_more_order_never_lowers_frequency_or_money():
    rows = [row("purchase", -k, f"c{n}", "i1", 1.0, 5.0) for n in range(1, 8) for k in range(1, n + 1)]
    before = one(build(rows).customers, customer_id="c3")
    after = one(build([*rows, row("purchase", -1, "c3", "i2", 4.0, 9.0)]).customers, customer_id="c3")
    assert after["monetary"] > before["monetary"]
    assert after["m_score"] > before["m_score"]
    assert after["f_score"] >= before["f_score"]
