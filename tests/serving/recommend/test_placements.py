"""Every placement over HTTP, with a real bundle."""

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
from tests.serving.store_events import event

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
    item_ids: list[str] = bundle.snapshot.items.values.to_pylist()
    return item_ids


def ask(shop: Any, **request: Any) -> dict[str, Any]:
    (result,) = shop.post({"client_id": "d1", **request}).json()["results"]
    return result


def recommended(shop: Any, **request: Any) -> list[str]:
    return [item["item_id"] for item in ask(shop, **request)["items"]]


def category_of(bundle: Bundle, item_id: str) -> str:
    s = bundle.snapshot
    (at,) = s.items.find([item_id])
    return str(s.category_names[int(s.categories[at])].as_py())


def test_every_placement_serves_every_visitor_and_is_never_empty(
    shop: Any, regular: str, bundle: Bundle, items: list[str]
):
    context = {"item_ids": [items[0]], "cart_item_ids": [items[1]], "category": category_of(bundle, items[0])}
    for name in EVERY:
        for visitor in ({"client_id": "nobody"}, {"customer_id": regular}):
            result = ask(shop, placement=name, context=context, limit=5, **visitor)
            assert [i["rank"] for i in result["items"]] == list(range(1, len(result["items"]) + 1))
            assert len({i["item_id"] for i in result["items"]}) == len(result["items"])
            if name != "category.top":
                assert len(result["items"]) == 5, name


@pytest.mark.parametrize(("name", "needs"), [(n, p.needs) for n, p in EVERY.items() if p.needs])
def test_a_placement_requires_its_context(shop: Any, name: str, needs: str):
    response = shop.post({"client_id": "d1", "placement": name})
    pointer = {"items": "item_ids", "cart": "cart_item_ids", "category": "category"}[needs]
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == f"/requests/0/context/{pointer}"


def test_an_unknown_placement_is_404(shop: Any):
    response = shop.post({"client_id": "d1", "placement": "no.where"})
    assert (response.status_code, response.json()["code"]) == (404, "unknown_placement")


def test_filters_hold_for_ranked_items_and_for_fillers(shop: Any, bundle: Bundle, regular: str, items: list[str]):
    shelf = category_of(bundle, items[5])
    filter_ = {"all": [{"field": "category", "op": "under", "value": shelf}]}
    for visitor in ({"client_id": "nobody"}, {"customer_id": regular}):
        result = ask(shop, limit=100, filter=filter_, **visitor)
        item_ids = {i["item_id"] for i in result["items"]}
        assert item_ids == {i for i in items if category_of(bundle, i) == shelf}
    cheap = ask(shop, filter={"all": [{"field": "price", "op": "<", "value": 0}]})
    assert cheap["items"] == []


def test_category_pages_show_their_category(shop: Any, bundle: Bundle, items: list[str]):
    shelf = category_of(bundle, items[7])
    item_ids = recommended(shop, placement="category.top", context={"category": shelf}, limit=50)
    assert item_ids
    assert {category_of(bundle, i) for i in item_ids} == {shelf}


def test_context_items_are_left_out(shop: Any, bundle: Bundle, items: list[str]):
    for n in range(6):
        context = {"item_ids": [items[n]], "cart_item_ids": [items[n + 1]]}
        assert items[n] not in recommended(shop, placement="product.similar", context=context, limit=30)
        complements = recommended(shop, placement="cart.complements", context=context, limit=5)
        assert category_of(bundle, items[n + 1]) not in {category_of(bundle, i) for i in complements}


def test_strict_shows_fewer_items_instead_of_fillers(shop: Any, items: list[str]):
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
    item_ids = [i["item_id"] for r in results for i in r["items"]]
    assert len(item_ids) == len(set(item_ids)) == 24
    alone = shop.client.post("/v1/recommendations", json={"requests": requests}).json()["results"]
    assert [i["item_id"] for i in alone[0]["items"]] == item_ids[:6], "the first gives way to nobody"


def test_pages_never_repeat_and_end(shop: Any, regular: str, items: list[str]):
    pages: list[str] = []
    cursor = None
    for _ in range(40):
        result = ask(shop, customer_id=regular, limit=7, cursor=cursor)
        assert result["items"][0]["rank"] == len(pages) + 1
        pages += [i["item_id"] for i in result["items"]]
        cursor = result["next_cursor"]
        if cursor is None:
            break
    assert len(pages) == len(set(pages)) > 14
    whole = recommended(shop, customer_id=regular, limit=len(pages))
    assert pages == whole


