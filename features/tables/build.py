"""All tables as of one instant: the way from an event log to `Tables`."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import narwhals as nw
import polars as pl

from features.common.clock import iso
from features.common.errors import InputError
from features.event_log.log import EventLog
from features.event_log.schema import EMBEDDING, LINK_SCHEMA
from features.tables import (
    affinity,
    answers,
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
from features.tables.left_out import LeftOut
from features.tables.visibility import select_visible

CUSTOMER_COLUMNS = (*rfm.COLUMNS, *rfm.SCORES, *behaviour.COLUMNS, *affinity.COLUMNS, *lifetime.COLUMNS)
CUSTOMER_FIELDS = (rfm.SEGMENT.name, *(f.name for f in traffic.FIELDS))
ITEM_COLUMNS = items.COLUMNS
ITEM_FIELDS = tuple(f.name for f in items.FIELDS)
FILES = ("customers", "items", "history", "affinities", "anonymous", "profiles", "bots", "shared_devices", "answers")


@dataclass(frozen=True)
class Tables:
    """The tables as of `as_of` (microseconds): events at or after it leave no trace.

    `customers`: customer_id, `CUSTOMER_FIELDS` and `CUSTOMER_COLUMNS`, one row per customer with an event.
    `items`: item_id, `ITEM_FIELDS` and `ITEM_COLUMNS`, one row per item with an event or on sale for longer.
    `history`: customer_id, item_id and `history.COLUMNS`, one row per pair with an event.
    `affinities`: customer_id, facet, value, share, one row per value of a facet that a customer interacted with.
    `anonymous`: client_id, item_id, weight of the interactions of clients without a customer.
    `interactions`: visitor, t, item_id, name of the last weeks; only fitting reads it.
    `profiles`: client_id, customer_id of the clients that belong to exactly one customer.
    `bots`: client_id or customer_id, reason, events, first, last, orders, value of what is left out, by visitor: of
    bots and unproven devices everything, of people in a burst those hours (`features.tables.bots`).
    `shared_devices`: client_id, customers, events, orders, value of the clients with several customers.
    `answers`: visitor, customer_id, question, answer, t of the latest answers (`features.tables.answers`).
    `left_out`: how many events count in no table, by reason.
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
    shared_devices: pl.DataFrame
    answers: pl.DataFrame
    cut_points: rfm.CutPoints
    lifetime: lifetime.Lifetime
    embeddings: pl.DataFrame | None = None
    left_out: LeftOut = field(default_factory=LeftOut)

    def write(self, out: Path) -> None:
        """Write one Parquet file for each of `FILES`, and snapshot.json, to the directory `out`."""
        out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            getattr(self, name).write_parquet(out / f"{name}.parquet")
        manifest = {
            "as_of": iso(self.as_of),
            "rfm_window_days": rfm.WINDOW_DAYS,
            "rfm_cut_points": asdict(self.cut_points),
            "lifetime": self.lifetime.parameters(),
            "left_out": self.left_out.as_dict(),
        }
        (out / "snapshot.json").write_text(json.dumps(manifest, indent=1) + "\n")


def build_tables(event_log: EventLog, as_of: int, engine: Engine | None = None) -> Tables:
    """Build the tables of a log as of `as_of` (microseconds). Raises `InputError` where no event lies before it."""
    engine = engine or PolarsEngine()
    tables = build_from_events(engine.scan(event_log), event_log.catalog(), as_of, event_log.links(), engine)
    return replace(tables, left_out=tables.left_out.with_set_aside(event_log.rows_set_aside))


