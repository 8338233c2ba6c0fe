import hmac
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, FILE, LINK_SCHEMA
from features.sources import events_file
from features.sources.parsing.text_files import json_lines
from tests.features.event_log.ingestion.combined import combine_events

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
GOOD = {
    "event_id": "e1", "name": "purchase", "timestamp": "2024-05-01T12:00:00Z", "customer_id": "c1",
    "item_id": "i1", "quantity": "2", "price": "3.5",
}  # fmt: skip


def read(path: Path, mapping: Path | None = None) -> ParsedBatch:
    (parsed,) = events_file.read([path], mapping)  # small files are one batch
    accounted = parsed.events.height + parsed.merged + parsed.rejected.height + sum(parsed.left_out.values())
    assert parsed.rows_read + parsed.derived == accounted
    assert parsed.events.drop(FILE, strict=False).schema == EVENT_SCHEMA
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

    def parse(yaml: str, *rows: dict) -> ParsedBatch:
        (tmp_path / "shop.yml").write_text(yaml)
        return read(write(tmp_path / "e.csv", *rows), tmp_path / "shop.yml")

    return parse


def reasons(parsed: ParsedBatch) -> list[tuple[int, str]]:
    return parsed.rejected.select("row", "reason").rows()


@pytest.mark.parametrize("extension", ["csv", "parquet", "jsonl"])
def test_every_format_reads_the_same(tmp_path: Path, extension: str):
    rows = [
        GOOD | {"position": "3", "consent": "true", "device": "mobile"},
        GOOD | {"event_id": "e2", "name": "search", "item_id": None, "quantity": None, "price": None, "query": "tea"},
    ]
    rows = [dict.fromkeys(rows[0] | rows[1]) | r for r in rows]
    bought, searched = read(write(tmp_path / f"e.{extension}", *rows)).events.rows(named=True)
    assert bought["timestamp"] == NOON
    assert (bought["quantity"], bought["price"], bought["position"]) == (2.0, 3.5, 3)
    assert (bought["consent"], bought["device"], bought["order_id"]) == (True, "mobile", None)
    assert (searched["query"], searched["item_id"], searched["consent"]) == ("tea", None, None)


def test_typed_columns_keep_their_values(tmp_path: Path):
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
        ({"price": "nan"}, "missing_quantity_or_price"),
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


def test_a_number_of_any_length_is_an_id():
    long = 10**40
    read = json_lines.parse([f'{{"id": {n}}}' for n in (7, long, -long, 2**63)], {"id": pl.String()})
    assert read["id"].to_list() == ["7", str(long), str(-long), str(2**63)]


def test_json_lines_of_mixed_types(tmp_path: Path):
    file = tmp_path / "e.jsonl"
    rows = [GOOD | {"price": 3.5}, GOOD | {"price": {"net": 3}}, GOOD | {"event_id": 7, "price": "4"}]
    file.write_text("\n".join([*map(json.dumps, rows), '{"event_id": "e9"', ""]))
    parsed = read(file)
    assert reasons(parsed) == [(1, "bad_price"), (3, "bad_json")]
    assert parsed.events["event_id", "price"].rows() == [("e1", 3.5), ("7", 4.0)]


def test_keys_of_later_lines_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(json_lines, "HEAD", 64)
    early = {"name": "view_item", "timestamp": NOON.isoformat(), "client_id": "d", "item_id": "i"}
    rows = [early, early, early | {"query": "tea", "shelf": "top"}]
    file = write(tmp_path / "e.jsonl", *rows)
    assert read(file).events["query"].to_list() == [None, None, "tea"]
    (tmp_path / "shop.yml").write_text("columns: {list_id: shelf}")
    assert read(file, tmp_path / "shop.yml").events["list_id"].to_list() == [None, None, "top"]
    (tmp_path / "shop.yml").write_text("columns: {list_id: nowhere}")
    with pytest.raises(InputError, match=r"nowhere \(for list_id\)\..*Its columns: name.*shelf"):
        read(file, tmp_path / "shop.yml")


def test_unknown_event_names_are_kept(tmp_path: Path):
    parsed = read(write(tmp_path / "e.csv", GOOD | {"name": "wheel_spun", "item_id": ""}))
    assert parsed.events["name"].to_list() == ["wheel_spun"]


def test_a_missing_column_is_an_error_with_a_hint(tmp_path: Path):
    with pytest.raises(InputError) as error:
        read(write(tmp_path / "e.csv", {"time": "2024-05-01", "item_id": "i1", "name": "view_item"}))
    message = str(error.value)
    assert "missing columns timestamp, customer_id or client_id" in message
    assert "Its columns: time, item_id, name" in message
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
        ("columns: {name: {of: x}}", r"does not fit: columns\.name: .*is no expression; write a column"),
        ("constants: {prise: 1}", r"does not fit: constants\.prise"),
        ("timezone: Berlin", "does not fit: timezone: .*Europe/Berlin"),
        ("columns: {name: x}\nconstants: {name: purchase}", "names name as column and as constant"),
        (
            "columns: {name: absent}",
            r"e\.csv lacks columns the mapping names: absent \(for name\)\..*Its columns: event_id",
        ),
        ("columns: [", "is not valid YAML"),
        ("- a", "does not fit:"),
    ],
)
def test_a_wrong_mapping_names_the_key(mapped, yaml: str, fault: str):
    with pytest.raises(InputError, match=fault):
        mapped(yaml, GOOD)


