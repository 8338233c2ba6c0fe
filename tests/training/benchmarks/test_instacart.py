from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from training.benchmarks import instacart

ORDERS = """order_id,user_id,eval_set,order_number,order_dow,order_hour_of_day,days_since_prior_order
1,1,prior,1,2,08,
2,1,prior,2,3,23,15.0
3,1,train,3,3,07,4.0
4,2,prior,1,3,07,
5,2,test,2,3,07,9.0
"""
PRIOR = "order_id,product_id,add_to_cart_order,reordered\n1,196,1,0\n1,14084,2,0\n2,196,1,1\n4,196,1,1\n"
TRAIN = "order_id,product_id,add_to_cart_order,reordered\n3,196,1,1\n3,7,2,0\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, text in {
        "orders.csv": ORDERS,
        "order_products__prior.csv": PRIOR,
        "order_products__train.csv": TRAIN,
        "products.csv": "product_id,product_name,aisle_id,department_id\n196,Soda,77,7\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_days_are_counted_back_from_the_last_order(directory: Path):
    lines, catalog = instacart.read_lines([directory], 10)
    orders = lines.select("order_id", "timestamp", "back").unique().sort("timestamp").rows()
    assert orders == [
        ("1", datetime(2016, 12, 12, 8, tzinfo=UTC), 2),
        ("2", datetime(2016, 12, 27, 23, tzinfo=UTC), 1),
        ("3", datetime(2017, 1, 1, 7, tzinfo=UTC), 0),
    ]
    assert (lines.filter(pl.col("back") > 0)["timestamp"] < instacart.LAST_DAY).all()
    assert lines.height == 5
    assert lines["customer_id"].unique().to_list() == ["1"]  # the last order of the other is not published
    assert catalog.rows() == [("196", "Soda", "77")]


def test_what_is_missing_is_told(directory: Path):
    (directory / "order_products__train.csv").unlink()
    with pytest.raises(InputError, match=r"order_products__prior\.csv and"):
        instacart.read_lines([directory], 10)
    (directory / "orders.csv").write_text("order_id\n1\n")
    with pytest.raises(InputError, match=r"not Instacart's orders\.csv: it lacks user_id"):
        instacart.read_lines([directory], 10)