def build_from_events(
    events: pl.LazyFrame | Lazy,
    catalog: pl.DataFrame,
    as_of: int,
    links: pl.DataFrame | None = None,
    engine: Engine | None = None,
) -> Tables:
    """Build the tables of events as of `as_of` (microseconds); `events` is a frame of the engine (default: Polars).

    `events`, `catalog` and `links` are in the schemas of the event log. Raises `InputError` where no event lies
    before `as_of`.
    """
    engine = engine or PolarsEngine()
    links = pl.DataFrame(schema=LINK_SCHEMA) if links is None else links
    visible = select_visible(engine, nw.from_native(events), engine.frame(links), as_of)
    past = visible.events
    descriptions = engine.frame(catalog.select("item_id", "category", "brand"))
    # Items count guests' orders too; customers' tables do not.
    all_lines, all_refunds = visible.lines, visible.refunds
    lines = engine.materialize(orders.without_guests(all_lines))
    customer_orders = engine.materialize(orders.build_orders(lines))
    refunds = engine.materialize(orders.without_guests(all_refunds))
    order_days = engine.materialize(lifetime.build_order_days(customer_orders, refunds))
    bounded = lifetime.OrderBounds.fit(*engine.collect([order_days.select("net")]))
    purchases = engine.materialize(history.aggregate_purchases(lines, customer_orders, as_of))
    prices = engine.materialize(items.build_usual_prices(past))
    all_orders = engine.materialize(orders.build_orders(all_lines))
    all_purchases = history.aggregate_purchases(all_lines, all_orders, as_of)
    item_table = engine.materialize(
        items.build_items(past, all_lines, all_orders, all_purchases, all_refunds, prices, descriptions, as_of)
    )
    touches = engine.materialize(history.aggregate_touches(past, as_of))
    weights = engine.materialize(affinity.weigh_touches(touches, item_table, descriptions))
    shares = engine.materialize(affinity.build_shares(weights, lines, prices))
    (
        customers,
        rfm_rows,
        lifetime_summary,
        affinity_rows,
        traffic_rows,
        item_rows,
        history_rows,
        affinities,
        anonymous,
        interaction_rows,
        profiles,
        answer_rows,
    ) = engine.collect(
        [
            behaviour.build_behaviour(
                past, sessions.build_sessions(past), lines, customer_orders, refunds, prices, as_of
            ),
            rfm.build_rfm(customer_orders, refunds, as_of),
            lifetime.build_summary(customer_orders, refunds, as_of, order_days, bounded.high),
            affinity.build_affinity(weights, shares),
            traffic.build_traffic(past),
            item_table,
            history.build_history(touches, purchases, refunds, as_of),
            shares.with_columns(nw.col("share").cast(nw.Float32)),
            history.build_anonymous(past, as_of),
            interactions.build_interactions(past, as_of),
            visible.profiles,
            answers.build_answers(engine, nw.from_native(events), visible.profiles, as_of),
        ]
    )
    if item_rows.is_empty():
        raise InputError(f"the log holds no usable event before {iso(as_of)}; choose a later time")
    cut_points = rfm.fit_cut_points(rfm_rows)
    lifetime_model = lifetime.Lifetime.fit(lifetime_summary, bounded)
    for table in (rfm_rows, lifetime_model.score(lifetime_summary), affinity_rows, traffic_rows):
        customers = customers.join(table, on="customer_id", how="left")
    customers = rfm.score(customers.sort("customer_id"), cut_points)
    item_rows = pl.concat([item_rows, items.build_items_without_events(catalog, item_rows, as_of)])
    catalog_fields = catalog.rename({"price": "list_price"}).select("item_id", *ITEM_FIELDS)
    item_rows = item_rows.join(catalog_fields, on="item_id", how="left").sort("item_id")
    interaction_key = ["visitor", "t", "item_id", "name"]
    return Tables(
        as_of=as_of,
        customers=customers.select("customer_id", *CUSTOMER_FIELDS, *names(CUSTOMER_COLUMNS)),
        items=item_rows.select("item_id", *ITEM_FIELDS, *names(ITEM_COLUMNS)),
        history=history_rows.sort("customer_id", "item_id"),
        affinities=affinities.sort("customer_id", "facet", "value"),
        anonymous=anonymous.sort("client_id", "item_id"),
        interactions=interaction_rows.select(interaction_key).unique().sort(interaction_key),
        profiles=profiles.sort("client_id"),
        bots=visible.bots.sort(pl.all()),
        shared_devices=visible.shared_devices.sort("client_id"),
        answers=answer_rows.sort("visitor", "question"),
        cut_points=cut_points,
        lifetime=lifetime_model,
        embeddings=_embeddings(catalog),
        left_out=visible.left_out.with_bounded(bounded.orders, bounded.value, bounded.high),
    )


def _embeddings(catalog: pl.DataFrame) -> pl.DataFrame | None:
    if EMBEDDING not in catalog.columns:
        return None
    return catalog.select("item_id", EMBEDDING).drop_nulls(EMBEDDING).sort("item_id")
