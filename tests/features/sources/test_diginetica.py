from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ingest
from features.sources import diginetica

FILES = {
    "train-item-views.csv": "sessionId;userId;itemId;timeframe;eventdate\n"
    "1;NA;81766;526309;2016-05-09\n1;NA;31331;1031018;2016-05-09\n2;77;32118;243569;2016-05-09\n",
    "train-purchases.csv": "sessionId;userId;timeframe;eventdate;ordernumber;itemId\n"
    "2;77;998;2016-05-09;5;32118\n2;77;998;2016-05-09;5;32118\n2;77;998;2016-05-09;5;81766\n2;77;998;2016-05-09;5;1\n",
    "train-queries.csv": "queryId;sessionId;userId;timeframe;duration;eventdate;"
    "searchstring.tokens;categoryId;items;is.test\n"
    "1;1;NA;16327074;311;2016-05-09;6,7;0;1,2;FALSE\n2;2;77;20;311;2016-05-09;;600;3,4;FALSE\n",
    "train-clicks.csv": "queryId;timeframe;itemId\n2;5000;32118\n9;5000;32118\n",
    "products.csv": "itemId;pricelog2;product.name.tokens\n81766;10;7,8\n32118;1;9\n31331;3;9\n",
    "product-categories.csv": "itemId;categoryId\n81766;1096\n32118;57\n",
}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in reversed(FILES)]


@pytest.mark.parametrize("rows", [1, 100])
def test_sessions(files: list[Path], tmp_path: Path, rows: int):
    report = ingest(diginetica.read(files, rows), tmp_path / "log")
    assert report.kept == {"purchase": 2, "search": 1, "select_item": 1, "view_item": 3, "view_item_list": 1}
    assert (report.merged, report.rejected) == (1, {"missing_quantity_or_price": 1, "query_not_in_queries": 1})
    events = report.log.scan().sort("client_id", "timestamp", "item_id").collect()
    first = events.filter(item_id="31331").row(0, named=True)
    assert (first["customer_id"], first["client_id"], first["session_id"], first["price"]) == (None, "1", "1", 7)
    assert first["timestamp"] == datetime(2016, 5, 9, 0, 17, 11, 18_000, tzinfo=UTC)
    bought = events.filter(name="purchase").select("customer_id", "order_id", "item_id", "quantity", "price").rows()
    assert bought == [("77", "5", "32118", 2, 1), ("77", "5", "81766", 1, 1023)]
    clicked = events.filter(name="select_item").select("customer_id", "item_id", "list_id").rows()
    assert clicked == [("77", "32118", "600")]
    assert events.filter(name="search")["query"].to_list() == ["6,7"]


def test_the_catalog(files: list[Path], tmp_path: Path):
    catalog = ingest(diginetica.read(files), tmp_path / "log").log.catalog().sort("item_id")
    values = catalog.select("item_id", "category", "price").rows()
    assert values == [("31331", None, 7), ("32118", "57", 1), ("81766", "1096", 1023)]


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["products.csv"], "none of the files is Diginetica's"),
        (["train-item-views.csv", "train-clicks.csv"], r"only by train-queries\.csv"),
        (["train-purchases.csv"], r"name products\.csv too"),
    ],
)
def test_files_that_need_others(files: list[Path], tmp_path: Path, names: list[str], fault: str):
    with pytest.raises(InputError, match=fault):
        list(diginetica.read([tmp_path / name for name in names]))
