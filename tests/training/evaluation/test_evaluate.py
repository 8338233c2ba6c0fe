import importlib.util
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.event_log.ingestion.ingest import ParsedBatch
from features.ranking.snapshot import SEGMENT_NAMES, Snapshot
from models.bundle import Bundle, RecommenderName
from tests.conftest import SHOP_ENDS
from tests.models import fitted
from training.dataset import queries
from training.dataset.queries import Queries
from training.evaluation import bootstrap
from training.evaluation.baselines import CUSTOMER_BASELINES, VISIT_BASELINES
from training.evaluation.breakdown import over_best_baseline
from training.evaluation.evaluate import evaluate, flatten_metrics

SCORE = Path(__file__).resolve().parents[4] / "shared" / "eval" / "score.py"


@pytest.fixture(scope="module")
def purchase_queries(simulated: ParsedBatch, bundle: Bundle) -> Queries:
    future = queries.read_window(simulated.events.lazy(), bundle.snapshot.as_of, SHOP_ENDS)
    return queries.customer_queries(future, bundle.snapshot)


@pytest.fixture(scope="module")
def visits(simulated: ParsedBatch, bundle: Bundle) -> Queries:
    future = queries.read_window(simulated.events.lazy(), bundle.snapshot.as_of, SHOP_ENDS)
    return queries.visit_queries(future, bundle.snapshot, 80, 7)["predictive"]


def lists_of(bundle: Bundle, purchase_queries: Queries, name: RecommenderName = "one_to_one") -> dict[int, list[int]]:
    """Query → its candidates, best first."""
    out: dict[int, list[int]] = {q: [] for q in range(len(purchase_queries))}
    for start, _, candidates, _ in bundle.recommenders[name].rank(bundle.snapshot, purchase_queries.visitors):
        for q, item in zip(candidates.query, candidates.item, strict=True):
            out[start + int(q)].append(int(item))
    return out


def relevant_of(purchase_queries: Queries) -> dict[int, set[int]]:
    out: dict[int, set[int]] = defaultdict(set)
    for q, item in zip(purchase_queries.query, purchase_queries.item, strict=True):
        out[int(q)].add(int(item))
    return out


def bought_of(s: Snapshot, customer: int) -> set[int]:
    own = slice(s.history.indptr[customer], s.history.indptr[customer + 1])
    return set(s.history.items[own][s.history.column("orders")[own] > 0].tolist())


@pytest.mark.skipif(not SCORE.is_file(), reason="the scorer that stands outside the project is not here")
def test_metrics_equal_those_of_an_independent_scorer(bundle: Bundle, purchase_queries: Queries):
    spec = importlib.util.spec_from_file_location("score", SCORE)
    assert spec is not None
    assert spec.loader is not None
    score: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)

    s = bundle.snapshot
    customers = purchase_queries.visitors.customers.tolist()
    recs = {customers[q]: items for q, items in lists_of(bundle, purchase_queries).items()}
    train = {c: bought_of(s, c) for c in customers} | {"every item is on sale": set(range(len(s.items)))}
    test = {customers[q]: items for q, items in relevant_of(purchase_queries).items()}
    ours = evaluate(bundle.recommenders["one_to_one"], s, purchase_queries).summary
    for prefix, new_only in (("", False), ("new_", True)):
        theirs = score.measure(recs, train, test, new_only)
        assert theirs.pop("customers") > 20
        assert {k: ours[prefix + k] for k in theirs} == pytest.approx(theirs, abs=5.1e-5)
        assert 0 < theirs["ndcg_at_10"] < 1


def test_candidate_recall_is_the_share_of_relevant_items(bundle: Bundle, purchase_queries: Queries):
    two_stage, s = bundle.recommenders["one_to_one"], bundle.snapshot
    summary = evaluate(two_stage, s, purchase_queries).summary
    relevant = {(q, i) for q, items in relevant_of(purchase_queries).items() for i in items}
    proposed = defaultdict(set)
    for start, _, c, _ in two_stage.rank(s, purchase_queries.visitors):
        for q, item, mask in zip(c.query, c.item, c.proposed, strict=True):
            for bit, name in enumerate(two_stage.generators.names):
                if mask >> bit & 1:
                    proposed[name].add((start + int(q), int(item)))
    for name in two_stage.generators.names:
        assert summary[f"candidate_recall_{name}"] == pytest.approx(len(relevant & proposed[name]) / len(relevant))
    union = set().union(*proposed.values())
    assert summary["candidate_recall_union"] == pytest.approx(len(relevant & union) / len(relevant))
    assert summary["candidate_recall_item_knn_visit"] == 0 < summary["candidate_recall_union"]


