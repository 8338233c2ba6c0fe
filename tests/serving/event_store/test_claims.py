"""Claims and trust levels, on both kinds of store: what a page sends without proof changes nothing of the shop's."""

import itertools
import sqlite3
from collections.abc import Callable

import polars as pl
import psycopg
import pytest

from features.common.clock import DAY
from features.sources import event_store as source
from features.sources.event_store import is_postgres, sqlite_path
from serving.event_store import EventStore, StoredEvent, VisitorIds
from serving.event_store.claims import MOST_ROWS
from serving.event_store.protocol import Link
from tests.serving.store_events import T, event, read_events, visit_items

Open = Callable[..., EventStore]


def ask(url: str, statement: str) -> list[tuple[object, ...]]:
    """The rows of a statement, past the store."""
    if is_postgres(url):
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []
    with sqlite3.connect(sqlite_path(url)) as connection:
        return connection.execute(statement).fetchall()


def claims(url: str) -> list[tuple[object, ...]]:
    """Order, item and client of each claim."""
    return ask(url, "SELECT order_id, item_id, client_id FROM usual_claims ORDER BY seq")


def bought(order: str | None = "o1", client: str = "~d1", name: str = "purchase", **columns: object) -> StoredEvent:
    """An order as a page claims it."""
    items = columns.pop("items", ("i1",))
    return event(name, T, *items, order_id=order, client_id=client, **columns)._replace(scope=client, claim=True)


def ordered(order: str = "o1", name: str = "purchase", **columns: object) -> StoredEvent:
    """An order as the shop's server sends it."""
    return event(name, T, order_id=order, customer_id="c1", **columns)


def test_a_claim_is_no_event(store: EventStore, url: str):
    assert store.append([bought(items=("i1", "i2")), bought(None), event(client_id="~d1")]).result(5) == [True] * 3
    assert claims(url) == [("o1", "i1", "~d1"), ("o1", "i2", "~d1"), (None, "i1", "~d1")]
    assert read_events(url)["name"].to_list() == ["view_item"]
    assert visit_items(store, VisitorIds(None, "~d1")) == []
    assert visit_items(store, VisitorIds("c1", "~d1")) == []


def test_what_pages_reserve_is_new_to_the_shop(store: EventStore, url: str):
    of_page = [bought(f"o{n}", event_id=f"e{n}") for n in range(1000)]
    assert all(store.append(of_page).result(20))
    own = [ordered(f"o{n}", event_id=f"e{n}") for n in range(1000)]
    assert all(store.append(own).result(20))
    assert claims(url) == []
    assert sorted(read_events(url)["order_id"]) == sorted(f"o{n}" for n in range(1000))
    assert not any(store.append(own).result(20))


def test_a_number_that_is_claimed_very_often_holds_up_no_order(store: EventStore, url: str):
    """The shop's order removes the claims of its number: however many pages claim it, these are few."""
    for start in range(0, 600, 200):
        flood = [bought(client=f"~d{n}", items=("i1", "i2")) for n in range(start, start + 200)]
        assert store.append([*flood, bought(f"o2-{start}")]).result(20) == [True] * 201, "a page is not told"
    assert len(claims(url)) == MOST_ROWS + 3
    assert store.append([bought(None, f"~d{n}") for n in range(60)]).result(20) == [True] * 60
    assert len(claims(url)) == MOST_ROWS + 63, "without a number there is nothing to remove"
    assert store.append([bought("o3", items=[f"i{n}" for n in range(60)]), ordered()]).result(20) == [True] * 2
    assert len(claims(url)) == 3 + 60 + 60, "an order of many lines is claimed as a whole"


def test_each_scope_has_ids_and_orders_of_its_own(store: EventStore, url: str):
    events = [ordered(event_id="e")._replace(scope=scope) for scope in ("", "v:1", "v:2")]
    assert store.append([*events, *events]).result(5) == [True] * 3 + [False] * 3
    again = [e._replace(rows=ordered(event_id="f").rows) for e in events]
    assert store.append(again).result(5) == [False] * 3
    assert store.append([bought(), bought(), bought(client="~d2")]).result(5) == [True, False, True]


