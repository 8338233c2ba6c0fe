import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from features.common.errors import InputError
from features.ranking.feature_matrix import assemble
from features.ranking.snapshot import Snapshot
from models.bundle import Bundle
from models.explain.explain import explain
from models.explain.shap import GROUPS, explain_scores, feature_groups, shap_values
from models.interface import RankingRequest
from models.recommender import BundleRecommender
from models.two_stage import propose
from tests.features.shop import AS_OF, build, row
from tests.models import fitted
from usual.cli import app


@pytest.fixture(scope="module")
def recommender(bundle: Bundle) -> BundleRecommender:
    return BundleRecommender(bundle)


@pytest.mark.parametrize("name", ["one_to_one", "predictive"])
def test_contributions_add_up_to_the_score(bundle: Bundle, name: str):
    two_stage = bundle.recommenders[name]  # type: ignore[index]
    visitors = fitted.visitors_of(bundle.snapshot, *((30, 0) if name == "one_to_one" else (0, 30)))
    candidates = propose(bundle.generators, bundle.snapshot, visitors, two_stage.budgets)
    c = candidates
    matrix = assemble(bundle.snapshot, visitors, c.query, c.item, c.ranks, c.scores, True)
    scores = two_stage.ranker.predict(matrix)
    np.testing.assert_allclose(shap_values(two_stage.ranker, matrix).sum(axis=1), scores, atol=1e-9)
    contributions = explain_scores(two_stage.ranker, bundle.generators.names, matrix, most=5)
    np.testing.assert_allclose([c.base + sum(c.groups.values()) for c in contributions], scores, atol=1e-9)
    assert [c.score for c in contributions] == scores.tolist()
    for c in contributions:
        assert len(c.features) <= 5
        sizes = [abs(f.contribution) for f in c.features]
        assert sizes == sorted(sizes, reverse=True)
        assert min(sizes) > 0
        assert set(c.groups) == set(feature_groups(bundle.generators.names))
    assert {group for group, _ in GROUPS} <= set(feature_groups(bundle.generators.names))


def assert_explains_ranking(recommender: BundleRecommender, request: RankingRequest) -> None:
    (ranking,) = recommender.recommend([request])
    explanation = explain(recommender, request)
    assert [i.item_id for i in explanation.items] == ranking.item_ids
    assert [i.rank for i in explanation.items] == [*range(1, len(ranking.item_ids) + 1)]
    assert [i.score for i in explanation.items] == ranking.scores
    assert [i.generators for i in explanation.items] == ranking.generators
    assert (explanation.strategy, explanation.fallback, explanation.segment) == (
        ranking.strategy,
        ranking.fallback,
        ranking.segment,
    )
    for item in explanation.items:
        assert item.reasons
        assert item.contributions is None or item.contributions.score == item.score
    json.dumps(explanation.as_dict())
    assert explanation.text().count("score") == sum(i.contributions is not None for i in explanation.items)


def test_explanations_match_the_ranking(recommender: BundleRecommender):
    s = recommender.bundle.snapshot
    customers, items = s.customers.values.to_pylist(), s.items.values.to_pylist()
    visit = ((items[3], "view_item"), (items[8], "add_to_cart"), (items[3], "remove_from_cart"))
    for n in range(0, len(customers), 9):
        assert_explains_ranking(recommender, RankingRequest(7, customers[n]))
        assert_explains_ranking(recommender, RankingRequest(7, customers[n], visit, frozenset(items[:4])))
    assert_explains_ranking(recommender, RankingRequest(7))
    assert_explains_ranking(recommender, RankingRequest(7, None, visit))
    assert_explains_ranking(recommender, RankingRequest(len(items), None, visit, frozenset(items[:2])))


def test_without_a_ranker_there_are_reasons_and_no_contributions(bundle: Bundle):
    bare = BundleRecommender(dataclasses.replace(bundle, recommenders={}))
    assert_explains_ranking(bare, RankingRequest(5))
    (item,) = explain(bare, RankingRequest(5), [bundle.snapshot.items.at(np.array([7]))[0]]).items
    assert item.contributions is None
    assert item.reasons


