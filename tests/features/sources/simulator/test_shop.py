from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import (
    CATALOG_SCHEMA,
    EVENT_NAMES,
    EVENT_SCHEMA,
    LINK_SCHEMA,
    ROW,
    sort_by_time,
    validate,
)
from features.sources.simulator.items import draw_items, draw_vectors
from features.sources.simulator.shop import SimulatorConfig, read

CONFIG = SimulatorConfig(customers=600, items=300, days=150, seed=5)


def simulate(**changes) -> ParsedBatch:
    (parsed,) = read(CONFIG.model_copy(update=changes))
    return parsed


@pytest.fixture(scope="module")
def shop() -> ParsedBatch:
    return simulate()


@pytest.fixture(scope="module")
def visits(shop: ParsedBatch) -> pl.DataFrame:
    """One row per session of a person: bots are those with a hundred views."""
    has = {n: (pl.col("name") == n).any() for n in ("add_to_cart", "purchase")}
    sessions = shop.events.drop_nulls("session_id").group_by("session_id")
    return sessions.agg(views=(pl.col("name") == "view_item").sum(), **has).filter(pl.col("views") < 100)


def test_the_same_seed_is_the_same_log(shop: ParsedBatch):
    again = simulate()
    assert again.events.equals(shop.events)
    assert again.catalog.equals(shop.catalog)
    assert not simulate(seed=6).events.equals(shop.events)


def test_the_log_does_not_depend_on_how_it_is_cut(shop: ParsedBatch):
    parts = list(read(CONFIG, slice_rows=9_000))
    assert len(parts) > 3
    ends = [set(p.events["event_id"]) for p in parts]
    assert sum(map(len, ends)) == shop.events["event_id"].n_unique()
    assert pl.concat([p.events for p in parts]).equals(shop.events)
    assert pl.concat([p.catalog for p in parts]).equals(shop.catalog)
    assert pl.concat([p.links for p in parts]).equals(shop.links)


def test_the_default_size():
    (parsed,) = read(SimulatorConfig())
    assert 220_000 < parsed.events.height < 280_000
    assert set(parsed.events["name"].cast(pl.String)) == set(EVENT_NAMES) - {"preferences"}, "no quiz asks unless told"


def test_events_are_a_clean_log(shop: ParsedBatch):
    events = shop.events
    assert events.schema == EVENT_SCHEMA
    assert shop.rows_read == events.height
    assert not events.select("event_id", "item_id").is_duplicated().any()
    assert sort_by_time(events).equals(events)
    assert validate(events.with_row_index(ROW), "simulated")[1].is_empty()
    assert events.group_by("event_id").agg(pl.col("name", "timestamp", "client_id").n_unique()).select(
        pl.col("name", "timestamp", "client_id").max()
    ).row(0) == (1, 1, 1)  # fmt: skip
    assert events["timestamp"].min() >= datetime(2026, 1, 1, tzinfo=UTC)
    assert events["timestamp"].max() < datetime(2026, 1, 1, tzinfo=UTC) + CONFIG.days * (
        datetime(2026, 1, 2) - datetime(2026, 1, 1)
    )
    always = ["client_id", "source", "device", "country", "consent"]
    assert sum(events.select(always).null_count().row(0)) == 0
    assert sum(events.drop_nulls("item_id").select("price", "currency").null_count().row(0)) == 0


def test_catalog_is_complete(shop: ParsedBatch):
    assert shop.catalog.schema == CATALOG_SCHEMA
    assert shop.catalog["item_id"].n_unique() == CONFIG.items
    assert sum(shop.catalog.drop("attributes", "updated_at").null_count().row(0)) == 0
    assert shop.catalog["updated_at"].is_null().all()  # the shop's own catalog outranks its events
    assert set(shop.events["item_id"].drop_nulls()) <= set(shop.catalog["item_id"])
    assert shop.catalog["category"].str.contains("^[a-z]+/[a-z]+$").all()
    assert shop.catalog["price"].min() > 0
    on_sale = shop.events.join(shop.catalog.select("item_id", "first_seen"), on="item_id")
    assert (on_sale["timestamp"] >= on_sale["first_seen"]).all()
    assert (shop.catalog["first_seen"] > shop.events["timestamp"].min()).mean() == pytest.approx(0.2, abs=0.06)


def test_sessions(shop: ParsedBatch):
    events = shop.events
    assert events.filter(pl.col("session_id").is_null())["name"].unique().to_list() == ["refund"]
    steps = events.drop_nulls("session_id").unique(["session_id", "event_id"]).sort("session_id", "timestamp")
    gap = steps.select(pl.col("timestamp").diff().over("session_id")).to_series()
    assert gap.drop_nulls().min().total_seconds() > 0
    one = events.drop_nulls("session_id").group_by("session_id")
    ids = one.agg(pl.col("client_id", "customer_id").drop_nulls().n_unique())
    assert ids["client_id"].max() == ids["customer_id"].max() == 1


