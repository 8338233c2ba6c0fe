"""`usual inspect` proposes mappings that `usual ingest` reads as they are."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from features.common.errors import InputError
from features.event_log.log import EventLog
from features.sources.inspection.inspect import inspect_files
from features.sources.parsing.cells.pii import SALT
from features.sources.parsing.mapping.mapping import Mapping
from tests.features.sources.inspection import shops
from usual.cli import app


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def write(directory: Path, *texts: str, ending: str = ".csv") -> list[Path]:
    files = [directory / f"file{n}{'.jsonl' if text.startswith('{') else ending}" for n, text in enumerate(texts)]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    return files


def ingest(directory: Path, files: Sequence[Path], monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], EventLog]:
    """Inspect, then ingest by the mapping that was proposed."""
    monkeypatch.setenv(SALT, "a salt that is only for this test")
    mapping = directory / "mapping.yml"
    answer = json.loads(run("inspect", *files, "--write", mapping, "--json"))
    assert answer["problems"] == []
    how = ("--mapping", mapping) if answer["mapping"] else ()
    report = json.loads(run("ingest", "events", *files, *how, "--out", directory / "log", "--json"))
    assert report["rejected"] == answer["preview"]["rejected"]
    return report, EventLog.open(directory / "log")


EXPORTS: dict[str, tuple[tuple[str, ...], dict[str, int], dict[str, Any]]] = {
    # files, rows kept, values of the first event
    "German, semicolons": (
        (shops.SEMICOLON,),
        {"purchase": 3, "refund": 1},
        {"order_id": "B-1", "customer_id": "K7", "item_id": "00042", "quantity": 2.0, "price": 12.5, "currency": "EUR"},
    ),
    "French": (
        (shops.FRENCH,),
        {"purchase": 2},
        {"customer_id": "C1", "item_id": "AB-1", "price": 4.5, "quantity": 2.0},
    ),
    "Spanish, tabs, returns": ((shops.SPANISH,), {"purchase": 2, "refund": 1}, {"order_id": "1", "customer_id": "C1"}),
    "Dutch": ((shops.DUTCH,), {"purchase": 2}, {"order_id": "1", "item_id": "A1", "price": 3.5}),
    "Polish": ((shops.POLISH,), {"purchase": 2}, {"customer_id": "7", "item_id": "K1", "price": 12.5}),
    "American": ((shops.UNITED_STATES,), {"purchase": 2}, {"item_id": "A", "price": 10.0, "customer_id": "7"}),
    "later lines": ((shops.LATER_LINES,), {"purchase": 3}, {"order_id": "#1001"}),
    "parents and children": (
        (shops.PARENTS,),
        {"purchase": 2},
        {"customer_id": "12", "item_id": "WS12", "price": 22.0},
    ),
    "totals": (
        (shops.TOTALS,),
        {"purchase": 2},
        {"order_id": "p1", "item_id": "order", "price": 25.0, "quantity": 1.0},
    ),
    "line totals": ((shops.LINE_TOTALS,), {"purchase": 2}, {"item_id": "A", "price": 10.0, "quantity": 2.0}),
    **{
        f"line totals called {name}": (
            (shops.LINE_TOTALS.replace("Umsatz", name),),
            {"purchase": 2},
            {"item_id": "A", "price": 10.0, "quantity": 2.0},
        )
        for name in ("Row total", "line_total", "Gesamtpreis", "Total price")
    },
    "a tracker": (
        (shops.TRACKER,),
        {"add_to_cart": 1, "heartbeat": 1, "purchase": 1, "view_item": 1},
        {"client_id": "v1", "item_id": "A", "name": "view_item"},
    ),
    "views": ((shops.VIEWS,), {"view_item": 3}, {"client_id": "1", "item_id": "A"}),
    "nested JSON": (
        (shops.NESTED,),
        {"purchase": 3},
        {"customer_id": "7", "order_id": "1", "item_id": "A", "price": 10.0},
    ),
    "header and lines": (
        (shops.HEADERS, shops.LINES),
        {"purchase": 3},
        {"customer_id": "7", "order_id": "1", "item_id": "A", "currency": "EUR"},
    ),
    "lines, products and header": ((shops.LINES, shops.PRODUCTS, shops.HEADERS), {"purchase": 3}, {"customer_id": "7"}),
    "several kinds": (
        (shops.TRACKER, shops.SEMICOLON, shops.PRODUCTS),
        {"add_to_cart": 1, "heartbeat": 1, "purchase": 4, "refund": 1, "view_item": 1},
        {},
    ),
    "date and time": ((shops.DATE_AND_TIME,), {"purchase": 2}, {"timestamp": datetime(2026, 1, 5, 10, 11, tzinfo=UTC)}),
    "accounts and addresses": ((shops.MIXED_CUSTOMERS,), {"purchase": 2}, {"item_id": "A"}),
    "abbreviations": ((shops.ABBREVIATED,), {"purchase": 2}, {"customer_id": "7", "price": 10.0}),
    "our columns": ((shops.OWN,), {"purchase": 1, "view_item": 1}, {"customer_id": "1", "name": "purchase"}),
    "with and without tax": (
        (shops.TAXED,),
        {"purchase": 1},
        {"customer_id": "1", "order_id": "1", "item_id": "7", "quantity": 2.0, "price": 28.68},
    ),
    "two states": ((shops.TWO_STATES,), {"purchase": 2, "refund": 1}, {"customer_id": "10010", "item_id": "SW1"}),
    "a till": ((shops.TILL,), {"purchase": 1}, {"customer_id": "C1", "item_id": "MUG", "price": 20.0}),
    "a sum at the end": ((shops.FOOTER,), {"purchase": 2}, {"customer_id": "1", "item_id": "A"}),
}


@pytest.mark.parametrize("export", EXPORTS)
def test_what_is_proposed_reads_the_file(export: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, kept, first = EXPORTS[export]
    report, log = ingest(tmp_path, write(tmp_path, *texts), monkeypatch)
    assert report["kept"] == kept
    events = log.scan().with_columns(pl.col("name").cast(pl.String)).collect()
    assert {c: events[c][0] for c in first} == first


@pytest.mark.parametrize(
    ("people", "hashed"),
    [
        (("Ann Hill (annhill7)", "Bo Low (bolow)"), True),
        (("Ann Hill", "Jürgen O’Neill-Groß"), True),
        (("Hill, Ann", "Low, Bo"), True),
        (("annhill7", "bolow"), False),
        (("17", "18"), False),
        (("K 17", "K 18"), False),
    ],
)
def test_names_of_people_are_hashed_and_ids_are_not(
    people: tuple[str, str], hashed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (f'{n},2026-01-1{n},Mug,1,9.50,"{person}"' for n, person in enumerate(people))
    orders = "\n".join(["Order ID,Sale Date,Item Name,Quantity,Price,Buyer", *lines])
    report, log = ingest(tmp_path, write(tmp_path, orders), monkeypatch)
    assert report["kept"] == {"purchase": 2}
    kept = log.scan().collect()["customer_id"].to_list()
    assert [c.startswith("hash:") for c in kept] == [hashed] * 2
    assert hashed or sorted(kept) == sorted(people)


def test_a_catalog_among_the_files_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, log = ingest(tmp_path, write(tmp_path, shops.LINES, shops.PRODUCTS, shops.HEADERS), monkeypatch)
    items = log.catalog().select("item_id", "title", "category", "brand", "price", "available").rows()
    assert items == [("A", "Becher", "Küche", "Alder", 10.0, True), ("B", "Teller", "Küche", "Birch", 1299.0, False)]


@pytest.mark.parametrize(("encoding", "ending"), [("cp1252", ".csv"), ("utf-16", ".csv"), ("utf-8-sig", ".txt")])
def test_encodings_are_recognised(encoding: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / f"orders{ending}"
    file.write_bytes(shops.SEMICOLON.encode(encoding))
    report, _ = ingest(tmp_path, [file], monkeypatch)
    assert report["kept"] == {"purchase": 3, "refund": 1}


@pytest.mark.parametrize("ending", [".parquet", ".xlsx", ".jsonl"])
def test_formats_are_recognised(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_xlsx: Callable[..., Path]
) -> None:
    table = pl.read_csv(shops.FRENCH.encode(), infer_schema=False)
    file = tmp_path / f"orders{ending}"
    if ending == ".parquet":
        table.with_columns(pl.col("Date de commande").str.to_datetime()).write_parquet(file)
    elif ending == ".xlsx":
        write_xlsx(file, {"Sheet1": [table.columns, *map(list, table.rows())]})
    else:
        table.write_ndjson(file)
    report, _ = ingest(tmp_path, [file], monkeypatch)
    assert report["kept"] == {"purchase": 2}


def test_addresses_are_never_shown(tmp_path: Path) -> None:
    (file,) = write(tmp_path, shops.TOTALS + 'p3,someday,eve@example.com,"no amount, ask eve@example.com",EUR\n')
    for arguments in ([], ["--json"]):
        text = run("inspect", file, *arguments)
        assert "example.com" not in text
        assert "email: customer email" in text
        assert f"export {SALT}=" in text


def test_what_would_be_rejected_is_said_with_an_example(tmp_path: Path) -> None:
    (file,) = write(tmp_path, shops.FRENCH + "3,soon,C9,AB-9,1,2\n")
    text = run("inspect", file)
    assert "1  rejected: bad_timestamp" in text
    assert "row 2 (from 0)" in text
    assert "3 rows looked at (all rows)" in text
    assert "the first 2 rows as they would be read" in text
    assert f"usual ingest events {file} --mapping mapping.yml --out log" in text


def test_guesses_are_called_so(tmp_path: Path) -> None:
    (file,) = write(tmp_path, shops.UNITED_STATES)
    mapping = inspect_files([file]).mapping_text
    assert "dates: month first  # a guess" in mapping


def test_names_that_nothing_is_learnt_from_are_listed(tmp_path: Path) -> None:
    (file,) = write(tmp_path, shops.TRACKER)
    assert "heartbeat" in inspect_files([file]).mapping_text


def test_currencies_ask_for_rates(tmp_path: Path) -> None:
    (file,) = write(tmp_path, shops.SEMICOLON.replace("Becher;1;12,50;storniert;EUR", "Becher;1;12,50;ok;USD"))
    mapping = inspect_files([file]).mapping_text
    assert "currency: EUR  # a log has one; found EUR 3, USD 1" in mapping
    assert "# rates: {USD: 1.0}" in mapping


def test_a_well_known_export_is_named(tmp_path: Path) -> None:
    header = "t_dat,customer_id,article_id,price,sales_channel_id"
    (file,) = write(tmp_path, f"{header}\n2018-09-20,c1,0663713001,0.05,2\n")
    inspection = inspect_files([file])
    assert inspection.preset == "hm"
    assert inspection.commands[0] == f"usual ingest events {file} --preset hm --out log"
    assert Mapping.parse(None, "", tmp_path) is not None


def test_a_json_array_is_first_written_as_lines(tmp_path: Path) -> None:
    file = tmp_path / "array.json"
    file.write_text(json.dumps([json.loads(line) for line in shops.NESTED.splitlines()], indent=1))
    inspection = inspect_files([file])
    assert inspection.preview is not None
    assert inspection.preview.kept["purchase"] == 3
    assert inspection.commands[0] == f"jq -c '.[]' {file} > {file.with_suffix('.jsonl')}"


def test_a_list_of_customers_is_none_of_events(tmp_path: Path) -> None:
    (file,) = write(tmp_path, "Customer ID\n00042\n00043\n")
    inspection = inspect_files([file])
    assert inspection.commands == [f"usual recommend --customers {file} --out recommendations.parquet"]
    assert inspection.problems == []


def test_lines_without_their_orders_say_so(tmp_path: Path) -> None:
    (problem,) = inspect_files(write(tmp_path, shops.LINES)).problems
    assert "name the file with the orders too" in problem


def test_a_table_of_nothing_we_know_says_what_is_missing(tmp_path: Path) -> None:
    (file,) = write(tmp_path, "colour,weight\nred,1\nblue,2\n")
    (problem,) = inspect_files([file]).problems
    assert "a date or time" in problem
    assert "columns: {timestamp:" in problem


def test_a_mapping_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (file,) = write(tmp_path, shops.OWN)
    kept = tmp_path / "mapping.yml"
    kept.write_text("names: {Purchase: purchase}\n")
    with pytest.raises(InputError, match="exists"):
        run("inspect", file, "--write", kept)
    with pytest.raises(InputError, match=r"\.yml"):
        run("inspect", file, "--write", tmp_path / "mapping.txt")


def test_without_rows_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no rows;.*Its columns: name, timestamp"):
        inspect_files(write(tmp_path, "name,timestamp\n"))


@pytest.mark.parametrize(
    ("source", "text", "mapping"),
    [
        ("events", shops.FRENCH, None),
        ("events", shops.FRENCH, "columns: {timestamp: Zeit}\n"),
        ("events", shops.FRENCH, "column: {}\n"),
        ("events", "name,timestamp,customer_id,item_id\n", None),
        ("events", "name,timestamp,customer_id,item_id\nview_item,soon,1,A\n", None),
        ("ga4", shops.OWN, None),
        ("rees46", shops.OWN, None),
        ("segment", shops.NESTED, None),
    ],
)
def test_what_is_refused_says_how_to_look_at_it(source: str, text: str, mapping: str | None, tmp_path: Path) -> None:
    (file,) = write(tmp_path, text)
    arguments: list[object] = ["ingest", source, file, "--out", tmp_path / "log"]
    if mapping is not None:
        (tmp_path / "mapping.yml").write_text(mapping)
        arguments += ["--mapping", tmp_path / "mapping.yml"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(done.exception, InputError)
    assert str(done.exception).count(f"`usual inspect {file}`") == 1


def test_what_cannot_be_looked_at_does_not_say_so(tmp_path: Path) -> None:
    (page,) = write(tmp_path, "<html><body>Log in</body></html>")
    for file in (page, tmp_path / "nowhere.csv"):
        done = CliRunner().invoke(app, ["ingest", "events", str(file), "--out", str(tmp_path / "log")])
        assert isinstance(done.exception, InputError)
        assert "usual inspect" not in str(done.exception)


def test_a_file_without_a_header_says_so_and_shows_nobody(tmp_path: Path) -> None:
    (file,) = write(tmp_path, shops.NO_HEADER)
    for arguments in ([], ["--json"]):
        text = run("inspect", file, *arguments)
        assert "looks like a row" in text
        assert "example.com" not in text
    done = CliRunner().invoke(app, ["ingest", "events", str(file), "--out", str(tmp_path / "log")])
    assert "example.com" not in str(done.exception)


def test_a_list_in_a_json_object_is_written_as_lines(tmp_path: Path) -> None:
    file = tmp_path / "orders.json"
    file.write_text(shops.DOCUMENT)
    inspection = inspect_files([file])
    assert inspection.preview is not None
    assert inspection.preview.kept["purchase"] == 1
    assert """jq -c '."orders"[]'""" in inspection.commands[0]


def test_columns_of_any_type_are_looked_at_and_rejected_rows_copied(tmp_path: Path) -> None:
    file = tmp_path / "orders.parquet"
    table = pl.read_csv(shops.FRENCH.encode(), infer_schema=False)
    odd: dict[str, list[Any]] = {
        "took": [timedelta(hours=1)] * 2,
        "picture": [b"\xff", None],
        "nothing": [None, None],
        "tags": [["a"], []],
    }
    table = table.with_columns(
        pl.Series([None, "C2"]).alias("Code client"), **{c: pl.Series(v) for c, v in odd.items()}
    )
    table.drop("N° commande").write_parquet(file)
    inspection = inspect_files([file])
    assert inspection.preview is not None
    assert inspection.preview.kept["purchase"] == 1
    assert '"took":"PT1H"' in inspection.preview.examples["no_customer_or_client"]


def test_where_no_row_can_be_used_no_ingest_is_proposed(tmp_path: Path) -> None:
    (file,) = write(tmp_path, "name,timestamp,customer_id,item_id\nview_item,2026-01-05,6.71235E+12,A\n")
    inspection = inspect_files([file])
    assert inspection.commands == []
    assert "no row" in inspection.problems[0]
    assert "rejected: scientific_id" in run("inspect", file)


def test_a_catalog_alone_is_ingested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report, log = ingest(tmp_path, write(tmp_path, shops.PRODUCTS), monkeypatch)
    assert report["kept"] == {}
    assert log.catalog().height == 2
