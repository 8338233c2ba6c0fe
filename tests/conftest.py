"""A shop that is simulated once and read by many."""

import features as features  # isort: skip  # first: it fixes the thread counts before numpy is imported
from collections.abc import Iterator
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pytest

from features.common.clock import DAY, micros
from features.event_log.ingestion.ingest import ParsedBatch
from features.ranking.snapshot import Snapshot
from features.sources.simulator.shop import SimulatorConfig, read
from features.tables.build import build_from_events
from models.bundle import Bundle
from tests.models import fitted

CHROMIUM = Path("/usr/bin/chromium")
SHOP = SimulatorConfig(
    customers=250, visitors_per_customer=1, items=60, days=70, seed=3, sessions_per_customer=14, conversion=0.4,
    quizzes=0.5,
)  # fmt: skip
SHOP_ENDS = micros(datetime.combine(SHOP.start, time(), UTC)) + SHOP.days * DAY


@pytest.fixture(scope="session")
def simulated() -> ParsedBatch:
    """Seventy days of a shop with habits, strangers, quizzes, refunds and people who refuse consent."""
    (parsed,) = read(SHOP)
    return parsed


@pytest.fixture(scope="session")
def simulated_snapshot(simulated: ParsedBatch) -> Snapshot:
    """What that shop knew ten days before its log ends."""
    return Snapshot.from_tables(build_from_events(simulated.events.lazy(), simulated.catalog, SHOP_ENDS - 10 * DAY))


@pytest.fixture(scope="session")
def bundle(simulated_snapshot: Snapshot) -> Bundle:
    """Both recommenders on that snapshot; nothing was measured, but they are trained."""
    return fitted.bundle(simulated_snapshot)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless chromium; of one module, as playwright's event loop runs as long as it is open."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
        made = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield made
        made.close()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their parameter: what packs files writes the time, and processes must collect the same names."""
    return argname if isinstance(val, bytes) else None
