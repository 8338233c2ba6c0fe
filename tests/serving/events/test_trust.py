"""Attacks with what a page has: its publishable key, tokens and devices of its own, and ids that it guesses."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.common.clock import now
from features.common.ids import PAGE_EVENT
from features.event_log.ingestion.ingest import ingest
from features.sources import event_store as source
from features.sources.event_store import is_postgres
from features.tables.engine import PolarsEngine
from features.tables.sessions import build_sessions
from features.tables.visibility import select_visible
from serving.event_store import Limits, StoredEvent, open_store
from serving.event_store.protocol import AT
from serving.events.trust import keep_proven
from serving.events.validate import validate_events
from serving.identity.caller import Caller, VisitorProofs, page_caller, shop_caller
from serving.identity.signing import sign_token
from serving.settings import Settings
from tests.serving.event_bodies import ago, event_body
from tests.serving.store_events import read_events

PUBLISHABLE, SECRET = (f"{name}-{'0123456789abcdef' * 2}" for name in ("publishable", "secret"))
KEYS = {
    "open": False,
    "publishable_keys": PUBLISHABLE,
    "secret_keys": SECRET,
    "visitor_secrets": f"visitors-{'0123456789abcdef' * 2}",
    "server_secret": f"server-{'0123456789abcdef' * 2}",
}


class Shop:
    """A server with keys, and what the shop and a page send to it."""

    def __init__(self, server: Any, url: str) -> None:
        self.server, self.url = server, url

    def send(self, path: str, body: object, key: str, token: str | None = None) -> Any:
        headers = {"authorization": f"Bearer {key}"} | ({"x-visitor-token": token} if token else {})
        response = self.server.client.post(path, json=body, headers=headers)
        assert response.status_code in (200, 201, 202, 422), response.text
        return response.json()

    def page(self, *events: object, token: str | None = None) -> Any:
        return self.send("/v1/events", {"events": events}, PUBLISHABLE, token)

    def own(self, *events: object) -> Any:
        return self.send("/v1/events", {"events": events}, SECRET)

    def segment(self, *calls: object, token: str | None = None) -> Any:
        return self.send("/v1/events/segment", {"batch": calls}, PUBLISHABLE, token)

    def device(self) -> str:
        return str(self.send("/v1/clients", {}, PUBLISHABLE)["client_id"])

    def recent(self, **visitor: str) -> list[str]:
        """What the server knows that a visitor did, as the shop's server is told."""
        self.send("/v1/recommendations", {"requests": [visitor]}, SECRET)
        return [item for item, *_ in self.server.recommender.batches[-1][0].recent]

    def claims(self) -> int:
        return sum(rows for part in source.read(self.url) for rows in part.left_out.values())

    def links(self) -> list[tuple[object, ...]]:
        return next(source.read(self.url)).links.select("kind", "client_id", "customer_id").rows()


def token(customer: str | None = None, client: str | None = None) -> str:
    return sign_token(Settings.model_validate(KEYS), customer, client, environment={})


@pytest.fixture
def open_shop(serve: Callable, fake: type, url: str) -> Callable[..., Shop]:
    def start(**more: object) -> Shop:
        store = open_store(url, Limits(write_s=20))
        return Shop(serve(fake(as_of=ago(days=2)), store=store, visit_budget_ms=5000, **KEYS, **more), url)

    return start


@pytest.fixture
def shop(open_shop: Callable[..., Shop]) -> Shop:
    return open_shop()


def order(number: str = "T1", *items: str, name: str = "purchase", **fields: Any) -> dict[str, Any]:
    return event_body(name, *items, **{"client_id": None} | fields, params={"transaction_id": number})


def call(event: str = "Product Viewed", **more: Any) -> dict[str, Any]:
    product = {"product_id": "false", "price": 1}
    return {"type": "track", "event": event, "timestamp": ago(hours=1), "properties": product} | more


def segment_order(number: str = "T1", **more: Any) -> dict[str, Any]:
    products = [{"product_id": "false", "price": 1, "quantity": 1}]
    return call("Order Completed", properties={"order_id": number, "products": products}) | more


