import json
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError
from features.events import CATALOG_SCHEMA, EVENT_SCHEMA, deduplicate
from features.ingest import Parsed, ingest
from features.sources import events_file

REES46 = Path(__file__).parents[4] / "shared" / "data" / "rees46_head.parquet"
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
GOOD = {
    "event_id": "e1", "name": "purchase", "timestamp": "2024-05-01T12:00:00Z", "customer_id": "c1",
    "item_id": "i1", "quantity": "2", "price": "3.5",
}  # fmt: skip


def read(path: Path, mapping: Path | None = None) -> Parsed:
    (parsed,) = events_file.read([path], mapping)
    assert parsed.rows_read == parsed.events.height + parsed.merged + parsed.rejected.height
    assert parsed.events.schema == EVENT_SCHEMA
    assert parsed.catalog.schema == CATALOG_SCHEMA
    return parsed


def write(path: Path, *rows: dict) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return path
    frame = pl.DataFrame(rows, infer_schema_length=None)
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


@pytest.fixture
def mapped(tmp_path: Path):
    """Reads rows through a mapping given as YAML."""

    def parse(yaml: str, *rows: dict) -> Parsed:
        (tmp_path / "shop.yml").write_text(yaml)
        return read(write(tmp_path / "e.csv", *rows), tmp_path / "shop.yml")

    return parse


def reasons(parsed: Parsed) -> list[tuple[int, str]]:
    return parsed.rejected.select("row", "reason").rows()


@pytest.mark.parametrize("extension", ["csv", "parquet", "jsonl"])
def test_every_format_says_the_same(tmp_path: Path, extension: str):
    rows = [
        GOOD | {"position": "3", "consent": "true", "device": "mobile"},
        GOOD
        | {
            "event_id": "e2",
            "name": "search",
            "item_id": None,
            "quantity": None,
            "price": None,
            "query": "tea",
        },
    ]
    rows = [dict.fromkeys(rows[0] | rows[1]) | r for r in rows]
    bought, searched = read(write(tmp_path / f"e.{extension}", *rows)).events.rows(named=True)
    assert bought["timestamp"] == NOON
    assert (bought["quantity"], bought["price"], bought["position"]) == (2.0, 3.5, 3)
    assert (bought["consent"], bought["device"], bought["order_id"]) == (True, "mobile", None)
    assert (searched["query"], searched["item_id"], searched["consent"]) == ("tea", None, None)


def test_typed_columns_are_taken_as_they_are(tmp_path: Path):
    row = GOOD | {"timestamp": NOON, "customer_id": 13085.0, "item_id": 42, "quantity": 2, "consent": False}
    event = read(write(tmp_path / "e.parquet", row)).events.row(0, named=True)
    assert (event["timestamp"], event["customer_id"], event["item_id"]) == (NOON, "13085", "42")
    assert (event["quantity"], event["consent"]) == (2.0, False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"timestamp": "yesterday"}, "bad_timestamp"),
        ({"timestamp": ""}, "bad_timestamp"),
        ({"price": "abc"}, "bad_price"),
        ({"price": "-1"}, "negative_price"),
        ({"price": "nan"}, "negative_price"),
        ({"price": ""}, "missing_quantity_or_price"),
        ({"quantity": "two"}, "bad_quantity"),
        ({"quantity": "-2"}, "bad_quantity"),
        ({"position": "1.5"}, "bad_position"),
        ({"position": "99999999999"}, "bad_position"),
        ({"consent": "maybe"}, "bad_consent"),
        ({"received_at": "later"}, "bad_received_at"),
        ({"event_id": " "}, "missing_event_id"),
        ({"name": ""}, "missing_name"),
        ({"customer_id": ""}, "no_customer_or_client"),
        ({"item_id": ""}, "missing_item_id"),
    ],
)
@pytest.mark.parametrize("extension", ["csv", "jsonl"])
def test_a_bad_cell_rejects_its_row_alone(tmp_path: Path, change: dict, reason: str, extension: str):
    good = GOOD | {"position": "", "consent": "", "received_at": ""}
    parsed = read(write(tmp_path / f"e.{extension}", good, good | change, good | {"event_id": "e3"}))
    assert reasons(parsed) == [(1, reason)]
    assert parsed.events["event_id"].to_list() == ["e1", "e3"]
    (column, value), raw = next(iter(change.items())), json.loads(parsed.rejected["raw"][0])
    assert (raw[column] or "") == value


