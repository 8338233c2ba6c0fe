"""Rules in answers: what is hidden is on no path, pins stand on their places, and the rest stays as it was."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.common.clock import now
from serving.event_store import EventStore
from serving.schemas.recommendations import RecommendationsResponse
from tests.serving.conftest import FakeRecommender, RunningServer, run_app
from tests.serving.event_bodies import ago, event_body, post_events

ANYONE = {"session_id": "s"}
Rule = dict[str, Any]
CATALOG = 60
PLACES = "home.for_you", "home.trending"


def write(path: Path, rules: list[Rule], **keys: object) -> Path:
    path.write_text(yaml.safe_dump({**keys, "rules": rules}))
    return path


class Shop:
    """A server whose rules a test sets; `plain` has none."""

    def __init__(self, server: RunningServer, plain: RunningServer, path: Path) -> None:
        self.server, self.plain, self._path = server, plain, path

    def follow(self, *rules: Rule, **keys: object) -> None:
        write(self._path, list(rules), **keys)
        watcher = self.server.client.app_rules  # type: ignore[attr-defined]
        watcher.check()
        assert watcher.problem is None, watcher.problem

    def ask(self, *requests: dict[str, Any], plain: bool = False, **keys: object) -> list[dict[str, Any]]:
        server = self.plain if plain else self.server
        body = {"requests": [ANYONE | r for r in requests], **keys}
        response = server.client.post("/v1/recommendations", json=body)
        assert response.status_code == 200, response.text
        results: list[dict[str, Any]] = response.json()["results"]
        return results

    def ids(self, *, plain: bool = False, **request: object) -> list[str]:
        (result,) = self.ask(request, plain=plain)
        return item_ids(result)


def item_ids(result: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in result["items"]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    path = write(tmp_path_factory.mktemp("rules") / "rules.yml", [])
    watchers: list[Any] = []
    from serving.api import app

    original = app.RulesWatcher

    class Remembered(original):  # type: ignore[valid-type, misc]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            watchers.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "RulesWatcher", Remembered)
        with (
            run_app(FakeRecommender(CATALOG), rules=path, follow_every_s=3_600) as server,
            run_app(FakeRecommender(CATALOG)) as plain,
        ):
            server.client.app_rules = watchers[0]  # type: ignore[attr-defined]
            yield Shop(server, plain, path)


def hide(*ids: str, **keys: object) -> Rule:
    return {"id": f"hide-{'-'.join(ids)}", "items": {"item_ids": list(ids)}, "do": {"hide": True}, **keys}


def pin(*ids: str, at: int = 1, **keys: object) -> Rule:
    return {"id": f"pin-{'-'.join(ids)}", "do": {"pin": {"item_ids": list(ids), "at": at}}, **keys}


def odd(do: dict[str, Any], **keys: object) -> Rule:
    return {"id": "odd", "items": {"all": [{"field": "brand", "op": "==", "value": "odd"}]}, "do": do, **keys}


def test_what_is_hidden_is_on_no_path(shop: Shop):
    """Ranked, filled up, on later pages, reranked, when the ranker fails: i0 to i3 are best everywhere."""
    hidden = {"i0", "i1", "i2", "i3"}
    shop.follow(hide(*sorted(hidden)))
    seen: list[str] = []
    (result,) = shop.ask({"limit": 20})
    while True:
        seen += item_ids(result)
        if result["next_cursor"] is None:
            break
        (result,) = shop.ask({"limit": 20, "cursor": result["next_cursor"]})
    assert seen == [f"i{n}" for n in range(4, CATALOG)]
    assert hidden.isdisjoint(shop.ids(filter={"all": [{"field": "price", "op": "<", "value": 6}]}, limit=10))
    reranked = shop.server.client.post("/v1/rerank", json=ANYONE | {"item_ids": ["i1", "i9", "new", "i0", "i8"]}).json()
    assert item_ids(reranked) == ["i8", "i9", "new", "i1", "i0"]

    def fail(_: object) -> None:
        raise RuntimeError

    shop.server.recommender.hook = fail
    try:
        (fallback,) = shop.ask({"limit": 5})
    finally:
        shop.server.recommender.hook = None
    assert fallback["fallback"]["why"] == "ranker_error"
    assert item_ids(fallback) == ["i4", "i5", "i6", "i7", "i8"]


def test_a_page_of_before_the_rule_shows_nothing_hidden(shop: Shop):
    shop.follow()
    (first,) = shop.ask({"limit": 3})
    shop.follow(hide("i3", "i5"))
    assert shop.ids(limit=3, cursor=first["next_cursor"]) == ["i4", "i6", "i7"]


def test_boost_and_bury_move_by_a_part_of_the_ranking(shop: Shop):
    shop.follow(odd({"boost": 2 / CATALOG}))
    assert shop.ids(limit=6) == ["i1", "i0", "i3", "i2", "i5", "i4"]
    shop.follow(odd({"bury": 1.0}))
    assert shop.ids(limit=3) == ["i0", "i2", "i4"]
    assert shop.ids(limit=100)[-2:] == ["i57", "i59"]
    shop.follow(odd({"boost": 1.0}), odd({"boost": 1.0}, id="again"), odd({"bury": 0.5}, id="less"))
    assert shop.ids(limit=3) == ["i1", "i3", "i5"]


def test_a_share_is_given_whatever_the_ranking(shop: Shop):
    last = {"id": "last", "items": {"all": [{"field": "price", "op": ">=", "value": 55}]}, "do": {"share": 0.25}}
    shop.follow(last)
    assert shop.ids(limit=8) == ["i0", "i1", "i2", "i3", "i4", "i5", "i55", "i56"]
    (first,) = shop.ask({"limit": 4})
    assert item_ids(first) == ["i0", "i1", "i2", "i55"]
    assert shop.ids(limit=3, cursor=first["next_cursor"]) == ["i3", "i4", "i5"]


def test_a_sold_out_pin_gives_its_place_to_the_next_and_then_to_the_ranking(
    tmp_path: Path, sqlite_store: EventStore, fake: type[FakeRecommender]
):
    path = write(tmp_path / "rules.yml", [pin("i7", "i9", at=2)])
    with run_app(fake(30, as_of=ago(days=2)), rules=path, store=sqlite_store, visit_budget_ms=5000) as server:

        def page() -> list[str]:
            return item_ids(server.post(ANYONE | {"limit": 4}).json()["results"][0])

        def sell_out(item: str) -> None:
            assert server.client.patch("/v1/items", json={"items": [{"item_id": item, "available": False}]}).is_success

        assert page() == ["i0", "i7", "i9", "i1"]
        sell_out("i7")
        assert page() == ["i0", "i9", "i1", "i2"]
        sell_out("i9")
        assert page() == ["i0", "i1", "i2", "i3"]


def test_a_pin_gives_way_to_the_filter_of_the_request_and_to_what_it_excludes(shop: Shop):
    shop.follow(pin("i40", "i41", at=1))
    assert shop.ids(limit=3) == ["i40", "i41", "i0"]
    assert shop.ids(limit=3, filter={"all": [{"field": "brand", "op": "==", "value": "odd"}]}) == ["i41", "i1", "i3"]
    assert shop.ids(limit=3, exclude={"item_ids": ["i40"]}) == ["i41", "i0", "i1"]
    assert shop.ids(limit=3, placement="category.top", context={"category": "shop/shelf 1"}) == ["i41", "i1", "i11"]
    reranked = shop.server.client.post("/v1/rerank", json=ANYONE | {"item_ids": ["i1", "i41", "i2"]}).json()
    assert item_ids(reranked) == ["i41", "i1", "i2"]


def test_a_strategy_changes_the_placement_and_the_first_wins(shop: Shop):
    def strategy(name: str, priority: int, **keys: object) -> Rule:
        return {"id": name, "do": {"strategy": keys}, "priority": priority}

    shop.follow(strategy("low", 1, generators=["als"], fill=["history"]), strategy("high", 2, generators=["content"]))
    shop.ids(limit=3)
    (request,) = shop.server.recommender.batches[-1]
    assert (request.rules.generators, request.rules.fill) == (
        ("content",),
        ("popular_segment", "popular_category", "popular"),
    )


def test_rules_read_the_visitor_the_request_and_the_clock(shop: Shop):
    shop.follow(
        pin("i30", when="context.source == 'email' && context.device == 'mobile'"),
        pin("i31", when="context.cart_value > 100.0 && 'i52' in context.cart_items", at=2),
        pin("i32", when="!visitor.known && now.hour >= 0 && now.date > '2020-01-01'", at=3),
        pin("i33", when="visitor.segment == 'champions'", at=4),
        pin("i34", when="has(visitor.churn_risk)", at=5),
    )
    context = {"source": "Email", "device": "MOBILE", "cart_item_ids": ["i52", "i53"]}
    assert shop.ids(limit=5, context=context) == ["i30", "i31", "i32", "i0", "i1"]
    assert shop.ids(limit=5, context={"source": "email"}) == ["i0", "i1", "i32", "i2", "i3"]


def test_orders_of_the_last_minute_count(tmp_path: Path, sqlite_store: EventStore, fake: type[FakeRecommender]):
    """On another device of the customer, and in a placement that looks at no visit."""
    rule = pin("i20", when="visitor.orders == 0.0", placements=["email.digest"])
    path = write(tmp_path / "rules.yml", [rule, pin("i21", when="visitor.spend >= 30.0", at=2)])
    with run_app(fake(30, as_of=ago(days=2)), rules=path, store=sqlite_store, visit_budget_ms=5000) as server:

        def page() -> list[str]:
            request = {"customer_id": "u1", "client_id": "phone", "placement": "email.digest", "limit": 3}
            return item_ids(server.post(request).json()["results"][0])

        assert page() == ["i20", "i0", "i1"]
        order = {"transaction_id": "o1", "items": [{"item_id": "i25", "price": 30.0, "quantity": 1}]}
        bought = event_body("purchase", customer_id="u1", client_id="laptop", timestamp=ago(seconds=1), params=order)
        assert post_events(server, bought).json()["accepted"] == 1
        assert page() == ["i0", "i21", "i1"]


def test_an_expression_that_fails_does_not_match_is_counted_and_breaks_nothing(shop: Shop):
    shop.follow(
        pin("i30", id="unknown", when="visitor.churn_risk > 0.1"),
        pin("i31", id="failing", when="1 / (size(context.cart_items) - 2) > 0", at=2),
    )
    before = shop.server.client.get("/metrics").text
    assert shop.ids(limit=2, context={"cart_item_ids": ["i8", "i9"]}) == ["i0", "i1"]
    after = shop.server.client.get("/metrics").text
    for rule, why in (("unknown", "unknown"), ("failing", "error")):
        line = f'usual_rule_failures_total{{rule="{rule}",why="{why}"}}'
        assert line not in before
        assert line in after


def test_who_is_held_out_is_answered_as_without_the_rule(shop: Shop):
    shop.follow(pin("i30", holdout=0.5))
    pinned = held_out = 0
    for n in range(60):
        (result,) = shop.ask({"customer_id": f"u{n}", "limit": 2, "include": ["rules"]})
        out = result["rules"] == {"applied": [], "held_out": ["pin-i30"]}
        assert item_ids(result)[0] == ("i0" if out else "i30")
        pinned, held_out = pinned + (not out), held_out + out
    assert min(pinned, held_out) > 15


def test_what_rules_did_is_told_on_request(shop: Shop):
    shop.follow(odd({"boost": 2 / CATALOG}), pin("i50", "i1", at=1), hide("i3"))
    response = shop.server.post(ANYONE | {"limit": 4, "include": ["rules"]})
    RecommendationsResponse.model_validate_json(response.content)
    (result,) = response.json()["results"]
    boosted = {"id": "odd", "action": "boost", "from": 2, "to": 1}
    assert [(item["item_id"], item["rules"]) for item in result["items"]] == [
        ("i50", [{"id": "pin-i50-i1", "action": "pin", "from": 51, "to": 1}]),
        ("i1", [boosted, {"id": "pin-i50-i1", "action": "pin", "from": 1, "to": 2}]),
        ("i0", []),
        ("i2", []),
    ]
    assert result["rules"] == {"applied": ["hide-i3", "odd", "pin-i50-i1"], "held_out": []}
    assert "rules" not in shop.ask({})[0]


def test_pages_are_not_told_which_rules_there_are():
    secret, public = "s" * 24, "p" * 24
    with run_app(open=False, secret_keys=secret, publishable_keys=public) as server:

        def status(key: str, path: str, body: dict[str, Any] | None) -> int:
            headers = {"authorization": f"Bearer {key}"}
            method = "GET" if body is None else "POST"
            return int(server.client.request(method, path, json=body, headers=headers).status_code)

        wanted = ANYONE | {"include": ["rules"]}
        assert status(public, "/v1/recommendations", {"requests": [wanted]}) == 422
        assert status(public, "/v1/rerank", wanted | {"item_ids": ["i1"]}) == 422
        assert status(secret, "/v1/recommendations", {"requests": [wanted]}) == 200
        assert status(secret, "/v1/rerank", wanted | {"item_ids": ["i1"]}) == 200
        assert [status(key, "/v1/rules", None) for key in (public, secret)] == [403, 200]
        assert [status(key, "/v1/rules/preview", ANYONE) for key in (public, secret)] == [403, 200]


CONDITIONS = ("context.source == 'email'", "visitor.known", "visitor.churn_risk > 0.5")
SELECTIONS = st.one_of(
    st.lists(st.integers(0, CATALOG + 5).map(lambda n: f"i{n}"), min_size=1, max_size=4).map(lambda i: {"item_ids": i}),
    st.sampled_from(["odd", "even"]).map(lambda b: {"all": [{"field": "brand", "op": "==", "value": b}]}),
    st.integers(0, CATALOG).map(lambda p: {"any": [{"field": "price", "op": "<", "value": p}]}),
)
PARTS = st.floats(0.01, 1)
PINS = st.tuples(st.lists(st.integers(0, CATALOG).map(lambda n: f"i{n}"), min_size=1, max_size=3), st.integers(1, 12))
RULES = st.one_of(
    st.builds(lambda i, b: {"items": i, "do": {"boost": b}}, SELECTIONS, PARTS),
    st.builds(lambda i, b: {"items": i, "do": {"bury": b}}, SELECTIONS, PARTS),
    st.builds(lambda i: {"items": i, "do": {"hide": True}}, SELECTIONS),
    st.builds(lambda i, s: {"items": i, "do": {"share": s}}, SELECTIONS, PARTS),
    st.builds(lambda p: {"do": {"pin": {"item_ids": p[0], "at": p[1]}}}, PINS),
    st.builds(lambda d: {"do": {"strategy": {"diversity": d}}}, PARTS),
)


@st.composite
def rulebooks(draw: st.DrawFn) -> list[Rule]:
    rules: list[Rule] = draw(st.lists(RULES, max_size=6))
    for n, rule in enumerate(rules):
        rule = rules[n] = {"id": f"r{n}", "priority": draw(st.integers(0, 2)), **rule}
        if draw(st.booleans()):
            rule["when"] = draw(
                st.sampled_from(["context.source == 'email'", "visitor.known", "visitor.churn_risk > 0.5"])
            )
        if draw(st.booleans()):
            rule["placements"] = [draw(st.sampled_from(PLACES))]
    return rules


FAST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def hidden_by(rules: list[Rule], placement: str, source: str | None) -> Callable[[str], bool]:
    def hides(rule: Rule, item: str) -> bool:
        n, items = int(item[1:]), rule["items"]
        if "item_ids" in items:
            return item in items["item_ids"]
        return n < items["any"][0]["value"] if "any" in items else ("even", "odd")[n % 2] == items["all"][0]["value"]

    active = [
        rule
        for rule in rules
        if rule["do"].get("hide")
        and placement in rule.get("placements", PLACES)
        and (rule.get("when") is None or (source == "email" and "email" in rule["when"]))
    ]
    return lambda item: any(hides(rule, item) for rule in active)


@FAST
@given(rules=rulebooks(), limit=st.integers(1, 12), source=st.sampled_from([None, "email"]))
def test_with_any_rules_pages_lose_double_and_show_nothing_wrong(
    shop: Shop, rules: list[Rule], limit: int, source: str | None
):
    """All pages together hold every item once that is not hidden; the two placements of a distinct body share none."""
    shop.follow(*rules)
    context = {"source": source}
    for placement in PLACES:
        hides = hidden_by(rules, placement, source)
        seen: list[str] = []
        (result,) = shop.ask({"placement": placement, "limit": limit, "context": context})
        assert len(result["items"]) <= limit
        while True:
            seen += item_ids(result)
            if result["next_cursor"] is None:
                break
            (result,) = shop.ask(
                {"placement": placement, "limit": 50, "context": context, "cursor": result["next_cursor"]}
            )
        assert len(set(seen)) == len(seen)
        assert not [item for item in seen if hides(item)]
        assert set(seen) == {f"i{n}" for n in range(CATALOG) if not hides(f"i{n}")}
    requests = [{"placement": p, "limit": limit, "context": context} for p in (*PLACES, *PLACES)]
    shown = [item for result in shop.ask(*requests, distinct=True) for item in item_ids(result)]
    assert len(set(shown)) == len(shown)


@FAST
@given(rules=rulebooks(), order=st.randoms())
def test_the_order_of_rules_in_the_file_changes_no_answer(shop: Shop, rules: list[Rule], order: Random):
    answers = []
    for listed in (rules, order.sample(rules, len(rules))):
        shop.follow(*listed)
        requests = [{"placement": p, "limit": 12, "include": ["rules"], "context": {"source": "email"}} for p in PLACES]
        answers.append([(r["items"], r["rules"]) for r in shop.ask(*requests)])
    assert answers[0] == answers[1]


@FAST
@given(limit=st.integers(1, 30), place=st.sampled_from(PLACES), customer=st.sampled_from([None, "u1"]))
def test_without_rules_answers_are_those_of_a_server_that_follows_none(
    shop: Shop, limit: int, place: str, customer: str | None
):
    shop.follow(pin("i30", until="2020-01-01"), hide("i0", placements=["home.new"]))
    request = {"placement": place, "limit": limit, "customer_id": customer, "include": ["score", "generators"]}
    one, other = (shop.ask(request, plain=plain)[0] for plain in (False, True))
    for result in (one, other):
        del result["recommendation_id"], result["next_cursor"]
    assert one == other


@FAST
@given(rules=rulebooks(), at=st.integers(1, 8), item=st.integers(0, CATALOG - 1))
def test_a_pin_of_the_highest_priority_stands_on_its_place(shop: Shop, rules: list[Rule], at: int, item: int):
    shop.follow(*rules, pin(f"i{item}", at=at, priority=9))
    page = shop.ids(limit=8)
    if hidden_by(rules, "home.for_you", None)(f"i{item}"):
        assert f"i{item}" not in page
    elif len(page) >= at:
        assert page[at - 1] == f"i{item}"


def test_a_schedule_in_berlin_begins_and_ends_to_the_second(shop: Shop):
    from datetime import UTC, datetime, timedelta
    from zoneinfo import ZoneInfo

    moment = datetime.fromtimestamp(now() // 1_000_000, UTC).astimezone(ZoneInfo("Europe/Berlin"))

    def local(seconds: int) -> str:
        return (moment + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")

    shop.follow(pin("i30", **{"from": local(-5), "until": local(3_600)}), timezone="Europe/Berlin")
    assert shop.ids(limit=1) == ["i30"]
    shop.follow(pin("i30", **{"from": local(5)}), timezone="Europe/Berlin")
    assert shop.ids(limit=1) == ["i0"]
    shop.follow(pin("i30", until=local(-1)), timezone="Europe/Berlin")
    assert shop.ids(limit=1) == ["i0"]
