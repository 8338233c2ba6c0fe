from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ingest
from features.sources import dunnhumby

LINES = """household_key,BASKET_ID,DAY,PRODUCT_ID,QUANTITY,SALES_VALUE,STORE_ID,RETAIL_DISC,TRANS_TIME,WEEK_NO,\
COUPON_DISC,COUPON_MATCH_DISC
2375,26984851472,1,1004906,1,1.39,364,-0.60,1631,1,0.00,0.00
2375,26984851472,1,1033142,2,1.64,364,0.00,1631,1,0.00,0.00
2375,26984851472,1,1033142,1,0.82,364,0.00,1631,1,0.00,0.00
1364,26984896261,2,842930,1,2.19,31742,0.00,0005,1,0.00,0.00
1364,26984896261,2,5978656,0,0.00,31742,0.00,0005,1,0.00,0.00
1364,26984896262,2,842930,1,2.19,31742,0.00,2599,1,0.00,0.00
"""
PRODUCTS = """PRODUCT_ID,MANUFACTURER,DEPARTMENT,BRAND,COMMODITY_DESC,SUB_COMMODITY_DESC,CURR_SIZE_OF_PRODUCT
1004906,69,PRODUCE,Private,POTATOES,POTATOES RUSSET (BULK&BAG),5 LB
1033142,2,PRODUCE,National,ONIONS,ONIONS SWEET (BULK&BAG),40 LB
"""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for name, text in (("transaction_data.csv", LINES), ("product.csv", PRODUCTS)):
        (tmp_path / name).write_text(text)
    return [tmp_path / "product.csv", tmp_path / "transaction_data.csv"]


@pytest.mark.parametrize("rows", [1, 100])
def test_lines_of_a_basket_are_an_order(files: list[Path], tmp_path: Path, rows: int):
    report = ingest(dunnhumby.read(files, rows), tmp_path / "log")
    assert (report.kept, report.merged) == ({"purchase": 3}, 1)
    assert report.rejected == {"bad_quantity": 1, "bad_timestamp": 1}
    events = report.log.scan().sort("timestamp", "item_id").collect()
    potatoes, onions = ("1004906", 1, 1.39), ("1033142", 3, 0.82)
    assert events.select("item_id", "quantity", "price").rows() == [potatoes, onions, ("842930", 1, 2.19)]
    assert events["timestamp"].unique(maintain_order=True).to_list() == [
        datetime(2017, 1, 1, 16, 31, tzinfo=UTC), datetime(2017, 1, 2, 0, 5, tzinfo=UTC),
    ]  # fmt: skip
    assert events["order_id"].n_unique() == 2
    assert "DAY 1 is taken as 2017-01-01" in report.notes[0]


def test_the_catalog(files: list[Path], tmp_path: Path):
    catalog = ingest(dunnhumby.read(files), tmp_path / "log").log.catalog().sort("item_id")
    assert catalog.row(0, named=True).items() >= {
        "title": "POTATOES RUSSET (BULK&BAG)", "category": "PRODUCE/POTATOES", "brand": "Private 69", "price": 1.39,
    }.items()  # fmt: skip


def test_transactions_are_needed(files: list[Path]):
    with pytest.raises(InputError, match=r"none of the files is dunnhumby's transaction_data\.csv"):
        list(dunnhumby.read(files[:1]))