def test_a_mapping_that_does_not_exist(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere\.yml cannot be read"):
        read(write(tmp_path / "e.csv", GOOD), tmp_path / "nowhere.yml")


def test_ids_derived_from_content_are_the_same_in_every_format(tmp_path: Path):
    view = {k: v for k, v in GOOD.items() if k != "event_id"} | {"name": "view_item"}
    rows = [view | {"item_id": i} for i in ("1", "2", "2")]
    typed = [r | {"timestamp": NOON, "item_id": int(r["item_id"]), "quantity": 2, "price": 3.5} for r in rows]
    ids = [
        read(write(tmp_path / name, *r)).events["event_id"].to_list()
        for name, r in [("a.csv", rows), ("b.jsonl", rows), ("c.parquet", typed)]
    ]
    assert ids[0] == ids[1] == ids[2]
    assert ids[0][0] != ids[0][1] == ids[0][2]
    files = [tmp_path / "a.csv", tmp_path / "c.parquet"]
    report = ingest(events_file.read(files), tmp_path / "log")
    assert (report.kept, report.duplicates) == ({"view_item": 2}, 4)


def test_derived_ids_depend_on_the_column(tmp_path: Path):
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
    later, latest = ({"timestamp": f"2024-05-0{d}T12:00Z", "event_id": f"e{d}"} for d in (2, 3))
    rows = [GOOD | later | {"price": "9"}, GOOD, GOOD | latest | {"name": "view_item", "price": ""}]
    parsed = read(write(tmp_path / "e.csv", *rows))
    catalog = ingest([parsed], tmp_path / "log").log.catalog()
    assert catalog.select("item_id", "price", "first_seen", "available").rows() == [("i1", 9.0, NOON, True)]
    rows = parsed.catalog.select("updated_at", "price", "available").rows()
    assert rows == [(NOON + timedelta(days=1), 9.0, None), (NOON + timedelta(days=2), None, True)]


def test_the_shops_catalog_outranks_events(tmp_path: Path, mapped):
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
    ("product", "reason"),
    [
        ({"item_id": "i1", "price": "x"}, "catalog_bad_price"),
        ({"item_id": "", "price": "1"}, "catalog_missing_item_id"),
        ({"item_id": "6.71E+12", "price": "1"}, "catalog_scientific_id"),
        ({"item_id": "i1", "price": "-1"}, "catalog_negative_price"),
    ],
)
def test_a_damaged_row_of_a_catalog_is_rejected_alone(tmp_path: Path, mapped, product: dict, reason: str):
    write(tmp_path / "products.csv", {"item_id": "i0", "price": "1"}, product, {"item_id": "i2", "price": "1"})
    parsed = mapped("catalog: products.csv", GOOD)
    assert parsed.rejected.select("source", "row", "reason").rows() == [("products.csv", 1, reason)]
    assert json.loads(parsed.rejected["raw"][0])["price"] == product["price"]
    assert (parsed.rows_read, parsed.events.height) == (2, 1)
    assert {"i0", "i2"} <= set(parsed.catalog["item_id"])
    assert "products.csv: catalog of 2 items, 1 of 3 rows rejected" in parsed.notes


def test_a_catalog_without_a_usable_row_is_refused(tmp_path: Path, mapped):
    write(tmp_path / "products.csv", {"item_id": "i0", "price": "x"}, {"item_id": "", "price": "1"})
    with pytest.raises(InputError, match=r"no usable row: all 2 .* Row 0 \(from 0\) is bad_price, as price 'x'"):
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


@settings(max_examples=20, deadline=None)
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
    assert combine_events(other.events).equals(first.log.scan().collect())
    assert other.catalog.equals(first.log.catalog())


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_the_log_does_not_depend_on_the_size_of_batches(tmp_path: Path, extension: str, rows: int):
    # Columns that are empty, whole or mixed for a while would be guessed to be of another type each time.
    table = [
        {"name": "view_item", "timestamp": "2024-05-01T12:00:00Z", "client_id": str(n % 5), "item_id": str(n % 9),
         "price": None if n < 15 else str(n) if n < 25 else f"{n}.5", "query": None if n < 20 else "tea",
         "position": "x" if n == 17 else None}
        for n in range(40)
    ]  # fmt: skip
    file = write(tmp_path / f"e.{extension}", *table)
    whole = read(file)
    parts = list(events_file.read([file], rows=rows))
    assert [p.rows_read for p in parts] == [min(rows, 40 - n) for n in range(0, 40, rows)]
    assert pl.concat([p.events for p in parts]).equals(whole.events)
    assert pl.concat([p.rejected for p in parts]).equals(whole.rejected)
    assert reasons(whole) == [(17, "bad_position")]
    logs = [ingest(iter(p), tmp_path / name).log.catalog() for name, p in [("a", [whole]), ("b", parts)]]
    assert logs[0].equals(logs[1])


