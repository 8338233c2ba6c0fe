"""The behaviour of every store, on SQLite and on PostgreSQL."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

import pytest

from features.common.clock import moment
from features.common.errors import InputError
from features.event_log.ingestion.ingest import ingest
from features.event_log.schema import EVENT_SCHEMA, LINK_SCHEMA
from features.sources import event_store as source
from serving.event_store import EventStore, StoreUnavailable, UnstorableValue, VisitorIds, open_store
from tests.serving.store_events import T, event, read_events, visit_items

Open = Callable[..., EventStore]

CLIENT = VisitorIds(None, "d1")


def test_acknowledged_events_survive_reopening(open_: Open, url: str):
    store = open_()
    purchase = event("purchase", T, "i1", "i2", order_id="o1", currency="EUR", consent=True, position=3, query="tea")
    assert store.append([purchase, event()]).result(5) == [True, True]
    store.close()
    rows = read_events(url)
    assert rows.schema == EVENT_SCHEMA
    assert rows.height == 3
    assert rows.row(0, named=True) == dict(zip(EVENT_SCHEMA, purchase.rows[0], strict=True)) | {
        "timestamp": moment(T), "received_at": moment(T),
    }  # fmt: skip
    assert visit_items(open_(), CLIENT) == ["i1", "i2", "i1"]


def test_an_event_counts_once(store: EventStore, url: str):
    one, other = event(), event()
    assert store.append([one, other, one]).result(5) == [True, True, False]
    assert store.append([other, event()]).result(5) == [False, True]
    assert read_events(url)["event_id"].n_unique() == read_events(url).height == 3


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
    events = [
        event("view_item", T + 2, "late"),
        event("view_item", T + 1, "b", event_id="x"),
        event("add_to_cart", T + 1, "ä", "a", event_id="w"),
        event("search", T + 1, None, event_id="Z", query="tea"),
        event("view_cart", T + 1, "z", None, event_id="w2", price=0.1),
        event("view_item", T, "first"),
        event("view_item", T - 1, "before"),
    ]
    random.Random(3).shuffle(events)
    store.append(events).result(5)
    (visit,) = store.visits([CLIENT], T, T + 2, 5)
    assert [(t.item_id, t.name) for t in visit] == [
        ("first", "view_item"), (None, "search"), ("a", "add_to_cart"), ("ä", "add_to_cart"), (None, "view_cart"),
        ("z", "view_cart"), ("b", "view_item"),
    ]  # fmt: skip
    assert visit[5].price == 0.1
    assert visit[0].price is None


def test_a_visit_has_only_events_of_its_kinds(store: EventStore):
    visit_events = [event("view_item", T, "seen"), event("remove_from_cart", T + 1, "gone", consent=True)]
    others = [event(n, T) for n in ("view_item_list", "refund", "login", "tea_brewed")]
    store.append([*visit_events, *others, event("view_item", T, "refused", consent=False)]).result(5)
    assert visit_items(store, CLIENT) == ["seen", "gone"]


def test_a_visit_is_cut_to_its_last_rows(store: EventStore):
    flood = [event("view_item_list", T + 100 + n, *(f"l{i}" for i in range(20))) for n in range(10)]
    store.append([event("view_item", T + n, f"i{n}") for n in range(60)] + flood).result(5)
    assert visit_items(store, CLIENT) == [f"i{n}" for n in range(10, 60)]


def test_concurrent_appends(store: EventStore, url: str):
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
    rows = read_events(url)
    assert rows["event_id"].n_unique() == rows.height == len({e.event_id for b in batches for e in b})


def test_several_workers_share_a_store(open_: Open, url: str):
    workers = [open_() for _ in range(3)]
    events = [event(event_id=f"e{n}", order_id=f"o{n % 40}", name="purchase") for n in range(120)]
    futures = []
    for n in range(0, 120, 4):
        part = events[n : n + 4]
        futures += [w.append(part[::-1] if i else part) for i, w in enumerate(workers)]
    accepted = sum(sum(f.result(20)) for f in futures)
    assert accepted == read_events(url).height == 40


def test_a_failing_append_fails_alone(store: EventStore, url: str):
    futures = [store.append([event(query=object() if n == 5 else "tea")]) for n in range(10)]
    errors = [f.exception(10) for f in futures]
    assert [n for n, error in enumerate(errors) if error] == [5]
    assert not isinstance(errors[5], StoreUnavailable)
    assert read_events(url).height == 9


def test_unstorable_values_have_an_error_of_their_own(store: EventStore, url: str):
    futures = [store.append([event(price="three" if n == 1 else 3.0)]) for n in range(3)]
    assert [type(f.exception(10)) for f in futures] == [type(None), UnstorableValue, type(None)]
    assert read_events(url).height == 2


def test_exported_events_can_be_ingested(store: EventStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events = [event("purchase", T + n, "i1", "i2", order_id=f"o{n}", client_id=f"d{n}") for n in range(4)]
    store.append([*events, event("tea_brewed", T, None, client_id="d1", customer_id="c1")]).result(5)
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


def test_a_closed_store_refuses_appends(store: EventStore):
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.append([event()]).result(1)


@pytest.mark.parametrize("url", ["mysql://teller:hush@vault/x", "http://vault"])
def test_other_urls_are_refused(url: str):
    with pytest.raises(InputError, match="USUAL_EVENT_STORE") as error:
        open_store(url)
    assert "hush" not in str(error.value)