def test_the_funnel_is_that_of_a_shop(visits: pl.DataFrame):
    assert visits["purchase"].mean() == pytest.approx(0.045, abs=0.015)
    assert visits["purchase"].mean() < visits["add_to_cart"].mean() < 0.15
    assert visits["views"].mean() == pytest.approx(3.4, abs=0.3)
    assert visits["views"].min() == 1
    # Two visits in five are a single view, one in ten has eight or more.
    assert (visits["views"] == 1).mean() == pytest.approx(0.4, abs=0.06)
    assert (visits["views"] >= 8).mean() == pytest.approx(0.1, abs=0.03)


def test_purchases_follow_views_and_carts(shop: ParsedBatch):
    key = ["session_id", "item_id"]
    first = shop.events.drop_nulls("session_id").group_by("name", *key).agg(pl.col("timestamp").min())
    views, carts, buys = (
        first.filter(pl.col("name") == n).drop("name") for n in ("view_item", "add_to_cart", "purchase")
    )
    steps = buys.join(carts, on=key, how="left", suffix="_cart").join(views, on=key, how="left", suffix="_view")
    assert (steps["timestamp_view"] < steps["timestamp_cart"]).fill_null(False).all()
    assert (steps["timestamp_cart"] < steps["timestamp"]).fill_null(False).all()


def test_orders_and_refunds(shop: ParsedBatch):
    sales = shop.events.filter(pl.col("name") == "purchase")
    assert sales.select(pl.col("order_id", "quantity", "price").null_count()).row(0) == (0, 0, 0)
    assert sales["order_id"].n_unique() == sales["event_id"].n_unique() == sales["session_id"].n_unique()
    assert sales.group_by("order_id").len()["len"].max() > 1
    refunds = shop.events.filter(pl.col("name") == "refund")
    back = refunds.join(sales, on=["order_id", "item_id", "client_id", "quantity", "price"], how="inner", suffix="_s")
    assert 0 < refunds.height == back.height < 0.1 * sales.height
    assert (back["timestamp"] > back["timestamp_s"]).all()


def test_known_and_unknown_visitors(shop: ParsedBatch):
    known = shop.events.group_by("client_id").agg(
        some=pl.col("customer_id").is_not_null().any(), all=pl.col("customer_id").is_not_null().all(),
        consent=pl.col("consent").n_unique(), refused=~pl.col("consent").first(),
    )  # fmt: skip
    # Some never log in, and customers are not always logged in.
    assert 0.2 < known["some"].mean() < 0.6
    assert known["all"].mean() < known["some"].mean()
    assert known["consent"].max() == 1
    assert known["refused"].mean() == pytest.approx(0.02, abs=0.015)


def test_links_are_of_people_who_used_the_client(shop: ParsedBatch):
    assert shop.links.schema == LINK_SCHEMA
    assert shop.links["kind"].unique().to_list() == ["email"]
    assert shop.links["token"].str.contains("^[0-9a-f]{64}$").all()
    assert shop.links["at"].is_sorted()
    assert (shop.links["client_id"].is_null() != shop.links["customer_id"].is_null()).all()
    client, customer = (shop.links.drop_nulls(c).select("token", c) for c in ("client_id", "customer_id"))
    pairs = client.join(customer, on="token", validate="1:1").select("client_id", "customer_id")
    assert 0.15 * CONFIG.customers < pairs.height < 0.35 * CONFIG.customers
    # A client in a visit it logged in to is one of the customer's, first or second.
    logins = shop.events.select("client_id", "customer_id").drop_nulls().unique()
    linked = pairs.join(logins.select("client_id").unique(), on="client_id", how="semi")
    assert pairs.join(logins, on=["client_id", "customer_id"], how="semi").height > 0.7 * linked.height
    assert simulate(newsletter=0.0).links.is_empty()


def test_departments():
    categories = simulate(departments=("garden", "home/kitchen"), days=10).catalog["category"]
    assert set(categories) == {"garden/plants", "garden/tools", "home/kitchen"}
    with pytest.raises(InputError, match="no department 'hom'; there are baby, beauty"):
        simulate(departments=("hom",))


