"""No skew over HTTP: a visitor's features in the server equal those of training at that instant, bit for bit."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.common.clock import DAY
from features.event_log.ingestion.ingest import ParsedBatch
from features.ranking.feature_matrix import assemble, names
from features.ranking.visitors import KIND, Visitors
from models import two_stage
from models.bundle import Bundle, RecommenderName
from models.recommender import BundleRecommender
from models.two_stage import propose
from serving.event_store import EventStore, VisitorIds
from tests.serving.recommend.test_visits import query_moments
from training.dataset import queries

MOST = 40  # moments of each situation
DAYS = 3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The server's current time, in microseconds."""
    time = {"now": 0}
    monkeypatch.setattr("features.common.clock.now", lambda: time["now"])
    return time


@pytest.fixture
def matrices(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """(item, features) of each batch that is ranked."""
    batches: list[tuple[np.ndarray, np.ndarray]] = []

    def spy(snapshot: Any, visitors: Visitors, query: np.ndarray, item: np.ndarray, *scores: np.ndarray) -> np.ndarray:
        matrix = assemble(snapshot, visitors, query, item, *scores)
        batches.append((item.copy(), matrix.copy()))
        return matrix

    monkeypatch.setattr(two_stage, "assemble", spy)
    return batches


def as_message(rows: pl.DataFrame) -> dict[str, Any]:
    """An event of the log as the storefront sent it."""
    first = rows.row(0, named=True)
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=first["t"])
    items = [
        {"item_id": r["item_id"], "price": r["price"], "quantity": r["quantity"]}
        for r in rows.iter_rows(named=True)
        if r["item_id"] is not None
    ]
    who = ("event_id", "name", "customer_id", "client_id", "session_id", "source", "device", "country", "consent")
    return {
        **{name: first[name] for name in who if first[name] is not None},
        "timestamp": when.isoformat(timespec="microseconds"),
        "params": {
            "transaction_id": first["order_id"],
            "search_term": first["query"],
            "currency": first["currency"],
            "items": items,
            "question": first["question"],
            "answer": json.loads(first["answer"]) if first["answer"] else None,
            "source": first["list_id"] if first["question"] else None,
        },
    }


@pytest.fixture
def day(simulated: ParsedBatch, bundle: Bundle) -> pl.DataFrame:
    """The days after the snapshot."""
    as_of = bundle.snapshot.as_of
    timed = simulated.events.with_columns(pl.col("timestamp").dt.timestamp("us").alias("t"))
    texts = [c for c, t in timed.schema.items() if t == pl.Categorical]
    return timed.filter(pl.col("t").is_between(as_of, as_of + DAYS * DAY, closed="left")).with_columns(
        pl.col(texts).cast(pl.String)
    )


@pytest.fixture
def sending(day: pl.DataFrame, clock: dict[str, int]) -> Callable[[Any, int], None]:
    """`sending(server, t)` posts the events before `t` that it has not posted yet."""
    events = [g for _, g in day.sort("t", "event_id", maintain_order=True).group_by("event_id", maintain_order=True)]
    rest = iter([(int(g["t"][0]), as_message(g)) for g in events])
    held: list[tuple[int, dict[str, Any]]] = []

    def take() -> Iterator[tuple[int, dict[str, Any]]]:
        while held:
            yield held.pop()
        yield from rest

    def send(server: Any, until: int) -> None:
        waiting = []
        for t, message in take():
            if t >= until:
                held.append((t, message))
                break
            waiting.append(message)
        for start in range(0, len(waiting), 1000):
            clock["now"] = until
            response = server.client.post("/v1/events", json={"events": waiting[start : start + 1000]})
            assert response.status_code == 202, response.text
            assert not response.json()["rejected"]

    return send


@pytest.mark.parametrize("situation", ["predictive", "one_to_one_visit"])
def test_features_in_serving_equal_those_of_training(
    serve: Callable, store: EventStore, bundle: Bundle, simulated: ParsedBatch, day: pl.DataFrame,
    clock: dict[str, int], matrices: list[tuple[np.ndarray, np.ndarray]], sending: Callable[[Any, int], None],
    situation: RecommenderName,
):  # fmt: skip
    # Only the features are compared, so the trees of the ranker do not matter.
    both = {"one_to_one_visit": bundle.recommenders["predictive"], **bundle.recommenders}
    bundle, snapshot = replace(bundle, recommenders=both), bundle.snapshot
    future = queries.read_window(simulated.events.lazy(), snapshot.as_of, snapshot.as_of + DAYS * DAY)
    has_history = situation == "one_to_one_visit"
    expected = queries.visit_queries(future, snapshot, 300, 5)[situation]
    moments = query_moments(future, snapshot, has_history)
    visits = {n: len(expected.visitors.query[expected.visitors.query == n]) for n in range(len(expected))}
    server = serve(BundleRecommender(bundle), store=store, visit_budget_ms=10_000, deadline_ms=30_000)
    two_stage_model = bundle.recommenders[situation]
    candidates = propose(two_stage_model.generators, snapshot, expected.visitors, two_stage_model.budgets)
    trained = assemble(
        snapshot, expected.visitors, candidates.query, candidates.item, candidates.ranks, candidates.scores, True
    )
    assert len(expected.visitors.stated)
    if has_history:  # such a query needs an event of the visit before it
        moments = [m for m in moments if events_before(day, *m)]
    assert len(moments) == len(expected)
    order = sorted(range(len(moments)), key=lambda n: moments[n][1])[:MOST]
    compared = 0
    for n in order:
        visitor, at = moments[n]
        sending(server, at)
        clock["now"] = at
        matrices.clear()
        request = {"customer_id": visitor.customer_id, "client_id": visitor.client_id}
        (result,) = server.post({k: v for k, v in request.items() if v is not None}).json()["results"]
        assert result["degraded"] is False
        ((items, served),) = matrices
        rows = candidates.query == n
        np.testing.assert_array_equal(items, candidates.item[rows])
        different = np.flatnonzero(
            ~((served == trained[rows]) | (np.isnan(served) & np.isnan(trained[rows]))).all(axis=0)
        )
        assert not len(different), (n, visits[n], [names(two_stage_model.generators.names)[c] for c in different])
        assert served.tobytes() == np.ascontiguousarray(trained[rows]).tobytes()
        compared += len(items)
    assert len(order) > 15
    assert compared > 300
    answered = expected.visitors.stated.query
    assert len(set(order) & set(answered.tolist())) > 3, "answers are among what is compared"


def events_before(day: pl.DataFrame, visitor: VisitorIds, at: int) -> bool:
    """Whether the visitor has an event of the visit before `at`."""
    own = (pl.col("customer_id") == visitor.customer_id) | (pl.col("client_id") == visitor.client_id)
    events = day.filter(own, pl.col("t") < at, pl.col("name").is_in(list(KIND)), pl.col("consent").fill_null(True))
    return bool(events.height)