def test_json_lines_of_mixed_types(tmp_path: Path):
    file = tmp_path / "e.jsonl"
    rows = [GOOD | {"price": 3.5}, GOOD | {"price": {"net": 3}}, GOOD | {"event_id": 7, "price": "4"}]
    file.write_text("\n".join([*map(json.dumps, rows), '{"event_id": "e9"', ""]))
    parsed = read(file)
    assert reasons(parsed) == [(1, "bad_price"), (3, "bad_json")]
    assert parsed.events["event_id", "price"].rows() == [("e1", 3.5), ("7", 4.0)]


def test_unknown_event_names_are_kept(tmp_path: Path):
    parsed = read(write(tmp_path / "e.csv", GOOD | {"name": "wheel_spun", "item_id": ""}))
    assert parsed.events["name"].to_list() == ["wheel_spun"]


def test_a_missing_column_says_what_was_found_and_what_to_do(tmp_path: Path):
    with pytest.raises(InputError) as error:
        read(write(tmp_path / "e.csv", {"time": "2024-05-01", "item_id": "i1", "name": "view_item"}))
    message = str(error.value)
    assert "missing columns timestamp, customer_id or client_id" in message
    assert "found time, item_id, name" in message
    assert "columns: {timestamp: THEIR_NAME}" in message


def test_mapping(mapped):
    yaml = """
        columns: {timestamp: time, customer_id: user, name: what, item_id: sku}
        constants: {quantity: 1, currency: EUR, consent: true}
        names: {order: purchase, look: view_item}
        timezone: Europe/Berlin
    """
    row = {
        "time": "2024-05-01 14:00",
        "user": "u",
        "what": "order",
        "sku": "s",
        "price": "2",
        "quantity": "9",
    }
    events = mapped(yaml, row, row | {"what": "look", "time": "2024-05-01T14:00Z"}).events.rows(named=True)
    assert [(e["name"], e["timestamp"]) for e in events] == [
        ("purchase", NOON),
        ("view_item", NOON.replace(hour=14)),
    ]
    assert {(e["customer_id"], e["item_id"], e["quantity"]) for e in events} == {("u", "s", 1.0)}
    assert {(e["currency"], e["consent"]) for e in events} == {("EUR", True)}


@pytest.mark.parametrize(
    ("yaml", "fault"),
    [
        ("colums: {name: x}", "does not fit: colums: "),
        ("columns: {nme: x}", r"does not fit: columns\.nme.*no such event column; there are event_id"),
        ("columns: {name: [x]}", r"does not fit: columns\.name"),
        ("constants: {prise: 1}", r"does not fit: constants\.prise"),
        ("timezone: Berlin", "does not fit: timezone: .*Europe/Berlin"),
        ("columns: {name: x}\nconstants: {name: purchase}", "names name as column and as constant"),
        (
            "columns: {name: absent}",
            r"e\.csv lacks columns the mapping names: absent \(for name\); found event_id",
        ),
        ("columns: [", "is not valid YAML"),
        ("- a", "does not fit:"),
    ],
)
def test_a_wrong_mapping_names_the_key(mapped, yaml: str, fault: str):
    with pytest.raises(InputError, match=fault):
        mapped(yaml, GOOD)


