"""Trial data: what trials share and what they build anew, the metric on the hold-out, and the search space."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.common.clock import DAY, moment
from features.event_log import log
from features.event_log.log import EventLog
from models.bundle import RecommenderName
from models.candidates.als import Als
from models.candidates.covisit import Covisit
from models.candidates.item_knn import ItemKnn
from models.candidates.registry import GENERATORS
from models.two_stage import chunks, propose
from tests.conftest import SHOP_ENDS
from tests.training.recipes import small, small_with_embedding
from training.dataset.folds import build_fold
from training.evaluation.evaluate import evaluate
from training.recipe import Recipe, flatten
from training.result import TrainingResult
from training.tuning import recipe_space, tune
from training.tuning.holdout_metric import HoldoutMetric
from training.tuning.trial_data import TrialDataCache


def test_events_from_the_end_on_change_nothing(event_log: EventLog, tmp_path: Path):
    end = SHOP_ENDS - 14 * DAY
    early = event_log.scan().filter(pl.col("timestamp") < moment(end)).collect()
    cut = log.write(tmp_path / "cut", early, event_log.catalog(), event_log.rejected(), event_log.links())
    recipe = small(boundaries=3)
    whole, part = (
        TrialDataCache(source, end, "one_to_one", "mrr").get(recipe, lambda _: None) for source in (event_log, cut)
    )
    of_whole, of_part = (p.measure(recipe.one_to_one.ranker, lambda *_: None)[0] for p in (whole, part))
    assert len(of_whole) > 10
    assert np.array_equal(of_whole, of_part)


def test_generators_that_do_not_apply_to_the_log_have_no_settings_to_tune(event_log: EventLog, with_vectors: EventLog):
    def tuned_settings(source: EventLog, recipe: Recipe) -> set[str]:
        steps: list[str] = []
        cache = TrialDataCache(source, SHOP_ENDS, "one_to_one", "ndcg_at_10")
        names = cache.active_generators(recipe, steps.append)
        assert len(steps) == 1
        return {n for n in recipe_space.search_space(recipe, "one_to_one", names) if "embedding" in n}

    old, new = small(boundaries=3), small_with_embedding()
    assert tuned_settings(event_log, old) == tuned_settings(event_log, new) == set()
    assert tuned_settings(with_vectors, old) == {"generators.embedding.neighbours"}  # its scores are columns
    assert tuned_settings(with_vectors, new) == {"generators.embedding.neighbours", "one_to_one.budgets.embedding"}


def test_the_fold_that_decides_on_generators_is_that_of_the_first_trial(event_log: EventLog):
    base = small(boundaries=3)
    changed = recipe_space.apply_settings(base, {"generators.als.alpha": 20.0})
    values, steps = [], []  # type: ignore[var-annotated]
    for recipes in ((base, changed), (changed,)):  # a study that continues begins with other settings than the recipe's
        cache = TrialDataCache(event_log, SHOP_ENDS, "one_to_one", "ndcg_at_10")
        steps.append([])
        assert "als" in cache.active_generators(recipes[0], steps[-1].append)
        data = cache.get(recipes[-1], steps[-1].append)
        values.append(data.measure(changed.one_to_one.ranker, lambda *_: None)[0])
    assert steps[0] == steps[1]
    assert len(steps[0]) == cache.count_folds(base) == 2
    assert np.array_equal(*values)


def test_only_what_a_trial_changes_is_built_anew(event_log: EventLog):
    cache = TrialDataCache(event_log, SHOP_ENDS, "one_to_one", "ndcg_at_10")
    steps: list[str] = []
    base = small(boundaries=3)
    first = cache.get(base, steps.append)
    assert len(steps) == cache.count_folds(base) == 2  # the boundary within a horizon of the hold-out is left out
    assert cache.get(recipe_space.apply_settings(base, {"one_to_one.ranker.leaves": 5}), steps.append) is first
    other = cache.get(recipe_space.apply_settings(base, {"generators.als.alpha": 20.0}), steps.append)
    for before, after in zip(first.folds, other.folds, strict=True):
        assert after.snapshot is before.snapshot
        assert after.generators[ItemKnn] is before.generators[ItemKnn]
        assert not np.array_equal(after.generators[Als].items, before.generators[Als].items)
    fewer = cache.get(recipe_space.apply_settings(base, {"one_to_one.budgets.popular": 3}), steps.append)
    assert fewer.folds[0].generators[Covisit] is first.folds[0].generators[Covisit]
    assert sum(map(len, fewer.matrices)) < sum(map(len, first.matrices))
    # Built from two others in turn, it equals the one built at once.
    again = cache.get(base, steps.append)
    assert again is not first
    values = [p.measure(base.one_to_one.ranker, lambda *_: None)[0] for p in (first, again)]
    assert np.array_equal(*values)
    assert len(steps) == 2


@pytest.mark.parametrize("name", ["one_to_one", "predictive"])
def test_every_metric_is_that_of_evaluation(event_log: EventLog, result: TrainingResult, name: RecommenderName):
    recipe = small()
    fold = build_fold(event_log.scan(), event_log.catalog(), SHOP_ENDS - 10 * DAY, recipe, event_log.links())
    queries, recommender = fold.queries[name], result.bundle.recommenders[name]
    recommender = type(recommender)(fold.generators, recommender.budgets, recommender.ranker)
    expected = evaluate(recommender, fold.snapshot, queries).per_query
    candidates = [
        (s, propose(fold.generators, fold.snapshot, b, recommender.budgets))
        for s, b in chunks(fold.snapshot, queries.visitors)
    ]
    ranked = [(s, c, score) for s, _, c, score in recommender.rank(fold.snapshot, queries.visitors)]
    score = np.concatenate([v[np.lexsort((c.item, c.query))] for _, c, v in ranked])
    for metric in {metric for recommender_name, metric in tune.METRICS.values() if recommender_name == name}:
        values = HoldoutMetric.from_candidates(metric, fold.snapshot, queries, candidates)(score)
        assert np.allclose(values, expected[metric].to_numpy(), rtol=0, atol=1e-12, equal_nan=True), metric
        assert 0 < np.nanmean(values) < 1


def test_queries_are_sampled_evenly(event_log: EventLog):
    fold = build_fold(event_log.scan(), event_log.catalog(), SHOP_ENDS - 10 * DAY, small(), event_log.links())
    for queries in fold.queries.values():
        few = queries.sample(9)
        assert len(few) == 9
        rows = np.linspace(0, len(queries) - 1, 9).astype(int)
        for new, old in enumerate(rows):
            mine, theirs = few.query == new, queries.query == old
            assert few.item[mine].tolist() == queries.item[theirs].tolist()
            a, b = few.visitors, queries.visitors
            assert a.customers[new] == b.customers[old]
            assert a.item[a.query == new].tolist() == b.item[b.query == old].tolist()
        assert queries.sample(len(queries)) is queries


def test_the_search_space_includes_the_recipe_and_what_the_recommender_depends_on():
    base = recipe_space.apply_settings(small(), {"one_to_one.ranker.l2": 0.0, "generators.als.factors": 300})
    ranges = recipe_space.search_space(base, "one_to_one", GENERATORS)
    values = flatten(base.model_dump())
    assert all(r.low <= values[name] <= r.high for name, r in ranges.items())
    assert ranges["generators.als.factors"].high == 300
    assert not ranges["one_to_one.ranker.l2"].log
    assert {"one_to_one.budgets.als", "generators.item_knn.last_baskets"} <= set(ranges)
    assert not any(name.startswith("predictive.") or name.endswith("visit_decay") for name in ranges)
    of_visits = recipe_space.search_space(base, "predictive", GENERATORS)
    assert "generators.item_knn.visit_decay" in of_visits
    assert not any(name.startswith(("one_to_one.", "generators.als.")) for name in of_visits)
