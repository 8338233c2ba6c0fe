"""RFM and behaviour against the same rules written once more, in pandas."""

import numpy as np
import polars as pl

from benchmarks import with_pandas
from features.common.clock import DAY, HOUR, micros
from features.event_log.ingest import ingest
from features.sources import SimulatorConfig, read
from features.tables import behaviour, rfm
from features.tables.build import build_tables
from features.tables.columns import names

SHOP = SimulatorConfig(customers=300, visitors_per_customer=1, items=80, days=120, sessions_per_customer=12)


def test_every_customer_and_column_agrees(tmp_path):
    log = ingest(read("simulated", config=SHOP), tmp_path / "log").log
    as_of = micros(log.last) - 9 * DAY - 7 * HOUR
    ours = build_tables(log, as_of).customers
    theirs = pl.from_pandas(with_pandas.build_table(log, as_of).reset_index()).sort("customer_id")
    assert ours["customer_id"].to_list() == theirs["customer_id"].to_list()
    assert ours.height > 200
    for column in names([*rfm.COLUMNS, *behaviour.COLUMNS]):
        a, b = (t[column].cast(pl.Float64).fill_null(np.nan).to_numpy() for t in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=column)
