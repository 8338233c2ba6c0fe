import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA
from features.sources import rees46

SAMPLE = Path(__file__).parent / "samples" / "rees46.csv"
REAL = Path(__file__).parents[4] / "shared" / "data" / "rees46_head.parquet"


def read(path: Path) -> ParsedBatch:
    (parsed,) = rees46.read([path])
    assert parsed.rows_read == parsed.events.height + parsed.rejected.height
    assert parsed.events.schema == EVENT_SCHEMA
    assert parsed.catalog.schema == CATALOG_SCHEMA
    return parsed


def changed(tmp_path: Path, **cells: str) -> Path:
    """The sample with other cells in its second row."""
    table = pl.read_csv(SAMPLE, infer_schema=False).with_row_index("n")
    columns = [pl.when(pl.col("n") == 1).then(pl.lit(v)).otherwise(c).alias(c) for c, v in cells.items()]
    table.with_columns(columns).drop("n").write_csv(tmp_path / "r.csv")
    return tmp_path / "r.csv"


def test_the_published_csv():
    events = read(SAMPLE).events
    assert events["name"].to_list() == [
        "view_item", "view_item", "add_to_cart", "remove_from_cart", "purchase", "purchase", "purchase", "view_item",
    ]  # fmt: skip
    first = {k: v for k, v in events.row(0, named=True).items() if v is not None and k != "event_id"}
    assert first == {
        "name": "view_item", "timestamp": datetime(2019, 10, 1, tzinfo=UTC), "customer_id": "541312140",
        "session_id": "72d76fde-8bb3-4e00-8c23-a032dfed738c", "item_id": "44600062", "quantity": 1.0, "price": 35.79,
    }  # fmt: skip


def test_purchases_in_one_second_of_a_session_are_one_order(tmp_path: Path):
    bought = read(SAMPLE).events.filter(name="purchase")
    assert bought["order_id"].n_unique() == bought["event_id"].n_unique() == 1
    others = read(SAMPLE).events.filter(pl.col("name") != "purchase")
    assert others["event_id"].n_unique() == others.height
    assert others["order_id"].null_count() == others.height
    report = ingest(rees46.read([SAMPLE]), tmp_path / "log")
    assert (report.duplicates, report.kept["purchase"]) == (1, 2)
    assert ingest(rees46.read([SAMPLE]), tmp_path / "log").kept == {}


def test_catalog_has_the_latest_values(tmp_path: Path):
    catalog = ingest(rees46.read([SAMPLE]), tmp_path / "log").log.catalog()
    values = {row[0]: row[1:] for row in catalog.select("item_id", "category", "brand", "price").iter_rows()}
    assert values["44600062"] == ("2103807459595387724", "shiseido", 35.79)
    assert values["1004856"] == ("electronics/smartphone", "samsung", 129.0)
    assert values["4804056"] == ("electronics/audio/headphone", None, 161.98)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"event_time": "soon"}, "bad_timestamp"),
        ({"event_type": "wink"}, "unknown_event_type"),
        ({"event_type": ""}, "missing_name"),
        ({"product_id": ""}, "missing_item_id"),
        ({"user_id": ""}, "no_customer_or_client"),
        ({"price": "free"}, "bad_price"),
        ({"price": "-1"}, "negative_price"),
        ({"event_type": "purchase", "price": ""}, "missing_quantity_or_price"),
    ],
)
def test_a_bad_row_is_rejected(tmp_path: Path, cells: dict[str, str], reason: str):
    parsed = read(changed(tmp_path, **cells))
    assert parsed.rejected.select("source", "row", "reason").rows() == [("r.csv", 1, reason)]
    assert json.loads(parsed.rejected["raw"][0])["user_session"].startswith("c6bd7419")


@pytest.mark.parametrize("rows", [1, 7])
def test_batches_and_formats_read_the_same(tmp_path: Path, rows: int):
    whole = read(SAMPLE)
    packed, table = tmp_path / "r.csv.gz", tmp_path / "r.parquet"
    packed.write_bytes(gzip.compress(SAMPLE.read_bytes()))
    typed = pl.read_csv(SAMPLE).with_columns(pl.col("event_time").str.to_datetime("%F %T UTC", time_zone="UTC"))
    typed.write_parquet(table)
    for path in (SAMPLE, packed, table):
        assert pl.concat([p.events for p in rees46.read([path], rows=rows)]).equals(whole.events)


def test_a_header_alone_has_no_rows(tmp_path: Path):
    (tmp_path / "r.csv").write_text(SAMPLE.read_text().splitlines(keepends=True)[0])
    assert read(tmp_path / "r.csv").rows_read == 0
    with pytest.raises(InputError, match="there are no rows to read"):
        ingest(rees46.read([tmp_path / "r.csv"]), tmp_path / "log")


def test_another_table_is_refused(tmp_path: Path):
    (tmp_path / "r.csv").write_text("event_time,product_id\n2019-10-01,1\n")
    with pytest.raises(
        InputError, match=r"is not REES46's: missing columns event_type, price.*Its columns: event_time"
    ):
        list(rees46.read([tmp_path / "r.csv"]))


@pytest.mark.skipif(not REAL.exists(), reason=f"no {REAL.name}: the first hours of REES46's 2019-Oct file")
def test_a_real_click_stream(tmp_path: Path):
    report = ingest(rees46.read([REAL]), tmp_path / "log")
    assert report.kept == {"add_to_cart": 164, "purchase": 214, "view_item": 17_052}
    assert (report.rows_read, report.duplicates, report.rejected) == (17_435, 5, {})
