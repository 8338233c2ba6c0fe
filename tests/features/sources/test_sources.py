from pathlib import Path

import pytest

from features.errors import InputError
from features.sources import SOURCES, SimulatorConfig, read

TINY = SimulatorConfig(customers=2, items=3, days=2)


def test_each_name_finds_its_source(tmp_path: Path):
    retail, events = tmp_path / "r.csv", tmp_path / "e.csv"
    retail.write_text("Invoice,StockCode,Quantity,InvoiceDate,Price,Customer ID\n1,85123A,1,2010-12-01,2,7\n")
    events.write_text("name,timestamp,client_id,item_id\nview_item,2024-05-01,d,i\n")
    found = {
        "online-retail": read("online-retail", [retail]),
        "events": read("events", [events]),
        "simulated": read("simulated", config=TINY),
    }
    assert set(found) == set(SOURCES)
    assert {n: next(p).events["currency"][0] for n, p in found.items()} == {
        "online-retail": "GBP", "events": None, "simulated": "EUR",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"name": "shopify"}, "unknown source 'shopify'; there are online-retail, events, simulated"),
        ({"name": "events"}, "name at least one"),
        ({"name": "online-retail", "paths": [Path("a")], "mapping": Path("m")}, "a mapping goes with"),
        ({"name": "events", "paths": [Path("a")], "config": TINY}, "settings go with"),
        ({"name": "simulated", "paths": [Path("a.csv")]}, r"reads no files; leave out a\.csv"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: dict, fault: str):
    with pytest.raises(InputError, match=fault):
        read(**arguments)
