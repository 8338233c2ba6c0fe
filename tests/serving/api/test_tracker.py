"""The script that storefronts include: as it is served, and in a real browser on a page of another origin."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import polars as pl
import pytest

from serving.event_store import open_store
from tests.serving.api.middleware.test_api_keys import KEYS, PUBLISHABLE
from tests.serving.conftest import FakeRecommender, Server, running
from tests.serving.sending import ago
from tests.serving.stored import everything

EVENTS = "**/v1/events"
VIEW = "usual.track('view_item', {items: [{item_id: 'p1', price: 2}]})"


@dataclass
class Shop:
    """A storefront whose pages include the tracker of a server elsewhere."""

    url: str
    server: Server
    store: str

    def kept(self) -> pl.DataFrame:
        return everything(self.store)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    page = ""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if "favicon" not in self.path else 404)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write((page.replace("data-key", "data-consent=false data-key", "asks" in self.path)).encode())

        def log_message(self, *_: Any) -> None:
            pass

    storefront = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    url = f"http://127.0.0.1:{storefront.server_port}"
    thread = threading.Thread(target=storefront.serve_forever)
    thread.start()
    store = str(tmp_path_factory.mktemp("tracker") / "events.sqlite")
    settings = {"visit_budget_ms": 5000, "cors_origins": url, **KEYS}
    try:
        with running(FakeRecommender(as_of=ago(days=2)), store=open_store(store), **settings) as server:
            script = f"http://{server.host}:{server.port}/tracker.js"
            page = f'<!doctype html><title>shop</title><script src="{script}" data-key="{PUBLISHABLE}"></script>'
            yield Shop(url, server, store)
    finally:
        storefront.shutdown()
        storefront.server_close()
        thread.join(5)


@dataclass
class Visitor:
    """A browser with nothing in it yet, its only page, and what that page has asked the server for."""

    context: Any
    page: Any
    asked: list[Any]
    faults: list[str]

    def does(self, script: str) -> Any:
        return self.page.evaluate(script)

    def hurry(self) -> None:
        """Send now what waits, as when a network is back."""
        self.does("dispatchEvent(new Event('online'))")

    def names(self) -> list[str]:
        """What is in the browser's storage."""
        return sorted(name.partition(".1")[0] for name in self.does("Object.keys(localStorage)"))

    def sent(self) -> list[dict[str, Any]]:
        """The events of all requests so far."""
        bodies = [r.post_data for r in self.asked if r.url.endswith("/v1/events") and r.method == "POST"]
        return [event for body in bodies for event in json.loads(body)["events"]]


@pytest.fixture
def visitor(browser: Any, shop: Shop) -> Iterator[Visitor]:
    context = browser.new_context()
    context.set_default_timeout(10_000)
    page = context.new_page()
    met = Visitor(context, page, [], [])
    page.on("request", lambda request: met.asked.append(request) if ":" in request.url else None)
    page.on("pageerror", lambda error: met.faults.append(str(error)))
    page.goto(f"{shop.url}/?utm_source=newsletter")
    yield met
    assert met.faults == []
    context.close()