def test_a_page_writes_nothing_in_the_name_of_others(shop: Shop):
    device, own_device = shop.device(), shop.device()
    shop.own(event_body("view_item", "true", client_id=device, customer_id="victim"))
    before = read_events(shop.url)
    names = ("view_item", "add_to_cart", "purchase", "refund", "login")
    of_victim = {"userId": "victim", "anonymousId": "d1"}
    calls = [call(name, **of_victim) for name in ("Product Viewed", "Product Added", "Signed In")]
    calls.append(segment_order(**of_victim))
    for sent in (None, token("attacker"), token("attacker", own_device), token("victim", own_device), "e30.e30.e30"):
        false = [
            event_body(name, "false", client_id=client, customer_id="victim", session_id="theirs")
            for name in names
            for client in ("d1", "~d1", f"{device[:-1]}_", None)
        ]
        answer = shop.page(*false, token=sent)
        assert (answer["accepted"], answer["unproven"], answer["claims"]) == (15, 15, 6)
        assert {r["code"] for r in answer["rejected"]} == {"unproven_customer"}
        answer = shop.segment(*calls, token=sent)
        assert (answer["accepted"], answer["claims"]) == ((4, 1) if sent is None else (0, 0)), "sent again: duplicates"
        assert shop.segment(call(userId="victim"), token=sent)["errors"][0]["code"] == "unproven_customer"
    assert shop.recent(customer_id="victim") == ["true"]
    assert shop.recent(customer_id="victim", client_id=device) == ["true"]
    after = read_events(shop.url)
    assert after.filter(customer_id="victim").equals(before)
    assert after["client_id"].drop_nulls().str.starts_with("~").sum() == after.height - 1
    assert not after["name"].is_in(["purchase", "refund"]).any()


def test_nothing_that_a_page_says_ties_a_device_to_a_customer(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "sixteen letters!")
    device, other = shop.device(), shop.device()
    shop.page(event_body("view_item", "mine", client_id=device))
    for sent in (None, token("attacker"), token(None, device)):
        shop.page(event_body("login", client_id=device, customer_id="victim", params={"items": []}), token=sent)
        shop.segment(
            call("Signed In", userId="victim", anonymousId=device),
            {"type": "identify", "userId": "victim", "anonymousId": device, "traits": {"email": "jane@example.org"}},
            {"type": "alias", "userId": "victim", "previousId": device, "timestamp": ago(hours=1)},
            {"type": "alias", "userId": "attacker", "previousId": "d1", "timestamp": ago(hours=1)},
            call(anonymousId=device, context={"traits": {"email": "jane@example.org"}}),
            {"type": "group", "userId": "victim", "anonymousId": device, "groupId": "g", "timestamp": ago(hours=1)},
            {"type": "page", "userId": "victim", "anonymousId": device, "timestamp": ago(hours=1)},
            token=sent,
        )
    assert shop.links() == []
    assert shop.recent(customer_id="victim") == []
    assert shop.recent(customer_id="attacker") == []
    # What is proven ties: a login, and an alias of a device that the same caller has.
    shop.page(event_body("login", client_id=device, customer_id="c1", params={"items": []}), token=token("c1"))
    assert "mine" in shop.recent(customer_id="c1")
    alias = {"type": "alias", "userId": "c1", "previousId": other, "timestamp": ago(hours=1)}
    shop.segment(alias, token=token("c1"))
    assert shop.links() == [("merge", other, "c1")]


def test_a_page_reserves_no_order_and_no_id(shop: Shop):
    own = [order(f"T{n}", "p1", event_id=f"e{n}", customer_id="c1") for n in range(1000)]
    stolen = [body | {"client_id": "d1", "customer_id": None} for body in own]
    assert shop.page(*stolen)["claims"] == 1000
    shop.page(*(event_body(event_id=f"e{n}", client_id=shop.device()) for n in range(3)))
    shop.page(*stolen[:500], token=token("c1"))  # a customer of the shop's can do no more
    shop.page(*(body | {"customer_id": "attacker"} for body in own), token=token("attacker"))
    answer = shop.own(*own)
    assert (answer["accepted"], answer["duplicates"]) == (1000, 0)
    assert shop.claims() == 0
    assert shop.page(*(body | {"event_id": f"x{body['event_id']}"} for body in stolen[:5]))["duplicates"] == 5
    assert shop.own(*own)["duplicates"] == 1000


