"""What each placement shows, over HTTP, by a real bundle."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from features.common.clock import DAY, HOUR, SECOND, now
from features.common.errors import InputError
from models.bundle import Bundle
from models.recommender import BundleRecommender
from serving.event_store import EventStore
from serving.schemas import placements
from tests.serving.stored import event

EVERY = placements.read()


@pytest.fixture
def shop(serve: Callable, sqlite_store: EventStore, bundle: Bundle) -> Any:
    return serve(BundleRecommender(bundle), store=sqlite_store, visit_budget_ms=5000)


@pytest.fixture
def regular(bundle: Bundle) -> str:
    """The customer with the most history."""
    sizes = np.diff(bundle.snapshot.history.indptr)
    (name,) = bundle.snapshot.customers.at(np.array([int(sizes.argmax())]))
    return name


@pytest.fixture
def items(bundle: Bundle) -> list[str]:
    found: list[str] = bundle.snapshot.items.values.to_pylist()
    return found


def ask(shop: Any, **request: Any) -> dict[str, Any]:
    (result,) = shop.post({"client_id": "d1", **request}).json()["results"]
    return result


def shown(shop: Any, **request: Any) -> list[str]:
    return [item["item_id"] for item in ask(shop, **request)["items"]]


def category_of(bundle: Bundle, item_id: str) -> str:
    s = bundle.snapshot
    (at,) = s.items.find([item_id])
    return str(s.category_names[int(s.categories[at])].as_py())


def test_every_placement_answers_anybody_and_is_never_empty(shop: Any, regular: str, bundle: Bundle, items: list[str]):
    context = {"item_ids": [items[0]], "cart_item_ids": [items[1]], "category": category_of(bundle, items[0])}
    for name in EVERY:
        for who in ({"client_id": "nobody"}, {"customer_id": regular}):
            result = ask(shop, placement=name, context=context, limit=5, **who)
            assert [i["rank"] for i in result["items"]] == list(range(1, len(result["items"]) + 1))
            assert len({i["item_id"] for i in result["items"]}) == len(result["items"])
            if name != "category.top":
                assert len(result["items"]) == 5, name


@pytest.mark.parametrize(("name", "needs"), [(n, p.needs) for n, p in EVERY.items() if p.needs])
def test_what_a_placement_needs_is_asked_for(shop: Any, name: str, needs: str):
    response = shop.post({"client_id": "d1", "placement": name})
    pointer = {"items": "item_ids", "cart": "cart_item_ids", "category": "category"}[needs]
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == f"/requests/0/context/{pointer}"


def test_an_unknown_placement_is_404(shop: Any):
    response = shop.post({"client_id": "d1", "placement": "no.where"})
    assert (response.status_code, response.json()["code"]) == (404, "unknown_placement")


def test_filters_hold_for_ranked_and_for_filling_up(shop: Any, bundle: Bundle, regular: str, items: list[str]):
    shelf = category_of(bundle, items[5])
    wanted = {"all": [{"field": "category", "op": "under", "value": shelf}]}
    for who in ({"client_id": "nobody"}, {"customer_id": regular}):
        result = ask(shop, limit=100, filter=wanted, **who)
        got = {i["item_id"] for i in result["items"]}
        assert got == {i for i in items if category_of(bundle, i) == shelf}
    cheap = ask(shop, filter={"all": [{"field": "price", "op": "<", "value": 0}]})
    assert cheap["items"] == []


def test_category_pages_show_their_category(shop: Any, bundle: Bundle, items: list[str]):
    shelf = category_of(bundle, items[7])
    got = shown(shop, placement="category.top", context={"category": shelf}, limit=50)
    assert got
    assert {category_of(bundle, i) for i in got} == {shelf}


def test_what_is_looked_at_or_in_the_cart_is_not_shown_beside_itself(shop: Any, bundle: Bundle, items: list[str]):
    for n in range(6):
        context = {"item_ids": [items[n]], "cart_item_ids": [items[n + 1]]}
        assert items[n] not in shown(shop, placement="product.similar", context=context, limit=30)
        complements = shown(shop, placement="cart.complements", context=context, limit=5)
        assert category_of(bundle, items[n + 1]) not in {category_of(bundle, i) for i in complements}


def test_strict_rather_shows_fewer(shop: Any, items: list[str]):
    context = {"item_ids": [items[0]]}
    request = {"placement": "product.bought_together", "context": context, "limit": 60}
    filled, strict = ask(shop, **request), ask(shop, **request, strict=True)
    assert len(filled["items"]) > len(strict["items"])
    assert filled["items"][: len(strict["items"])] == strict["items"]
    assert filled["fallback"]["why"] == "shortage"
    assert filled["fallback"]["to"] in ("popular", "popular_category")
    assert strict["fallback"] is None


def test_no_item_twice_across_placements(shop: Any, regular: str, items: list[str]):
    requests = [
        {"client_id": "d1", "customer_id": regular, "placement": name, "limit": 6}
        for name in ("home.for_you", "home.trending", "home.new", "buy_again")
    ]
    body = {"requests": requests, "distinct": True}
    results = shop.client.post("/v1/recommendations", json=body).json()["results"]
    got = [i["item_id"] for r in results for i in r["items"]]
    assert len(got) == len(set(got)) == 24
    alone = shop.client.post("/v1/recommendations", json={"requests": requests}).json()["results"]
    assert [i["item_id"] for i in alone[0]["items"]] == got[:6], "the first gives way to nobody"


def test_pages_never_repeat_and_end(shop: Any, regular: str, items: list[str]):
    seen: list[str] = []
    cursor = None
    for _ in range(40):
        result = ask(shop, customer_id=regular, limit=7, cursor=cursor)
        assert result["items"][0]["rank"] == len(seen) + 1
        seen += [i["item_id"] for i in result["items"]]
        cursor = result["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) > 14
    whole = shown(shop, customer_id=regular, limit=len(seen))
    assert seen == whole


def test_a_cursor_is_not_a_way_around_what_is_gone(shop: Any, regular: str):
    first = ask(shop, customer_id=regular, limit=3)
    coming = shown(shop, customer_id=regular, limit=3, cursor=first["next_cursor"])
    left = shown(shop, customer_id=regular, limit=3, cursor=first["next_cursor"], exclude={"item_ids": coming[:1]})
    assert left[:2] == coming[1:]
    for bad in ("AAAA", "x" * 50, "QQ"):
        response = shop.post({"client_id": "d1", "cursor": bad})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_who_has_just_bought_is_thanked_and_not_pushed(
    shop: Any, sqlite_store: EventStore, bundle: Bundle, items: list[str]
):
    best = shown(shop, limit=3)[0]
    sqlite_store.append([event("purchase", now(), best, client_id="d1", price=3.0, quantity=1.0)]).result(5)
    result = ask(shop, limit=10)
    assert result["thanks"] == [best]
    got = [i["item_id"] for i in result["items"]]
    assert best not in got
    assert category_of(bundle, best) not in {category_of(bundle, i) for i in got[:3]}
    assert ask(shop, limit=10, client_id="d2")["thanks"] == []
    assert best in shown(shop, limit=10, client_id="d2")


def test_who_looks_around_after_an_order_is_still_thanked(shop: Any, sqlite_store: EventStore, items: list[str]):
    best = shown(shop, limit=3)[0]
    sqlite_store.append([event("purchase", now() - HOUR, best, client_id="d1", price=3.0, quantity=1.0)]).result(5)
    others = [i for i in items if i != best]
    looks = [event("view_item", now() - n * SECOND, others[n % len(others)], client_id="d1") for n in range(1, 120)]
    sqlite_store.append(looks).result(5)
    result = ask(shop, limit=10)
    assert result["thanks"] == [best]
    assert best not in [i["item_id"] for i in result["items"]]


def test_what_the_snapshot_has_of_the_last_hours_is_thanked_for(
    shop: Any, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    s, late = bundle.snapshot, 3 * HOUR
    days = s.history.column("bought_last_days")
    pair = int(np.nanargmin(days))
    customer = int(np.searchsorted(s.history.indptr, pair, side="right")) - 1
    (who,) = s.customers.at(np.array([customer]))
    (item,) = s.items.at(s.history.items[pair : pair + 1])
    assert days[pair] * DAY + late < DAY, "the shop sells something on its last day"
    monkeypatch.setattr("features.common.clock.now", lambda: s.as_of + late)
    result = ask(shop, customer_id=who, limit=10)
    assert item in result["thanks"]
    assert item not in [i["item_id"] for i in result["items"]]
    monkeypatch.setattr("features.common.clock.now", lambda: s.as_of + 9 * DAY)
    assert ask(shop, customer_id=who)["thanks"] == []


def test_what_was_bought_lately_can_be_left_out(shop: Any, bundle: Bundle, regular: str):
    s = bundle.snapshot
    (row,) = s.customers.find([regular])
    mine = slice(int(s.history.indptr[row]), int(s.history.indptr[row + 1]))
    bought = {
        i
        for i, days in zip(s.items.at(s.history.items[mine]), s.history.column("bought_last_days")[mine], strict=True)
        if not np.isnan(days)
    }
    every = shown(shop, customer_id=regular, limit=100)
    assert bought & set(every)
    never = shown(shop, customer_id=regular, limit=100, exclude={"purchased_within_days": 3650})
    assert not bought & set(never)
    assert set(never) == set(every) - bought


def test_items_taken_off_the_shelf_are_gone_everywhere(shop: Any, regular: str, bundle: Bundle, items: list[str]):
    best = shown(shop, limit=2)
    first = ask(shop, customer_id=regular, limit=3)
    gone = [*best, shown(shop, customer_id=regular, cursor=first["next_cursor"], limit=1)[0]]
    body = {"items": [{"item_id": i, "available": False} for i in gone]}
    assert shop.client.patch("/v1/items", json=body).status_code == 200
    context = {"item_ids": [items[0]], "cart_item_ids": [items[1]], "category": category_of(bundle, best[0])}
    for name in EVERY:
        for who in ({}, {"customer_id": regular}):
            assert not set(gone) & set(shown(shop, placement=name, context=context, limit=100, **who))
    assert not set(gone) & set(shown(shop, customer_id=regular, limit=100, cursor=first["next_cursor"]))


def test_reasons_are_told_in_words(shop: Any, regular: str):
    result = ask(shop, customer_id=regular, include=["reasons", "score"], limit=8)
    for item in result["items"]:
        for reason in item["reasons"]:
            assert set(reason) == {"code", "item_id", "text"}
            assert reason["text"]
    assert result["items"][0]["reasons"]


def test_a_dry_run_leaves_nothing_to_attribute(shop: Any):
    body = {"requests": [{"client_id": "d1"}], "dry_run": True}
    (result,) = shop.client.post("/v1/recommendations", json=body).json()["results"]
    assert result["recommendation_id"] is None
    assert len(result["items"]) == 12


class TestRerank:
    def test_nothing_is_dropped(self, shop: Any, regular: str, items: list[str]):
        given = [*items[:20], "unknown b", "unknown a", *items[20:30]]
        answer = shop.client.post("/v1/rerank", json={"customer_id": regular, "item_ids": given}).json()
        got = [i["item_id"] for i in answer["items"]]
        assert sorted(got) == sorted(given)
        assert got[-2:] == ["unknown b", "unknown a"]
        assert [i["rank"] for i in answer["items"]] == list(range(1, 33))
        assert answer["strategy"] == "one_to_one"

    def test_it_is_the_order_of_the_ranker(self, shop: Any, regular: str, items: list[str]):
        ranked = shown(shop, customer_id=regular, placement="search.rerank", limit=10)
        answer = shop.client.post("/v1/rerank", json={"customer_id": regular, "item_ids": ranked[::-1]}).json()
        assert [i["item_id"] for i in answer["items"]] == ranked

    def test_what_is_not_available_comes_last(self, shop: Any, regular: str, items: list[str]):
        shop.client.patch("/v1/items", json={"items": [{"item_id": items[3], "available": False}]})
        answer = shop.client.post("/v1/rerank", json={"customer_id": regular, "item_ids": [*items[:6], "new"]}).json()
        assert [i["item_id"] for i in answer["items"]][-2:] == ["new", items[3]]
        few = shop.client.post("/v1/rerank", json={"customer_id": regular, "item_ids": items[:6], "limit": 2}).json()
        assert len(few["items"]) == 2

    def test_a_wrong_request_says_where(self, shop: Any):
        for body, pointer in (
            ({"item_ids": ["a"]}, ""),
            ({"client_id": "d", "item_ids": []}, "/item_ids"),
            ({"client_id": "d", "item_ids": ["a"], "query": "b"}, "/query"),
        ):
            response = shop.client.post("/v1/rerank", json=body)
            assert response.status_code == 422
            assert response.json()["errors"][0]["pointer"] == pointer


def test_why_over_http(shop: Any, regular: str):
    best = shown(shop, customer_id=regular, placement="search.rerank", limit=2)
    answer = shop.client.post("/v1/explain", json={"customer_id": regular, "item_ids": best[:1]}).json()
    assert answer["strategy"] == "one_to_one"
    assert [i["item_id"] for i in answer["items"]] == best[:1]
    assert answer["items"][0]["contributions"]["features"]
    unknown = shop.client.post("/v1/explain", json={"customer_id": regular, "item_ids": ["nothing"]})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "invalid_request")


def test_placements_are_listed(shop: Any):
    told = shop.client.get("/v1/placements").json()["placements"]
    assert set(told) == set(EVERY)
    assert told["home.new"]["generators"] == ["arrivals"]


WRONG = [
    ({"home.for_you": {"fil": []}}, "fil"),
    ({"home.for_you": {"fill": ["magic"]}}, "fill"),
    ({"home.for_you": {"ranked": False}}, "needs `generators`"),
    ({"home.for_you": {"within": "category"}}, "needs: category"),
    ({"home.for_you": {"limit": 50, "most": 20}}, "more than"),
    ({"Home Page": {}}, "Home Page"),
    ({"home.for_you": {"explore": 2}}, "explore"),
]


@pytest.mark.parametrize(("changed", "message"), WRONG)
def test_a_wrong_file_is_refused_by_key(tmp_path: Path, changed: dict, message: str):
    file = tmp_path / "placements.yml"
    file.write_text(yaml.safe_dump({"search.rerank": {}, **changed}))
    with pytest.raises(InputError, match=message):
        placements.read(file)


def test_a_file_without_reranking_is_refused(tmp_path: Path):
    file = tmp_path / "placements.yml"
    file.write_text("home.for_you: {}\n")
    with pytest.raises(InputError, match=r"search\.rerank is missing"):
        placements.read(file)


def test_a_filter_brings_no_best_sellers_among_what_was_viewed(shop: Any, sqlite_store: EventStore, items: list[str]):
    sqlite_store.append([event("view_item", now(), items[4], client_id="d1", price=3.0)]).result(5)
    wanted = {"all": [{"field": "price", "op": ">=", "value": 0}]}
    assert shown(shop, placement="recently_viewed", strict=True, filter=wanted) == [items[4]]


def test_an_email_knows_what_was_bought_today(shop: Any, sqlite_store: EventStore):
    best = shown(shop, placement="email.digest", limit=3)[0]
    sqlite_store.append([event("purchase", now(), best, client_id="d1", price=3.0, quantity=1.0)]).result(5)
    assert best not in shown(shop, placement="email.digest", limit=50)


def test_an_empty_answer_is_an_answer_when_time_runs_out(serve: Callable, fake: type):
    slow = fake()
    server = serve(slow, deadline_ms=30)
    slow.hook = lambda _: time.sleep(0.2)
    nothing = {"all": [{"field": "brand", "op": "==", "value": "nobody's"}]}
    (result,) = server.post({"client_id": "d1", "filter": nothing}).json()["results"]
    assert (result["items"], result["fallback"]["why"]) == ([], "deadline")


def test_product_pages_are_about_the_product_without_a_ranker_for_visits(
    serve: Callable, bundle: Bundle, regular: str, items: list[str]
):
    """The bundle has none; a known customer is then served as somebody whose visit is known."""
    assert "one_to_one_visit" not in bundle.recommenders
    server = serve(BundleRecommender(bundle))
    request = {"customer_id": regular, "placement": "product.similar", "context": {"item_ids": items[:1]}, "limit": 5}
    (result,) = server.post(request | {"include": ["generators"]}).json()["results"]
    assert result["strategy"] == "predictive"
    assert set(result["items"][0]["generators"]) & {"content_visit", "item_knn_visit", "covisit_visit"}