def until(page: Any, holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come to hold within ten seconds")


# ---- as it is served


def tracker(server: Server, **headers: str) -> httpx.Response:
    return server.client.get("/tracker.js", headers=headers)


def test_it_is_small(server: Server) -> None:
    answer = tracker(server, **{"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) <= 2000
    assert len(gzip.compress(answer.content)) <= 2000, "also where something in between compresses it"
    plain = tracker(server, **{"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content
    assert "Accept-Encoding" in answer.headers["vary"]


def test_pages_without_a_key_can_include_it(shop: Shop) -> None:
    answer = httpx.get(f"http://{shop.server.host}:{shop.server.port}/tracker.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_it_is_asked_for_anew_only_when_it_changed(server: Server) -> None:
    tag = tracker(server).headers["etag"]
    same = tracker(server, **{"if-none-match": tag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert tracker(server, **{"if-none-match": f'"other", {tag}'}).status_code == 304
    assert tracker(server, **{"if-none-match": '"other"'}).status_code == 200
    head = server.client.head("/tracker.js")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
    assert "max-age=3600" in tracker(server).headers["cache-control"]


def test_browsers_may_keep_it(server: Server) -> None:
    assert "no-store" not in tracker(server).headers["cache-control"]


# ---- in a browser


def test_events_say_who_when_and_where(visitor: Visitor, shop: Shop) -> None:
    event_id = visitor.does(VIEW.replace("{items", "{recommendation_id: 'rec_1', currency: 'EUR', items"))
    until(visitor.page, lambda: len(visitor.sent()) > 0)
    (event,) = visitor.sent()
    assert event.pop("timestamp").endswith("Z")
    ids = [event.pop(name) for name in ("client_id", "session_id")]
    assert all(len(i) == 36 for i in ids)
    assert event == {
        "event_id": event_id,
        "name": "view_item",
        "source": "newsletter",
        "device": "desktop",
        "recommendation_id": "rec_1",
        "params": {"currency": "EUR", "items": [{"item_id": "p1", "price": 2}]},
    }
    until(visitor.page, lambda: visitor.names() == ["usual.client", "usual.session"])
    (kept,) = shop.kept().filter(event_id=event_id).to_dicts()
    assert (kept["item_id"], kept["client_id"], kept["recommendation_id"]) == ("p1", ids[0], "rec_1")
    (request,) = [r for r in visitor.asked if r.url.endswith("/v1/events") and r.method == "POST"]
    assert request.headers["authorization"] == f"Bearer {PUBLISHABLE}"
    assert not any(PUBLISHABLE in r.url for r in visitor.asked)
    visitor.page.goto(f"{shop.url}/next")
    visitor.does(VIEW)
    visitor.hurry()
    until(visitor.page, lambda: len(visitor.sent()) == 2)
    later = visitor.sent()[1]
    assert [later[name] for name in ("client_id", "session_id", "source")] == [*ids, "newsletter"]


def test_events_go_together(visitor: Visitor) -> None:
    visitor.does(f"for (let n = 0; n < 45; n++) {VIEW}")
    until(visitor.page, lambda: len(visitor.sent()) == 45)
    sizes = [len(json.loads(r.post_data)["events"]) for r in visitor.asked if r.method == "POST"]
    assert sizes == [20, 20, 5]
    assert len({event["event_id"] for event in visitor.sent()}) == 45


def test_without_a_network_nothing_is_lost_and_nothing_doubled(visitor: Visitor, shop: Shop) -> None:
    # What a page asks for as it is left gets past playwright, network or not; here nothing is.
    leaving = "for (const name of ['pagehide', 'visibilitychange'])"
    visitor.context.add_init_script(f"{leaving} addEventListener(name, e => e.stopImmediatePropagation(), true)")
    visitor.context.route(EVENTS, lambda route: route.abort())
    visitor.page.goto(f"{shop.url}/first")
    first = [visitor.does(VIEW) for _ in range(3)]
    visitor.hurry()
    until(visitor.page, lambda: len(visitor.sent()) >= 3)
    visitor.page.goto(f"{shop.url}/next")
    second = [visitor.does(VIEW) for _ in range(2)]
    visitor.hurry()
    until(visitor.page, lambda: second[1] in {event["event_id"] for event in visitor.sent()})
    assert len([name for name in visitor.names() if name == "usual.event"]) == 5
    assert shop.kept().filter(pl.col("event_id").is_in(first + second)).is_empty()

    def lost(route: Any) -> None:  # it arrives, and the answer does not
        route.fetch()
        route.abort()

    visitor.context.unroute(EVENTS)
    visitor.context.route(EVENTS, lost, times=1)
    visitor.hurry()
    until(visitor.page, lambda: shop.kept()["event_id"].is_in(first + second).sum() == 5)
    assert len([name for name in visitor.names() if name == "usual.event"]) == 5
    visitor.page.goto(f"{shop.url}/third")
    until(visitor.page, lambda: visitor.names() == ["usual.client", "usual.session"])
    kept = shop.kept().filter(pl.col("event_id").is_in(first + second))
    assert sorted(kept["event_id"]) == sorted(first + second)
    assert kept["session_id"].n_unique() == 1


def test_who_leaves_at_once_is_still_heard(visitor: Visitor, shop: Shop) -> None:
    event_id = visitor.does(VIEW)
    visitor.page.goto("about:blank")
    until(visitor.page, lambda: event_id in shop.kept()["event_id"])


def test_it_waits_as_long_as_the_server_says(visitor: Visitor, shop: Shop) -> None:
    told = {"retry-after": "60", "access-control-allow-origin": "*", "access-control-expose-headers": "Retry-After"}
    visitor.context.route(EVENTS, lambda route: route.fulfill(status=429, headers=told, body="{}"), times=1)
    visitor.page.clock.install()
    event_id = visitor.does(VIEW)
    visitor.page.clock.run_for(1000)
    until(visitor.page, lambda: len(visitor.sent()) == 1)
    visitor.page.wait_for_timeout(100)
    visitor.page.clock.run_for(40_000)
    visitor.page.wait_for_timeout(100)
    assert len(visitor.sent()) == 1
    visitor.page.clock.run_for(20_000)
    until(visitor.page, lambda: event_id in shop.kept()["event_id"])


def test_what_will_never_be_accepted_does_not_stand_in_the_way(visitor: Visitor, shop: Shop) -> None:
    visitor.does("usual.track('view_item', {items: []})")
    visitor.hurry()
    until(visitor.page, lambda: len(visitor.sent()) == 1)
    until(visitor.page, lambda: "usual.event" not in visitor.names())
    event_id = visitor.does(VIEW)
    visitor.hurry()
    until(visitor.page, lambda: event_id in shop.kept()["event_id"])


def test_what_waits_is_bounded(visitor: Visitor) -> None:
    visitor.context.route(EVENTS, lambda route: route.abort())
    visitor.does("for (let n = 0; n < 230; n++) usual.track('search', {search_term: String(n)})")
    kept = visitor.does(
        "Object.entries(localStorage).filter(([n]) => n.startsWith('usual.event')).map(([, e]) => JSON.parse(e))"
    )
    assert len(kept) == 200
    assert "229" in {event["params"]["search_term"] for event in kept}


def test_half_an_hour_without_a_visit_ends_it(visitor: Visitor) -> None:
    visitor.page.clock.install()
    sessions = []
    for minutes in (0, 29, 29, 31):
        visitor.page.clock.fast_forward(minutes * 60_000)
        visitor.does(VIEW)
        sessions.append(visitor.does("JSON.parse(localStorage['usual.session']).id"))
    assert sessions[0] == sessions[1] == sessions[2] != sessions[3]


def test_recommendations_know_what_was_tracked_just_before(visitor: Visitor, shop: Shop) -> None:
    visitor.does("usual.identify('u1')")
    (answer,) = visitor.does(f"{VIEW}, usual.recommend({{placement: 'home.trending', limit: 3}})")
    assert [item["item_id"] for item in answer["items"]] == ["i0", "i1", "i2"]
    assert answer["segment"] == "segment of u1"
    asked = shop.server.recommender.batches[-1][0]
    assert ("p1", "view_item") in [(item, name) for item, name, *_ in asked.recent]
    first, second = visitor.does("usual.recommend([{limit: 2}, {limit: 2}], {distinct: true})")
    assert [item["item_id"] for item in first["items"] + second["items"]] == ["i0", "i1", "i2", "i3"]
    told = visitor.does("usual.recommend({limit: 0}).catch(e => [e instanceof Error, e.code, e.errors[0].pointer])")
    assert told == [True, "invalid_request", "/requests/0/limit"]


def test_who_logs_in_is_known_from_then_on(visitor: Visitor) -> None:
    visitor.does(VIEW)
    for _ in range(2):
        visitor.does("usual.identify(91)")
    visitor.does(VIEW)
    visitor.does("usual.identify(null)")
    visitor.does(VIEW)
    visitor.hurry()
    until(visitor.page, lambda: len(visitor.sent()) == 4)
    events = sorted(visitor.sent(), key=lambda event: event["timestamp"])
    assert [(event["name"], event.get("customer_id")) for event in events] == [
        ("view_item", None), ("login", "91"), ("view_item", "91"), ("view_item", None),
    ]  # fmt: skip
    assert len({event["client_id"] for event in events}) == 1


def test_without_consent_nobody_is_known_and_nothing_is_kept(visitor: Visitor, shop: Shop) -> None:
    def stored() -> list[str]:
        return [*visitor.names(), *(cookie["name"] for cookie in visitor.context.cookies())]

    visitor.page.goto(f"{shop.url}/asks")
    visitor.does("usual.identify('u1')")
    assert visitor.does(VIEW) is None
    visitor.does("usual.recommend({})")
    visitor.page.wait_for_timeout(1100)
    assert visitor.sent() == []
    assert stored() == []
    (asked,) = [json.loads(r.post_data) for r in visitor.asked if r.url.endswith("/v1/recommendations") and r.post_data]
    assert set(asked["requests"][0]) == {"session_id"}

    visitor.does("usual.consent(true)")
    visitor.does(VIEW)
    visitor.hurry()
    until(visitor.page, lambda: len(visitor.sent()) == 1)
    assert visitor.sent()[0]["consent"] is True
    visitor.context.route(EVENTS, lambda route: route.abort())
    visitor.does(VIEW)
    visitor.does("usual.consent(false)")
    assert stored() == []
    visitor.does("usual.consent(true)")
    visitor.does(VIEW)
    assert visitor.does("localStorage['usual.client']") != visitor.sent()[0]["client_id"]


@pytest.mark.parametrize("storage", ["throw new DOMException('denied')", "return null"])
def test_where_storage_is_denied_it_works_all_the_same(storage: str, visitor: Visitor, shop: Shop) -> None:
    visitor.context.add_init_script(f"Object.defineProperty(window, 'localStorage', {{get() {{ {storage} }}}})")
    visitor.page.goto(shop.url)
    ids = [visitor.does(VIEW) for _ in range(2)]
    visitor.hurry()
    until(visitor.page, lambda: shop.kept()["event_id"].is_in(ids).sum() == 2)
    assert shop.kept().filter(pl.col("event_id").is_in(ids))["client_id"].n_unique() == 1
    assert visitor.does("usual.recommend({})")[0]["items"]


def test_a_full_storage_does_not_lose_events(visitor: Visitor, shop: Shop) -> None:
    visitor.does(VIEW)
    for size in (65536, 1024, 1):
        visitor.does(
            f"try {{ for (let n = 0; ; n++) localStorage['shop{size}.' + n] = 'x'.repeat({size}) }} catch {{}}"
        )
    event_id = visitor.does(VIEW)
    visitor.hurry()
    until(visitor.page, lambda: event_id in shop.kept()["event_id"])