@pytest.mark.parametrize("preset", ["grocery", "fashion", "longtail", "wholesale"])
def test_presets_are_clean_logs_and_take_changes(preset: str):
    config = getattr(SimulatorConfig, preset)(customers=40, items=200, days=30, seed=4)
    assert (config.customers, config.items, config.days, config.seed) == (40, 200, 30, 4)
    (parsed,) = read(config)
    assert validate(parsed.events.with_row_index(ROW), "simulated")[1].is_empty()
    assert parsed.events.height > 500


def favourite_share(shop: ParsedBatch) -> float:
    """Share of the second half's purchases in the three categories the buyer viewed most in the first."""
    table = shop.events.join(shop.catalog.select("item_id", "category"), on="item_id")
    early = table["timestamp"] < table["timestamp"].median()
    viewed = table.filter(early & (table["name"] == "view_item")).group_by("client_id", "category").len()
    top = viewed.sort("len", "category", descending=True).group_by("client_id", maintain_order=True).head(3)
    buys = table.filter(~early & (table["name"] == "purchase")).join(top, on="client_id", how="semi")
    return buys.join(top, on=["client_id", "category"], how="semi").height / buys.height


def test_taste_shows(shop: ParsedBatch):
    # Without taste the three most visited of 24 categories have about a quarter of everything.
    assert favourite_share(shop) > 0.6
    assert favourite_share(simulate(taste=0.0)) < 0.45


def test_popularity_shows(shop: ParsedBatch):
    views = shop.events.filter(pl.col("name") == "view_item").group_by("item_id").len().sort("len")["len"]
    assert views.tail(CONFIG.items // 10).sum() > 0.25 * views.sum()


def test_habits_show(shop: ParsedBatch):
    def repeated(parsed: ParsedBatch) -> float:
        sales = parsed.events.filter(pl.col("name") == "purchase")
        return 1 - sales.unique(["client_id", "item_id"]).height / sales.height

    assert repeated(shop) > 0.2
    assert repeated(simulate(habit=0.0)) < 0.5 * repeated(shop)


@settings(max_examples=25, deadline=None)
@given(
    customers=st.integers(1, 30), items=st.integers(1, 60), days=st.integers(1, 40), seed=st.integers(0, 99),
    visitors_per_customer=st.sampled_from([0.0, 2.0]), conversion=st.sampled_from([0.0, 0.5]),
    refunds=st.sampled_from([0.0, 1.0]), recorded_lists=st.sampled_from([0.0, 1.0]),
    stock_outs=st.sampled_from([0.0, 0.5]), start=st.sampled_from([date(2024, 2, 28), date(2026, 1, 1)]),
)  # fmt: skip
def test_any_size_of_shop_is_a_clean_log(**config):
    (parsed,) = read(SimulatorConfig(**config))
    assert parsed.events.height > 0
    assert not parsed.events.select("event_id", "item_id").is_duplicated().any()
    assert sort_by_time(parsed.events).equals(parsed.events)
    assert validate(parsed.events.with_row_index(ROW), "simulated")[1].is_empty()
    assert parsed.catalog.height == config["items"]


def test_an_invalid_setting():
    with pytest.raises(ValidationError, match="customer"):
        SimulatorConfig(customer=3)


def test_vectors_change_nothing_else(shop: ParsedBatch):
    """By default there are none; switched on, they are one more column of the same shop."""
    assert "embedding" not in shop.catalog.columns
    with_vectors = simulate(vectors=12)
    assert with_vectors.catalog.drop("embedding").equals(shop.catalog)
    assert with_vectors.events.equals(shop.events)
    assert with_vectors.links.equals(shop.links)
    assert with_vectors.catalog.schema["embedding"] == pl.List(pl.Float32)
    vectors = with_vectors.catalog["embedding"].list.to_array(12).to_numpy()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert simulate(vectors=12).catalog.equals(with_vectors.catalog)


@pytest.mark.parametrize(("noise", "expected"), [(0.0, 0.55), (0.7, 0.35), (30.0, 0.0)])
def test_vectors_tell_the_hidden_style(noise: float, expected: float):
    """Items of one category whose vectors are alike have the same style, new arrivals as much as the others."""
    config = CONFIG.model_copy(update={"vectors": 32, "vector_noise": noise, "items": 2000, "launched": 0.5})
    items = draw_items(np.random.default_rng(3), config)
    vectors = draw_vectors(np.random.default_rng(4), config, items)
    unit = items.style / np.linalg.norm(items.style, axis=1, keepdims=True)
    for group in (items.launch_day > 0, items.launch_day <= 0):
        pairs = np.triu(items.category[:, None] == items.category, 1) & group[:, None] & group
        correlation = np.corrcoef((unit @ unit.T)[pairs], (vectors @ vectors.T)[pairs])[0, 1]
        assert correlation == pytest.approx(expected, abs=0.1)