def test_the_summary_is_the_mean_over_queries_and_segments(bundle: Bundle, purchase_queries: Queries):
    evaluation = evaluate(bundle.recommenders["one_to_one"], bundle.snapshot, purchase_queries)
    table, summary = evaluation.per_query, evaluation.summary
    assert summary["queries"] == table.height == len(purchase_queries)
    assert table["customer_id"].to_list() == bundle.snapshot.customers.at(purchase_queries.visitors.customers)
    assert table["segment"].to_list() == [
        SEGMENT_NAMES[s] for s in bundle.snapshot.segments[purchase_queries.visitors.customers]
    ]
    assert table["relevant"].to_list() == np.bincount(purchase_queries.query).tolist()
    for name in ("ndcg_at_10", "recall_at_20", "map_at_12", "hit_rate_at_10", "mrr"):
        assert summary[name] == pytest.approx(table[name].mean())
        assert summary[f"new_{name}"] == pytest.approx(table[f"new_{name}"].drop_nans().mean())
    new = [
        items - bought_of(bundle.snapshot, int(purchase_queries.visitors.customers[q]))
        for q, items in relevant_of(purchase_queries).items()
    ]
    assert table["new_mrr"].is_nan().to_list() == [not items for items in new]
    assert 0 < sum(map(bool, new)) < len(new)
    assert summary["ndcg_at_10_low"] < summary["ndcg_at_10"] < summary["ndcg_at_10_high"]
    for segment in set(table["segment"]):
        part = table.filter(table["segment"] == segment)
        assert summary[f"segment_{segment}_queries"] == part.height
        assert summary[f"segment_{segment}_ndcg_at_10"] == pytest.approx(part["ndcg_at_10"].mean())
    assert flatten_metrics({"one_to_one": evaluation})["one_to_one_mrr"] == summary["mrr"]


def test_anonymous_visits_are_evaluated(bundle: Bundle, visits: Queries):
    evaluation = evaluate(bundle.recommenders["predictive"], bundle.snapshot, visits)
    assert evaluation.per_query["customer_id"].null_count() == len(visits) == 80
    assert set(evaluation.per_query["segment"]) == {"prospect"}
    summary = evaluation.summary
    assert summary["new_ndcg_at_10"] == summary["ndcg_at_10"]  # to them every item is new
    assert 0 < summary["coverage"] <= 1
    assert 0 <= summary["gini"] < 1
    assert summary["novelty"] > 0


def only(purchase_queries: Queries, keep: np.ndarray) -> Queries:
    """The queries that keep a relevant pair, with those pairs."""
    left, query = np.unique(purchase_queries.query[keep], return_inverse=True)
    customers = purchase_queries.visitors.only(left)
    return Queries(customers, query, purchase_queries.item[keep], purchase_queries.grade[keep])


def test_an_item_no_generator_proposes_counts_as_missed(bundle: Bundle, purchase_queries: Queries):
    lists = lists_of(bundle, purchase_queries)
    missed = np.array([i not in lists[q] for q, i in zip(purchase_queries.query, purchase_queries.item, strict=True)])
    assert missed.any()
    summary = evaluate(bundle.recommenders["one_to_one"], bundle.snapshot, only(purchase_queries, missed)).summary
    assert (summary["ndcg_at_10"], summary["recall_at_20"], summary["candidate_recall_union"]) == (0, 0, 0)


def test_a_hold_out_without_new_items_gives_zero_for_new_metrics(bundle: Bundle, purchase_queries: Queries):
    customers = purchase_queries.visitors.customers
    own = [
        i in bought_of(bundle.snapshot, int(customers[q]))
        for q, i in zip(purchase_queries.query, purchase_queries.item, strict=True)
    ]
    summary = evaluate(
        bundle.recommenders["one_to_one"], bundle.snapshot, only(purchase_queries, np.array(own))
    ).summary
    assert summary["new_ndcg_at_10"] == 0
    assert summary["ndcg_at_10"] > 0
    assert not any(np.isnan(v) for v in summary.values())


