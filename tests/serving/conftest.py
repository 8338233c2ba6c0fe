"""A recommender that needs no bundle, and servers around it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from features.ranking.snapshot import Snapshot
from models.interface import Fallback, Ranking, RankingRequest
from serving.api.app import create_app
from serving.api.connections import build_protocol
from serving.event_store import EventStore, Limits, open_store
from serving.settings import Settings
from tests.serving.databases import Postgres
from tests.serving.event_bodies import ago
from tests.serving.small_shop import small_shop
from tests.serving.store_events import FOR_EVER


@dataclass
class FakeRecommender:
    """Ranks items i0, i1, … for everyone; records its batches."""

    catalog: int = 1000
    hook: Callable[[Sequence[RankingRequest]], None] | None = None  # called first; may block or raise
    as_of: str = "2026-11-20T00:00:00Z"
    batches: list[list[RankingRequest]] = field(default_factory=list)

    def recommend(self, requests: list[RankingRequest]) -> list[Ranking]:
        self.batches.append(list(requests))
        if self.hook:
            self.hook(requests)
        return [self._rank(r) for r in requests]

    def _rank(self, request: RankingRequest, fallback: Fallback | None = None) -> Ranking:
        rules, candidates = request.rules, list(range(self.catalog))
        allowed = [n for n in candidates if rules.allowed is None or rules.allowed[n]]
        positions = [n for n in allowed if f"i{n}" not in request.exclude][: request.limit + rules.reserve]
        is_known = request.customer_id is not None and fallback is None
        return Ranking(
            item_ids=[f"i{n}" for n in positions],
            scores=[1 - n / 1000 for n in range(len(positions))],
            generators=[("popular", "als")] * len(positions),
            strategy="one_to_one" if is_known else "popular",
            fallback=fallback or (None if is_known else "unknown_visitor"),
            segment=f"segment of {request.customer_id}" if is_known else "PROSPECT",
            n_ranked=len(positions),
            positions=np.array(positions, np.int64),
        )

    def recommend_without_ranker(self, request: RankingRequest, fallback: Fallback) -> Ranking:
        return self._rank(request, fallback)

    @property
    def snapshot(self) -> Snapshot:
        return small_shop(self.catalog, self.as_of)

    @property
    def info(self) -> dict[str, object]:
        return {"name": "usual", "as_of": self.as_of, "metrics": {"one_to_one.ndcg_10": 0.1}}


@pytest.fixture
def fake() -> type[FakeRecommender]:
    return FakeRecommender


@dataclass
class RunningServer:
    """A running server and its recommender."""

    client: httpx.Client
    recommender: FakeRecommender
    host: str
    port: int

    def post(self, *requests: object) -> httpx.Response:
        return self.client.post("/v1/recommendations", json={"requests": list(requests)})

    def post_bytes(self, body: bytes, content_type: str = "application/json") -> httpx.Response:
        return self.client.post("/v1/recommendations", content=body, headers={"content-type": content_type})


@pytest.fixture(scope="session", autouse=True)
def without_keys() -> Iterator[None]:
    """Servers ask for no keys, unless a test gives them some (and `open=False`)."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("USUAL_SECRET_KEYS", "USUAL_PUBLISHABLE_KEYS", "USUAL_CORS_ORIGINS"):
            patch.delenv(variable, raising=False)
        patch.setenv("USUAL_OPEN", "1")
        yield


@contextmanager
def run_app(recommender: FakeRecommender | None = None, **settings: object) -> Iterator[RunningServer]:
    """The application over real HTTP, on a free loopback port; `root_path`: below which path it is mounted."""
    recommender = recommender or FakeRecommender()
    parts: dict[str, Any] = {name: settings.pop(name, None) for name in ("store", "load", "published")}
    below = str(settings.pop("root_path", ""))
    validated = Settings.model_validate(settings)
    app = create_app(recommender, validated, version="17", **parts)
    http: Any = build_protocol(validated)  # with its limits on connections, as in the server's processes
    config = uvicorn.Config(app, port=0, http=http, log_config=None, timeout_graceful_shutdown=2, root_path=below)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.01)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    try:
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=10, trust_env=False) as client:
            yield RunningServer(client, recommender, host, port)
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server with default settings, shared by the tests of a file."""
    with run_app() as server:
        yield server


@pytest.fixture
def serve() -> Iterator[Callable[..., RunningServer]]:
    """`serve(recommender, **settings)`: a server of the test's own."""
    with ExitStack() as stack:
        yield lambda *args, **settings: stack.enter_context(run_app(*args, **settings))


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes to the event store of the checkout."""
    monkeypatch.delenv("USUAL_EVENT_STORE", raising=False)
    monkeypatch.setenv("USUAL_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL for all tests, which give themselves databases of their own."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that does not exist yet, of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "events.sqlite")
    return str(request.getfixturevalue("postgres").database())


@pytest.fixture
def open_(url: str) -> Iterator[Callable[..., EventStore]]:
    """`open_(**limits)`: the store at `url`, in which nothing is too old unless a limit says so."""
    opened: list[EventStore] = []

    def open_one(**limits: object) -> EventStore:
        opened.append(open_store(url, Limits(**{"keep_days": FOR_EVER} | limits)))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_: Callable[..., EventStore]) -> EventStore:
    return open_()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A store for tests of what all stores do alike."""
    return str(tmp_path / "events.sqlite")


@pytest.fixture
def sqlite_store(sqlite_url: str) -> EventStore:
    return open_store(sqlite_url, Limits(write_s=5))


@pytest.fixture
def event_server(serve: Callable[..., RunningServer], sqlite_store: EventStore, fake: type) -> RunningServer:
    """A server that keeps events; its snapshot is two days old."""
    return serve(fake(as_of=ago(days=2)), store=sqlite_store, visit_budget_ms=5000)