def test_a_claim_changes_no_answer_and_no_export(shop: Shop):
    device = shop.device()
    shop.page(event_body("view_item", "seen", client_id=device))
    answer = shop.page(
        order("T1", "bought", client_id=device),
        order("T1", "bought", name="refund", client_id=device, customer_id="c1"),
    )
    assert (answer["accepted"], answer["claims"], answer["unproven"]) == (2, 2, 1)
    assert shop.recent(client_id=device) == ["seen"]
    assert read_events(shop.url)["item_id"].to_list() == ["seen"]
    assert shop.claims() == 2


def test_a_proven_order_is_known_at_once_and_counts_once(shop: Shop, tmp_path: Path):
    """As when the page and the shop's server both send it."""
    device = shop.device()
    bought = order("T1", "i1", "i2", client_id=device, customer_id="c1", timestamp=ago(hours=1))
    assert shop.page(bought)["claims"] == 1
    answer = shop.page(bought, token=token("c1"))
    assert (answer["accepted"], answer["unproven"], answer["claims"]) == (1, 0, 0)
    assert set(shop.recent(customer_id="c1")) == {"i1", "i2"}
    assert shop.own(order("T1", "i1", "i2", customer_id="c1"))["accepted"] == 1
    assert shop.own(order("T2", "i1", customer_id="c1"))["accepted"] == 1
    rows = read_events(shop.url)
    assert (rows.height, rows["event_id"].n_unique()) == (5, 3)
    log = ingest(source.read(shop.url), tmp_path / "log").log
    events, links = (nw.from_native(frame.lazy()) for frame in (log.scan().collect(), log.links()))
    visible = select_visible(PolarsEngine(), events, links, now())
    lines = visible.lines.collect().to_native().sort("order", "item_id")
    assert lines.select("customer_id", "order", "item_id", "quantity").rows() == [
        ("c1", "T1", "i1", 1.0), ("c1", "T1", "i2", 1.0), ("c1", "T2", "i1", 1.0),
    ]  # fmt: skip
    assert visible.left_out.repeated_orders == 2


def test_a_session_id_joins_nobody_elses_session(shop: Shop, tmp_path: Path):
    device, session = shop.device(), {"session_id": "theirs"}
    shop.own(event_body("view_item", "true", client_id=device, customer_id="victim", **session))
    shop.own(event_body("purchase", "true", client_id=None, customer_id="victim", **session))
    shop.page(event_body("view_item", "false", client_id="d1", customer_id="victim", **session))
    shop.page(event_body("purchase", "false", client_id=device, **session))
    of_attacker = {"client_id": None, "customer_id": "attacker", **session}
    shop.page(*(event_body(n, "false", **of_attacker) for n in ("view_item", "purchase")), token=token("attacker"))
    log = ingest(source.read(shop.url), tmp_path / "log").log
    events, links = (nw.from_native(frame.lazy()) for frame in (log.scan().collect(), log.links()))
    visible = select_visible(PolarsEngine(), events, links, now())
    sessions = build_sessions(visible.events).collect().to_native().sort("customer_id")
    assert sessions.select("customer_id", "events", "views", "sales").rows() == [
        ("attacker", 2, 1, 1), ("victim", 2, 1, 1),
    ]  # fmt: skip
    lines = visible.lines.collect().to_native().sort("customer_id").select("customer_id", "item_id")
    assert lines.rows() == [("attacker", "false"), ("victim", "true")]


def test_what_is_sent_again_is_a_duplicate_at_each_level(shop: Shop):
    device = shop.device()
    bodies = [event_body(client_id=device), event_body(client_id="d1"), order(client_id=device), order(client_id="d1")]
    assert (shop.page(*bodies)["accepted"], shop.page(*bodies)["duplicates"]) == (4, 4)
    of_customer = [event_body(client_id=device, customer_id="c1"), order("T2", customer_id="c1")]
    sent = token("c1")
    assert (shop.page(*of_customer, token=sent)["accepted"], shop.page(*of_customer, token=sent)["duplicates"]) == (
        2,
        2,
    )
    assert (shop.own(*of_customer)["accepted"], shop.own(*of_customer)["duplicates"]) == (2, 2)
    replayed = [call(anonymousId=device, messageId="m1"), segment_order("T3", anonymousId="d1", messageId="m2")]
    assert (shop.segment(*replayed)["accepted"], shop.segment(*replayed)["duplicates"]) == (2, 2)
    assert shop.page(order("T1", client_id=device), order("T1", client_id="d2"))["duplicates"] == 1