def test_any_product_can_be_explained(recommender: BundleRecommender):
    s = recommender.bundle.snapshot
    customer = s.customers.at(np.flatnonzero(s.has_history(np.arange(len(s.customers))))[:1])[0]
    (ranking,) = recommender.recommend([RankingRequest(len(s.items), customer)])
    explanation = explain(
        recommender, RankingRequest(3, customer, exclude=frozenset(ranking.item_ids[:5])), ranking.item_ids
    )
    assert [i.item_id for i in explanation.items] == ranking.item_ids
    proposed = [i for i in explanation.items if i.generators]
    beside = [i for i in explanation.items if not i.generators]
    assert proposed
    assert beside
    assert [(i.rank, i.score) for i in proposed] == [
        (n, score) for n, score in enumerate(ranking.scores[: len(proposed)], 1)
    ]
    assert all(i.contributions and i.reasons for i in explanation.items)
    assert "No generator proposed it" in explanation.text()


def test_an_unknown_customer_or_product_is_named(recommender: BundleRecommender):
    known = recommender.bundle.snapshot.items.at(np.array([0]))[0]
    with pytest.raises(InputError, match=r"does not know the customer 'nobody'.*Check the id"):
        explain(recommender, RankingRequest(5, "nobody"))
    with pytest.raises(InputError, match=r"does not know the product 'nothing'.*Check the id"):
        explain(recommender, RankingRequest(5), [known, "nothing"])
    with pytest.raises(InputError, match="does not know the product 'unseen'"):
        explain(recommender, RankingRequest(5, None, ((known, "view_item"), ("unseen", "view_item"))))


def test_visitors_without_history_get_reasons_from_the_visit_or_sales(recommender: BundleRecommender):
    items = recommender.bundle.snapshot.items.values.to_pylist()
    of_shop = {"popular", "sold_before", "in_range", "new_arrival"}
    plain = explain(recommender, RankingRequest(8))
    assert {r.code for i in plain.items for r in i.reasons} <= of_shop
    assert not plain.visit
    visit_explanation = explain(recommender, RankingRequest(8, None, ((items[5], "view_item"),)))
    assert visit_explanation.visit
    assert {r.code for i in visit_explanation.items for r in i.reasons} - of_shop
    assert {r.item_id for i in visit_explanation.items for r in i.reasons} - {None} == {items[5]}


def test_the_explain_command(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("USUAL_HOME", str(tmp_path / "home"))
    model = str(bundle.save(tmp_path / "bundle"))
    s = bundle.snapshot
    customer = s.customers.at(np.flatnonzero(s.has_history(np.arange(len(s.customers))))[:1])[0]
    item = s.items.at(np.array([4]))[0]

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["explain", "--model", model, *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    answer = json.loads(run("--customer", customer, "--k", "3", "--json"))
    assert answer["customer_id"] == customer
    assert [i["rank"] for i in answer["items"]] == [1, 2, 3]
    assert all(
        {"code", "item_id", "strength", "values", "text"} == set(r) for i in answer["items"] for r in i["reasons"]
    )
    assert "strongest features" in run("--customer", customer, "--item", item)
    assert "Looked at once in this visit" in run("--viewed", item, "--item", item)
    with pytest.raises(InputError, match="nobody"):
        run("--customer", "nobody")


def test_a_shop_without_customers_has_explanations():
    rows = [row("view_item", -2 + n / 100, f"d{n % 3}", f"i{n % 5}", price=1.0) for n in range(30)]
    shop = BundleRecommender(fitted.bundle(Snapshot.from_tables(build(rows, AS_OF))))
    assert_explains_ranking(shop, RankingRequest(9))
    assert_explains_ranking(shop, RankingRequest(9, None, (("i1", "view_item"), ("i2", "add_to_cart"))))


def test_the_text_starts_with_the_customers_profile(recommender: BundleRecommender) -> None:
    customer = recommender.bundle.snapshot.customers.values[
        int(np.argmax(recommender.bundle.snapshot.segments))
    ].as_py()
    explanation, profile = explain(recommender, RankingRequest(2, customer)), recommender.bundle.profile(customer)
    assert profile is not None
    assert explanation.as_dict()["profile"] == profile
    head = explanation.text().split("\n\n")[0]
    assert f"{profile['propensity_7d']:.0%} to order within 7 days" in head
    assert f"next from {profile['next_category']}, then " in head
    stranger = explain(recommender, RankingRequest(2))
    assert stranger.as_dict()["profile"] is None
    assert "\n" not in stranger.text().split("\n\n")[0]
