"""The demo storefront in a real browser, with a real server and a small trained bundle.

Screenshots are stored beside the test, or in the directory that USUAL_SCREENSHOTS names.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import jwt
import polars as pl
import pyarrow as pa
import pytest

from models.bundle import Bundle
from models.recommender import BundleRecommender
from serving.api.routes.pages import PAGES
from serving.event_store import open_store
from tests.serving.api.middleware.test_api_keys import KEYS, SECRET, bearer
from tests.serving.conftest import FakeRecommender, RunningServer, run_app
from tests.serving.store_events import read_events

HOSTILE = "<img src=x onerror=alert(1)> & <script>alert(2)</script>"

pytestmark = pytest.mark.e2e


@dataclass
class DemoShop:
    """A server with a demo storefront; `store` is the path of its event store."""

    server: RunningServer
    store: str
    items: list[dict[str, Any]]

    def get(self, **query: object) -> dict[str, Any]:
        response = self.server.client.get("/demo/items", params={k: str(v) for k, v in query.items()})
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def stored_events(self, name: str) -> pl.DataFrame:
        return read_events(self.store).filter(name=name)


@pytest.fixture(scope="module")
def shop(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoShop]:
    """The best-selling product has a name that would do harm as HTML."""
    s = bundle.snapshot
    titles = s.catalog["title"].to_pylist()
    titles[int(s.item("buyers_28d").argmax())] = HOSTILE
    at = s.catalog.schema.get_field_index("title")
    about = s.catalog.set_column(at, "title", pa.array(titles, pa.string()))
    recommender = BundleRecommender(replace(bundle, snapshot=replace(s, catalog=about)))
    store = str(tmp_path_factory.mktemp("demo") / "events.sqlite")
    settings = {"open": True, "visit_budget_ms": 20_000, "deadline_ms": 20_000}
    with run_app(recommender, store=open_store(store), **settings) as server:  # type: ignore[arg-type]
        shop = DemoShop(server, store, [])
        shop.items += shop.get(limit=100)["items"]
        yield shop


@dataclass
class DemoPage:
    """The demo storefront as a new visitor sees it."""

    page: Any
    pictures: Path

    def settle(self) -> None:
        self.page.locator("main[aria-busy=false]").wait_for()

    def home(self) -> None:
        self.page.get_by_role("link", name="The Usual demo shop").click()
        self.page.locator("[data-placement='home.trending'] .card").first.wait_for()
        self.settle()

    def open(self, item: dict[str, Any]) -> None:
        """Open an item by the page of its category, as a person would."""
        self.page.locator(f"nav [data-category='{item['category']}']").click()
        card = f"[data-range='{item['category'].replace('/', ' › ')}'] [data-item='{item['item_id']}']"
        self.page.locator(f"{card} h3 a").click()
        self.page.get_by_role("heading", level=1, name=item["title"]).wait_for()
        self.settle()

    def item_ids(self, placement: str = "") -> list[str]:
        """The items in a placement, or in all placements."""
        which = f"='{placement}'" if placement else ""
        cards = self.page.locator(f"[data-placement{which}] .card")
        return [cards.nth(n).get_attribute("data-item") for n in range(cards.count())]

    def screenshot(self, name: str) -> None:
        self.page.screenshot(path=str(self.pictures / f"{name}.png"), full_page=True)

    def evaluate(self, script: str) -> Any:
        """The value of a script; the page's policy forbids playwright's own `evaluate`."""
        session = self.page.context.new_cdp_session(self.page)
        return session.send("Runtime.evaluate", {"expression": script, "returnByValue": True})["result"].get("value")


@pytest.fixture
def visit(browser: Any, shop: DemoShop, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[DemoPage]:
    pictures = Path(os.environ.get("USUAL_SCREENSHOTS") or tmp_path)
    pictures.mkdir(parents=True, exist_ok=True)
    width, height = getattr(request, "param", (1280, 900))
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(10_000)
    page, faults, foreign = context.new_page(), [], []
    address = str(shop.server.client.base_url)
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.startswith(address) else foreign.append(request.url))
    page.goto(f"{address}/demo")
    page.locator("[data-placement] .card").first.wait_for()
    visit = DemoPage(page, pictures)
    visit.settle()
    yield visit
    visit.screenshot(request.node.name)
    context.close()
    assert faults == []
    assert foreign == []


def test_viewed_categories_move_up_and_purchases_are_thanked_for(visit: DemoPage, shop: DemoShop) -> None:
    of = {item["item_id"]: item["category"] for item in shop.items}
    sizes = Counter(of.values())
    before = Counter(of[i] for i in visit.item_ids("home.for_you"))
    category = min((c for c, n in sizes.items() if n >= 3), key=lambda c: before[c])
    viewed = [item for item in shop.items if item["category"] == category][:3]
    assert not visit.item_ids("recently_viewed")
    for item in viewed:
        visit.open(item)
    visit.home()
    after = Counter(of[i] for i in visit.item_ids("home.for_you"))
    assert after[category] > before[category]
    first = visit.item_ids("home.for_you")[: len(viewed)]
    assert sum(of[i] == category for i in first) > before[category]
    assert set(visit.item_ids("recently_viewed")) == {item["item_id"] for item in viewed}
    reasons = visit.page.locator("[data-placement='home.for_you'] .why").all_inner_texts()
    assert "Looked at once in this visit" in reasons
    assert "predictive" in visit.page.locator("[data-placement='home.for_you'] [data-strategy]").inner_text()
    visit.screenshot("after_views")

    bought = viewed[-1]
    visit.open(bought)
    visit.page.get_by_role("button", name="Add to cart", exact=True).first.click()
    visit.page.locator("#pieces", has_text="1").wait_for()
    visit.page.get_by_role("link", name=re.compile("Cart")).click()
    visit.page.locator("[data-placement='cart.complements'] .card").first.wait_for()
    assert not {i for i in visit.item_ids("cart.complements") if of[i] == category}
    visit.page.get_by_role("button", name="Buy", exact=True).click()
    visit.page.get_by_text(f"Thank you for buying {bought['title']}.").wait_for()
    visit.settle()
    assert bought["item_id"] not in visit.item_ids()
    assert len(visit.item_ids("home.for_you")) == 12
    (order,) = shop.stored_events("purchase").filter(item_id=bought["item_id"]).to_dicts()
    assert (order["price"], order["quantity"], order["currency"]) == (bought["price"], 1.0, bought["currency"])
    visit.open(viewed[0])
    assert bought["item_id"] not in visit.item_ids()
    lists = shop.stored_events("view_item_list").filter(list_id="home.for_you", client_id=order["client_id"])
    assert lists["recommendation_id"].str.starts_with("rec_").all()
    assert lists.height >= 12


def test_names_from_the_catalog_are_text(visit: DemoPage, shop: DemoShop) -> None:
    hostile = next(item for item in shop.items if item["title"] == HOSTILE)
    visit.open(hostile)
    assert visit.page.locator("main h1").inner_text() == HOSTILE
    visit.page.locator("[data-key=add]").click()
    visit.page.get_by_role("link", name=re.compile("Cart")).click()
    visit.page.locator(".basket li").get_by_text(HOSTILE).wait_for()
    visit.page.get_by_role("button", name="Buy", exact=True).click()
    visit.page.get_by_text(f"Thank you for buying {HOSTILE}.").wait_for()
    visit.page.goto(f"{visit.page.url.partition('#')[0]}#search=%3Cimg%20src%3Dx%20onerror%3Dalert(3)%3E")
    visit.page.get_by_role("heading", name="Found for").wait_for()
    assert visit.page.locator("img, main script").count() == 0


def test_a_customer_and_a_new_visitor_get_different_rankings(visit: DemoPage, shop: DemoShop) -> None:
    newcomer = visit.item_ids("home.for_you")
    choice = visit.page.get_by_label("You are")
    customer = next(c for c in shop.server.client.get("/demo/shop").json()["customers"] if c["segment"] == "champions")
    choice.select_option(customer["customer_id"])
    visit.page.get_by_text("Segment: champions").wait_for()
    visit.page.get_by_text("Identity: proven").wait_for()
    visit.settle()
    how = visit.page.locator("[data-placement='home.for_you'] [data-strategy]")
    assert how.get_attribute("data-strategy") == "one_to_one"
    assert visit.item_ids("home.for_you") != newcomer
    assert visit.item_ids("buy_again")
    visit.open(shop.items[1])
    visit.screenshot("known_customer")
    choice.select_option("")
    visit.page.locator("[data-strategy=predictive]").first.wait_for()
    visit.page.get_by_text("Identity: anonymous").wait_for()
    visit.open(shop.items[2])
    visit.home()
    views = shop.stored_events("view_item").sort("timestamp")[-2:].to_dicts()
    assert [view["customer_id"] for view in views] == [customer["customer_id"], None]
    assert views[0]["client_id"] != views[1]["client_id"]

    before = read_events(shop.store).height
    visit.page.get_by_label("The shop may remember what I do").uncheck()
    visit.page.locator("[data-strategy]").first.wait_for()
    visit.open(shop.items[3])
    visit.page.wait_for_timeout(1200)
    assert read_events(shop.store).height == before
    assert visit.evaluate("localStorage.length") == 0
    assert visit.page.locator("#event-log li").count() == 0


def test_the_page_works_without_a_mouse(visit: DemoPage) -> None:
    keys, focused = visit.page.keyboard, visit.page.locator(":focus")
    keys.press("Tab")
    assert focused.inner_text() == "Skip to the products"
    keys.press("Enter")
    assert focused.get_attribute("id") == "main"
    keys.press("Tab")
    name = focused.inner_text()
    keys.press("Enter")
    visit.page.get_by_role("heading", level=1, name=name, exact=True).wait_for()
    assert focused.get_attribute("id") == "main", "reading goes on where the page is new"
    keys.press("Tab")
    keys.press("Space")
    visit.page.locator("#pieces", has_text="1").wait_for()
    visit.settle()
    assert focused.inner_text() == "Add to cart", "what was pressed can be pressed again"
    assert visit.page.locator("#announcement").inner_text() == f"{name} is in the cart"
    search = visit.page.get_by_label("Search the catalog")
    search.fill(name.split()[-1])
    search.press("Enter")
    visit.page.get_by_role("heading", name="Found for").wait_for()
    assert name in visit.page.locator("[data-range] h3").all_inner_texts()
    named = visit.page.get_by_role("button", name=f"Add {name} to the cart")
    assert named.count() == 1
    nameless = "[...document.querySelectorAll('input, select')].filter(field => !field.labels.length).length"
    assert visit.evaluate(nameless) == 0


@pytest.mark.parametrize("visit", [(360, 780), (768, 1024)], indirect=True)
def test_the_page_fits_a_small_screen(visit: DemoPage, shop: DemoShop) -> None:
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert visit.evaluate(wide) is False
    visit.open(shop.items[1])
    assert visit.evaluate(wide) is False
    small = "[...document.querySelectorAll('main button')].filter(b => b.offsetHeight < 40).length"
    assert visit.evaluate(small) == 0


# ---- what the page requests


def test_the_catalog_comes_in_pages(shop: DemoShop) -> None:
    items: list[dict[str, Any]] = []
    start: int | None = 0
    while start is not None:
        page = shop.get(start=start, limit=25)
        items += page["items"]
        start = page["next"]
    assert page["total"] == len(items) == len({item["item_id"] for item in items}) == 60
    departments = Counter(item["category"].partition("/")[0] for item in items)
    assert shop.get(category="home")["total"] == departments["home"]
    assert shop.get(category="hom")["total"] == 0
    assert {item["title"] for item in shop.get(search="COFFEE")["items"]} == {
        item["title"] for item in items if "coffee" in item["title"].lower()
    }
    assert {item["brand"] for item in shop.get(search="calla")["items"]} == {"Calla"}
    for query in ("limit=0", "limit=a", "start=-1", "sort=price"):
        refused = shop.server.client.get(f"/demo/items?{query}")
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    ids = [items[0]["item_id"], "unknown", items[5]["item_id"]]
    response = shop.server.client.post("/demo/items", json={"item_ids": ids}).json()["items"]
    assert response == [items[0], items[5]]


def test_the_login_gives_a_token_that_proves_the_customer(shop: DemoShop) -> None:
    client = shop.server.client
    token = client.post("/demo/token", json={"customer_id": "u_1"}).json()["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["sub"], claims["aud"]) == ("u_1", "usual")
    assert 0 < claims["exp"] - time.time() <= 600
    body = {"requests": [{"customer_id": "u_1"}]}
    for sent, status in ((token, "valid"), (token[:-4] + "AAAA", "bad_signature"), ("u_1", "malformed")):
        response = client.post("/v1/recommendations", json=body, headers={"x-visitor-token": sent})
        assert (response.status_code, response.headers["x-visitor-token-status"]) == (200, status)
    for wrong in ({}, {"customer_id": ""}, {"customer_id": "u_1", "hours": 9}):
        assert client.post("/demo/token", json=wrong).status_code == 422


def test_the_login_signs_as_the_shop_does() -> None:
    secret = "the shop's server and ours know it".replace(" ", "-")
    with run_app(FakeRecommender(), open=True, visitor_secrets=secret) as server:
        token = server.client.post("/demo/token", json={"customer_id": "u_1"}).json()["token"]
        assert jwt.decode(token, secret, ["HS256"], audience="usual")["sub"] == "u_1"
    with run_app(FakeRecommender(), open=True, visitor_public_keys="A" * 43) as server:
        assert server.client.post("/demo/token", json={"customer_id": "u_1"}).json() == {"token": None}


def test_customers_of_many_segments_are_offered(shop: DemoShop) -> None:
    catalog = shop.server.client.get("/demo/shop").json()
    assert len(catalog["customers"]) == 12
    segments = [customer["segment"] for customer in catalog["customers"]]
    assert len(set(segments)) >= 8
    assert sum(category["items"] for category in catalog["categories"]) == 60


def test_nothing_of_other_hosts_may_load_or_run(shop: DemoShop) -> None:
    response = shop.server.client.get("/demo")
    policy = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search(r"<script>|style=| on\w+=|https?:", response.text)


def test_a_server_with_keys_has_no_demo() -> None:
    with run_app(FakeRecommender(), **KEYS) as server:
        for path in ("/demo", "/demo/demo.js", "/demo/shop", "/demo/items", "/demo/token"):
            assert httpx.get(f"{server.client.base_url}{path}").status_code == 401
            assert server.client.get(path, headers=bearer(SECRET)).status_code == 404


def _luminance(colour: str) -> float:
    digits = colour if len(colour) == 6 else "".join(d * 2 for d in colour)
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("night", [False, True])
def test_text_has_enough_contrast(night: bool) -> None:
    """WCAG 2.2, level AA: 4.5 to 1."""
    style = (PAGES / "demo.css").read_text()
    themes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{3,6});", themes[int(night)]))
    for ink, ground in (
        ("ink", "paper"), ("ink", "card"), ("ink", "mint"), ("soft", "paper"), ("soft", "card"), ("green", "paper"),
        ("on-green", "green"), ("amber-ink", "amber"),
    ):  # fmt: skip
        light, dark = sorted((_luminance(colours[ink]), _luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