def test_refused_consent_keeps_no_ids(shop: Shop):
    device = shop.device()
    refused = {"client_id": device, "customer_id": "c1", "session_id": "s1", "consent": False}
    context = {"consent": {"categoryPreferences": {"Advertising": False}}}
    for sent in (None, token("c1")):
        shop.page(event_body(**refused), order("T1", **refused), token=sent)
        call_ids = {"userId": "c1", "anonymousId": device, "context": context}
        shop.segment(call(**call_ids), segment_order("T2", **call_ids), token=sent)
    rows = read_events(shop.url)
    assert rows["name"].unique().to_list() == ["view_item"]
    with source._open_postgres(shop.url) if is_postgres(shop.url) else source._open_sqlite(Path(shop.url)) as store:
        claims = pl.DataFrame(
            [row for part in store.select("usual_claims", source.COLUMNS) for row in part], source.COLUMNS, orient="row"
        )
        digests = [value for part in store.select("usual_claims", ("order_digest",)) for value in part]
    assert claims["name"].unique().to_list() == ["purchase"]
    for frame in (rows, claims):
        for column in ("customer_id", "client_id", "session_id", "order_id"):
            assert frame[column].to_list() == [None] * frame.height
        assert frame["event_id"].str.starts_with("p:00000000:").all(), "nor a hash of one"
    assert set(digests) == {(None,)}


def test_claims_are_erased_with_device_and_customer(shop: Shop):
    device, other = shop.device(), shop.device()
    shop.page(event_body("login", client_id=device, customer_id="c1", params={"items": []}), token=token("c1"))
    for n, client in enumerate((device, other, "d1", f"~{other}")):
        shop.page(order(f"T{n}", client_id=client))
    erased = shop.send("/v1/customers/erase", {"customer_id": "c1"}, SECRET)
    assert (erased["events"], erased["claims"], shop.claims()) == (1, 1, 3)
    assert shop.send("/v1/customers/erase", {"client_id": other}, SECRET)["claims"] == 1
    assert shop.send("/v1/customers/erase", {"client_id": "d1"}, SECRET)["claims"] == 1
    assert shop.claims() == 1


def test_a_shop_without_logins_believes_the_orders_of_proven_devices(open_shop: Callable[..., Shop]):
    shop = open_shop(page_orders="devices")
    device = shop.device()
    answer = shop.page(
        order("T1", "mine", client_id=device),
        order("T2", "false", client_id="d1"),
        order("T3", "false", client_id=device, customer_id="victim"),
    )
    assert (answer["accepted"], answer["claims"], answer["unproven"]) == (3, 2, 2)
    assert shop.recent(client_id=device) == ["mine"]
    assert shop.page(order("T1", client_id=device))["duplicates"] == 1
    assert shop.own(order("T1", customer_id="c1"))["accepted"] == 1


def test_each_call_of_segment_may_bring_its_own_token(shop: Shop, tmp_path: Path):
    first, second, device = token("c1"), token("c2"), shop.device()
    calls = [
        call(userId="c1", anonymousId=device, context={"visitor_token": first}),
        call(userId="c2", context={"visitor_token": second, "locale": "de-DE"}),
        call(userId="c2", anonymousId=device, context={"visitor_token": first}),
        call(userId="c1", anonymousId="d1"),
        call(userId="c1", context={"visitor_token": ["no", "text"]}),
        {"type": "alias", "userId": "c2", "previousId": device, "context": {"visitor_token": first},
         "timestamp": ago(hours=1)},
    ]  # fmt: skip
    answer = shop.segment(*calls)
    assert (answer["accepted"], answer["unproven"]) == (4, 2)
    assert [(r["index"], r["code"]) for r in answer["rejected"]] == [(4, "unproven_customer")]
    rows = read_events(shop.url).sort("customer_id", "client_id").select("customer_id", "client_id", "country")
    assert rows.rows() == [(None, device, None), (None, "~d1", None), ("c1", device, None), ("c2", None, "DE")]
    assert shop.links() == []
    if not is_postgres(shop.url):
        kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert not any(part.encode() in kept for sent in (first, second) for part in sent.split(".")[1:])


