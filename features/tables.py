"""Every table as of one instant."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from features import behaviour, history, items, orders, rfm
from features.clock import iso
from features.columns import names
from features.engine import collect, keep, usable
from features.errors import InputError

CUSTOMER_COLUMNS = (*rfm.COLUMNS, *rfm.SCORES, *behaviour.COLUMNS)
ITEM_COLUMNS = items.COLUMNS


@dataclass(frozen=True)
class Tables:
    """What the shop knew just before `as_of` (microseconds): events at or after it leave no trace.

    `customers`: customer_id, segment and `CUSTOMER_COLUMNS`, one row per customer with an event.
    `items`: item_id, category, brand and `ITEM_COLUMNS`, one row per item with an event.
    `history`: customer_id, item_id and `history.COLUMNS`, one row per pair with an event.
    `anonymous`: client_id, item_id, weight of what visitors without a customer_id have touched.
    All are sorted by their ids.
    """

    as_of: int
    customers: pl.DataFrame
    items: pl.DataFrame
    history: pl.DataFrame
    anonymous: pl.DataFrame
    cut_points: rfm.CutPoints

    def write(self, out: Path) -> None:
        """customers.parquet, items.parquet, history.parquet and snapshot.json in directory `out`."""
        out.mkdir(parents=True, exist_ok=True)
        self.customers.write_parquet(out / "customers.parquet")
        self.items.write_parquet(out / "items.parquet")
        self.history.write_parquet(out / "history.parquet")
        about = {"as_of": iso(self.as_of), "rfm_cut_points": asdict(self.cut_points)}
        (out / "snapshot.json").write_text(json.dumps(about, indent=1) + "\n")


def build(events: pl.LazyFrame, catalog: pl.DataFrame, as_of: int) -> Tables:
    """The tables of a log's events as of `as_of`. Raises `InputError` where nothing happened before it."""
    seen = usable(events, as_of)
    lines = keep(orders.lines(seen))
    placed = keep(orders.orders(lines))
    refunds = keep(orders.refunds(seen))
    pairs = keep(history.bought(lines, placed, as_of))
    rfm_table, behaviour_table, item_table, history_table, anonymous = collect(
        [
            rfm.rfm(placed, refunds, as_of),
            behaviour.behaviour(seen, lines, placed, refunds, as_of),
            items.items(seen, lines, placed, pairs, refunds, as_of),
            history.history(seen, pairs, refunds, as_of),
            history.anonymous(seen, as_of),
        ]
    )
    if item_table.is_empty():
        raise InputError(f"the log holds no usable event before {iso(as_of)}; choose a later time")
    cuts = rfm.cut_points(rfm_table)
    customers = behaviour_table.join(rfm_table, on="customer_id", how="left").sort("customer_id")
    customers = rfm.score(customers, cuts).select("customer_id", "segment", *names(CUSTOMER_COLUMNS))
    about = catalog.select("item_id", "category", "brand")
    item_table = item_table.join(about, on="item_id", how="left").sort("item_id")
    item_table = item_table.select("item_id", "category", "brand", *names(ITEM_COLUMNS))
    return Tables(
        as_of=as_of,
        customers=customers,
        items=item_table,
        history=history_table.sort("customer_id", "item_id"),
        anonymous=anonymous.sort("client_id", "item_id"),
        cut_points=cuts,
    )