def test_a_cursor_respects_exclusions(shop: Any, regular: str):
    first = ask(shop, customer_id=regular, limit=3)
    coming = recommended(shop, customer_id=regular, limit=3, cursor=first["next_cursor"])
    left = recommended(
        shop, customer_id=regular, limit=3, cursor=first["next_cursor"], exclude={"item_ids": coming[:1]}
    )
    assert left[:2] == coming[1:]
    for bad in ("AAAA", "x" * 50, "QQ"):
        response = shop.post({"client_id": "d1", "cursor": bad})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_a_purchase_is_thanked_for_and_its_category_goes_last(
    shop: Any, sqlite_store: EventStore, bundle: Bundle, items: list[str]
):
    best = recommended(shop, limit=3)[0]
    sqlite_store.append([event("purchase", now(), best, client_id="d1", price=3.0, quantity=1.0)]).result(5)
    result = ask(shop, limit=10)
    assert result["thanks"] == [best]
    item_ids = [i["item_id"] for i in result["items"]]
    assert best not in item_ids
    assert category_of(bundle, best) not in {category_of(bundle, i) for i in item_ids[:3]}
    assert ask(shop, limit=10, client_id="d2")["thanks"] == []
    assert best in recommended(shop, limit=10, client_id="d2")


def test_many_views_after_an_order_do_not_hide_it(shop: Any, sqlite_store: EventStore, items: list[str]):
    best = recommended(shop, limit=3)[0]
    sqlite_store.append([event("purchase", now() - HOUR, best, client_id="d1", price=3.0, quantity=1.0)]).result(5)
    others = [i for i in items if i != best]
    looks = [event("view_item", now() - n * SECOND, others[n % len(others)], client_id="d1") for n in range(1, 120)]
    sqlite_store.append(looks).result(5)
    result = ask(shop, limit=10)
    assert result["thanks"] == [best]
    assert best not in [i["item_id"] for i in result["items"]]


def test_recent_purchases_in_the_snapshot_are_thanked_for(shop: Any, bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    s, late = bundle.snapshot, 3 * HOUR
    days = s.history.column("bought_last_days")
    pair = int(np.nanargmin(days))
    customer = int(np.searchsorted(s.history.indptr, pair, side="right")) - 1
    (visitor,) = s.customers.at(np.array([customer]))
    (item,) = s.items.at(s.history.items[pair : pair + 1])
    assert days[pair] * DAY + late < DAY, "the shop sells something on its last day"
    monkeypatch.setattr("features.common.clock.now", lambda: s.as_of + late)
    result = ask(shop, customer_id=visitor, limit=10)
    assert item in result["thanks"]
    assert item not in [i["item_id"] for i in result["items"]]
    monkeypatch.setattr("features.common.clock.now", lambda: s.as_of + 9 * DAY)
    assert ask(shop, customer_id=visitor)["thanks"] == []


def test_recent_purchases_can_be_excluded(shop: Any, bundle: Bundle, regular: str):
    s = bundle.snapshot
    (row,) = s.customers.find([regular])
    rows = slice(int(s.history.indptr[row]), int(s.history.indptr[row + 1]))
    bought = {
        i
        for i, days in zip(s.items.at(s.history.items[rows]), s.history.column("bought_last_days")[rows], strict=True)
        if not np.isnan(days)
    }
    unrestricted = recommended(shop, customer_id=regular, limit=100)
    assert bought & set(unrestricted)
    restricted = recommended(shop, customer_id=regular, limit=100, exclude={"purchased_within_days": 3650})
    assert not bought & set(restricted)
    assert set(restricted) == set(unrestricted) - bought


def test_unavailable_items_are_shown_nowhere(shop: Any, regular: str, bundle: Bundle, items: list[str]):
    best = recommended(shop, limit=2)
    first = ask(shop, customer_id=regular, limit=3)
    unavailable = [*best, recommended(shop, customer_id=regular, cursor=first["next_cursor"], limit=1)[0]]
    body = {"items": [{"item_id": i, "available": False} for i in unavailable]}
    assert shop.client.patch("/v1/items", json=body).status_code == 200
    context = {"item_ids": [items[0]], "cart_item_ids": [items[1]], "category": category_of(bundle, best[0])}
    for name in EVERY:
        for visitor in ({}, {"customer_id": regular}):
            assert not set(unavailable) & set(recommended(shop, placement=name, context=context, limit=100, **visitor))
    assert not set(unavailable) & set(recommended(shop, customer_id=regular, limit=100, cursor=first["next_cursor"]))


def test_reasons_have_texts(shop: Any, regular: str):
    result = ask(shop, customer_id=regular, include=["reasons", "score"], limit=8)
    for item in result["items"]:
        for reason in item["reasons"]:
            assert set(reason) == {"code", "item_id", "text"}
            assert reason["text"]
    assert result["items"][0]["reasons"]


def test_a_dry_run_has_no_recommendation_id(shop: Any):
    body = {"requests": [{"client_id": "d1"}], "dry_run": True}
    (result,) = shop.client.post("/v1/recommendations", json=body).json()["results"]
    assert result["recommendation_id"] is None
    assert len(result["items"]) == 12


class TestRerank:
    def test_nothing_is_dropped(self, shop: Any, regular: str, items: list[str]):
        item_ids = [*items[:20], "unknown b", "unknown a", *items[20:30]]
        answer = shop.client.post("/v1/rerank", json={"customer_id": regular, "item_ids": item_ids}).json()
        ranked = [i["item_id"] for i in answer["items"]]
        assert sorted(ranked) == sorted(item_ids)
        assert ranked[-2:] == ["unknown b", "unknown a"]
        assert [i["rank"] for i in answer["items"]] == list(range(1, 33))
        assert answer["strategy"] == "one_to_one"

    def test_the_order_is_that_of_the_ranker(self, shop: Any, regular: str, items: list[str]):
        ranked = recommended(shop, customer_id=regular, placement="search.rerank", limit=10)
        answer = shop.client.post("/v1/rerank", json={"customer_id": regular, "item_ids": ranked[::-1]}).json()
        assert [i["item_id"] for i in answer["items"]] == ranked

    def test_unavailable_items_come_last(self, shop: Any, regular: str, items: list[str]):
        shop.client.patch("/v1/items", json={"items": [{"item_id": items[3], "available": False}]})
        answer = shop.client.post("/v1/rerank", json={"customer_id": regular, "item_ids": [*items[:6], "new"]}).json()
        assert [i["item_id"] for i in answer["items"]][-2:] == ["new", items[3]]
        few = shop.client.post("/v1/rerank", json={"customer_id": regular, "item_ids": items[:6], "limit": 2}).json()
        assert len(few["items"]) == 2

    def test_errors_point_at_the_wrong_field(self, shop: Any):
        for body, pointer in (
            ({"item_ids": ["a"]}, ""),
            ({"client_id": "d", "item_ids": []}, "/item_ids"),
            ({"client_id": "d", "item_ids": ["a"], "query": "b"}, "/query"),
        ):
            response = shop.client.post("/v1/rerank", json=body)
            assert response.status_code == 422
            assert response.json()["errors"][0]["pointer"] == pointer


def test_explain_over_http(shop: Any, regular: str):
    best = recommended(shop, customer_id=regular, placement="search.rerank", limit=2)
    answer = shop.client.post("/v1/explain", json={"customer_id": regular, "item_ids": best[:1]}).json()
    assert answer["strategy"] == "one_to_one"
    assert [i["item_id"] for i in answer["items"]] == best[:1]
    assert answer["items"][0]["contributions"]["features"]
    unknown = shop.client.post("/v1/explain", json={"customer_id": regular, "item_ids": ["nothing"]})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "invalid_request")


