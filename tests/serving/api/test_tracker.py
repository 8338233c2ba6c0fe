"""The tracker script: as it is served, and in a real browser on a page of another origin."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import polars as pl
import pytest

from serving.event_store import open_store
from tests.serving.api.middleware.test_api_keys import KEYS, PUBLISHABLE
from tests.serving.conftest import FakeRecommender, RunningServer, run_app
from tests.serving.event_bodies import ago
from tests.serving.store_events import read_events

EVENTS, CLIENTS = "**/v1/events", "**/v1/clients"
VISITOR_SECRET = "the shop's server and ours know it".replace(" ", "-")
VIEW = "usual.track('view_item', {items: [{item_id: 'p1', price: 2}]})"


@dataclass
class TrackedShop:
    """A storefront whose pages include the tracker of a server elsewhere."""

    url: str
    server: RunningServer
    store: str

    def stored_events(self) -> pl.DataFrame:
        """The stored rows; event ids without what the store puts before those of pages."""
        plain = pl.col("event_id").str.replace("^[vp]:[0-9a-f]{8}:", "")
        return read_events(self.store).with_columns(plain)


def token(customer_id: str, lasts_s: float = 600, **claims: object) -> str:
    """A visitor token, as the shop's server signs them."""
    claims = {"sub": customer_id, "aud": "usual", "exp": int(time.time() + lasts_s), **claims}
    return jwt.encode(claims, VISITOR_SECRET, algorithm="HS256")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackedShop]:
    page = ""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            more = (
                "data-consent=false" if "asks" in self.path else "data-client-id=till-7" if "till" in self.path else ""
            )
            status, content = 200, page.replace("data-key", f"{more} data-key")
            if self.path == "/visitor-token":  # as docs/storefront.md has it: for the customer of the session
                session = SimpleCookie(self.headers.get("cookie", "")).get("session")
                status, content = (200, token(session.value)) if session else (401, "Log in first")
            self.send_response(404 if "favicon" in self.path else status)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: Any) -> None:
            pass

    storefront = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    url = f"http://127.0.0.1:{storefront.server_port}"
    thread = threading.Thread(target=storefront.serve_forever)
    thread.start()
    store = str(tmp_path_factory.mktemp("tracker") / "events.sqlite")
    settings = {"visit_budget_ms": 5000, "cors_origins": url, "visitor_secrets": VISITOR_SECRET, **KEYS}
    try:
        with run_app(FakeRecommender(as_of=ago(days=2)), store=open_store(store), **settings) as server:
            script = f"http://{server.host}:{server.port}/tracker.js"
            page = f'<!doctype html><title>shop</title><script src="{script}" data-key="{PUBLISHABLE}"></script>'
            yield TrackedShop(url, server, store)
    finally:
        storefront.shutdown()
        storefront.server_close()
        thread.join(5)


@dataclass
class BrowserVisitor:
    """A browser without stored data, its only page, and the requests of that page."""

    context: Any
    page: Any
    requests: list[Any]
    faults: list[str]

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)

    def flush(self) -> None:
        """Send what waits now, as when a network is back."""
        self.run("dispatchEvent(new Event('online'))")

    def names(self) -> list[str]:
        """The keys of the browser's storage."""
        return sorted(name.partition(".1")[0] for name in self.run("Object.keys(localStorage)"))

    def posts(self, path: str) -> list[Any]:
        """The requests for `path` so far."""
        return [r for r in self.requests if r.url.endswith(path) and r.method == "POST"]

    def sent_events(self) -> list[dict[str, Any]]:
        """The events of all requests so far, each once: what is on its way when a page is left is sent again."""
        events = [event for r in self.posts("/v1/events") for event in json.loads(r.post_data)["events"]]
        return list({event["event_id"]: event for event in events}.values())

    def get_client_id(self) -> str:
        """Do something, and return the device's id once the server has given it one."""
        self.run(VIEW)
        until(self.page, lambda: self.names() == ["usual.client", "usual.session"])
        return str(self.run("localStorage['usual.client']"))


