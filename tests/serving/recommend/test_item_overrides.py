"""Item overrides on every worker, through every fault of the store."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from features.common.clock import now
from serving.event_store import EventStore, ItemChanges, ItemPatch, Limits, StoreUnavailable, open_store
from serving.event_store.protocol import Connection
from serving.event_store.sqlite import SqliteConnection
from serving.recommend.item_overrides import ItemOverride, ItemOverrides, OverridesState
from tests.serving.databases import Postgres
from tests.serving.store_events import event

GONE, BACK = ItemOverride(False, None), ItemOverride(True, None)
NOT_SET = object()


def patch(item_id: str, available: object = NOT_SET, price: object = NOT_SET) -> ItemPatch:
    def value(argument: object) -> object:
        return None if argument is NOT_SET else argument

    return ItemPatch(item_id, available is not NOT_SET, value(available), price is not NOT_SET, value(price))  # type: ignore[arg-type]


def put(store: EventStore, *patches: ItemPatch, since: int = 0) -> ItemChanges:
    return store.write(lambda connection: connection.patch_items(patches, since, now())).result(20)


def unavailable(state: OverridesState) -> set[str]:
    return {item_id for item_id, change in state.items.items() if change.available is False}


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def start_overrides() -> Iterator[Callable[[EventStore | None], ItemOverrides]]:
    """`follow(store)`: the overrides of a worker, started."""
    started: list[ItemOverrides] = []

    def start(store: EventStore | None) -> ItemOverrides:
        started.append(ItemOverrides(store))
        started[-1].start()
        return started[-1]

    yield start
    for overrides in started:
        overrides.close()


def test_another_worker_applies_a_patch_within_a_second(open_: Callable, start_overrides: Callable):
    one, other = open_(), open_()
    overrides = start_overrides(other)
    assert overrides.state.items == {}
    put(one, patch("p1", available=False), patch("p2", available=True, price=3.5), patch("p3", price=0.0))
    assert within(1, lambda: overrides.state.version > 0)
    assert overrides.state.items == {"p1": GONE, "p2": ItemOverride(True, 3.5), "p3": ItemOverride(None, 0.0)}
    assert unavailable(overrides.state) == {"p1"}
    put(one, patch("p1", available=True))
    assert within(1, lambda: overrides.state.items["p1"] == BACK)
    assert unavailable(overrides.state) == set()


def test_fields_that_are_not_set_stay_and_null_clears(open_: Callable, start_overrides: Callable):
    store = open_()
    put(store, patch("p1", available=False, price=2))
    put(store, patch("p1", price=3))
    overrides = start_overrides(open_())
    assert overrides.state.items == {"p1": ItemOverride(False, 3.0)}
    put(store, patch("p1", available=None))
    assert within(1, lambda: overrides.state.items == {"p1": ItemOverride(None, 3.0)})
    put(store, patch("p1", price=None))
    assert within(1, lambda: overrides.state.items == {})
    assert start_overrides(open_()).state.items == {}


def test_overrides_survive_a_restart(open_: Callable, start_overrides: Callable):
    store = open_()
    put(store, *(patch(f"p{n:04}", available=n % 2 == 0) for n in range(1000)))
    version = put(store, patch("p0001", available=True)).version
    store.close()
    state = start_overrides(open_()).state
    assert (state.version, len(state.items), len(unavailable(state))) == (version, 1000, 499)


def test_a_state_is_immutable(open_: Callable, start_overrides: Callable):
    store = open_()
    overrides = start_overrides(store)
    overrides.apply(put(store, patch("p1", available=False)))
    before = overrides.state
    overrides.apply(put(store, patch("p2", available=False), since=before.version))
    assert (set(before.items), unavailable(before)) == ({"p1"}, {"p1"})
    with pytest.raises(TypeError):
        before.items["p3"] = GONE
    assert unavailable(overrides.state) == {"p1", "p2"}


def test_the_worker_that_patches_applies_it_at_once(
    open_: Callable, start_overrides: Callable, monkeypatch: pytest.MonkeyPatch
):
    """What is read with the patch holds what others said before, and takes nothing back."""
    monkeypatch.setattr("serving.recommend.item_overrides.POLL_EVERY_S", 60)
    one, other = open_(), open_()
    overrides = start_overrides(one)
    put(other, patch("p1", available=False))
    late = put(one, patch("p2", available=False), since=overrides.state.version)
    newer = put(one, patch("p2", available=True), since=overrides.state.version)
    overrides.apply(newer)
    assert overrides.state.items == {"p1": GONE, "p2": BACK}
    overrides.apply(late)
    assert overrides.state.items == {"p1": GONE, "p2": BACK}


def test_concurrent_patches_of_workers_are_all_applied(open_: Callable, start_overrides: Callable):
    """A version is never seen before a lower one, and all items of a patch are seen together."""
    reader = start_overrides(open_())
    stores = [open_(write_s=20) for _ in range(3)]
    partial_updates: list[object] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            items = reader.state.items
            if items.get("left") != items.get("right"):
                partial_updates.append(items)
            time.sleep(0.0002)

    def work(n: int) -> None:
        for turn in range(15):
            price = 100.0 * n + turn
            both = (patch("left", price=price), patch("right", price=price))
            put(stores[n], *(both if turn % 2 else both[::-1]), patch(f"of-{n}-{turn}", available=False))
            reader.apply(reader._store.item_changes(reader.state.version).result(5))  # as often as it can be read

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    watcher = threading.Thread(target=watch)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert not partial_updates
    assert within(1, lambda: len(unavailable(reader.state)) == 45)
    assert reader.state == start_overrides(open_()).state


def test_an_older_store_gets_the_missing_tables(
    url: str, request: pytest.FixtureRequest, open_: Callable, start_overrides: Callable
):
    store = open_()
    assert store.append([event(client_id="d1")]).result(5) == [True]
    for table in ("usual_items", "usual_answers"):
        store.write(lambda connection, table=table: connection._connection.execute(f"DROP TABLE {table}")).result(5)
    store.close()
    store = open_()
    put(store, patch("p1", available=False))
    assert unavailable(start_overrides(store).state) == {"p1"}
    assert store.append([event(client_id="d1")]).result(5) == [True]


class StoreThatCanFail:
    """A SQLite store that can be out of reach, or hang."""

    def __init__(self, path: Path) -> None:
        self.away, self.go_on = False, threading.Event()
        self.go_on.set()

        def connect() -> Connection:
            self.go_on.wait()
            if self.away:
                raise StoreUnavailable("down")
            connection = SqliteConnection(path, 1)
            changes = connection.item_changes

            def item_changes(since: int) -> ItemChanges:
                self.go_on.wait()
                if self.away:
                    raise StoreUnavailable("down")
                return changes(since)

            connection.item_changes = item_changes  # type: ignore[method-assign]
            return connection

        self.store = EventStore(connect, Limits())


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[StoreThatCanFail]:
    faulty = StoreThatCanFail(tmp_path / "events.sqlite")
    yield faulty
    faulty.go_on.set()
    faulty.store.close()


def test_a_store_that_is_down_leaves_the_last_state(
    faulty: StoreThatCanFail, sqlite_store: EventStore, start_overrides: Callable
):
    put(sqlite_store, patch("p1", available=False))
    overrides = start_overrides(faulty.store)
    faulty.away = True
    put(sqlite_store, patch("p2", available=False))
    time.sleep(0.6)
    assert unavailable(overrides.state) == {"p1"}
    faulty.away = False
    assert within(1.5, lambda: unavailable(overrides.state) == {"p1", "p2"})


def test_a_server_starts_without_the_store(
    faulty: StoreThatCanFail, sqlite_store: EventStore, start_overrides: Callable
):
    put(sqlite_store, patch("p1", available=False))
    faulty.away = True
    overrides = start_overrides(faulty.store)
    assert overrides.state.items == {}
    faulty.away = False
    assert within(1.5, lambda: unavailable(overrides.state) == {"p1"})


def test_a_store_that_hangs_holds_nothing_up(
    faulty: StoreThatCanFail, sqlite_store: EventStore, start_overrides: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("serving.recommend.item_overrides._FIRST_BUDGET_S", 0.1)
    put(sqlite_store, patch("p1", available=False))
    faulty.go_on.clear()
    begun = time.monotonic()
    overrides = start_overrides(faulty.store)
    assert time.monotonic() - begun < 1
    assert overrides.state.items == {}
    faulty.go_on.set()
    assert within(1.5, lambda: unavailable(overrides.state) == {"p1"})


def test_a_replaced_store_resets_the_overrides(tmp_path: Path, start_overrides: Callable):
    path = tmp_path / "events.sqlite"
    store, other = open_store(str(path)), open_store(str(path))
    overrides = start_overrides(other)
    put(store, patch("p1", available=False))
    assert within(1, lambda: unavailable(overrides.state) == {"p1"})
    for part in tmp_path.glob("events.sqlite*"):
        part.unlink()
    assert within(2, lambda: overrides.state.items == {}), "the new store has no overrides"
    put(store, patch("p2", available=False))
    assert within(1, lambda: unavailable(overrides.state) == {"p2"})
    store.close()
    other.close()


def test_a_stopped_database_leaves_the_last_state(tmp_path_factory: pytest.TempPathFactory, start_overrides: Callable):
    server = Postgres(tmp_path_factory.mktemp("stopped"))
    store = open_store(server.database())
    try:
        put(store, patch("p1", available=False))
        overrides = start_overrides(store)
        server.stop()
        time.sleep(0.6)
        assert unavailable(overrides.state) == {"p1"}
        server.start()
        put(store, patch("p2", available=False))
        assert within(3, lambda: unavailable(overrides.state) == {"p1", "p2"})
    finally:
        store.close()
        server.close()


def test_without_a_store_there_are_no_overrides(start_overrides: Callable):
    assert start_overrides(None).state.items == {}
