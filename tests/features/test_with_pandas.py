"""RFM and behaviour against the same rules written once more, in pandas."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import with_pandas
from features.common.clock import DAY, HOUR, micros
from features.event_log.ingestion.ingest import ingest
from features.event_log.log import EventLog, write
from features.sources import SimulatorConfig, read
from features.tables import behaviour, rfm
from features.tables.bots import PER_DAY, PER_HOUR
from features.tables.build import build_tables
from features.tables.columns import names

SHOP = SimulatorConfig(customers=300, visitors_per_customer=1, items=80, days=120, sessions_per_customer=12)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    return ingest(read("simulated", config=SHOP), tmp_path_factory.mktemp("pandas") / "log").log


def flooded(log: EventLog, path: Path) -> EventLog:
    """Floods in the names of customers, with and without orders, and on devices, and views of unproven devices."""
    events = log.scan().collect()
    view = events.filter(pl.col("name").cast(pl.String) == "view_item").head(1)
    some = events.drop_nulls(["client_id", "customer_id"]).sort("event_id").gather_every(events.height // 9)
    visitors = [(None, r["customer_id"], PER_HOUR + 9, 8) for r in some.head(3).iter_rows(named=True)]
    visitors += [(r["client_id"], None, PER_HOUR + 9, 8) for r in some.tail(3).iter_rows(named=True)]
    visitors += [(some["client_id"][3], None, PER_DAY + 40, 60), (None, "nobody-1", PER_HOUR + 9, 8)]
    visitors += [("~device", None, 5, 8), ("~device", some["customer_id"][0], 5, 8)]
    parts = [events]
    for n, (client, customer, pages, seconds) in enumerate(visitors):
        begin = log.last - timedelta(days=30 + n)
        more = pl.DataFrame({"k": range(pages)}).join(view.drop("client_id", "customer_id"), how="cross")
        more = more.with_columns(
            event_id=pl.format("flood-{}-{}", pl.lit(n), "k"),
            timestamp=pl.lit(begin).cast(view.schema["timestamp"]) + pl.duration(seconds=pl.col("k") * seconds),
            client_id=pl.lit(client, pl.String),
            customer_id=pl.lit(customer, pl.String),
        )
        parts.append(more.select(events.columns))
    every = pl.concat(parts).sort("timestamp", "event_id", "item_id")
    return write(path, every, log.catalog(), pl.DataFrame(), log.links())


@pytest.mark.parametrize("attacked", [False, True])
def test_every_customer_and_column_agrees(simulated: EventLog, tmp_path: Path, attacked: bool):
    log = flooded(simulated, tmp_path / "log") if attacked else simulated
    as_of = micros(log.last) - 9 * DAY - 7 * HOUR
    tables = build_tables(log, as_of)
    assert bool(tables.left_out.bursts) == attacked
    ours = tables.customers
    theirs = pl.from_pandas(with_pandas.build_table(log, as_of).reset_index()).sort("customer_id")
    assert ours["customer_id"].to_list() == theirs["customer_id"].to_list()
    assert ours.height > 200
    for column in names([*rfm.COLUMNS, *behaviour.COLUMNS]):
        a, b = (t[column].cast(pl.Float64).fill_null(np.nan).to_numpy() for t in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=column)
