"""What the store says of a visitor is what training knew of the same visitor at the same instant, bit for bit."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.event_log.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA, TIMESTAMP
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.bundle import RecommenderName
from models.interface import RankingRequest
from models.recommender import build_visitors
from serving.event_store import EventStore, Limits, StoredEvent, VisitorIds, open_store
from serving.recommend.visits import to_session_events
from tests.conftest import SHOP_ENDS
from tests.serving.stored import FOR_EVER
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
    sent = as_stored(late.sample(fraction=1.0, shuffle=True, seed=1))
    assert all(store.append(sent).result(60))
    yield store
    store.close()


def same(found: Visitors, expected: Visitors) -> None:
    for name in ARRAYS:
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("situation", ["predictive", "one_to_one_visit"])
def test_no_skew(store: EventStore, simulated: ParsedBatch, simulated_snapshot: Snapshot, situation: RecommenderName):
    snapshot = simulated_snapshot
    future = queries.read_window(simulated.events.lazy(), snapshot.as_of, SHOP_ENDS)
    asked = queries.visit_queries(future, snapshot, 300, 5)[situation]
    assert len(asked) > 30
    assert len(asked.visitors.query) > 60
    moments = held_out(future, snapshot, situation == "one_to_one_visit")
    visits = [store.visits([who], snapshot.as_of, at, 5)[0] for who, at in moments]
    if situation == "one_to_one_visit":  # training asks there only about customers of whom something is known
        moments = [m for m, visit in zip(moments, visits, strict=True) if visit]
        visits = [visit for visit in visits if visit]
    requests = [
        RankingRequest(limit=1, customer_id=who.customer_id, recent=to_session_events(visit, at))
        for (who, at), visit in zip(moments, visits, strict=True)
    ]
    same(build_visitors(snapshot, requests), asked.visitors)


def held_out(future: pl.DataFrame, snapshot: Snapshot, known: bool) -> list[tuple[VisitorIds, int]]:
    """Who asked at the moments that `queries` takes, as far as it was known by then, and when."""
    visits = queries._described(queries._visits(future), snapshot)
    cut = queries._cut(visits, 300, 5, known).group_by("query").agg(pl.col("here", "client", "asked").first())
    return [(VisitorIds(here, client), at) for _, here, client, at in cut.sort("query").rows()]


def test_one_read_for_many_gives_each_their_own(
    store: EventStore, simulated: ParsedBatch, simulated_snapshot: Snapshot
):
    late = simulated.events.filter(pl.col("timestamp").dt.timestamp("us") >= simulated_snapshot.as_of)
    who = [VisitorIds(*pair) for pair in late.select("customer_id", "client_id").unique().sort(pl.all()).rows()]
    together = store.visits(who, simulated_snapshot.as_of, SHOP_ENDS, 5)
    assert together == [v for one in who for v in store.visits([one], simulated_snapshot.as_of, SHOP_ENDS, 5)]
    assert sum(map(bool, together)) > 50
