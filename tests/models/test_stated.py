"""What visitors said they like: candidates, reasons, and what a bundle holds and forgets of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from features.event_log.schema import EventName
from features.ranking.feature_matrix import STATED
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.bundle import Bundle
from models.bundle_erasure import erase_customer
from models.candidates.stated import Stated
from models.explain.explain import explain_request
from models.interface import RankingRequest, SessionEvent
from models.recommender import BundleRecommender, build_visitors
from tests.features.shop import row, snapshot
from tests.models import fitted

NAME: EventName = "preferences"


def said(question: str, *answers: str) -> SessionEvent:
    return SessionEvent("", NAME, 5.0, None, question, json.dumps(answers) if answers else None)


def request(*events: SessionEvent, customer: str | None = None, limit: int = 5) -> RankingRequest:
    return RankingRequest(limit=limit, customer_id=customer, recent=events)


def stated_list(s: Snapshot, generator: Stated, *events: SessionEvent) -> list[str]:
    visitors = build_visitors(s, [request(*events)])
    scores = generator.scores("stated", s, visitors)
    query, item = scores.top(10)
    order = np.lexsort((item, -scores.at(query, item)))
    return s.items.at(item[order])


def test_best_sellers_among_what_was_stated():
    sales = [
        row("purchase", -n, f"c{n}", item, 1.0, 9.0, f"o{n}") for n, item in enumerate(("i1", "i1", "i0", "i5"), 1)
    ]
    s = snapshot([*sales, row("view_item", -1, "c1", "i4"), row("preferences", -1, "d1", question="q", answer="x")])
    generator = Stated.fit(s)
    assert Stated.applies_to(s)
    assert stated_list(s, generator, said("category", "Kitchen/Tea")) == ["i1", "i0"]
    assert stated_list(s, generator, said("category", "Garden")) == ["i5", "i4"]
    # Who names a brand too gets items that match both first, however little they sell.
    assert stated_list(s, generator, said("category", "Kitchen"), said("brand", "Alder"))[0] == "i0"
    assert stated_list(s, generator) == []
    assert stated_list(s, generator, said("category", "Garden"), said("category")) == []
    assert not Stated.applies_to(snapshot(sales)), "without answers there is no such generator"


def test_a_new_visitor_who_answered_is_known_and_told_why(bundle: Bundle):
    recommender, s = BundleRecommender(bundle), bundle.snapshot
    category, brand = s.category_names[0].as_py(), s.catalog["brand"][0].as_py()
    answers = (said("category", category), said("brand", brand), said("price", "0-100000"))
    (ranking,) = recommender.recommend([request(*answers)])
    assert (ranking.strategy, ranking.fallback) == ("predictive", None)
    assert any("stated" in names for names in ranking.generators)
    explained = explain_request(recommender, request(*answers, limit=40))
    texts = {r["text"] for item in explained["items"] for r in item["reasons"] if r["code"] == "stated"}
    assert any(category in text for text in texts)
    assert any("prices up to 100000" in text for text in texts)
    assert all(text.startswith("You said you like ") for text in texts)
    (nobody,) = recommender.recommend([request()])
    assert nobody.fallback == "unknown_visitor"


def answering_customer(bundle: Bundle) -> int:
    return int(bundle.snapshot.answers.entries.query[0])


def test_a_bundle_holds_answers_and_forgets_the_erased(bundle: Bundle, tmp_path: Path):
    assert STATED in bundle.generators.names
    loaded = Bundle.load(bundle.save(tmp_path / "bundle"))
    before, after = bundle.snapshot.answers, loaded.snapshot.answers
    for name, array in before.arrays().items():
        np.testing.assert_array_equal(array, after.arrays()[name], err_msg=name)
    who = answering_customer(bundle)
    customer = bundle.snapshot.customers.at(np.array([who]))[0]
    assert erase_customer(tmp_path / "bundle", customer)
    erased = Bundle.load(tmp_path / "bundle").snapshot.answers
    assert not len(erased.gather(np.array([who])))
    assert len(erased.entries) == len(before.entries) - len(before.gather(np.array([who])))
    rest = np.delete(np.arange(len(bundle.snapshot.customers)), who)
    for name in before.entries.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(before.gather(rest), name), getattr(erased.gather(rest), name))


def test_customers_are_ranked_by_what_they_had_said(bundle: Bundle):
    who = answering_customer(bundle)
    visitors = build_visitors(bundle.snapshot, [request(customer=bundle.snapshot.customers.at(np.array([who]))[0])])
    assert len(visitors.stated) == len(bundle.snapshot.answers.gather(np.array([who]))) > 0
    empty = replace(bundle.snapshot.answers, indptr=np.zeros(len(bundle.snapshot.customers) + 1, np.int64))
    assert not len(empty.gather(visitors.customers))
    for part in (visitors.slice(0, 1), visitors.only(np.array([0]))):
        assert len(part.stated) == len(visitors.stated)
    assert not len(Visitors.of_customers(np.array([who])).stated)
    assert len(fitted.stated_by(bundle.snapshot, np.array([-1, -1]))) == 3
