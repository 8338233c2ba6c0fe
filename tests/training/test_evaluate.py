import importlib.util
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.ingest import Parsed
from features.snapshot import SEGMENT_NAMES, Snapshot
from models.bundle import Bundle
from models.candidates.generators import GENERATORS
from tests.conftest import SHOP_ENDS
from training import queries
from training.evaluate import evaluate, prefixed
from training.queries import Queries

SCORE = Path(__file__).resolve().parents[3] / "shared" / "eval" / "score.py"


@pytest.fixture(scope="module")
def asked(simulated: Parsed, bundle: Bundle) -> Queries:
    future = queries.window(simulated.events.lazy(), bundle.snapshot.as_of, SHOP_ENDS)
    return queries.one_to_one(future, bundle.snapshot)


@pytest.fixture(scope="module")
def visits(simulated: Parsed, bundle: Bundle) -> Queries:
    future = queries.window(simulated.events.lazy(), bundle.snapshot.as_of, SHOP_ENDS)
    return queries.predictive(future, bundle.snapshot, 80, 7)


def lists_of(bundle: Bundle, asked: Queries) -> dict[int, list[int]]:
    """Query → its candidates, best first."""
    out: dict[int, list[int]] = {q: [] for q in range(len(asked))}
    for start, _, found, _ in bundle.recommenders["one_to_one"].rank(bundle.snapshot, asked.visitors):
        for q, item in zip(found.query, found.item, strict=True):
            out[start + int(q)].append(int(item))
    return out


def wanted_of(asked: Queries) -> dict[int, set[int]]:
    out: dict[int, set[int]] = defaultdict(set)
    for q, item in zip(asked.query, asked.item, strict=True):
        out[int(q)].add(int(item))
    return out


def bought_of(s: Snapshot, customer: int) -> set[int]:
    own = slice(s.history.indptr[customer], s.history.indptr[customer + 1])
    return set(s.history.items[own][s.history.column("orders")[own] > 0].tolist())


@pytest.mark.skipif(not SCORE.is_file(), reason="the scorer that stands outside the project is not here")
def test_the_projects_numbers_are_the_independent_scorers(bundle: Bundle, asked: Queries):
    spec = importlib.util.spec_from_file_location("score", SCORE)
    assert spec is not None
    assert spec.loader is not None
    score: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)

    s = bundle.snapshot
    customers = asked.visitors.customers.tolist()
    recs = {customers[q]: items for q, items in lists_of(bundle, asked).items()}
    train = {c: bought_of(s, c) for c in customers} | {"every item is on sale": set(range(len(s.items)))}
    test = {customers[q]: items for q, items in wanted_of(asked).items()}
    ours = evaluate(bundle.recommenders["one_to_one"], s, asked).summary
    for prefix, new_only in (("", False), ("new_", True)):
        theirs = score.measure(recs, train, test, new_only)
        assert theirs.pop("customers") > 20
        assert {k: ours[prefix + k] for k in theirs} == pytest.approx(theirs, abs=5.1e-5)
        assert 0 < theirs["ndcg_at_10"] < 1


def test_candidate_recall_is_the_share_of_what_was_wanted(bundle: Bundle, asked: Queries):
    two_stage, s = bundle.recommenders["one_to_one"], bundle.snapshot
    found = evaluate(two_stage, s, asked).summary
    wanted = {(q, i) for q, items in wanted_of(asked).items() for i in items}
    proposed = defaultdict(set)
    for start, _, c, _ in two_stage.rank(s, asked.visitors):
        for q, item, mask in zip(c.query, c.item, c.proposed, strict=True):
            for bit, name in enumerate(GENERATORS):
                if mask >> bit & 1:
                    proposed[name].add((start + int(q), int(item)))
    for name in GENERATORS:
        assert found[f"candidate_recall_{name}"] == pytest.approx(len(wanted & proposed[name]) / len(wanted))
    union = set().union(*proposed.values())
    assert found["candidate_recall_union"] == pytest.approx(len(wanted & union) / len(wanted))
    assert found["candidate_recall_item_knn_visit"] == 0 < found["candidate_recall_union"]


