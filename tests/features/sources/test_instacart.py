from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ingest
from features.sources import instacart

ORDERS = """order_id,user_id,eval_set,order_number,order_dow,order_hour_of_day,days_since_prior_order
2539329,1,prior,1,2,08,
2398795,1,prior,2,3,07,15.0
473747,1,train,3,4,12,30.0
2168274,2,prior,1,0,11,
"""
PRIOR = """order_id,product_id,add_to_cart_order,reordered
2539329,196,1,0
2539329,14084,2,0
2398795,196,1,1
2168274,196,1,0
"""
TRAIN = """order_id,product_id,add_to_cart_order,reordered
473747,196,1,1
999,196,2,0
"""
ITEMS = {
    "products.csv": 'product_id,product_name,aisle_id,department_id\n196,"Soda, diet",77,7\n14084,Almond Milk,91,16\n',
    "aisles.csv": "aisle_id,aisle\n77,soft drinks\n",
    "departments.csv": "department_id,department\n7,beverages\n16,dairy eggs\n",
}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    texts = {"orders.csv": ORDERS, "order_products__prior.csv": PRIOR, "order_products__train.csv": TRAIN, **ITEMS}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in reversed(texts)]


@pytest.mark.parametrize("rows", [1, 100])
def test_orders_get_dates_that_agree_with_weekday_hour_and_gap(files: list[Path], tmp_path: Path, rows: int):
    report = ingest(instacart.read(files, rows), tmp_path / "log")
    assert (report.kept, report.rejected) == ({"purchase": 5}, {"order_not_in_orders_csv": 1})
    events = report.log.scan().sort("customer_id", "timestamp", "item_id").collect()
    assert events.select("customer_id", "order_id", "timestamp", "item_id", "quantity", "price").rows() == [
        ("1", "2539329", datetime(2017, 1, 3, 8, tzinfo=UTC), "14084", 1, 0),
        ("1", "2539329", datetime(2017, 1, 3, 8, tzinfo=UTC), "196", 1, 0),
        ("1", "2398795", datetime(2017, 1, 18, 7, tzinfo=UTC), "196", 1, 0),
        # 30 days later it is a Friday; the order was on a Thursday, the next of which is 36 days later.
        ("1", "473747", datetime(2017, 2, 23, 12, tzinfo=UTC), "196", 1, 0),
        ("2", "2168274", datetime(2017, 1, 1, 11, tzinfo=UTC), "196", 1, 0),
    ]
    assert "has no dates" in report.notes[0]


def test_the_catalog_has_names_and_departments_and_no_prices(files: list[Path], tmp_path: Path):
    catalog = ingest(instacart.read(files), tmp_path / "log").log.catalog().sort("item_id")
    assert catalog.select("item_id", "title", "category", "price", "available").rows() == [
        ("14084", "Almond Milk", "dairy eggs", None, True),
        ("196", "Soda, diet", "beverages/soft drinks", None, True),
    ]


def test_what_cannot_be_read_alone_is_said(files: list[Path], tmp_path: Path):
    with pytest.raises(InputError, match=r"none of the files is Instacart's orders\.csv"):
        list(instacart.read([f for f in files if f.name != "orders.csv"]))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv is none of Instacart's files, which have.*Its columns: a, b"):
        list(instacart.read([tmp_path / "other.csv"]))


def test_weekdays_count_whatever_the_gap_says():
    gaps = pl.DataFrame({
        "order_id": ["1", "2", "3"], "user_id": ["u"] * 3, "order_number": ["1", "2", "3"],
        "order_dow": ["6", "6", "1"], "order_hour_of_day": ["0", "23", "5"],
        "days_since_prior_order": [None, "0.0", "9"],
    })  # fmt: skip
    assert instacart.date_orders(gaps)["timestamp"].dt.weekday().to_list() == [6, 6, 1]
