"""One training run: what the hold-out decides, reproducible bundles, candidate budgets, and too little data."""

from pathlib import Path

import polars as pl
import pytest

from features.common.clock import DAY, moment
from features.common.errors import InputError
from features.event_log import log
from features.event_log.log import EventLog
from models.bundle import read_manifest
from models.candidates.registry import GENERATORS
from models.ranker import RankerConfig
from tests.conftest import SHOP_ENDS
from tests.training.recipes import small
from training.guard import Guard
from training.recipe import Recipe
from training.result import TrainingResult
from training.train import train


def without(event_log: EventLog, removed: pl.Expr, path: Path) -> EventLog:
    return log.write(
        path, event_log.scan().filter(~removed).collect(), event_log.catalog(), event_log.rejected(), event_log.links()
    )


def test_the_measured_model_has_not_seen_the_hold_out(event_log: EventLog, result: TrainingResult, tmp_path: Path):
    """Without the hold-out of every second customer, the others are ranked as before, item by item, from candidates
    within the same budgets.

    With one tree: after how many to stop is the one thing that the hold-out decides.
    """
    start, _ = result.holdout
    one_tree = small()
    one_tree = one_tree.model_copy(
        update={
            "one_to_one": one_tree.one_to_one.model_copy(
                update={"ranker": RankerConfig(rounds=1, min_leaf=10, prior=True)}
            )
        }
    )
    second = pl.col("customer_id").str.slice(-1).is_in(list("13579")).fill_null(False)
    less = without(event_log, (pl.col("timestamp") >= moment(start)) & second, tmp_path / "less")
    whole, again = (train(source, one_tree, until=result.until) for source in (event_log, less))
    before, after = (r.evaluations["one_to_one"].per_query for r in (whole, again))
    others = before.filter(~second)
    assert 10 < others.height < before.height
    assert after.equals(others)
    budgets = [r.budgets["one_to_one"] for r in (whole, again)]
    assert budgets[0].budgets == budgets[1].budgets != one_tree.one_to_one.budgets
    assert budgets[0].table.equals(budgets[1].table)
    assert again.bundle.recommenders["one_to_one"].ranker.text() != (
        whole.bundle.recommenders["one_to_one"].ranker.text()
    )


def test_the_same_events_make_the_same_bundle_file_by_file(event_log: EventLog, tmp_path: Path):
    """And events from the end on change nothing."""
    end = SHOP_ENDS - 14 * DAY
    cut = without(event_log, pl.col("timestamp") >= moment(end), tmp_path / "cut")
    whole, part = (train(source, small(boundaries=3), until=end) for source in (event_log, cut))
    assert whole.events == part.events == cut.info["rows"] < event_log.info["rows"]
    assert whole.bundle.metrics == part.bundle.metrics
    for name, recommender in whole.bundle.recommenders.items():
        assert recommender.ranker.text() == part.bundle.recommenders[name].ranker.text()
    assert whole.bundle.info() == part.bundle.info()
    files = [read_manifest(r.bundle.save(tmp_path / name)).files for name, r in (("a", whole), ("b", part))]
    assert files[0] == files[1]
    assert len(files[0]) > 40


def test_the_shipped_model_has_the_budgets_of_the_measured_one(result: TrainingResult, tmp_path: Path):
    """Without `cut`, they are those of the recipe."""
    shipped = read_manifest(result.bundle.save(tmp_path / "bundle")).budgets
    recipe = result.recipe
    assert shipped["one_to_one"] == result.budgets["one_to_one"].budgets != recipe.one_to_one.budgets
    assert shipped["predictive"] == recipe.predictive.budgets
    for generator, budget in shipped["one_to_one"].items():
        assert 1 <= budget <= recipe.one_to_one.budgets[generator]
        assert result.bundle.metrics[f"one_to_one_budget_{generator}"] == budget
    assert "predictive_budget_popular" not in result.bundle.metrics


def test_too_few_customers_to_learn_from(event_log: EventLog, tmp_path: Path):
    few = without(event_log, ~pl.col("client_id").is_in([f"d00000{n}" for n in range(5)]), tmp_path / "few")
    steps: list[tuple[str, int, int]] = []
    with pytest.raises(InputError, match="too few customers who come back and too few visits"):
        train(few, small(visits_per_boundary=1), SHOP_ENDS, lambda *step: steps.append(step), Guard("a test"))
    assert [n for _, n, _ in steps[:4]] == [1, 2, 3, 4]
    assert steps[0][0] == "refit as of 2026-03-02"
    assert all(done <= total for _, done, total in steps)


def test_a_recommender_without_any_generator_that_applies_is_refused(event_log: EventLog):
    tree = small(boundaries=3).model_dump()
    tree["predictive"]["budgets"] = {"embedding_visit": 30, "embedding": 5}  # the catalog has no vectors
    recipe = Recipe.model_validate(tree)
    with pytest.raises(
        InputError, match=r"predictive of the recipe has budgets only of .*: embedding_visit, embedding"
    ) as e:
        train(event_log, recipe)
    assert "Add to predictive.budgets some of those that apply (history, " in str(e.value)
    assert "vectors in the catalog's column embedding" in str(e.value)
    assert recipe.for_generators(GENERATORS) == recipe
    no_budgets = recipe.model_copy(update={"predictive": recipe.predictive.model_copy(update={"budgets": {}})})
    assert no_budgets.for_generators(("history", "popular")).predictive == no_budgets.predictive