def test_the_summary_is_the_mean_over_queries_and_segments(bundle: Bundle, asked: Queries):
    evaluation = evaluate(bundle.recommenders["one_to_one"], bundle.snapshot, asked)
    table, summary = evaluation.per_query, evaluation.summary
    assert summary["queries"] == table.height == len(asked)
    assert table["customer_id"].to_list() == bundle.snapshot.customers.at(asked.visitors.customers)
    assert table["segment"].to_list() == [SEGMENT_NAMES[s] for s in bundle.snapshot.segments[asked.visitors.customers]]
    assert table["relevant"].to_list() == np.bincount(asked.query).tolist()
    for name in ("ndcg_at_10", "recall_at_20", "map_at_12", "hit_rate_at_10", "mrr"):
        assert summary[name] == pytest.approx(table[name].mean())
        assert summary[f"new_{name}"] == pytest.approx(table[f"new_{name}"].drop_nans().mean())
    new = [
        items - bought_of(bundle.snapshot, int(asked.visitors.customers[q])) for q, items in wanted_of(asked).items()
    ]
    assert table["new_mrr"].is_nan().to_list() == [not items for items in new]
    assert 0 < sum(map(bool, new)) < len(new)
    assert summary["ndcg_at_10_low"] < summary["ndcg_at_10"] < summary["ndcg_at_10_high"]
    for segment in set(table["segment"]):
        part = table.filter(table["segment"] == segment)
        assert summary[f"segment_{segment}_queries"] == part.height
        assert summary[f"segment_{segment}_ndcg_at_10"] == pytest.approx(part["ndcg_at_10"].mean())
    assert prefixed({"one_to_one": evaluation})["one_to_one_mrr"] == summary["mrr"]


def test_visitors_nobody_knows_are_measured_too(bundle: Bundle, visits: Queries):
    evaluation = evaluate(bundle.recommenders["predictive"], bundle.snapshot, visits)
    assert evaluation.per_query["customer_id"].null_count() == len(visits) == 80
    assert set(evaluation.per_query["segment"]) == {"prospect"}
    summary = evaluation.summary
    assert summary["new_ndcg_at_10"] == summary["ndcg_at_10"]  # to them every item is new
    assert 0 < summary["coverage"] <= 1
    assert 0 <= summary["gini"] < 1
    assert summary["novelty"] > 0


def only(asked: Queries, keep: np.ndarray) -> Queries:
    """The queries that keep a relevant pair, with those pairs."""
    left, query = np.unique(asked.query[keep], return_inverse=True)
    customers = replace(asked.visitors, customers=asked.visitors.customers[left])
    return Queries(customers, query, asked.item[keep], asked.grade[keep])


def test_an_item_no_generator_proposes_counts_as_missed(bundle: Bundle, asked: Queries):
    lists = lists_of(bundle, asked)
    missed = np.array([i not in lists[q] for q, i in zip(asked.query, asked.item, strict=True)])
    assert missed.any()
    found = evaluate(bundle.recommenders["one_to_one"], bundle.snapshot, only(asked, missed)).summary
    assert (found["ndcg_at_10"], found["recall_at_20"], found["candidate_recall_union"]) == (0, 0, 0)


def test_a_hold_out_in_which_nobody_bought_anything_new(bundle: Bundle, asked: Queries):
    customers = asked.visitors.customers
    own = [i in bought_of(bundle.snapshot, int(customers[q])) for q, i in zip(asked.query, asked.item, strict=True)]
    found = evaluate(bundle.recommenders["one_to_one"], bundle.snapshot, only(asked, np.array(own))).summary
    assert found["new_ndcg_at_10"] == 0
    assert found["ndcg_at_10"] > 0
    assert not any(np.isnan(v) for v in found.values())
