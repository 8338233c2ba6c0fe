"""What trials share: tables, candidates, the hold-out and its metric, and the settings that may change."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.common.clock import DAY, moment
from features.event_log import log
from features.event_log.log import EventLog
from models.two_stage import chunks, propose
from tests.conftest import SHOP_ENDS
from tests.training.recipes import small
from training.dataset.examples import boundary
from training.evaluation.evaluate import evaluate
from training.recipe import flat
from training.result import TrainingResult
from training.tuning import space, tune
from training.tuning.judge import Judge
from training.tuning.prepared import Workshop


def test_events_from_the_end_on_change_nothing(event_log: EventLog, tmp_path: Path):
    end = SHOP_ENDS - 14 * DAY
    early = event_log.scan().filter(pl.col("timestamp") < moment(end)).collect()
    cut = log.write(tmp_path / "cut", early, event_log.catalog(), event_log.rejected(), event_log.links())
    wanted = small(boundaries=3)
    whole, part = (
        Workshop(source, end, "one_to_one", "mrr").prepared(wanted, lambda _: None) for source in (event_log, cut)
    )
    of_whole, of_part = (p.measure(wanted.one_to_one.ranker, lambda *_: None)[0] for p in (whole, part))
    assert len(of_whole) > 10
    assert np.array_equal(of_whole, of_part)


def test_only_what_a_trial_changes_is_made_anew(event_log: EventLog):
    workshop = Workshop(event_log, SHOP_ENDS, "one_to_one", "ndcg_at_10")
    steps: list[str] = []
    base = small(boundaries=3)
    first = workshop.prepared(base, steps.append)
    assert len(steps) == workshop.steps(base) == 2  # the boundary within a horizon of the hold-out is not learnt from
    assert workshop.prepared(space.applied(base, {"one_to_one.ranker.leaves": 5}), steps.append) is first
    other = workshop.prepared(space.applied(base, {"generators.als.alpha": 20.0}), steps.append)
    for before, after in zip(first.points, other.points, strict=True):
        assert after.snapshot is before.snapshot
        assert after.generators.item_knn is before.generators.item_knn
        assert not np.array_equal(after.generators.als.items, before.generators.als.items)
    fewer = workshop.prepared(space.applied(base, {"one_to_one.budgets.popular": 3}), steps.append)
    assert fewer.points[0].generators.covisit is first.points[0].generators.covisit
    assert sum(map(len, fewer.matrices)) < sum(map(len, first.matrices))
    # Made by way of two others, and the same as made at once.
    again = workshop.prepared(base, steps.append)
    assert again is not first
    values = [p.measure(base.one_to_one.ranker, lambda *_: None)[0] for p in (first, again)]
    assert np.array_equal(*values)
    assert len(steps) == 2


@pytest.mark.parametrize("who", ["one_to_one", "predictive"])
def test_every_metric_is_what_evaluation_says(event_log: EventLog, result: TrainingResult, who: str):
    wanted = small()
    at = boundary(event_log.scan(), event_log.catalog(), SHOP_ENDS - 10 * DAY, wanted, event_log.links())
    asked, recommender = at.asked[who], result.bundle.recommenders[who]  # type: ignore[index]
    recommender = type(recommender)(at.generators, recommender.budgets, recommender.ranker)
    said = evaluate(recommender, at.snapshot, asked).per_query
    found = [
        (s, propose(at.generators, at.snapshot, b, recommender.budgets)) for s, b in chunks(at.snapshot, asked.visitors)
    ]
    ranked = [(s, c, score) for s, _, c, score in recommender.rank(at.snapshot, asked.visitors)]
    score = np.concatenate([v[np.lexsort((c.item, c.query))] for _, c, v in ranked])
    for metric in {metric for name, metric in tune.METRICS.values() if name == who}:
        values = Judge.of(metric, at.snapshot, asked, found)(score)
        assert np.allclose(values, said[metric].to_numpy(), rtol=0, atol=1e-12, equal_nan=True), metric
        assert 0 < np.nanmean(values) < 1


def test_a_large_hold_out_is_thinned_evenly(event_log: EventLog):
    at = boundary(event_log.scan(), event_log.catalog(), SHOP_ENDS - 10 * DAY, small(), event_log.links())
    for asked in at.asked.values():
        few = asked.some(9)
        assert len(few) == 9
        kept = np.linspace(0, len(asked) - 1, 9).astype(int)
        for new, old in enumerate(kept):
            mine, theirs = few.query == new, asked.query == old
            assert few.item[mine].tolist() == asked.item[theirs].tolist()
            a, b = few.visitors, asked.visitors
            assert a.customers[new] == b.customers[old]
            assert a.item[a.query == new].tolist() == b.item[b.query == old].tolist()
        assert asked.some(len(asked)) is asked


def test_the_space_holds_the_recipe_and_what_the_recommender_depends_on():
    base = space.applied(small(), {"one_to_one.ranker.l2": 0.0, "generators.als.factors": 300})
    ranges = space.space(base, "one_to_one")
    values = flat(base.model_dump())
    assert all(r.low <= values[name] <= r.high for name, r in ranges.items())
    assert ranges["generators.als.factors"].high == 300
    assert not ranges["one_to_one.ranker.l2"].log
    assert {"one_to_one.budgets.als", "generators.item_knn.last_baskets"} <= set(ranges)
    assert not any(name.startswith("predictive.") or name.endswith("visit_decay") for name in ranges)
    of_visits = space.space(base, "predictive")
    assert "generators.item_knn.visit_decay" in of_visits
    assert not any(name.startswith(("one_to_one.", "generators.als.")) for name in of_visits)