def test_a_mapping_that_is_not_there(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere\.yml cannot be read"):
        read(write(tmp_path / "e.csv", GOOD), tmp_path / "nowhere.yml")


def test_ids_derived_from_content_are_the_same_in_every_format(tmp_path: Path):
    rows = [{k: v for k, v in GOOD.items() if k != "event_id"} | {"item_id": i} for i in ("1", "2", "2")]
    typed = [r | {"timestamp": NOON, "item_id": int(r["item_id"]), "quantity": 2, "price": 3.5} for r in rows]
    ids = [
        read(write(tmp_path / name, *r)).events["event_id"].to_list()
        for name, r in [("a.csv", rows), ("b.jsonl", rows), ("c.parquet", typed)]
    ]
    assert ids[0] == ids[1] == ids[2]
    assert ids[0][0] != ids[0][1] == ids[0][2]
    files = [tmp_path / "a.csv", tmp_path / "c.parquet"]
    report = ingest(events_file.read(files), tmp_path / "log")
    assert (report.kept, report.duplicates) == ({"purchase": 2}, 4)


def test_derived_ids_tell_columns_apart(tmp_path: Path):
    row = {
        "name": "search",
        "timestamp": "2024-05-01",
        "client_id": "d",
        "query": "",
        "list_id": "",
        "source": "",
    }
    texts = [("", "", ""), ("a", "", ""), ("", "a", ""), ("", "", "a"), ("ab", "c", ""), ("a", "bc", "")]
    rows = [row | dict(zip(["query", "list_id", "source"], t, strict=True)) for t in texts]
    assert read(write(tmp_path / "e.csv", *rows)).events["event_id"].n_unique() == len(texts)


def test_catalog_derived_from_events(tmp_path: Path):
    later, latest = ({"timestamp": f"2024-05-0{d}", "event_id": f"e{d}"} for d in (2, 3))
    rows = [GOOD | later | {"price": "9"}, GOOD, GOOD | latest | {"name": "view_item", "price": ""}]
    catalog = read(write(tmp_path / "e.csv", *rows)).catalog
    assert catalog.select("item_id", "price", "first_seen", "available").rows() == [("i1", 9.0, NOON, True)]


def test_the_shops_catalog_goes_over_what_events_say(tmp_path: Path, mapped):
    products = [
        {"item_id": "i1", "title": "Vase", "price": "8", "first_seen": "2020-01-01", "available": ""},
        {"item_id": "i9", "title": "Clock", "price": "", "first_seen": "", "available": "false"},
    ]
    write(tmp_path / "products.csv", *products)
    parsed = mapped("catalog: products.csv", GOOD, GOOD | {"item_id": "gone"})
    catalog = ingest([parsed], tmp_path / "log").log.catalog()
    assert catalog.select("item_id", "title", "price", "available").rows() == [
        ("gone", None, 3.5, False), ("i1", "Vase", 8.0, True), ("i9", "Clock", None, False),
    ]  # fmt: skip
    assert catalog["first_seen"][1] == datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("product", "fault"),
    [
        ({"item_id": "i1", "price": "x"}, r"row 1 \(from 0\) has price 'x'"),
        ({"item_id": "", "price": "1"}, r"row 1 \(from 0\) has item_id None|row 1 \(from 0\) has item_id ''"),
    ],
)
def test_a_damaged_catalog_is_refused(tmp_path: Path, mapped, product: dict, fault: str):
    write(tmp_path / "products.csv", {"item_id": "i0", "price": "1"}, product)
    with pytest.raises(InputError, match=fault):
        mapped("catalog: products.csv", GOOD)


CELLS = {
    "name": st.sampled_from(["purchase", "view_item", "odd", ""]),
    "timestamp": st.sampled_from(["2024-05-01T12:00:00Z", "1714564800", "x", "", date(2024, 5, 1).isoformat()]),
    "customer_id": st.sampled_from(["c1", "c2", ""]),
    "item_id": st.sampled_from(["i1", "i2", ""]),
    "quantity": st.sampled_from(["1", "0", "-1", "x", ""]),
    "price": st.sampled_from(["1.5", "-1", "nan", "1e999", "x", ""]),
    "consent": st.sampled_from(["true", "no", "?", ""]),
}
DIRTY = st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(rows=DIRTY, extension=st.sampled_from(["csv", "jsonl"]), shuffled=st.randoms(use_true_random=False))
def test_counts_add_up_whatever_the_cells(tmp_path_factory, rows: list[dict], extension: str, shuffled):
    folder = tmp_path_factory.mktemp("dirty")
    rows = [GOOD | {"event_id": "e0", "consent": ""}] + [r | {"event_id": f"e{i % 5}"} for i, r in enumerate(rows)]
    file = write(folder / f"e.{extension}", *rows)
    first = ingest(events_file.read([file]), folder / "log")
    assert first.rows_read == len(rows)
    again = ingest(events_file.read([file]), folder / "log")
    assert again.kept == {}
    assert again.log.info == first.log.info
    other = read(write(file, *shuffled.sample(rows, len(rows))))
    assert deduplicate(other.events).equals(first.log.scan().collect())
    assert other.catalog.equals(first.log.catalog())


@pytest.mark.skipif(not REES46.exists(), reason="no rees46_head.parquet: the first hours of REES46's 2019-Oct file")
def test_a_real_click_stream(tmp_path: Path):
    mapping = tmp_path / "rees46.yml"
    mapping.write_text(
        "columns: {timestamp: event_time, name: event_type, item_id: product_id, customer_id: user_id, "
        "session_id: user_session}\nconstants: {quantity: 1, currency: USD}\n"
        "names: {view: view_item, cart: add_to_cart}\n"
    )
    report = ingest(events_file.read([REES46], mapping), tmp_path / "log")
    assert report.kept == {"add_to_cart": 164, "purchase": 214, "view_item": 17_052}
    assert (report.rows_read, report.duplicates, report.rejected) == (17_435, 5, {})
