"""The protocols' figures on lists whose right values are known."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from training.benchmarks import next_basket, next_click
from training.benchmarks.registry import BENCHMARKS


def visits(*clicks: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame(clicks, schema=["session_id", "item_id"], orient="row").with_columns(
        timestamp=datetime(2026, 1, 1, tzinfo=UTC)
    )


def test_every_click_but_the_first_is_an_example():
    examples = next_click.build_examples(visits(("v", "a"), ("w", "x"), ("v", "b"), ("v", "a"), ("w", "y")))
    assert examples.rows() == [("v", 1, "b", ["a"]), ("v", 2, "a", ["a", "b"]), ("w", 1, "y", ["x"])]


def test_hits_and_reciprocal_ranks_are_percent_of_all_examples():
    assert next_click.score(np.array([1, 0, 4, 0])) == {"P@20": 50.0, "MRR@20": pytest.approx(100 * 1.25 / 4)}
    assert next_click.score(np.zeros(0, np.int64)) == {"P@20": 0.0, "MRR@20": 0.0}


def test_own_items_are_ranked_latest_first():
    examples = next_click.build_examples(visits(("v", "a"), ("v", "b"), ("v", "a"), ("v", "b"), ("v", "c")))
    assert next_click.rank_own_items(examples).tolist() == [0, 2, 2, 0]


def test_a_basket_is_found_in_part():
    figures = next_basket.score([["a", "x", "b"], []], [["a", "b"], ["c"]])
    ideal = 1 + 1 / np.log2(3)
    assert figures["Recall@10"] == pytest.approx(100 * (1 + 0) / 2)
    assert figures["NDCG@10"] == pytest.approx(100 * ((1 + 1 / np.log2(4)) / ideal) / 2)


def test_own_purchases_by_count_then_recency():
    day = [datetime(2026, 1, n, tzinfo=UTC) for n in (1, 2, 3, 4)]
    lines = pl.DataFrame(
        {"customer_id": ["c"] * 4, "item_id": ["a", "b", "a", "z"], "timestamp": [day[0], day[1], day[2], day[3]]}
    )
    assert next_basket.rank_own_purchases(lines, ["c", "nobody"]) == [["a", "z", "b"], []]


def test_the_table_puts_ours_among_the_published():
    benchmark = BENCHMARKS["diginetica"]
    outcome = next_click.Outcome([next_click.Row("ours", {"P@20": 52.0, "MRR@20": 19.0})], 7, ("a note",))
    lines = benchmark.render(outcome).splitlines()
    order = [line.split("  ")[0] for line in lines if line.endswith(("this run", "2019", "2020"))]
    assert order == ["GCE-GNN", "ours", "SR-GNN", "NARM", "STAMP", "Item-KNN"]
    assert "7 queries" in lines
    assert "a note" in lines
    published = benchmark.as_dict(outcome)["published"]
    assert isinstance(published, list)
    assert published[0] == {"method": "GCE-GNN", "P@20": 54.22, "MRR@20": 19.04, "source": "Wang et al., SIGIR 2020"}