def test_outcomes_are_counted(shop: Shop):
    def counts() -> dict[str, float]:
        text = shop.server.client.get("/metrics").text
        lines = [line for line in text.splitlines() if line.startswith("usual_events_total{")]
        return {line.split('"')[1]: float(line.split()[-1]) for line in lines}

    before = counts()
    device = shop.device()
    shop.page(event_body(client_id=device), event_body(client_id="d1"), order(client_id="d1"), order(customer_id="c1"))
    shop.page(order(client_id="d1"), event_body(client_id=device))
    grown = {outcome: n - before.get(outcome, 0) for outcome, n in counts().items()}
    assert grown == {"accepted": 2, "unproven": 1, "claim": 1, "rejected": 1, "duplicate": 1}


PROOFS = VisitorProofs(Settings.model_validate(KEYS))
DEVICES = [PROOFS.client_ids.new() for _ in range(2)]
TOKENS = [None, token("c1"), token("c2"), token("c1", DEVICES[0]), token(None, "own"), token("c1")[:-2]]
_callers = st.sampled_from([page_caller(PROOFS, sent) for sent in TOKENS])
_bodies = st.builds(
    lambda name, number, **ids: event_body(name, params={"transaction_id": number}, **ids),
    st.sampled_from(["view_item", "purchase", "refund", "login"]),
    st.sampled_from([None, "T1", "T2"]),
    event_id=st.sampled_from(["e1", "e2", "p:00000000:e1", "v:00000000:e1"]),
    customer_id=st.sampled_from([None, "c1", "c2", "~c1"]),
    client_id=st.sampled_from([None, *DEVICES, "own", "d1", "~d1", f"~{DEVICES[0]}", DEVICES[0][:-1]]),
    consent=st.sampled_from([None, True, False]),
)
_sent = st.lists(st.tuples(_callers, st.lists(_bodies, min_size=1, max_size=3)), max_size=4)


def stored(caller: Caller, bodies: list[dict[str, Any]]) -> list[StoredEvent]:
    return keep_proven(validate_events(bodies, NOW), caller, "claims", "/events/{}/customer_id").events


NOW = now()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("stores")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_sent, st.lists(_bodies, max_size=4))
def test_no_mix_of_callers_and_ids_stores_what_is_not_proven(
    directory: Path, sent: list[tuple[Caller, list[dict[str, Any]]]], own: list[dict[str, Any]]
):
    def write(*batches: list[StoredEvent]) -> tuple[list[list[bool]], list[tuple[Any, ...]]]:
        path = directory / "events.sqlite"
        for file in directory.glob("events.sqlite*"):
            file.unlink()
        store = open_store(str(path), Limits())
        new = [store.append(batch).result(10) for batch in batches]
        store.close()
        with sqlite3.connect(path) as connection:
            columns = ", ".join(source.COLUMNS)
            rows = connection.execute(f"SELECT {columns} FROM usual_events ORDER BY seq").fetchall()  # noqa: S608
        return new, rows

    for caller, bodies in sent:
        for event in stored(caller, bodies):
            assert re.match(PAGE_EVENT, event.event_id), "by which tables know what a page sent"
            for row in event.rows:
                customer, client = row[AT["customer_id"]], row[AT["client_id"]]
                proven = caller.resolve(customer, client)  # type: ignore[arg-type]
                assert customer == proven.customer_id
                assert client == proven.client_id or (customer is None and str(client).startswith("~"))
                assert event.claim == (row[AT["name"]] in ("purchase", "refund") and customer is None)
                assert row[AT["consent"]] is not False or (customer, client) == (None, None)
    shop = stored(shop_caller(PROOFS), own)
    alone, rows = write(shop)
    after, mixed = write(*(stored(*each) for each in sent), shop)
    assert after[-1] == alone[0]
    assert mixed[len(mixed) - len(rows) :] == rows