@pytest.fixture
def visitor(browser: Any, shop: TrackedShop) -> Iterator[BrowserVisitor]:
    context = browser.new_context()
    context.set_default_timeout(10_000)
    page = context.new_page()
    visitor = BrowserVisitor(context, page, [], [])
    page.on("request", lambda request: visitor.requests.append(request) if ":" in request.url else None)
    page.on("pageerror", lambda error: visitor.faults.append(str(error)))
    page.goto(f"{shop.url}/?utm_source=newsletter")
    yield visitor
    assert visitor.faults == []
    context.close()


def until(page: Any, holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come to hold within ten seconds")


# ---- as it is served


def tracker(server: RunningServer, **headers: str) -> httpx.Response:
    return server.client.get("/tracker.js", headers=headers)


def test_the_script_is_small(server: RunningServer) -> None:
    response = tracker(server, **{"accept-encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert int(response.headers["content-length"]) <= 3000
    assert len(gzip.compress(response.content)) <= 3000, "also where something in between compresses it"
    plain = tracker(server, **{"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == response.content
    assert "Accept-Encoding" in response.headers["vary"]


def test_pages_without_a_key_can_include_it(shop: TrackedShop) -> None:
    response = httpx.get(f"http://{shop.server.host}:{shop.server.port}/tracker.js")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/javascript")
    assert response.headers["cross-origin-resource-policy"] == "cross-origin"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_it_is_revalidated_by_its_etag(server: RunningServer) -> None:
    tag = tracker(server).headers["etag"]
    same = tracker(server, **{"if-none-match": tag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert tracker(server, **{"if-none-match": f'"other", {tag}'}).status_code == 304
    assert tracker(server, **{"if-none-match": '"other"'}).status_code == 200
    head = server.client.head("/tracker.js")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
    assert "max-age=3600" in tracker(server).headers["cache-control"]


def test_browsers_may_cache_it(server: RunningServer) -> None:
    assert "no-store" not in tracker(server).headers["cache-control"]


# ---- in a browser


def test_events_have_ids_time_and_source(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    event_id = visitor.run(VIEW.replace("{items", "{recommendation_id: 'rec_1', currency: 'EUR', items"))
    until(visitor.page, lambda: len(visitor.sent_events()) > 0)
    (event,) = visitor.sent_events()
    assert event.pop("timestamp").endswith("Z")
    ids = [event.pop(name) for name in ("client_id", "session_id")]
    assert ids[0].startswith("u1.")
    assert len(ids[1]) == 36
    assert event == {
        "event_id": event_id,
        "name": "view_item",
        "source": "newsletter",
        "device": "desktop",
        "recommendation_id": "rec_1",
        "params": {"currency": "EUR", "items": [{"item_id": "p1", "price": 2}]},
    }
    until(visitor.page, lambda: visitor.names() == ["usual.client", "usual.session"])
    (row,) = shop.stored_events().filter(event_id=event_id).to_dicts()
    assert (row["item_id"], row["client_id"], row["recommendation_id"]) == ("p1", ids[0], "rec_1")
    (request,) = visitor.posts("/v1/events")
    assert request.headers["authorization"] == f"Bearer {PUBLISHABLE}"
    assert not any(PUBLISHABLE in r.url for r in visitor.requests)
    visitor.page.goto(f"{shop.url}/next")
    visitor.run(VIEW)
    visitor.flush()
    until(visitor.page, lambda: len(visitor.sent_events()) == 2)
    later = visitor.sent_events()[1]
    assert [later[name] for name in ("client_id", "session_id", "source")] == [*ids, "newsletter"]


def test_events_are_sent_in_batches(visitor: BrowserVisitor) -> None:
    visitor.run(f"for (let n = 0; n < 45; n++) {VIEW}")
    until(visitor.page, lambda: len(visitor.sent_events()) == 45)
    sizes = [len(json.loads(r.post_data)["events"]) for r in visitor.posts("/v1/events")]
    assert sizes == [20, 20, 5]


def test_without_a_network_no_event_is_lost_or_doubled(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    # What a page asks for as it is left gets past playwright, network or not; here nothing is.
    leaving = "for (const name of ['pagehide', 'visibilitychange'])"
    visitor.context.add_init_script(f"{leaving} addEventListener(name, e => e.stopImmediatePropagation(), true)")
    visitor.context.route(EVENTS, lambda route: route.abort())
    visitor.page.goto(f"{shop.url}/first")
    first = [visitor.run(VIEW) for _ in range(3)]
    visitor.flush()
    until(visitor.page, lambda: len(visitor.sent_events()) >= 3)
    visitor.page.goto(f"{shop.url}/next")
    second = [visitor.run(VIEW) for _ in range(2)]
    visitor.flush()
    until(visitor.page, lambda: second[1] in {event["event_id"] for event in visitor.sent_events()})
    assert len([name for name in visitor.names() if name == "usual.event"]) == 5
    assert shop.stored_events().filter(pl.col("event_id").is_in(first + second)).is_empty()

    def lost(route: Any) -> None:  # the request arrives, the response does not
        route.fetch()
        route.abort()

    visitor.context.unroute(EVENTS)
    visitor.context.route(EVENTS, lost, times=1)
    visitor.flush()
    until(visitor.page, lambda: shop.stored_events()["event_id"].is_in(first + second).sum() == 5)
    assert len([name for name in visitor.names() if name == "usual.event"]) == 5
    visitor.page.goto(f"{shop.url}/third")
    until(visitor.page, lambda: visitor.names() == ["usual.client", "usual.session"])
    events = shop.stored_events().filter(pl.col("event_id").is_in(first + second))
    assert sorted(events["event_id"]) == sorted(first + second)
    assert events["session_id"].n_unique() == 1


def test_events_of_a_page_that_closes_at_once_arrive(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    visitor.get_client_id()
    event_id = visitor.run(VIEW)
    visitor.page.goto("about:blank")
    until(visitor.page, lambda: event_id in shop.stored_events()["event_id"])


def test_it_waits_as_long_as_retry_after_says(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    headers = {"retry-after": "60", "access-control-allow-origin": "*", "access-control-expose-headers": "Retry-After"}
    visitor.context.route(EVENTS, lambda route: route.fulfill(status=429, headers=headers, body="{}"), times=1)
    visitor.page.clock.install()
    event_id = visitor.run(VIEW)
    visitor.page.clock.run_for(1000)
    until(visitor.page, lambda: len(visitor.sent_events()) == 1)
    visitor.page.wait_for_timeout(100)
    visitor.page.clock.run_for(40_000)
    visitor.page.wait_for_timeout(100)
    assert len(visitor.sent_events()) == 1
    visitor.page.clock.run_for(20_000)
    until(visitor.page, lambda: event_id in shop.stored_events()["event_id"])


def test_events_that_are_never_accepted_do_not_block_others(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    visitor.run("usual.track('view_item', {items: []})")
    visitor.flush()
    until(visitor.page, lambda: len(visitor.sent_events()) == 1)
    until(visitor.page, lambda: "usual.event" not in visitor.names())
    event_id = visitor.run(VIEW)
    visitor.flush()
    until(visitor.page, lambda: event_id in shop.stored_events()["event_id"])


def test_the_queue_is_bounded(visitor: BrowserVisitor) -> None:
    visitor.context.route(EVENTS, lambda route: route.abort())
    visitor.run("for (let n = 0; n < 230; n++) usual.track('search', {search_term: String(n)})")
    events = visitor.run(
        "Object.entries(localStorage).filter(([n]) => n.startsWith('usual.event')).map(([, e]) => JSON.parse(e))"
    )
    assert len(events) == 200
    assert "229" in {event["params"]["search_term"] for event in events}


def test_a_session_ends_after_half_an_hour(visitor: BrowserVisitor) -> None:
    visitor.page.clock.install()
    sessions = []
    for minutes in (0, 29, 29, 31):
        visitor.page.clock.fast_forward(minutes * 60_000)
        visitor.run(VIEW)
        sessions.append(visitor.run("JSON.parse(localStorage['usual.session']).id"))
    assert sessions[0] == sessions[1] == sessions[2] != sessions[3]


def test_recommendations_count_events_tracked_just_before(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    visitor.run(f"usual.identify('u1', '{token('u1')}')")
    (result,) = visitor.run(f"{VIEW}, usual.recommend({{placement: 'home.trending', limit: 3}})")
    assert [item["item_id"] for item in result["items"]] == ["i0", "i1", "i2"]
    assert result["segment"] == "segment of u1"
    ranked = shop.server.recommender.batches[-1][0]
    assert ("p1", "view_item") in [(item, name) for item, name, *_ in ranked.recent]
    first, second = visitor.run("usual.recommend([{limit: 2}, {limit: 2}], {distinct: true})")
    assert [item["item_id"] for item in first["items"] + second["items"]] == ["i0", "i1", "i2", "i3"]
    error = visitor.run("usual.recommend({limit: 0}).catch(e => [e instanceof Error, e.code, e.errors[0].pointer])")
    assert error == [True, "invalid_request", "/requests/0/limit"]


def test_events_after_login_have_the_customer(visitor: BrowserVisitor) -> None:
    visitor.run(VIEW)
    for _ in range(2):
        visitor.run("usual.identify(91)")
    visitor.run(VIEW)
    visitor.run("usual.identify(null)")
    visitor.run(VIEW)
    visitor.flush()
    until(visitor.page, lambda: len(visitor.sent_events()) == 4)
    events = sorted(visitor.sent_events(), key=lambda event: event["timestamp"])
    assert [(event["name"], event.get("customer_id")) for event in events] == [
        ("view_item", None), ("login", "91"), ("view_item", "91"), ("view_item", None),
    ]  # fmt: skip
    assert len({event["client_id"] for event in events}) == 1


def test_without_consent_there_are_no_ids_and_no_events(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    def stored() -> list[str]:
        return [*visitor.names(), *(cookie["name"] for cookie in visitor.context.cookies())]

    visitor.page.goto(f"{shop.url}/asks")
    visitor.run("usual.identify('u1')")
    assert visitor.run(VIEW) is None
    visitor.run("usual.recommend({})")
    visitor.page.wait_for_timeout(1100)
    assert visitor.sent_events() == []
    assert stored() == []
    (request,) = visitor.posts("/v1/recommendations")
    assert set(json.loads(request.post_data)["requests"][0]) == {"session_id"}
    assert visitor.posts("/v1/clients") == [], "a device that is not to be known gets no id"

    visitor.run("usual.consent(true)")
    visitor.run(VIEW)
    visitor.flush()
    until(visitor.page, lambda: len(visitor.sent_events()) == 1)
    assert visitor.sent_events()[0]["consent"] is True
    visitor.context.route(EVENTS, lambda route: route.abort())
    visitor.run(VIEW)
    visitor.run("usual.consent(false)")
    assert stored() == []
    visitor.run("usual.consent(true)")
    visitor.context.unroute(EVENTS)
    assert visitor.get_client_id() != visitor.sent_events()[0]["client_id"]


@pytest.mark.parametrize("storage", ["throw new DOMException('denied')", "return null"])
def test_it_works_where_storage_is_denied(storage: str, visitor: BrowserVisitor, shop: TrackedShop) -> None:
    visitor.context.add_init_script(f"Object.defineProperty(window, 'localStorage', {{get() {{ {storage} }}}})")
    visitor.page.goto(shop.url)
    ids = [visitor.run(VIEW) for _ in range(2)]
    visitor.flush()
    until(visitor.page, lambda: shop.stored_events()["event_id"].is_in(ids).sum() == 2)
    assert shop.stored_events().filter(pl.col("event_id").is_in(ids))["client_id"].n_unique() == 1
    assert visitor.run("usual.recommend({})")[0]["items"]


def test_a_full_storage_does_not_lose_events(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    visitor.run(VIEW)
    for size in (65536, 1024, 1):
        visitor.run(f"try {{ for (let n = 0; ; n++) localStorage['shop{size}.' + n] = 'x'.repeat({size}) }} catch {{}}")
    event_id = visitor.run(VIEW)
    visitor.flush()
    until(visitor.page, lambda: event_id in shop.stored_events()["event_id"])


# ---- the device's id


def test_the_server_gives_a_device_its_id_once(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    client_id = visitor.get_client_id()
    assert visitor.posts("/v1/clients")[0].headers["authorization"] == f"Bearer {PUBLISHABLE}"
    visitor.page.goto(f"{shop.url}/next")
    visitor.run(VIEW)
    (result,) = visitor.run("usual.recommend({})")
    assert result["identity"] == "anonymous"
    until(visitor.page, lambda: len(visitor.sent_events()) == 2)
    assert {event["client_id"] for event in visitor.sent_events()} == {client_id}
    (body,) = [json.loads(r.post_data) for r in visitor.posts("/v1/recommendations")]
    assert body["requests"][0]["client_id"] == client_id
    assert len(visitor.posts("/v1/clients")) == 1


def test_an_id_that_the_browser_made_itself_is_replaced(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    visitor.run("localStorage['usual.client'] = '0b6e1c1e-6a43-4c89-9a3f-8e3c2a2f9a10'")
    event = """{event_id: 'of-the-tracker-before', name: 'search', client_id: '0b6e1c1e-6a43-4c89-9a3f-8e3c2a2f9a10',
                timestamp: new Date(), params: {search_term: 'tea'}}"""
    visitor.run(f"localStorage['usual.event.1'] = JSON.stringify({event})")
    assert visitor.get_client_id().startswith("u1.")
    rows = shop.stored_events().filter(pl.col("client_id") == visitor.run("localStorage['usual.client']"))
    assert rows.height == 2, "also what waited under the old id"


def test_events_wait_for_the_id(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    visitor.context.route(CLIENTS, lambda route: route.abort())
    visitor.page.clock.install()
    ids = [visitor.run(VIEW) for _ in range(30)]
    for _ in range(40):  # ten minutes
        visitor.page.clock.run_for(15_000)
        visitor.page.wait_for_timeout(10)
    assert 5 <= len(visitor.posts("/v1/clients")) <= 30
    assert visitor.posts("/v1/events") == []
    assert visitor.run("usual.recommend({}).then(results => results[0].items.length)") > 0
    assert "client_id" not in visitor.posts("/v1/recommendations")[0].post_data
    visitor.page.goto(f"{shop.url}/next")
    visitor.context.unroute(CLIENTS)
    visitor.page.clock.run_for(2000)
    until(visitor.page, lambda: shop.stored_events()["event_id"].is_in(ids).sum() == 30)
    assert shop.stored_events().filter(pl.col("event_id").is_in(ids))["client_id"].n_unique() == 1


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500])
def test_no_answer_instead_of_an_id_makes_it_hurry(status: int, visitor: BrowserVisitor) -> None:
    cors = {"access-control-allow-origin": "*"}
    visitor.context.route(CLIENTS, lambda route: route.fulfill(status=status, headers=cors, body="<h1>no</h1>"))
    for _ in range(10):
        visitor.run(VIEW)
    visitor.page.wait_for_timeout(1500)
    assert 1 <= len(visitor.posts("/v1/clients")) <= 3
    assert visitor.names().count("usual.event") == 10


def test_an_id_that_does_not_verify_is_replaced_once(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    forged = f"u1.{'A' * 22}.{'B' * 22}"
    visitor.run(f"localStorage['usual.client'] = '{forged}'")
    visitor.run(VIEW)
    until(visitor.page, lambda: visitor.names() == ["usual.session"])
    client_id = visitor.get_client_id()
    assert client_id not in (forged, "")
    visitor.page.goto(f"{shop.url}/next")
    visitor.run(f"localStorage['usual.client'] = '{forged}'")
    for _ in range(3):
        assert visitor.run("usual.recommend({})")[0]["identity"] == "unproven"
    assert visitor.get_client_id() == forged, "a server that proves no id does not make it ask for one after the other"
    assert len(visitor.posts("/v1/clients")) == 1


def test_an_unproven_customer_does_not_cost_the_device_its_id(visitor: BrowserVisitor) -> None:
    client_id = visitor.get_client_id()
    for proof in ("", f", '{token('u2')}'", f", '{token('u1', -3600)}'"):
        visitor.run(f"usual.identify('u1'{proof})")
        assert visitor.run("usual.recommend({})")[0]["identity"] == "unproven"
        assert visitor.get_client_id() == client_id


def test_a_shop_can_name_the_device(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    visitor.page.goto(f"{shop.url}/till")
    event_id = visitor.run(VIEW)
    until(visitor.page, lambda: event_id in [event["event_id"] for event in visitor.sent_events()])
    assert visitor.sent_events()[0]["client_id"] == "till-7"
    assert visitor.run("usual.recommend({})")[0]["identity"] == "unproven"
    visitor.run(f"usual.identify(null, async () => '{token('', client_id='till-7')}')")
    assert visitor.run("usual.recommend({})")[0]["identity"] == "anonymous", "the shop has signed the device alone"
    assert visitor.run("usual.clientId()") == "till-7"
    visitor.run(f"usual.identify('u1', '{token('u1', client_id='till-7')}')")
    assert visitor.run("usual.recommend({})")[0]["identity"] == "proven"
    assert visitor.posts("/v1/clients") == []
    assert "usual.client" not in visitor.names()
    visitor.run("usual.consent(false)")
    visitor.run("usual.recommend({})")
    assert "till-7" not in visitor.posts("/v1/recommendations")[-1].post_data


def test_a_page_may_hand_the_devices_id_to_its_shop(visitor: BrowserVisitor) -> None:
    assert visitor.run("usual.clientId()") is None, "it is requested when it is needed"
    visitor.run("usual.recommend({})")
    assert visitor.run("usual.clientId()") == visitor.run("localStorage['usual.client']") != ""
    visitor.run("usual.consent(false)")
    assert visitor.run("usual.clientId()") is None


def test_tabs_are_one_device(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    client_id = visitor.get_client_id()
    other = visitor.context.new_page()
    other.goto(f"{shop.url}/other")
    other.evaluate(f"{VIEW}, usual.recommend({{}})")
    assert other.evaluate("localStorage['usual.client']") == client_id
    other.evaluate("usual.consent(false)")
    assert visitor.names() == []
    assert visitor.get_client_id() != client_id


# ---- the customer's proof


def test_a_token_proves_the_customer(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    proof = token("u1")
    visitor.run(f"usual.identify('u1', '{proof}')")
    event_id = visitor.run(VIEW)
    (result,) = visitor.run("usual.recommend({})")
    assert (result["identity"], result["segment"]) == ("proven", "segment of u1")
    until(visitor.page, lambda: event_id in shop.stored_events()["event_id"])
    row = shop.stored_events().filter(event_id=event_id).to_dicts()[0]
    assert (row["customer_id"], row["client_id"]) == ("u1", visitor.run("localStorage['usual.client']"))
    sent = [*visitor.posts("/v1/events"), *visitor.posts("/v1/recommendations")]
    assert {r.headers["x-visitor-token"] for r in sent} == {proof}
    kept = visitor.run("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href, history.state])")
    assert proof not in kept
    assert proof.split(".")[2] not in kept
    assert not any(proof in r.url for r in visitor.requests)
    visitor.run("usual.identify(null)")
    assert visitor.run("usual.recommend({})")[0]["identity"] == "anonymous"
    assert "x-visitor-token" not in visitor.posts("/v1/recommendations")[-1].headers


def test_the_token_of_the_shops_own_server(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    identify = "usual.identify('u1', async () => (await fetch('/visitor-token')).text())"
    visitor.run(identify)
    assert visitor.run("usual.recommend({})")[0]["identity"] == "unproven", "nobody has logged in"
    visitor.context.add_cookies([{"name": "session", "value": "u1", "url": shop.url}])
    visitor.page.goto(f"{shop.url}/account")
    visitor.run(identify)
    assert visitor.run("usual.recommend({})")[0]["identity"] == "proven"
    until(visitor.page, lambda: "usual.event" not in visitor.names())
    order = "{transaction_id: 'o-91', currency: 'EUR', items: [{item_id: 'p1', price: 2, quantity: 1}]}"
    visitor.run(f"usual.track('purchase', {order})")
    visitor.page.goto("about:blank")
    until(visitor.page, lambda: "purchase" in shop.stored_events().filter(customer_id="u1")["name"].to_list())


def test_a_strangers_token_proves_nothing(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    for proof in (token("u2"), token("u1", client_id="another-device"), token("u1")[:-2] + "AA", "u1"):
        visitor.run(f"usual.identify('u1', '{proof}')")
        (result,) = visitor.run("usual.recommend({})")
        assert (result["identity"], result["segment"]) == ("unproven", "PROSPECT"), proof
    visitor.run(VIEW)
    visitor.flush()
    until(visitor.page, lambda: "usual.event" not in visitor.names())
    assert "u1" not in shop.stored_events().filter(client_id=visitor.run("localStorage['usual.client']"))["customer_id"]


def test_a_function_is_asked_again_when_its_token_has_expired(visitor: BrowserVisitor) -> None:
    tokens = [token("u1", -3600), token("u1")]
    visitor.run(f"tokens = {json.dumps(tokens)}, asked = 0")
    visitor.run("usual.identify('u1', async () => tokens[Math.min(asked++, 1)])")
    results = [visitor.run("usual.recommend({})")[0]["identity"] for _ in range(3)]
    assert results == ["proven"] * 3
    assert visitor.run("asked") == 2
    visitor.run("tokens = [tokens[0], tokens[0]], usual.identify(null), asked = 0")
    visitor.run("usual.identify('u1', () => tokens[Math.min(asked++, 1)])")
    for _ in range(4):
        assert visitor.run("usual.recommend({})")[0]["identity"] == "unproven"
        visitor.run(VIEW)
    assert visitor.run("asked") == 2, "a shop whose tokens are always too old is not asked again and again"


@pytest.mark.parametrize("claims", [{"lasts_s": -3600}, {"lasts_s": 90 * 86400}])
def test_a_text_that_is_no_proof_any_more_is_sent_as_it_is(claims: dict[str, float], visitor: BrowserVisitor) -> None:
    visitor.run(f"usual.identify('u1', '{token('u1', **claims)}')")
    assert visitor.run("usual.recommend({})")[0]["identity"] == "unproven"
    visitor.flush()
    until(visitor.page, lambda: "usual.event" not in visitor.names())
    assert len(visitor.posts("/v1/recommendations")) == 1


def test_a_function_is_asked_every_five_minutes(visitor: BrowserVisitor) -> None:
    visitor.page.clock.install()
    visitor.run(f"asked = 0, usual.identify('u1', () => (asked++, Promise.resolve('{token('u1')}')))")
    asked = []
    for minutes in (0, 4, 2, 4):
        visitor.page.clock.fast_forward(minutes * 60_000)
        visitor.run(f"usual.identify('u1', () => (asked++, '{token('u1')}'))")
        visitor.run("usual.recommend({})")
        asked.append(visitor.run("asked"))
    assert asked == [1, 1, 2, 2]
    visitor.run(f"usual.identify('u2', () => (asked++, '{token('u2')}'))")
    assert visitor.run("usual.recommend({})")[0]["segment"] == "segment of u2"
    assert visitor.run("asked") == 3


@pytest.mark.parametrize(
    "function",
    ["() => { throw Error('no session') }", "() => Promise.reject('no session')", "() => new Promise(() => {})",
     "async () => '<!doctype html>\\n<title>Log in</title>'", "() => 42n", "() => 'x'.repeat(1e6)", "() => {}"],
)  # fmt: skip
def test_a_function_that_fails_holds_nothing_up(function: str, visitor: BrowserVisitor, shop: TrackedShop) -> None:
    visitor.run(f"asked = 0, usual.identify('u1', () => (asked++, ({function})()))")
    event_id = visitor.run(VIEW)
    (result,) = visitor.run("usual.recommend({})")
    assert result["identity"] == "unproven"
    assert result["items"]
    began = time.monotonic()
    for _ in range(3):
        visitor.run("usual.recommend({})")
    assert visitor.run("asked") == 1, "a failing server of the shop is not asked by each request"
    assert time.monotonic() - began < 5
    visitor.flush()
    until(visitor.page, lambda: event_id in shop.stored_events()["event_id"])


def test_a_token_with_line_breaks_around_it_counts(visitor: BrowserVisitor) -> None:
    visitor.run(f"usual.identify('u1', async () => '{token('u1')}\\r\\n')")
    assert visitor.run("usual.recommend({})")[0]["identity"] == "proven"


def test_without_consent_no_token_is_asked_for_or_sent(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    visitor.page.goto(f"{shop.url}/asks")
    visitor.run(f"asked = 0, usual.identify('u1', () => (asked++, '{token('u1')}'))")
    assert visitor.run("usual.recommend({})")[0]["identity"] == "anonymous"
    assert visitor.run("asked") == 0
    visitor.run("usual.consent(true)")
    assert visitor.run("usual.recommend({})")[0]["identity"] == "proven"
    visitor.run("usual.consent(false)")
    assert visitor.run("usual.recommend({})")[0]["identity"] == "anonymous"
    headers = [r.headers.get("x-visitor-token") for r in visitor.posts("/v1/recommendations")]
    assert [bool(header) for header in headers] == [False, True, False]
    assert visitor.names() == []


def test_a_refusal_holds_for_what_waits_for_a_token(visitor: BrowserVisitor) -> None:
    visitor.get_client_id()
    before = len(visitor.sent_events())
    visitor.run("usual.identify('u1', () => new Promise(done => release = done))")
    visitor.run(VIEW)
    visitor.flush()
    visitor.run("pending = usual.recommend({}), new Promise(done => setTimeout(done, 700))")
    visitor.run(f"usual.consent(false), release('{token('u1')}')")
    assert visitor.run("pending.then(results => results[0].identity)") == "anonymous"
    visitor.page.wait_for_timeout(300)
    assert len(visitor.sent_events()) == before
    assert visitor.names() == []


def test_what_an_earlier_page_could_not_send_is_proven_by_the_next(visitor: BrowserVisitor, shop: TrackedShop) -> None:
    visitor.get_client_id()
    visitor.context.route(EVENTS, lambda route: route.abort())
    visitor.run(f"usual.identify('u1', '{token('u1')}')")
    event_id = visitor.run(VIEW)
    visitor.page.goto("about:blank")
    visitor.context.unroute(EVENTS)
    visitor.page.goto(f"{shop.url}/next")
    visitor.run(f"usual.identify('u1', '{token('u1')}')")
    until(visitor.page, lambda: event_id in shop.stored_events()["event_id"])
    (row,) = shop.stored_events().filter(event_id=event_id).to_dicts()
    assert row["customer_id"] == "u1"