def test_placements_are_listed(shop: Any):
    placements_json = shop.client.get("/v1/placements").json()["placements"]
    assert set(placements_json) == set(EVERY)
    assert placements_json["home.new"]["generators"] == ["arrivals"]


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
def test_errors_in_the_file_name_the_key(tmp_path: Path, changed: dict, message: str):
    file = tmp_path / "placements.yml"
    file.write_text(yaml.safe_dump({"search.rerank": {}, **changed}))
    with pytest.raises(InputError, match=message):
        placements.read(file)


def test_a_file_without_the_rerank_placement_is_refused(tmp_path: Path):
    file = tmp_path / "placements.yml"
    file.write_text("home.for_you: {}\n")
    with pytest.raises(InputError, match=r"search\.rerank is missing"):
        placements.read(file)


def test_a_filter_adds_no_best_sellers_to_recently_viewed(shop: Any, sqlite_store: EventStore, items: list[str]):
    sqlite_store.append([event("view_item", now(), items[4], client_id="d1", price=3.0)]).result(5)
    filter_ = {"all": [{"field": "price", "op": ">=", "value": 0}]}
    assert recommended(shop, placement="recently_viewed", strict=True, filter=filter_) == [items[4]]


def test_an_email_leaves_out_purchases_of_today(shop: Any, sqlite_store: EventStore):
    best = recommended(shop, placement="email.digest", limit=3)[0]
    sqlite_store.append([event("purchase", now(), best, client_id="d1", price=3.0, quantity=1.0)]).result(5)
    assert best not in recommended(shop, placement="email.digest", limit=50)


def test_an_empty_response_after_the_deadline_is_valid(serve: Callable, fake: type):
    slow = fake()
    server = serve(slow, deadline_ms=30)
    slow.hook = lambda _: time.sleep(0.2)
    nothing = {"all": [{"field": "brand", "op": "==", "value": "nobody's"}]}
    (result,) = server.post({"client_id": "d1", "filter": nothing}).json()["results"]
    assert (result["items"], result["fallback"]["why"]) == ([], "deadline")


def test_product_pages_work_without_a_ranker_for_visits(
    serve: Callable, bundle: Bundle, regular: str, items: list[str]
):
    """The bundle has none; a known customer is then served as somebody whose visit is known."""
    assert "one_to_one_visit" not in bundle.recommenders
    server = serve(BundleRecommender(bundle))
    request = {"customer_id": regular, "placement": "product.similar", "context": {"item_ids": items[:1]}, "limit": 5}
    (result,) = server.post(request | {"include": ["generators"]}).json()["results"]
    assert result["strategy"] == "predictive"
    assert set(result["items"][0]["generators"]) & {"content_visit", "item_knn_visit", "covisit_visit"}
