"""One policy: the same customers get the same lists by every path, and no path shows an unavailable item."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import yaml
from starlette.testclient import TestClient

from features.sources.event_store import read_availability
from models.availability import available_now, catalog_available
from models.bundle import Bundle
from models.interface import RankingRequest
from models.pyfunc import UsualModel
from models.recommender import BundleRecommender, load
from serving.event_store import EventStore, ItemPatch, Limits, open_store
from serving.recommend.offline import fill_placement, fill_without_placement
from serving.rules.rulebook import load as load_rules
from serving.rules.rulebook import parse as parse_rules
from serving.schemas import placements
from serving.settings import Settings
from tests.serving.conftest import RunningServer, run_app
from training import batch_inference
from training.reports.samples import ANONYMOUS, sample_customers

K, STORE = 10, "events.sqlite"
Lists = dict[str, list[str]]  # customer → items
RULES = placements.read()


@pytest.fixture(scope="module")
def half(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose catalog has every second item as unavailable, on disk."""
    snapshot = bundle.snapshot
    column = pa.array([n % 2 == 0 for n in range(len(snapshot.items))])
    at = snapshot.catalog.schema.get_field_index("available")
    catalog = snapshot.catalog.set_column(at, "available", column)
    return replace(bundle, snapshot=replace(snapshot, catalog=catalog)).save(tmp_path_factory.mktemp("half") / "bundle")


