"""Every table as of one instant."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import narwhals as nw
import polars as pl

from features.common.clock import iso
from features.common.errors import InputError
from features.event_log.log import EventLog
from features.event_log.schema import EMBEDDING, LINK_SCHEMA
from features.tables import (
    affinity,
    behaviour,
    history,
    interactions,
    items,
    lifetime,
    orders,
    rfm,
    sessions,
    traffic,
)
from features.tables.columns import names
from features.tables.engine import Engine, Lazy, PolarsEngine
from features.tables.visibility import select_visible

CUSTOMER_COLUMNS = (*rfm.COLUMNS, *rfm.SCORES, *behaviour.COLUMNS, *affinity.COLUMNS, *lifetime.COLUMNS)
CUSTOMER_FIELDS = (rfm.SEGMENT.name, *(f.name for f in traffic.FIELDS))
ITEM_COLUMNS = items.COLUMNS
ITEM_FIELDS = tuple(f.name for f in items.FIELDS)
FILES = ("customers", "items", "history", "affinities", "anonymous", "profiles", "bots")


@dataclass(frozen=True)
class Tables:
    """What the shop knew just before `as_of` (microseconds): events at or after it leave no trace.

    `customers`: customer_id, `CUSTOMER_FIELDS` and `CUSTOMER_COLUMNS`, one row per customer with an event.
    `items`: item_id, `ITEM_FIELDS` and `ITEM_COLUMNS`, one row per item with an event or on sale for longer.
    `history`: customer_id, item_id and `history.COLUMNS`, one row per pair with an event.
    `affinities`: customer_id, facet, value, share, one row per value a customer leans to.
    `anonymous`: client_id, item_id, weight of what visitors without a customer have touched.
    `interactions`: visitor, item_id, name, t of what was touched in the last weeks; only fitting reads it.
    `profiles`: client_id, customer_id of the clients that belong to one customer.
    `bots`: visitor, events, first, last of who was taken for none and left out.
    `embeddings`: item_id, embedding (list of float32) of the catalog's items with a vector, sold or not; None where
    none has one. Only fitting reads it.
    All are sorted by their ids. Category, brand, availability and embeddings are the catalog's latest, which knows no
    past; affinities and price tiers follow it.
    """

    as_of: int
    customers: pl.DataFrame
    items: pl.DataFrame
    history: pl.DataFrame
    affinities: pl.DataFrame
    anonymous: pl.DataFrame
    interactions: pl.DataFrame
    profiles: pl.DataFrame
    bots: pl.DataFrame
    cut_points: rfm.CutPoints
    lifetime: lifetime.Lifetime
    embeddings: pl.DataFrame | None = None

    def write(self, out: Path) -> None:
        """One Parquet file for each of `FILES`, and snapshot.json, in directory `out`."""
        out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            getattr(self, name).write_parquet(out / f"{name}.parquet")
        about = {
            "as_of": iso(self.as_of),
            "rfm_window_days": rfm.WINDOW_DAYS,
            "rfm_cut_points": asdict(self.cut_points),
            "lifetime": self.lifetime.parameters(),
        }
        (out / "snapshot.json").write_text(json.dumps(about, indent=1) + "\n")


def build_tables(log: EventLog, as_of: int, engine: Engine | None = None) -> Tables:
    """The tables of a log as of `as_of`. Raises `InputError` where nothing happened before it."""
    engine = engine or PolarsEngine()
    return build_from_events(engine.events(log), log.catalog(), as_of, log.links(), engine)


def build_from_events(
    events: pl.LazyFrame | Lazy,
    catalog: pl.DataFrame,
    as_of: int,
    links: pl.DataFrame | None = None,
    engine: Engine | None = None,
) -> Tables:
    """The tables of a log's events as of `as_of`; `events` is a frame of the engine (default: Polars)."""
    engine = engine or PolarsEngine()
    links = pl.DataFrame(schema=LINK_SCHEMA) if links is None else links
    visible = select_visible(engine, nw.from_native(events), engine.frame(links), as_of)
    past = visible.events
    about = engine.frame(catalog.select("item_id", "category", "brand"))
    lines = engine.keep(orders.build_lines(past))
    placed = engine.keep(orders.build_orders(lines))
    refunds = engine.keep(orders.build_refunds(past))
    pairs = engine.keep(history.aggregate_purchases(lines, placed, as_of))
    prices = engine.keep(items.build_usual_prices(past))
    money = engine.keep(orders.add_guests(past))
    all_lines = engine.keep(orders.build_lines(money))
    all_placed = engine.keep(orders.build_orders(all_lines))
    buyers = history.aggregate_purchases(all_lines, all_placed, as_of)
    returns = orders.build_refunds(money)
    item_table = engine.keep(items.build_items(past, all_lines, all_placed, buyers, returns, prices, about, as_of))
    touched = engine.keep(history.aggregate_touches(past, as_of))
    leanings = engine.keep(affinity.weigh_touches(touched, item_table, about))
    shares = engine.keep(affinity.build_shares(leanings, lines, prices))
    customers, rfm_table, bought, *more, item_rows, history_rows, affinities, anonymous, touches, owners = (
        engine.collect(
            [
                behaviour.build_behaviour(past, sessions.build_sessions(past), lines, placed, refunds, prices, as_of),
                rfm.build_rfm(placed, refunds, as_of),
                lifetime.build_summary(placed, refunds, as_of),
                affinity.build_affinity(leanings, shares),
                traffic.build_traffic(past),
                item_table,
                history.build_history(touched, pairs, refunds, as_of),
                shares.with_columns(nw.col("share").cast(nw.Float32)),
                history.build_anonymous(past, as_of),
                interactions.build_interactions(past, as_of),
                visible.profiles,
            ]
        )
    )
    if item_rows.is_empty():
        raise InputError(f"the log holds no usable event before {iso(as_of)}; choose a later time")
    cuts = rfm.fit_cut_points(rfm_table)
    model = lifetime.Lifetime.fit(bought)
    for part in (rfm_table, model.score(bought), *more):
        customers = customers.join(part, on="customer_id", how="left")
    customers = rfm.score(customers.sort("customer_id"), cuts)
    item_rows = pl.concat([item_rows, items.build_items_without_events(catalog, item_rows, as_of)])
    about_items = catalog.rename({"price": "list_price"}).select("item_id", *ITEM_FIELDS)
    item_rows = item_rows.join(about_items, on="item_id", how="left").sort("item_id")
    return Tables(
        as_of=as_of,
        customers=customers.select("customer_id", *CUSTOMER_FIELDS, *names(CUSTOMER_COLUMNS)),
        items=item_rows.select("item_id", *ITEM_FIELDS, *names(ITEM_COLUMNS)),
        history=history_rows.sort("customer_id", "item_id"),
        affinities=affinities.sort("customer_id", "facet", "value"),
        anonymous=anonymous.sort("client_id", "item_id"),
        interactions=touches.select("visitor", "t", "item_id", "name").unique().sort("visitor", "t", "item_id", "name"),
        profiles=owners.sort("client_id"),
        bots=visible.bots.sort(pl.all()),
        cut_points=cuts,
        lifetime=model,
        embeddings=_embeddings(catalog),
    )


def _embeddings(catalog: pl.DataFrame) -> pl.DataFrame | None:
    if EMBEDDING not in catalog.columns:
        return None
    return catalog.select("item_id", EMBEDDING).drop_nulls(EMBEDDING).sort("item_id")