def test_the_shops_word_keeps_later_claims_out(store: EventStore, url: str):
    store.append([ordered(), ordered("o2", "refund")]).result(5)
    late = [bought(), bought(name="refund"), bought("o2", name="refund"), bought("o2"), bought("o3")]
    assert store.append(late).result(5) == [True] * 5, "a page is not told which orders there are"
    assert claims(url) == [("o2", "i1", "~d1"), ("o3", "i1", "~d1")]
    assert (
        store.append([ordered("o2"), bought("o2", client="~d2"), ordered("o4"), bought("o4")]).result(5) == [True] * 4
    )
    assert claims(url) == [("o3", "i1", "~d1")]


def test_only_the_shop_supersedes(store: EventStore, url: str):
    store.append([bought()]).result(5)
    store.append([ordered()._replace(scope="v:1"), bought(client="~d2")]).result(5)
    assert len(claims(url)) == 2
    store.append([ordered(name="refund")]).result(5)
    assert claims(url) == []


def test_claims_are_erased_with_their_device_and_customer(store: EventStore, url: str):
    both = {"client_id": "d1", "customer_id": "c1"}
    store.append([event("login", T, None, **both), event(client_id="~d1"), event(client_id="~d2")]).result(5)
    store.append([bought(), bought(client="d1"), bought("o2", client="~d2"), bought("o3", client="d2")]).result(5)
    counts = store.erase("c1").result(5)
    assert (counts.events, counts.clients, counts.claims) == (2, 1, 2)
    assert [client for *_, client in claims(url)] == ["~d2", "d2"]
    counts = store.erase_client("d2").result(5)
    assert (counts.events, counts.clients, counts.claims) == (1, 1, 2)
    assert (claims(url), read_events(url).height) == ([], 0)


def test_old_claims_are_purged(open_: Open, url: str, monkeypatch: pytest.MonkeyPatch):
    clock = [T]
    monkeypatch.setattr("features.common.clock.now", lambda: clock[0])
    store = open_(keep_days=38)
    store.append([bought(), event(received_at=T)]).result(5)
    for _ in range(39):
        assert len(claims(url)) == 1
        clock[0] += DAY
        store.purge().result(5)
    store.purge().result(5)
    assert claims(url) == []


def test_unproven_devices_join_nothing(store: EventStore, url: str):
    """Also where the shop's own server is told of them."""
    store.append([event("view_item", T, "false", client_id="~d1")]).result(5)
    assert store.merge("~d1", "c1").result(5) == 0
    assert store.link([Link(T, "email", "hash", "~d1", "c1")]).result(5) == 0
    store.append([event("login", T, None, client_id="~d1", customer_id="c1")]).result(5)
    assert visit_items(store, VisitorIds("c1", None)) == []
    assert ask(url, "SELECT * FROM usual_links") == []
    assert store.erase("c1").result(5).clients == 0


def test_a_store_of_before_gains_the_table(open_: Open, url: str):
    store = open_()
    store.append([event()]).result(5)
    store.close()
    ask(url, "DROP TABLE usual_claims")
    assert [part.events.height for part in source.read(url)] == [1], "it can be exported before a server has opened it"
    assert open_().append([bought(), event()]).result(5) == [True, True]
    assert (len(claims(url)), read_events(url).height) == (1, 2)


def test_the_export_says_how_many_claims_it_leaves_out(store: EventStore, url: str):
    store.append([event(), bought(items=("i1", "i2")), bought("o2")]).result(5)
    parts = list(source.read(url))
    assert pl.concat([part.events for part in parts])["name"].to_list() == ["view_item"]
    assert sum(part.rows_read for part in parts) == 4
    left_out = list(itertools.chain.from_iterable(part.left_out.items() for part in parts))
    assert left_out == [("claims of pages", 3)]
    (note,) = [note for part in parts for note in part.notes]
    assert "2 purchases and refunds" in note


def test_compacting_leaves_nothing_of_an_erased_claim(store: EventStore, url: str, tmp_path):
    store.append([bought(client="~the-long-id-of-a-device")]).result(5)
    store.erase_client("the-long-id-of-a-device").result(5)
    assert store.write(lambda connection: connection.compact()).result(20)
    if not is_postgres(url):
        assert b"the-long-id-of-a-device" not in b"".join(p.read_bytes() for p in tmp_path.glob("events.sqlite*"))
