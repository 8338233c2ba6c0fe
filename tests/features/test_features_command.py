import json
from pathlib import Path

import polars as pl
from typer.testing import CliRunner

from usual.cli import app

EVENTS = """name,timestamp,customer_id,client_id,item_id,quantity,price,order_id,event_id,consent
purchase,2026-01-05 10:00:00,1,,A,1,10,o1,e1,
purchase,2026-01-05 10:02:00,1,,A,1,10,o1,e2,
view_item,2026-01-05 10:00:00,1,kiosk,A,,,,e3,
view_item,2026-01-05 11:00:00,2,kiosk,A,,,,e4,
view_item,2026-01-05 11:00:00,2,,A,,,,e5,false
"""


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_features_and_segments_say_what_they_leave_out(tmp_path: Path):
    (tmp_path / "e.csv").write_text(EVENTS)
    log = tmp_path / "log"
    run("ingest", "events", tmp_path / "e.csv", "--out", log)
    features = ("features", "--log", log, "--as-of", "2026-02-01", "--out", tmp_path / "tables")
    segments = ("segments", "--log", log, "--as-of", "2026-02-01", "--out", tmp_path / "segments.csv")
    for command in (features, segments):
        text = run(*command)
        assert "left out: 1 event without consent" in text
        assert "left out: 1 line of orders that came before" in text
        assert "1 device shared by 2 customers, with 2 events (the largest is 'kiosk'" in text
        left_out = json.loads(run(*command, "--json"))["left_out"]
        assert (left_out["events"], left_out["without_consent"], left_out["repeated_orders"]) == (5, 1, 1)
    devices = pl.read_parquet(tmp_path / "tables" / "shared_devices.parquet")
    assert devices.select("client_id", "customers", "events").rows() == [("kiosk", 2, 2)]
    assert json.loads((tmp_path / "tables" / "snapshot.json").read_text())["left_out"] == left_out
