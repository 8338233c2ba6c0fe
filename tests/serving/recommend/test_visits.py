"""Visits read from the store equal those of training at the same instant, bit for bit."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA, TIMESTAMP
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.bundle import RecommenderName
from models.interface import RankingRequest
from models.recommender import build_visitors
from serving.event_store import EventStore, Limits, StoredEvent, VisitorIds, open_store
from serving.recommend.visits import to_session_events
from tests.conftest import SHOP_ENDS
from tests.serving.store_events import FOR_EVER
from training.dataset import queries

ARRAYS = ("customers", "query", "item", "kind", "age", "price", "back", "weight")


def as_stored(events: pl.DataFrame) -> list[StoredEvent]:
    """Rows of the event log as the events they came as."""
    plain = events.select(
        pl.col(c).dt.timestamp("us") if t == TIMESTAMP else pl.col(c).cast(pl.String) if t == pl.Categorical else c
        for c, t in EVENT_SCHEMA.items()
    ).with_columns(pl.coalesce("received_at", "timestamp").alias("received_at"))
    return [StoredEvent(tuple(rows.iter_rows())) for _, rows in plain.group_by("event_id", maintain_order=True)]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, simulated: ParsedBatch,
    simulated_snapshot: Snapshot,
) -> Iterator[EventStore]:  # fmt: skip
    """The simulated log from a day before the snapshot on."""
    path: Path = tmp_path_factory.mktemp("store") / "events.sqlite"
    url = str(path) if request.param == "sqlite" else request.getfixturevalue("postgres").database()
    late = simulated.events.filter(pl.col("timestamp").dt.timestamp("us") >= simulated_snapshot.as_of - 86_400_000_000)
    store = open_store(url, Limits(keep_days=FOR_EVER))
    events = as_stored(late.sample(fraction=1.0, shuffle=True, seed=1))
    assert all(store.append(events).result(60))
    yield store
    store.close()


def assert_same(visitors: Visitors, expected: Visitors) -> None:
    for name in ARRAYS:
        one, other = getattr(visitors, name), getattr(expected, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)
    for name in expected.stated.__dataclass_fields__:
        one, other = getattr(visitors.stated, name), getattr(expected.stated, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=f"stated {name}")


@pytest.mark.parametrize("situation", ["predictive", "one_to_one_visit"])
def test_no_skew(store: EventStore, simulated: ParsedBatch, simulated_snapshot: Snapshot, situation: RecommenderName):
    snapshot = simulated_snapshot
    future = queries.read_window(simulated.events.lazy(), snapshot.as_of, SHOP_ENDS)
    expected = queries.visit_queries(future, snapshot, 300, 5)[situation]
    assert len(expected) > 30
    assert len(expected.visitors.query) > 60
    moments = query_moments(future, snapshot, situation == "one_to_one_visit")
    visits = [store.visits([visitor], snapshot.as_of, at, 5)[0] for visitor, at in moments]
    if situation == "one_to_one_visit":  # such a query needs an event of the visit before it
        moments = [m for m, visit in zip(moments, visits, strict=True) if visit]
        visits = [visit for visit in visits if visit]
    requests = [
        RankingRequest(limit=1, customer_id=visitor.customer_id, recent=to_session_events(visit, at))
        for (visitor, at), visit in zip(moments, visits, strict=True)
    ]
    assert_same(build_visitors(snapshot, requests), expected.visitors)


def query_moments(future: pl.DataFrame, snapshot: Snapshot, has_history: bool) -> list[tuple[VisitorIds, int]]:
    """The visitor and the instant of each query of `queries.visit_queries`, with the ids known by then."""
    visits = queries._resolve(queries._split_visits(future), snapshot)
    instants = queries._choose_instants(visits, 300, 5, has_history)
    rows = instants.group_by("query").agg(pl.col("current_id", "client", "query_t").first()).sort("query").rows()
    return [(VisitorIds(customer, client), at) for _, customer, client, at in rows]


def test_reading_many_visitors_equals_reading_each(
    store: EventStore, simulated: ParsedBatch, simulated_snapshot: Snapshot
):
    late = simulated.events.filter(pl.col("timestamp").dt.timestamp("us") >= simulated_snapshot.as_of)
    visitors = [VisitorIds(*pair) for pair in late.select("customer_id", "client_id").unique().sort(pl.all()).rows()]
    together = store.visits(visitors, simulated_snapshot.as_of, SHOP_ENDS, 5)
    assert together == [v for one in visitors for v in store.visits([one], simulated_snapshot.as_of, SHOP_ENDS, 5)]
    assert sum(map(bool, together)) > 50