def test_a_row_with_excess_cells_is_rejected(tmp_path: Path):
    file = tmp_path / "e.csv"
    file.write_text("name,timestamp,client_id,item_id\nview_item,2024-05-01,c,i,oops\nview_item,2024-05-01,c,i\n")
    parsed = read(file)
    assert reasons(parsed) == [(0, "ragged_row")]
    assert parsed.events.height == 1


MAIL, CARD = "Jane.Doe@Example.org", "tok_4242424242"
HASHED_ONLY = "email: mail\npayment_token: card\n"


def with_secrets(*changes: dict) -> list[dict]:
    row = GOOD | {"client_id": "d1", "mail": MAIL, "card": CARD}
    return [row | {"event_id": f"e{n}"} | change for n, change in enumerate(changes)]


@pytest.fixture
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "sixteen letters!")


@pytest.mark.usefixtures("salt")
def test_addresses_and_cards_become_links(mapped):
    later = {"timestamp": "2024-05-02T12:00:00Z", "mail": f" {MAIL.upper()} "}
    links = mapped(
        HASHED_ONLY, *with_secrets(later, {}, {"customer_id": "c2", "card": ""}, {"mail": "", "card": ""})
    ).links
    assert links.schema == LINK_SCHEMA
    mail = hmac.digest(b"sixteen letters!", f"email:{MAIL.lower()}".encode(), "sha256").hex()[:32]
    assert links.filter(kind="email").select("at", "token", "client_id", "customer_id").rows() == [
        (NOON, mail, "d1", "c1"), (NOON, mail, "d1", "c2"),
    ]  # fmt: skip
    assert links.filter(kind="payment").select("at", "customer_id").rows() == [(NOON, "c1")]


@pytest.mark.usefixtures("salt")
def test_refused_consent_prevents_links(mapped):
    consents = [{"consent": c, "client_id": f"d-{c}"} for c in ("false", "true", "")]
    parsed = mapped(HASHED_ONLY, *with_secrets(*consents))
    assert parsed.events["client_id"].to_list() == ["d-false", "d-true", "d-"]
    assert set(parsed.links["client_id"]) == {"d-true", "d-"}


@pytest.mark.usefixtures("salt")
@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_no_address_or_card_is_stored_or_logged(tmp_path: Path, caplog, capfd, extension: str):
    (tmp_path / "shop.yml").write_text(HASHED_ONLY)
    rows = with_secrets({}, {"price": "x"}, {"query": f"order of {MAIL}"}, {"client_id": MAIL}, {"item_id": ""})
    rows = [dict.fromkeys(["query"]) | r for r in rows]
    file = write(tmp_path / f"e.{extension}", *rows)
    if extension == "csv":
        file.write_text(file.read_text() + f"{MAIL},{CARD}," * 12 + "\n")
    if extension == "jsonl":
        file.write_text(file.read_text() + f'{{"card": "{CARD}", "mail": "{MAIL}\n')
    report = ingest(events_file.read([file], tmp_path / "shop.yml"), tmp_path / "log")
    broken = {"csv": {"ragged_row": 1}, "jsonl": {"bad_json": 1}, "parquet": {}}[extension]
    assert report.rejected == {"bad_price": 1, "email_as_id": 1, "missing_item_id": 1} | broken
    stored = [pl.read_parquet(f).write_ndjson() for f in (tmp_path / "log").rglob("*.parquet")]
    for text in (*stored, caplog.text, *capfd.readouterr(), report.text()):
        assert "example.org" not in text.lower()
        assert CARD not in text


@pytest.mark.parametrize(("value", "fault"), [(None, "is not set"), ("short", "has 5 characters")])
def test_without_a_salt_nothing_is_read(mapped, monkeypatch: pytest.MonkeyPatch, value: str | None, fault: str):
    monkeypatch.delenv("USUAL_IDENTITY_SALT", raising=False)
    if value:
        monkeypatch.setenv("USUAL_IDENTITY_SALT", value)
    with pytest.raises(InputError, match=rf"mail.*USUAL_IDENTITY_SALT {fault}.*openssl rand"):
        mapped("email: mail", *with_secrets({}))


@pytest.mark.usefixtures("salt")
@pytest.mark.parametrize(
    ("yaml", "fault"),
    [
        ("email: mail\ncolumns: {customer_id: mail}", "would keep mail.* as customer_id"),
        ("email: absent", r"lacks columns the mapping names: absent \(for the email token\)"),
    ],
)
def test_a_mapping_that_would_store_addresses_is_refused(mapped, yaml: str, fault: str):
    with pytest.raises(InputError, match=fault):
        mapped(yaml, *with_secrets({}))
