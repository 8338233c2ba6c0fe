from pathlib import Path
from typing import get_type_hints

import pytest

from features.common.errors import InputError
from features.sources import REGISTRY, SOURCES, SimulatorConfig, option_help, read, sources_with
from usual.cli.data import ingest

TINY = SimulatorConfig(customers=2, items=3, days=2)

SAMPLES = Path(__file__).parent / "samples"


def test_each_name_reads_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "sixteen letters!")
    monkeypatch.setenv("USUAL_SOURCE_DSN", "host=127.0.0.1 port=1")
    retail, events, rocket = tmp_path / "r.csv", tmp_path / "e.csv", tmp_path / "events.csv"
    retail.write_text("Invoice,StockCode,Quantity,InvoiceDate,Price,Customer ID\n1,85123A,1,2010-12-01,2,7\n")
    events.write_text("name,timestamp,client_id,item_id\nview_item,2024-05-01,d,i\n")
    rocket.write_text("timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n")
    batches = {
        "events": read("events", [events]),
        "ga4": read("ga4", [SAMPLES / "ga4.jsonl"]),
        "segment": read("segment", [SAMPLES / "segment.jsonl"]),
        "rees46": read("rees46", [SAMPLES / "rees46.csv"]),
        "retailrocket": read("retailrocket", [rocket]),
        "online-retail": read("online-retail", [retail]),
        "simulated": read("simulated", config=TINY),
    }
    published = ("instacart", "diginetica", "dunnhumby")
    presets = {name: read(name, sorted((SAMPLES.parent / "presets/samples" / name).iterdir())) for name in published}
    assert {*batches, *presets, "postgres", "sql", "store"} == set(SOURCES)
    assert {name: next(p).events["name"][0] for name, p in presets.items()} == {
        "instacart": "purchase", "diginetica": "view_item", "dunnhumby": "purchase",
    }  # fmt: skip
    firsts = {n: next(p).events.row(0, named=True) for n, p in batches.items()}
    assert {n: e["name"] for n, e in firsts.items() if n != "simulated"} == {
        "events": "view_item", "ga4": "view_item", "segment": "search", "rees46": "view_item",
        "retailrocket": "view_item", "online-retail": "purchase",
    }  # fmt: skip
    assert (firsts["online-retail"]["currency"], firsts["simulated"]["currency"]) == ("GBP", "EUR")
    monkeypatch.setenv("USUAL_EVENT_STORE", str(tmp_path / "none.sqlite"))
    with pytest.raises(InputError, match="no event store"):
        next(read("store"))
    with pytest.raises(InputError, match="USUAL_SOURCE_DSN"):
        next(read("postgres", table="t"))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"name": "shopify"}, "unknown source 'shopify'; there are events, postgres, sql, ga4"),
        ({"name": "events"}, "name at least one"),
        ({"name": "online-retail", "paths": [Path("a")], "mapping": Path("m")}, "a mapping goes with"),
        ({"name": "events", "paths": [Path("a")], "config": TINY}, "settings go with"),
        ({"name": "rees46", "paths": [Path("a")], "mapping": Path("m")}, "a mapping goes with"),
        ({"name": "events", "paths": [Path("a")], "table": "t"}, "a table or query goes with"),
        ({"name": "postgres", "paths": [Path("a.csv")]}, r"reads no files; leave out a\.csv"),
        ({"name": "store", "paths": [Path("a.sqlite")]}, r"reads no files; leave out a\.sqlite"),
        ({"name": "store", "table": "t"}, "goes with the sources `postgres` and `sql`"),
        ({"name": "simulated", "paths": [Path("a.csv")]}, r"reads no files; leave out a\.csv"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: dict, fault: str):
    with pytest.raises(InputError, match=fault):
        read(**arguments)


def test_every_name_is_declared_by_one_module():
    assert tuple(REGISTRY) == SOURCES
    assert all(source.name == name and source.description for name, source in REGISTRY.items())


def test_options_know_their_sources():
    assert sources_with("mapping") == ("events", "postgres", "sql")
    assert sources_with("config") == ("simulated",)
    assert option_help("mapping") == "`events`, `postgres`, `sql`: YAML that maps your columns to ours."


def test_the_command_line_shows_the_options_of_the_sources():
    hints = get_type_hints(ingest, include_extras=True)
    help_texts = {name: hints[name].__metadata__[0].help for name in ("mapping", "table", "query_file")}
    assert help_texts == {name: option_help(name) for name in help_texts}
    assert tuple(choice.value for choice in hints["source"]) == SOURCES
