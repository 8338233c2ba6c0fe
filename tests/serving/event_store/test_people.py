"""Which events belong to which visitor, erasure and retention, on both kinds of store."""

import random
import time
from collections.abc import Callable

import polars as pl
import pytest

from features.common.clock import DAY, SECOND, now
from features.sources import event_store as source
from serving.event_store import EventStore, VisitorIds
from serving.event_store import store as stores
from tests.serving.store_events import T, event, read_events, visit_items

Open = Callable[..., EventStore]

CLIENT, CUSTOMER, BOTH = VisitorIds(None, "d1"), VisitorIds("c1", None), VisitorIds("c1", "d1")


def test_events_of_each_kind_of_visitor(store: EventStore):
    store.append(
        [
            event("view_item", T, "anonymous"),
            event("view_item", T + 1, "logged in", client_id="d1", customer_id="c1"),
            event("view_item", T + 2, "elsewhere", client_id="d2", customer_id="c1"),
            event("view_item", T + 3, "at the till", customer_id="c1"),
            event("view_item", T + 4, "someone else", client_id="d1", customer_id="c2"),
            event("view_item", T + 5, "stranger", client_id="c1"),  # a client whose id is a customer's
        ]
    ).result(5)
    visitors = [
        BOTH,
        CLIENT,
        VisitorIds("c2", None),
        VisitorIds("d1", None),
        VisitorIds(None, "c1"),
        VisitorIds("c1", "d9"),
    ]
    visits = [[t.item_id for t in visit] for visit in store.visits(visitors, T, T + DAY, 5)]
    assert visits == [
        ["anonymous", "logged in", "elsewhere", "at the till"],
        ["anonymous"],
        ["someone else"],
        [],
        ["stranger"],
        ["logged in", "elsewhere", "at the till"],
    ]


def test_a_login_links_the_visit_to_the_customer(store: EventStore):
    store.append([event("view_item", T, "before")]).result(5)
    assert visit_items(store, CUSTOMER) == []
    store.append([event("login", T + 1, None, client_id="d1", customer_id="c1")]).result(5)
    assert visit_items(store, CUSTOMER) == ["before"]
    store.append([event("login", T + 2, None, client_id="d1", customer_id="c2")]).result(5)
    assert visit_items(store, CUSTOMER) == [], "a device of two customers joins nobody's profile"


def test_a_merge_links_the_visit_to_the_customer(store: EventStore):
    store.append([event("view_item", T, "before"), event("view_item", T + 1, "other", client_id="d2")]).result(5)
    assert [store.merge("d1", "c1").result(5), store.merge("d1", "c1").result(5)] == [1, 0]
    assert visit_items(store, CUSTOMER) == ["before"]


def test_without_consent_nothing_is_linked_and_all_is_erased(store: EventStore, url: str):
    def refused(client: str, customer: str):
        return event("login", T + 1, None, client_id=client, customer_id=customer, consent=False)

    store.append([event("view_item", T, "before"), refused("d1", "c1")]).result(5)
    assert visit_items(store, CUSTOMER) == []
    store.append([event("view_item", T, "mine", client_id="d2"), event(client_id="d2", customer_id="c2")]).result(5)
    assert set(visit_items(store, VisitorIds("c2", None))) == {"i1", "mine"}
    store.append([refused("d2", "c1")]).result(5)
    assert set(visit_items(store, VisitorIds("c2", None))) == {"i1", "mine"}, "still the device of c2 alone"
    assert next(source.read(url)).links.is_empty()
    counts = store.erase("c1").result(5)
    assert (counts.events, counts.clients, counts.shared_clients) == (4, 1, 1)
    assert read_events(url)["customer_id"].to_list() == ["c2"]


def test_later_consent_links(store: EventStore):
    both = {"client_id": "d1", "customer_id": "c1"}
    store.append([event("view_item", T, "before"), event("login", T, None, **both, consent=False)]).result(5)
    store.append([event("login", T + 1, None, **both, consent=True)]).result(5)
    assert visit_items(store, CUSTOMER) == ["before"]


def test_a_visit_is_read_from_the_latest_devices(store: EventStore, monkeypatch: pytest.MonkeyPatch):
    clock = [T]
    monkeypatch.setattr("features.common.clock.now", lambda: clock[0])
    for n in random.Random(4).sample(range(60), 60):
        clock[0] = T + n
        login = event("login", T, None, client_id=f"d{n}", customer_id="c1")
        store.append([event("view_item", T + n, f"i{n}", client_id=f"d{n}"), login]).result(5)
    assert visit_items(store, CUSTOMER) == [f"i{n}" for n in range(40, 60)]
    assert visit_items(store, VisitorIds("c1", "d7")) == ["i7"]
    assert store.erase("c1").result(5).clients == 60


def test_erasing_a_customer(store: EventStore, url: str):
    own = [event(client_id="d1", customer_id="c1"), event(client_id="d1"), event(customer_id="c1")]
    shared = [event(client_id="d2", customer_id=c) for c in ("c1", "c2")]
    others = [event(client_id="d3"), event(customer_id="c3")]
    store.append([*own, *shared, event(client_id="d2"), *others]).result(5)
    counts = store.erase("c1").result(5)
    assert (counts.events, counts.links, counts.clients, counts.shared_clients) == (5, 2, 1, 1)
    assert sorted(read_events(url)["event_id"]) == sorted(e.event_id for e in [shared[1], *others])
    assert store.append(own).result(5) == [False] * 3, "what is sent again does not come back"
    assert store.erase("c1").result(5).events == 0