def ndcg(items: list[int], relevant: set[int]) -> float:
    gain = sum(1 / math.log2(rank + 1) for rank, item in enumerate(items[:10], 1) if item in relevant)
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(10, len(relevant)) + 1))


def test_baselines_are_evaluated_on_the_same_queries(bundle: Bundle, purchase_queries: Queries):
    """As the definitions say, one query at a time: `als` and `popular` by the generators' own lists."""
    s, evaluation = bundle.snapshot, evaluate(bundle.recommenders["one_to_one"], bundle.snapshot, purchase_queries)
    whole = {
        g: fitted.best(bundle.generators, g, s, purchase_queries.visitors, len(s.items)) for g in ("popular", "als")
    }
    best = {g: lists.tolist() for g, lists in whole.items()}
    relevant = relevant_of(purchase_queries)
    for name in ("popular", "als"):
        ndcgs, ndcgs_new, recalls = [], [], []
        for q, customer in enumerate(purchase_queries.visitors.customers.tolist()):
            own = bought_of(s, customer)
            items = [i for i in best[name][q] if i >= 0]
            items += [i for i in best["popular"][q] if i not in items]
            ndcgs.append(ndcg(items, relevant[q]))
            recalls.append(len(set(items[:20]) & relevant[q]) / len(relevant[q]))
            if new := relevant[q] - own:
                ndcgs_new.append(ndcg([i for i in items if i not in own], new))
        prefix = f"baseline_{name}_"
        assert evaluation.details[f"{prefix}ndcg_at_10"].to_list() == pytest.approx(ndcgs)
        assert evaluation.summary[f"{prefix}ndcg_at_10"] == pytest.approx(np.mean(ndcgs))
        assert evaluation.summary[f"{prefix}recall_at_20"] == pytest.approx(np.mean(recalls))
        assert evaluation.summary[f"{prefix}new_ndcg_at_10"] == pytest.approx(np.mean(ndcgs_new))


def test_the_difference_is_to_the_best_baseline(bundle: Bundle, purchase_queries: Queries):
    evaluation = evaluate(bundle.recommenders["one_to_one"], bundle.snapshot, purchase_queries)
    summary, table = evaluation.summary, evaluation.queries
    best = max(CUSTOMER_BASELINES, key=lambda name: summary[f"baseline_{name}_ndcg_at_10"])
    each = (table["ndcg_at_10"] - table[f"baseline_{best}_ndcg_at_10"]).to_numpy()
    assert over_best_baseline(table)[0] == best
    assert summary["over_best_baseline"] == pytest.approx(each.mean())
    assert (summary["over_best_baseline_low"], summary["over_best_baseline_high"]) == bootstrap.mean_interval(each)
    compared = {name for name in summary if name.startswith("baseline_")}
    assert len(compared) == 3 * len(
        CUSTOMER_BASELINES
    )  # a page that compares runs shows every metric: no more than that


def test_customers_are_broken_down_by_their_traffic(bundle: Bundle, purchase_queries: Queries):
    ids = bundle.snapshot.customers.at(purchase_queries.visitors.customers)
    source = ["email" if n % 3 else None for n in range(len(ids))]
    customers = pl.DataFrame({"customer_id": ids, "source": source, "device": "mobile", "country": "DE"}).reverse()
    evaluation = evaluate(bundle.recommenders["one_to_one"], bundle.snapshot, purchase_queries, customers)
    groups = evaluation.groups
    by_source = groups.filter(pl.col("facet") == "source")
    assert by_source["group"].to_list() == ["email", "unknown"]  # the larger first
    mailed = np.array([value == "email" for value in source])
    ours = evaluation.per_query["ndcg_at_10"].to_numpy()
    theirs = evaluation.details["baseline_als_ndcg_at_10"].to_numpy()
    for group, mine in (("email", mailed), ("unknown", ~mailed)):
        row = by_source.row(by_predicate=pl.col("group") == group, named=True)
        assert row["queries"] == mine.sum()
        assert row["ndcg_at_10"] == pytest.approx(ours[mine].mean())
        assert row["ndcg_at_10_low"] < row["ndcg_at_10"] < row["ndcg_at_10_high"]
        assert row["baseline_als_ndcg_at_10"] == pytest.approx(theirs[mine].mean())
        best = row[f"baseline_{row['best_baseline']}_ndcg_at_10"]
        assert best == max(row[f"baseline_{name}_ndcg_at_10"] for name in CUSTOMER_BASELINES)
        assert row["over_best_baseline"] == pytest.approx(row["ndcg_at_10"] - best)
    assert set(groups["facet"]) == {"segment", "source"}  # all have one device and one country
    assert groups.filter(pl.col("facet") == "segment")["queries"].sum() == len(purchase_queries)


