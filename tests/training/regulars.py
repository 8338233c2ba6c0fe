"""A shop whose truth is known: regulars who buy at a steady rate, come and leave."""

import numpy as np
import polars as pl

from features.common.clock import DAY
from features.event_log.schema import EVENT_SCHEMA, conform
from features.ranking.snapshot import Snapshot
from features.tables.build import build_from_events
from tests.features.shop import AS_OF, CATALOG, ITEMS
from training.customers.fit import CustomerInputs, label_customers, load_orders
from training.customers.propensity import CustomerFold

CUSTOMERS, DAYS = 2500, 160
START = AS_OF - DAYS * DAY
BOUNDARIES = [START + d * DAY for d in range(62, 133, 14)]


def log(seed: int = 11) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.8, 1 / 25, CUSTOMERS)  # orders a day
    comes = rng.uniform(-300, DAYS, CUSTOMERS)
    first, last = np.maximum(comes, 0), np.clip(comes + rng.exponential(150, CUSTOMERS), 0, DAYS)
    orders = rng.poisson(rate * np.maximum(last - first, 0))
    who = np.repeat(np.arange(CUSTOMERS), orders)
    at = rng.uniform(first[who], last[who])
    looks = rng.integers(0, CUSTOMERS, 4000)
    everyone, when = np.append(who, looks), np.append(at, rng.uniform(0, DAYS, len(looks)))
    frame = pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(len(everyone))],
            "name": ["purchase"] * len(who) + ["view_item"] * len(looks),
            "timestamp": START + (when * DAY).astype(np.int64),
            "customer_id": [f"c{n:04}" for n in everyone],
            "item_id": np.array(ITEMS)[rng.integers(0, len(ITEMS), len(everyone))],
            "quantity": 1.0,
            "price": rng.uniform(5, 50, len(everyone)).round(2),
        }
    )
    return conform(frame.with_columns(pl.from_epoch("timestamp", "us").dt.replace_time_zone("UTC")), EVENT_SCHEMA)


def snapshot_at(events: pl.DataFrame, at: int) -> tuple[Snapshot, pl.DataFrame]:
    """The snapshot, and the customers of its clients."""
    tables = build_from_events(events.lazy(), CATALOG, at)
    return Snapshot.from_tables(tables), tables.profiles


def fold_at(events: pl.DataFrame, at: int) -> CustomerFold:
    snapshot, profiles = snapshot_at(events, at)
    return label_customers(
        CustomerInputs.from_snapshot(snapshot, 7), load_orders(events.lazy(), profiles, at, AS_OF), AS_OF
    )
