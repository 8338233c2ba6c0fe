import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.sources import retailrocket

START = 1_433_221_332_117  # the first event's time in the published file
EVENTS = """timestamp,visitorid,event,itemid,transactionid
{0},257597,view,355908,
{1},992329,addtocart,355908,
{2},992329,transaction,355908,4000
{2},992329,transaction,318965,4000
{3},111016,view,318965,
"""
PROPERTIES = """timestamp,itemid,property,value
{0},355908,790,n15360.000
{2},355908,790,n12000.000
{1},318965,790,n1200.000
{3},355908,790,n99.000
{0},355908,categoryid,1338
{2},355908,categoryid,209
{0},355908,available,1
{3},355908,available,0
{0},355908,888,1116713 960601 n277.200
{0},355908,364,1285872
{1},355908,364,66094
{1},355908,6,n24.000
"""
TREE = """categoryid,parentid
1016,
809,1016
1338,809
209,1016
"""


def hour(n: int) -> int:
    return START + n * 3_600_000


def write(folder: Path, events: str = EVENTS, properties: str = PROPERTIES, tree: str = TREE) -> list[Path]:
    texts = {"item_properties_part1.csv": properties, "events.csv": events, "category_tree.csv": tree}
    for name, text in texts.items():
        (folder / name).write_text(text.format(*(hour(n) for n in range(4))))
    return [folder / name for name in texts]


def whole(paths: list[Path], rows: int = 1000) -> ParsedBatch:
    parts = list(retailrocket.read(paths, rows))
    for part in parts:
        assert part.rows_read == part.events.height + part.rejected.height
    return ParsedBatch(
        rows_read=sum(p.rows_read for p in parts), events=pl.concat([p.events for p in parts]),
        rejected=pl.concat([p.rejected for p in parts]), catalog=pl.concat([p.catalog for p in parts]),
        notes=tuple(n for p in parts for n in p.notes),
    )  # fmt: skip


def test_events(tmp_path: Path):
    events = whole(write(tmp_path)).events
    assert events["name"].to_list() == ["view_item", "add_to_cart", "purchase", "purchase", "view_item"]
    assert events["timestamp"][0] == datetime(2015, 6, 2, 5, 2, 12, 117_000, tzinfo=UTC)
    assert events["client_id"].to_list() == ["257597", "992329", "992329", "992329", "111016"]
    assert events["order_id"].to_list() == [None, None, "4000", "4000", None]
    assert events["event_id"][2] == events["event_id"][3]
    assert events["event_id"].n_unique() == 4


def test_the_price_is_the_latest_and_never_a_later_one(tmp_path: Path):
    # 355908 changes its price in the hour it is bought; 318965 has one from hour 1 on.
    assert whole(write(tmp_path)).events["price"].to_list() == [15360.0, 15360.0, 12000.0, 1200.0, 1200.0]
    late = PROPERTIES.replace("{1},318965,790", "{3},318965,790")
    parsed = whole(write(tmp_path, properties=late))
    assert parsed.rejected.select("source", "row", "reason").rows() == [("events.csv", 3, "missing_quantity_or_price")]
    assert parsed.events["price"].to_list() == [15360.0, 15360.0, 12000.0, 1200.0]


def test_catalog(tmp_path: Path):
    catalog = ingest(retailrocket.read(write(tmp_path)), tmp_path / "log").log.catalog()
    one, two = catalog.sort("item_id").rows(named=True)
    assert (two["category"], two["price"], two["available"]) == ("1016/209", 99.0, False)
    assert json.loads(two["attributes"]) == {"364": "66094", "6": "n24.000"}
    first = datetime.fromtimestamp(START / 1000, UTC).replace(microsecond=117_000)
    assert two["first_seen"] == first
    assert (one["category"], one["price"], one["available"]) == (None, 1200.0, True)
    assert one["first_seen"] == first + timedelta(hours=2)


@pytest.mark.parametrize("rows", [1, 7])
def test_neither_batches_nor_the_order_of_files_matter(tmp_path: Path, rows: int):
    paths = write(tmp_path)
    one, other = whole(paths), whole(paths[::-1], rows)
    assert other.events.equals(one.events)
    logs = [
        ingest(retailrocket.read(p, n), tmp_path / name).log.catalog()
        for p, n, name in [(paths, 1000, "a"), (paths[::-1], rows, "b")]
    ]
    assert logs[0].equals(logs[1])


def test_events_alone(tmp_path: Path):
    parsed = whole([write(tmp_path)[1]])
    assert parsed.rejected["reason"].to_list() == ["missing_quantity_or_price"] * 2
    assert "no item properties" in parsed.notes[0]


@pytest.mark.parametrize(
    ("table", "line", "reason"),
    [
        ("events", "soon,1,view,2,", "bad_timestamp"),
        ("events", "{1},1,wink,2,", "unknown_event"),
        ("events", "{1},,view,2,", "no_customer_or_client"),
        ("events", "{1},1,view,,", "missing_item_id"),
        ("events", "{1},1,view,2,,3", "ragged_row"),
        ("properties", "{1},1,790,15360", "bad_value"),
        ("properties", "{1},1,available,yes", "bad_value"),
        ("properties", "{1},1,categoryid,", "bad_value"),
        ("properties", "{1},,790,n1.000", "missing_item_id"),
        ("properties", "never,1,790,n1.000", "bad_timestamp"),
        ("properties", "{1},1,,n1.000", "missing_property"),
        ("tree", ",1016", "missing_category"),
    ],
)
def test_a_bad_row_is_rejected(tmp_path: Path, table: str, line: str, reason: str):
    texts = {"events": EVENTS, "properties": PROPERTIES, "tree": TREE}
    parsed = whole(write(tmp_path, **(texts | {table: texts[table] + line + "\n"})))
    assert parsed.rejected.select("row", "reason").rows() == [(texts[table].count("\n") - 1, reason)]
    assert parsed.events.height == 5
    assert parsed.rows_read == 6


def test_a_category_that_is_its_own_ancestor_ends(tmp_path: Path):
    paths = write(tmp_path, tree="categoryid,parentid\n209,809\n809,209\n")
    catalog = ingest(retailrocket.read(paths), tmp_path / "log").log.catalog()
    assert catalog.filter(item_id="355908")["category"].item() == "809/209"


def test_files_that_are_not_retailrockets(tmp_path: Path):
    paths = write(tmp_path)
    with pytest.raises(InputError, match="none of the files is Retailrocket's events"):
        list(retailrocket.read([paths[0]]))
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"x\.csv is none of Retailrocket's files, which have.*Its columns: a, b"):
        list(retailrocket.read([*paths, tmp_path / "x.csv"]))