def test_visits_are_broken_down_by_their_number_of_events(bundle: Bundle, visits: Queries):
    evaluation = evaluate(bundle.recommenders["predictive"], bundle.snapshot, visits)
    assert visits.context is not None
    events = visits.context["visit_events"].to_numpy()
    assert (events <= np.bincount(visits.visitors.query, minlength=len(visits))).all()
    ours, summary = evaluation.per_query["ndcg_at_10"].to_numpy(), evaluation.summary
    for group, mine in (("0", events == 0), ("1", events == 1), ("2", events == 2), ("3_plus", events >= 3)):
        assert summary[f"visit_events_{group}_queries"] == mine.sum() > 0
        assert summary[f"visit_events_{group}_ndcg_at_10"] == pytest.approx(ours[mine].mean())
    late = events >= 3
    theirs = {name: evaluation.details[f"baseline_{name}_ndcg_at_10"].to_numpy()[late] for name in VISIT_BASELINES}
    for name in VISIT_BASELINES:
        assert summary[f"visit_events_3_plus_baseline_{name}_ndcg_at_10"] == pytest.approx(theirs[name].mean())
    best = max(theirs.values(), key=np.mean)
    assert summary["visit_events_3_plus_over_best_baseline"] == pytest.approx((ours[late] - best).mean())
    groups = evaluation.groups
    assert set(groups["facet"]) == {"source", "device", "country", "visit_events"}  # as the visits themselves say
    assert groups.group_by("facet").agg(pl.col("queries").sum())["queries"].to_list() == [80] * 4


def test_unseen_metrics_leave_out_items_that_the_visit_touched(bundle: Bundle, visits: Queries):
    s, evaluation = bundle.snapshot, evaluate(bundle.recommenders["predictive"], bundle.snapshot, visits)
    touched: dict[int, set[int]] = defaultdict(set)
    for q, item in zip(visits.visitors.query, visits.visitors.item, strict=True):
        touched[int(q)].add(int(item))
    relevant = relevant_of(visits)
    left = [relevant[q] - touched[q] for q in range(len(visits))]
    unseen_ndcg = evaluation.details["unseen_ndcg_at_10"]
    assert unseen_ndcg.is_nan().to_list() == [not items for items in left]
    popular = fitted.best(bundle.generators, "popular", s, visits.visitors, len(s.items)).tolist()
    ours = lists_of(bundle, visits, "predictive")
    for name, lists in (("baseline_popular_unseen_ndcg_at_10", popular), ("unseen_ndcg_at_10", ours)):
        each = [ndcg([i for i in lists[q] if i not in touched[q]], items) for q, items in enumerate(left) if items]
        assert evaluation.summary[name] == pytest.approx(np.mean(each))
    assert evaluation.summary["baseline_visit_items_unseen_ndcg_at_10"] == pytest.approx(
        evaluation.summary["baseline_covisit_visit_unseen_ndcg_at_10"]
    )


def test_popularity_and_price_bias_compare_lists_with_relevant_items(bundle: Bundle, purchase_queries: Queries):
    """And to what is dear: list by list, the mean of the ten less the mean of what was bought."""
    s = bundle.snapshot
    summary = evaluate(bundle.recommenders["one_to_one"], s, purchase_queries).summary
    buyers = np.nan_to_num(s.item("buyers"))
    share = np.array([((buyers < b).sum() + (buyers == b).sum() / 2) / len(buyers) for b in buyers])
    log_price = np.log(s.item("price").astype(float))
    relevant = relevant_of(purchase_queries)
    lists = lists_of(bundle, purchase_queries)
    for name, value in (("popularity_bias", share), ("price_bias", log_price)):
        each = [value[lists[q][:10]].mean() - value[list(relevant[q])].mean() for q in range(len(purchase_queries))]
        assert summary[name] == pytest.approx(np.mean(each))
    assert 0 < summary["diversity"] <= 1