@pytest.fixture(scope="module")
def customers(bundle: Bundle) -> list[str]:
    """Of all kinds, and some that the model does not know."""
    return [*bundle.snapshot.customers.values.to_pylist()[:40], "nobody", "nobody else"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    opened = open_store(str(tmp_path / STORE), Limits())
    yield opened
    opened.close()


def set_available(store: EventStore, available: dict[str, bool]) -> None:
    patches = [ItemPatch(item_id, True, value, False, None) for item_id, value in available.items()]
    store.write(lambda connection: connection.patch_items(patches, 0, 1_800_000_000_000_000)).result(20)


def over_http(server: RunningServer, customers: list[str], placement: str, limit: int = K) -> Lists:
    lists: Lists = {}
    for start in range(0, len(customers), 16):
        group = customers[start : start + 16]
        requests = [{"customer_id": c, "placement": placement, "limit": limit} for c in group]
        results = server.post(*requests).json()["results"]
        lists |= {c: [item["item_id"] for item in r["items"]] for c, r in zip(group, results, strict=True)}
    return lists


def in_bulk(path: Path, customers: list[str], placement: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> Lists:
    monkeypatch.setenv("BENTOML_HOME", str(home))
    from serving import service

    monkeypatch.setattr(service, "settings", Settings(bundle=path))
    requests = [{"customer_id": c, "placement": placement, "limit": K} for c in customers]
    with TestClient(service.Usual.to_asgi()) as client:
        results = client.post("/v1/recommendations/bulk", json={"requests": requests}).json()
    return {c: [item["item_id"] for item in r["items"]] for c, r in zip(customers, results, strict=True)}


def as_lists(table: pl.DataFrame) -> Lists:
    return dict(table.group_by("customer_id", maintain_order=True).agg("item_id").iter_rows())


def by_pyfunc(path: Path, customers: list[str]) -> Lists:
    model = UsualModel()
    model.recommender = load(path)
    return as_lists(pl.from_pandas(model.predict(None, pd.DataFrame({"customer_id": customers, "k": K}))))


def offline(path: Path, customers: list[str], placement: str, availability: dict[str, bool] | None = None) -> Lists:
    slates = fill_placement(load(path), customers, placement, RULES, K, availability)
    return {slate.customer_id: slate.item_ids for slate in slates}


def test_every_path_gives_the_same_lists(
    half: Path, customers: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Without the store: pairwise, and none of them holds an unavailable item."""
    bundle = Bundle.load(half)
    with run_app(BundleRecommender(bundle)) as server:  # type: ignore[arg-type]
        http = over_http(server, customers, "search.rerank")
    paths = {
        "batch": as_lists(batch_inference.recommend(bundle, customers, K)),
        "http": http,
        "bulk": in_bulk(half, customers, "search.rerank", monkeypatch, tmp_path),
        "pyfunc": by_pyfunc(half, customers),
        "offline": offline(half, customers, "search.rerank"),
    }
    for one, other in combinations(paths, 2):
        assert paths[one] == paths[other], f"{one} and {other} differ"
    unavailable = set(bundle.snapshot.items.at((~catalog_available(bundle.snapshot)).nonzero()[0]))
    assert unavailable
    assert not unavailable & {i for items in http.values() for i in items}
    assert {len(items) for items in http.values()} == {K}


@pytest.mark.parametrize("placement", ["email.digest", "home.trending", "home.new", "buy_again", "search.rerank"])
def test_lists_of_a_placement_are_those_of_the_server(half: Path, customers: list[str], placement: str):
    with run_app(load(half)) as server:  # type: ignore[arg-type]
        assert over_http(server, customers, placement) == offline(half, customers, placement)


def test_what_the_shop_said_since_the_snapshot_counts_everywhere(
    half: Path, customers: list[str], store: EventStore, tmp_path: Path
):
    """Items that are gone are in no list; items that are back, in spite of the catalog, are in some."""
    bundle = Bundle.load(half)
    items = bundle.snapshot.items.values.to_pylist()
    said = {item: n % 4 != 0 for n, item in enumerate(items) if n % 4 != 2}  # every fourth gone, every odd one back
    set_available(store, said)
    availability = read_availability(str(tmp_path / STORE))
    assert availability == said
    with ExitStack() as stack:
        server = stack.enter_context(run_app(BundleRecommender(bundle), store=store, visit_budget_ms=5000))  # type: ignore[arg-type]
        http = over_http(server, customers, "search.rerank")
        mail = over_http(server, customers, "email.digest")
    allowed = available_now(bundle.snapshot, availability)
    assert http == as_lists(batch_inference.recommend(bundle, customers, K, allowed))
    assert http == offline(half, customers, "search.rerank", availability)
    assert mail == offline(half, customers, "email.digest", availability)
    shown = {i for lists in (http, mail) for ids in lists.values() for i in ids}
    assert not shown & {item for item, available in said.items() if not available}
    assert shown & set(items[1::2])


def test_all_available_by_overrides_shows_everything(half: Path, store: EventStore):
    """The catalog's own mask must not come back where no mask is left to apply."""
    bundle = Bundle.load(half)
    set_available(store, dict.fromkeys(bundle.snapshot.items.values.to_pylist(), True))
    with run_app(BundleRecommender(bundle), store=store) as server:  # type: ignore[arg-type]
        (ids,) = over_http(server, ["nobody"], "search.rerank", limit=len(bundle.snapshot.items)).values()
    assert len(ids) == len(bundle.snapshot.items)


def test_fallbacks_and_reports_show_nothing_unavailable(half: Path):
    bundle = Bundle.load(half)
    unavailable = set(bundle.snapshot.items.at((~catalog_available(bundle.snapshot)).nonzero()[0]))
    recommender, everything = BundleRecommender(bundle), len(bundle.snapshot.items)
    fallback = recommender.recommend_without_ranker(RankingRequest(everything), "ranker_error")
    assert len(fallback.item_ids) == everything - len(unavailable)
    assert not unavailable & set(fallback.item_ids)
    no_titles = pl.DataFrame(schema={"item_id": pl.String, "title": pl.String})
    samples = sample_customers(bundle, no_titles)
    assert samples[-1].customer == ANONYMOUS
    assert not unavailable & {item for sample in samples for _, item, _ in sample.recommended}


def test_rules_hold_on_every_path(half: Path, customers: list[str], tmp_path: Path):
    """The server, its e-mail lists and batch inference follow the same file, with what the snapshot knows of customers.

    Boosts, pins, shares and strategies for some of them, and what is hidden from all or some is in no list.
    """
    bundle = Bundle.load(half)
    shown = bundle.snapshot.items.at(np.flatnonzero(catalog_available(bundle.snapshot)))
    brand = next(b for b in bundle.snapshot.catalog["brand"].to_pylist() if b)
    gone, secret, pinned = shown[0], shown[1], shown[-1]
    everybody = BundleRecommender(bundle)
    rules = [
        {"id": "gone", "items": {"item_ids": [gone]}, "do": {"hide": True}},
        {"id": "secret", "when": "!visitor.known", "items": {"item_ids": [secret]}, "do": {"hide": True}},
        {"id": "buyers", "when": "visitor.orders >= 2.0", "do": {"pin": {"item_ids": [gone, pinned], "at": 2}}},
        {"id": "worth", "when": "has(visitor.lifetime_value) && visitor.lifetime_value > 1.0 && visitor.rfm.m >= 2.0",
         "items": {"all": [{"field": "brand", "op": "==", "value": brand}]}, "do": {"boost": 0.3}},
        {"id": "soon", "when": "has(visitor.propensity.d7) && visitor.propensity.d7 >= 0.0",
         "items": {"all": [{"field": "price", "op": ">", "value": 0}]}, "do": {"share": 0.2}},
        {"id": "mail", "placements": ["email.digest"], "do": {"strategy": {"diversity": 0.7}}},
        {"id": "out", "when": "visitor.known", "holdout": 0.5, "do": {"pin": {"item_ids": [shown[-2]]}}},
    ]  # fmt: skip
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"timezone": "Europe/Berlin", "rules": rules}))
    book = load_rules(file, RULES)
    lists: dict[str, Lists] = {}
    with run_app(everybody, rules=file) as server:  # type: ignore[arg-type]
        for placement in ("search.rerank", "email.digest"):
            lists[placement] = over_http(server, customers, placement)
            slates = fill_placement(everybody, customers, placement, RULES, K, book=book)
            assert lists[placement] == {s.customer_id: s.item_ids for s in slates}
    bare = {s.customer_id: s.item_ids for s in fill_without_placement(everybody, customers, K, {}, book)}
    assert bare == lists["search.rerank"]
    assert gone not in {i for of in lists.values() for items in of.values() for i in items}
    assert all(secret not in of[nobody] for of in lists.values() for nobody in ("nobody", "nobody else"))
    assert any(of[c][1] == pinned for of in lists.values() for c in customers)
    plain = offline(half, customers, "search.rerank")
    assert plain != lists["search.rerank"]
    nothing = parse_rules(b"rules: []", "rules.yml", RULES)
    slates = fill_placement(everybody, customers, "search.rerank", RULES, K, book=nothing)
    assert plain == {s.customer_id: s.item_ids for s in slates}
