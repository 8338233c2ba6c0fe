"""What every store does, on SQLite and on PostgreSQL."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path

import polars as pl
import pytest

from features.clock import DAY, moment
from features.errors import InputError
from features.events import EVENT_SCHEMA, LINK_SCHEMA
from features.ingest import ingest
from features.sources import store as source
from serving.event_store import EventStore, Limits, StoreUnavailable, Unstorable, Visitor, open_store
from serving.event_store import store as stores
from tests.serving.stored import FOR_EVER, T, event, everything

Open = Callable[..., EventStore]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "events.sqlite")
    return str(request.getfixturevalue("postgres").database())


@pytest.fixture
def open_(url: str) -> Iterator[Open]:
    opened: list[EventStore] = []

    def open_one(**limits: object) -> EventStore:
        opened.append(open_store(url, Limits(**{"keep_days": FOR_EVER} | limits)))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_: Open) -> EventStore:
    return open_()


def items(store: EventStore, visitor: Visitor, after: int = T, before: int = T + DAY) -> list[str | None]:
    (visit,) = store.visits([visitor], after, before, 5)
    return [touch.item_id for touch in visit]


CLIENT, CUSTOMER, BOTH = Visitor(None, "d1"), Visitor("c1", None), Visitor("c1", "d1")


def test_events_are_there_once_acknowledged_also_after_reopening(open_: Open, url: str):
    store = open_()
    sent = event("purchase", T, "i1", "i2", order_id="o1", currency="EUR", consent=True, position=3, query="tea")
    assert store.append([sent, event()]).result(5) == [True, True]
    store.close()
    rows = everything(url)
    assert rows.schema == EVENT_SCHEMA
    assert rows.height == 3
    assert rows.row(0, named=True) == dict(zip(EVENT_SCHEMA, sent.rows[0], strict=True)) | {
        "timestamp": moment(T), "received_at": moment(T),
    }  # fmt: skip
    assert items(open_(), CLIENT) == ["i1", "i2", "i1"]


def test_an_event_counts_once(store: EventStore, url: str):
    one, other = event(), event()
    assert store.append([one, other, one]).result(5) == [True, True, False]
    assert store.append([other, event()]).result(5) == [False, True]
    assert everything(url)["event_id"].n_unique() == everything(url).height == 3


def test_a_purchase_counts_once_whatever_its_id(store: EventStore, url: str):
    def bought(name: str, *lines: str, order: str = "o1", **columns: object):
        return event(name, T, *lines, order_id=order, **columns)

    assert store.append([bought("purchase", "i1"), bought("purchase", "i1", client_id="d2")]).result(5) == [True, False]
    assert store.append([bought("purchase", "i1"), bought("purchase", "i1", order="o2")]).result(5) == [False, True]
    back = [bought("refund", "i1"), bought("refund", "i2"), bought("refund", "i1"), bought("refund", "i2", "i3")]
    assert store.append(back).result(5) == [True, True, False, True]
    assert store.append([bought("view_cart", "i1"), bought("view_cart", "i1")]).result(5) == [True, True]


def test_a_repeated_event_does_not_use_up_another_order(store: EventStore):
    first = event("purchase", T, "i1", order_id="o1", event_id="same")
    again = event("purchase", T, "i1", order_id="o2", event_id="same")
    assert store.append([first]).result(5) == [True]
    assert store.append([again, event("purchase", T, "i1", order_id="o2")]).result(5) == [False, True]


def test_a_visit_is_read_in_the_order_of_training(store: EventStore):
    sent = [
        event("view_item", T + 2, "late"),
        event("view_item", T + 1, "b", event_id="x"),
        event("add_to_cart", T + 1, "ä", "a", event_id="w"),
        event("search", T + 1, None, event_id="Z", query="tea"),
        event("view_cart", T + 1, "z", None, event_id="w2", price=0.1),
        event("view_item", T, "first"),
        event("view_item", T - 1, "before"),
    ]
    random.Random(3).shuffle(sent)
    store.append(sent).result(5)
    (visit,) = store.visits([CLIENT], T, T + 2, 5)
    assert [(t.item_id, t.name) for t in visit] == [
        ("first", "view_item"), (None, "search"), ("a", "add_to_cart"), ("ä", "add_to_cart"), (None, "view_cart"),
        ("z", "view_cart"), ("b", "view_item"),
    ]  # fmt: skip
    assert visit[5].price == 0.1
    assert visit[0].price is None


def test_of_a_visit_only_what_says_what_it_is_about(store: EventStore):
    kept = [event("view_item", T, "seen"), event("remove_from_cart", T + 1, "gone", consent=True)]
    others = [event(n, T) for n in ("view_item_list", "refund", "login", "tea_brewed")]
    store.append([*kept, *others, event("view_item", T, "refused", consent=False)]).result(5)
    assert items(store, CLIENT) == ["seen", "gone"]


def test_of_a_visit_the_last_rows(store: EventStore):
    flood = [event("view_item_list", T + 100 + n, *(f"l{i}" for i in range(20))) for n in range(10)]
    store.append([event("view_item", T + n, f"i{n}") for n in range(60)] + flood).result(5)
    assert items(store, CLIENT) == [f"i{n}" for n in range(10, 60)]


def test_whose_events_a_visitor_has(store: EventStore):
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
    asked = [BOTH, CLIENT, Visitor("c2", None), Visitor("d1", None), Visitor(None, "c1"), Visitor("c1", "d9")]
    found = [[t.item_id for t in visit] for visit in store.visits(asked, T, T + DAY, 5)]
    assert found == [
        ["anonymous", "logged in", "elsewhere", "at the till"],
        ["anonymous"],
        ["someone else"],
        [],
        ["stranger"],
        ["logged in", "elsewhere", "at the till"],
    ]


def test_a_login_joins_the_visit_to_the_profile(store: EventStore):
    store.append([event("view_item", T, "before")]).result(5)
    assert items(store, CUSTOMER) == []
    store.append([event("login", T + 1, None, client_id="d1", customer_id="c1")]).result(5)
    assert items(store, CUSTOMER) == ["before"]
    store.append([event("login", T + 2, None, client_id="d1", customer_id="c2")]).result(5)
    assert items(store, CUSTOMER) == [], "a device of two customers joins nobody's profile"


def test_a_merge_does_too(store: EventStore):
    store.append([event("view_item", T, "before"), event("view_item", T + 1, "other", client_id="d2")]).result(5)
    assert [store.merge("d1", "c1").result(5), store.merge("d1", "c1").result(5)] == [1, 0]
    assert items(store, CUSTOMER) == ["before"]


def test_without_consent_nothing_is_tied_and_all_is_erased(store: EventStore, url: str):
    def refused(client: str, customer: str):
        return event("login", T + 1, None, client_id=client, customer_id=customer, consent=False)

    store.append([event("view_item", T, "before"), refused("d1", "c1")]).result(5)
    assert items(store, CUSTOMER) == []
    store.append([event("view_item", T, "mine", client_id="d2"), event(client_id="d2", customer_id="c2")]).result(5)
    assert set(items(store, Visitor("c2", None))) == {"i1", "mine"}
    store.append([refused("d2", "c1")]).result(5)
    assert set(items(store, Visitor("c2", None))) == {"i1", "mine"}, "still the device of c2 alone"
    assert next(source.read(url)).links.is_empty()
    gone = store.erase("c1").result(5)
    assert (gone.events, gone.clients, gone.shared_clients) == (4, 1, 1)
    assert everything(url)["customer_id"].to_list() == ["c2"]


def test_consent_given_later_ties(store: EventStore):
    both = {"client_id": "d1", "customer_id": "c1"}
    store.append([event("view_item", T, "before"), event("login", T, None, **both, consent=False)]).result(5)
    store.append([event("login", T + 1, None, **both, consent=True)]).result(5)
    assert items(store, CUSTOMER) == ["before"]


def test_of_many_devices_the_latest(store: EventStore, monkeypatch: pytest.MonkeyPatch):
    clock = [T]
    monkeypatch.setattr(stores, "now", lambda: clock[0])
    for n in random.Random(4).sample(range(60), 60):
        clock[0] = T + n
        login = event("login", T, None, client_id=f"d{n}", customer_id="c1")
        store.append([event("view_item", T + n, f"i{n}", client_id=f"d{n}"), login]).result(5)
    assert items(store, CUSTOMER) == [f"i{n}" for n in range(40, 60)]
    assert items(store, Visitor("c1", "d7")) == ["i7"]
    assert store.erase("c1").result(5).clients == 60


def test_many_at_once(store: EventStore, url: str):
    batches = [[event(event_id=f"e{(7 * n + k) % 900}") for k in range(3)] for n in range(400)]
    futures, lock = [], threading.Lock()

    def send(part: list) -> None:
        for batch in part:
            future = store.append(batch)
            with lock:
                futures.append(future)

    threads = [threading.Thread(target=send, args=(batches[n::8],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait(futures, 20)
    assert sum(sum(f.result(0)) for f in futures) == len({e.event_id for b in batches for e in b})
    rows = everything(url)
    assert rows["event_id"].n_unique() == rows.height == len({e.event_id for b in batches for e in b})


def test_several_workers_share_a_store(open_: Open, url: str):
    workers = [open_() for _ in range(3)]
    sent = [event(event_id=f"e{n}", order_id=f"o{n % 40}", name="purchase") for n in range(120)]
    futures = []
    for n in range(0, 120, 4):
        part = sent[n : n + 4]
        futures += [w.append(part[::-1] if i else part) for i, w in enumerate(workers)]
    accepted = sum(sum(f.result(20)) for f in futures)
    assert accepted == everything(url).height == 40


def test_what_one_caller_got_wrong_fails_that_caller_alone(store: EventStore, url: str):
    futures = [store.append([event(query=object() if n == 5 else "tea")]) for n in range(10)]
    errors = [f.exception(10) for f in futures]
    assert [n for n, error in enumerate(errors) if error] == [5]
    assert not isinstance(errors[5], StoreUnavailable)
    assert everything(url).height == 9


def test_what_cannot_be_stored_is_told_from_a_store_that_is_away(store: EventStore, url: str):
    futures = [store.append([event(price="three" if n == 1 else 3.0)]) for n in range(3)]
    assert [type(f.exception(10)) for f in futures] == [type(None), Unstorable, type(None)]
    assert everything(url).height == 2


def test_erasing_a_customer(store: EventStore, url: str):
    mine = [event(client_id="d1", customer_id="c1"), event(client_id="d1"), event(customer_id="c1")]
    shared = [event(client_id="d2", customer_id=c) for c in ("c1", "c2")]
    stays = [event(client_id="d3"), event(customer_id="c3")]
    store.append([*mine, *shared, event(client_id="d2"), *stays]).result(5)
    gone = store.erase("c1").result(5)
    assert (gone.events, gone.links, gone.clients, gone.shared_clients) == (5, 2, 1, 1)
    assert sorted(everything(url)["event_id"]) == sorted(e.event_id for e in [shared[1], *stays])
    assert store.append(mine).result(5) == [False] * 3, "what is sent again does not come back"
    assert store.erase("c1").result(5).events == 0


def test_what_is_old_goes(open_: Open, url: str, monkeypatch: pytest.MonkeyPatch):
    clock = [T]
    monkeypatch.setattr(stores, "now", lambda: clock[0])
    store = open_(keep_days=38)
    old = event(event_id="old")
    store.append([old, event(event_id="also old")]).result(5)
    clock[0] += 8 * DAY
    store.append([event(event_id="new", received_at=clock[0])]).result(5)
    assert store.append([old]).result(5) == [False]
    store.purge().result(5)
    assert everything(url).height == 3
    assert store.append([old]).result(5) == [True], "after a week its id is forgotten"
    clock[0] += 31 * DAY
    assert store.purge().result(5) > 0
    assert "new" in everything(url)["event_id"]
    assert everything(url).filter(pl.col("event_id") == "also old").height == 0


def test_with_the_last_event_that_made_a_tie_it_goes(open_: Open, url: str, monkeypatch: pytest.MonkeyPatch):
    clock = [T]
    monkeypatch.setattr(stores, "now", lambda: clock[0])
    store = open_(keep_days=38)

    def seen(client: str, **more: object) -> None:
        who = {"client_id": client, "customer_id": "c1"}
        store.append([event("login", clock[0], None, **who, received_at=clock[0], **more)]).result(5)

    for client in ("d1", "d2", "d3", "d4"):
        seen(client)
    store.merge("d4", "c1").result(5)
    clock[0] += 30 * DAY
    seen("d1")
    seen("d3", consent=False)
    clock[0] += 10 * DAY
    store.purge().result(5)
    store.append([event("view_item", clock[0], f"of d{n}", client_id=f"d{n}") for n in (1, 2, 3, 4)]).result(5)
    assert items(store, CUSTOMER, T, clock[0] + 1) == ["of d1", "of d4"]
    gone = store.erase("c1").result(5)
    assert (gone.clients, gone.links) == (3, 3), "of d3 it is known that it was used without consent, of d2 nothing"


def test_what_is_old_goes_where_nothing_new_comes(open_: Open, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stores, "_FIRST_PURGE_S", 0.5)
    monkeypatch.setattr(stores, "_PURGE_EVERY_S", 0.1)
    store = open_(keep_days=1)
    store.append([event(received_at=stores.now() - 2 * DAY)]).result(5)
    assert everything(url).height == 1
    for _ in range(100):
        if not everything(url).height:
            return
        time.sleep(0.05)
    pytest.fail("it is still there")


def test_export_closes_the_loop(store: EventStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sent = [event("purchase", T + n, "i1", "i2", order_id=f"o{n}", client_id=f"d{n}") for n in range(4)]
    store.append([*sent, event("tea_brewed", T, None, client_id="d1", customer_id="c1")]).result(5)
    store.merge("d2", "c2").result(5)
    assert [p.events.height for p in source.read(url)] == [9]
    monkeypatch.setenv("USUAL_EVENT_STORE", url)
    report = ingest(source.read(), tmp_path / "log")
    assert (report.kept, report.rejected) == ({"purchase": 8, "tea_brewed": 1}, {})
    links = report.log.links()
    assert links.schema == LINK_SCHEMA
    assert links.select("kind", "token", "client_id", "customer_id").rows() == [("merge", None, "d2", "c2")]
    again = ingest(source.read(), tmp_path / "log")
    assert (again.kept, again.duplicates) == ({}, 9)


def test_an_empty_store_can_be_exported(store: EventStore, url: str):
    store.visits([CLIENT], T, T + 1, 5)
    (parsed,) = source.read(url)
    assert (parsed.rows_read, parsed.events.height) == (0, 0)


def test_a_closed_store_takes_nothing(store: EventStore):
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.append([event()]).result(1)


@pytest.mark.parametrize("url", ["mysql://teller:hush@vault/x", "http://vault"])
def test_a_url_of_neither_kind(url: str):
    with pytest.raises(InputError, match="USUAL_EVENT_STORE") as error:
        open_store(url)
    assert "hush" not in str(error.value)