def test_old_events_are_purged(open_: Open, url: str, monkeypatch: pytest.MonkeyPatch):
    clock = [T]
    monkeypatch.setattr("features.common.clock.now", lambda: clock[0])
    store = open_(keep_days=38)

    def pass_days(days: int) -> None:
        """Let the time pass as a server sees it, which looks at the clock again and again."""
        for _ in range(days):
            clock[0] += DAY
            store.purge().result(5)

    old = event(event_id="old")
    store.append([old, event(event_id="also old")]).result(5)
    pass_days(7)
    clock[0] += DAY
    store.append([event(event_id="new", received_at=clock[0])]).result(5)
    assert store.append([old]).result(5) == [False]
    store.purge().result(5)
    assert read_events(url).height == 3
    assert store.append([old]).result(5) == [True], "after a week its id is forgotten"
    pass_days(31)
    assert "new" in read_events(url)["event_id"]
    assert read_events(url).filter(pl.col("event_id") == "also old").height == 0


def test_a_link_is_purged_with_the_last_event_that_made_it(open_: Open, url: str, monkeypatch: pytest.MonkeyPatch):
    clock = [T]
    monkeypatch.setattr("features.common.clock.now", lambda: clock[0])
    store = open_(keep_days=38)

    def log_in(client: str, **more: object) -> None:
        ids = {"client_id": client, "customer_id": "c1"}
        store.append([event("login", clock[0], None, **ids, received_at=clock[0], **more)]).result(5)

    for client in ("d1", "d2", "d3", "d4"):
        log_in(client)
    store.merge("d4", "c1").result(5)
    for _ in range(30):
        clock[0] += DAY
        store.purge().result(5)
    log_in("d1")
    log_in("d3", consent=False)
    for _ in range(10):
        clock[0] += DAY
        store.purge().result(5)
    store.append([event("view_item", clock[0], f"of d{n}", client_id=f"d{n}") for n in (1, 2, 3, 4)]).result(5)
    assert visit_items(store, CUSTOMER, T, clock[0] + 1) == ["of d1", "of d4"]
    counts = store.erase("c1").result(5)
    assert (counts.clients, counts.links) == (3, 3), "of d3 it is known that it was used without consent, of d2 nothing"


def test_a_clock_that_is_ahead_for_a_while_purges_nothing(open_: Open, url: str, monkeypatch: pytest.MonkeyPatch):
    clock = [T]
    monkeypatch.setattr("features.common.clock.now", lambda: clock[0])
    store = open_(keep_days=38)
    store.append([event(event_id="before", received_at=T)]).result(5)
    for minutes in range(0, 600, 10):  # also where nothing was purged before
        clock[0] = T + 100 * DAY + minutes * 60 * SECOND
        store.append([event(event_id=f"ahead {minutes}", received_at=clock[0])]).result(5)
        store.purge().result(5)
    clock[0] = T + 11 * 3600 * SECOND
    store.purge().result(5)
    assert "before" in read_events(url)["event_id"]
    assert store.append([event(event_id="before")]).result(5) == [False], "its id is remembered, too"
    for _ in range(39):
        clock[0] += DAY
        store.purge().result(5)
    left = read_events(url)["event_id"].to_list()
    assert "before" not in left, "rows of the future do not hide what is old"
    assert len(left) == 60


def test_a_clock_that_stays_ahead_is_believed_after_a_day(open_: Open, url: str, monkeypatch: pytest.MonkeyPatch):
    """As of a server that was off for months."""
    clock = [T]
    monkeypatch.setattr("features.common.clock.now", lambda: clock[0])
    store = open_(keep_days=38)
    store.append([event(received_at=T)]).result(5)
    store.purge().result(5)
    clock[0] += 100 * DAY
    for _ in range(25):
        assert read_events(url).height == 1
        store.purge().result(5)
        clock[0] += DAY // 24
    store.purge().result(5)
    assert not read_events(url).height


def test_erasing_a_device(store: EventStore, url: str):
    of_device = [event(client_id="d1"), event(client_id="d1", customer_id="c1")]
    others = [event(client_id="d2"), event(customer_id="c1")]
    store.append([*of_device, *others]).result(5)
    counts = store.erase_client("d1").result(5)
    assert (counts.events, counts.links) == (2, 1)
    assert sorted(read_events(url)["event_id"]) == sorted(e.event_id for e in others)


def test_old_events_are_purged_without_new_ones(open_: Open, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stores, "_FIRST_PURGE_S", 0.5)
    monkeypatch.setattr(stores, "_PURGE_EVERY_S", 0.1)
    store = open_(keep_days=1)
    store.append([event(received_at=now() - 2 * DAY)]).result(5)
    assert read_events(url).height == 1
    for _ in range(100):
        if not read_events(url).height:
            return
        time.sleep(0.05)
    pytest.fail("it is still there")
