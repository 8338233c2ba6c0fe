from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.common.errors import InputError
from features.event_log.ingestion.currency import Currency
from features.event_log.ingestion.ingest import IngestReport, IngestSettings, ParsedBatch, ingest
from features.event_log.schema import CATALOG_SCHEMA, conform
from tests.features.event_log.lines import NOON, line_events

Row = tuple[str, float, str | None]  # name, price, currency


def rows_of(rows: list[Row]) -> pl.DataFrame:
    return pl.concat(
        line_events([(f"a{n}{name}{price}{code}", "A", 1, price)], None, name=name, currency=code)
        for n, (name, price, code) in enumerate(rows)
    )


def read(log: Path, rows: list[Row], currency: str | None = None, **rates: float) -> IngestReport:
    events = rows_of(rows)
    return ingest([ParsedBatch(len(rows), events)], log, settings=IngestSettings(currency, rates))


def amounts(report: IngestReport) -> list[tuple[float | None, str | None]]:
    return sorted(report.log.scan().select("price", "currency").collect().rows(), key=str)


def test_the_only_currency_becomes_that_of_the_log(tmp_path: Path):
    report = read(tmp_path / "log", [("purchase", 5, "eur"), ("refund", 5, " EUR "), ("purchase", 1, None)])
    assert report.log.currency == "EUR"
    assert amounts(report) == [(1, None), (5, "EUR"), (5, "EUR")]
    assert "amounts in EUR" in report.text()


def test_several_currencies_stop_a_first_ingest(tmp_path: Path):
    sales: list[Row] = [("purchase", 100, "EUR"), ("purchase", 16000, "JPY"), ("purchase", 100, "EUR")]
    with pytest.raises(InputError, match=r"2 rows in EUR, 1 row in JPY.*--currency EUR --rate JPY=…"):
        read(tmp_path / "log", sales)
    assert not (tmp_path / "log").exists()


def test_amounts_are_converted_by_rates(tmp_path: Path):
    sales: list[Row] = [("purchase", 100, "EUR"), ("purchase", 200, "USD"), ("view_item", 50, "USD")]
    report = read(tmp_path / "log", sales, "EUR", USD=0.5)
    assert amounts(report) == [(100, "EUR"), (100, "EUR"), (25, "EUR")]


def test_without_a_rate_sales_are_rejected_and_other_prices_unknown(tmp_path: Path):
    events: list[Row] = [
        ("purchase", 1, "EUR"),
        ("purchase", 2, "USD"),
        ("view_item", 3, "USD"),
        ("view_item", 4, "GBP"),
    ]
    report = read(tmp_path / "log", events, "EUR")
    assert report.rejected == {"no_rate_for_currency": 1}
    assert "USD" in report.examples["no_rate_for_currency"]
    assert amounts(report) == [(1, "EUR"), (None, None), (None, None)]
    assert any("1 in GBP, 1 in USD, are unknown now: the log is in EUR" in note for note in report.notes)
    assert '"USD"' in report.log.rejected()["raw"][0]


def test_an_established_currency_holds_for_later_ingests(tmp_path: Path):
    read(tmp_path / "log", [("purchase", 1, "EUR")])
    report = read(tmp_path / "log", [("purchase", 2, "USD"), ("purchase", 3, "EUR")])
    assert report.rejected == {"no_rate_for_currency": 1}
    with pytest.raises(InputError, match=r"is in EUR, and a log has one currency; write `--currency EUR --rate USD=…`"):
        read(tmp_path / "log", [("purchase", 2, "USD")], "USD")


def test_views_alone_establish_a_currency_only_where_there_is_one(tmp_path: Path):
    report = read(tmp_path / "log", [("view_item", 1, "USD"), ("view_item", 2, "EUR")])
    assert report.log.currency is None
    assert amounts(report) == [(1, "USD"), (2, "EUR")]
    later = read(tmp_path / "log", [("purchase", 3, "EUR")])
    assert later.log.currency == "EUR"
    assert amounts(later) == [(2, "EUR"), (3, "EUR"), (None, None)]
    assert read(tmp_path / "one", [("view_item", 1, "USD")]).log.currency == "USD"


def test_prices_of_views_are_in_the_currency_of_sales(tmp_path: Path):
    report = read(tmp_path / "log", [("view_item", 1, "USD"), ("purchase", 2, "EUR")])
    assert amounts(report) == [(2, "EUR"), (None, None)]
    assert any("1 in USD" in note for note in report.notes)


def test_the_catalog_is_in_the_currency_of_the_log(tmp_path: Path):
    items = [{"item_id": i, "price": 10.0, "currency": c, "updated_at": NOON} for i, c in (("A", "USD"), ("B", "GBP"))]
    batch = ParsedBatch(1, rows_of([("purchase", 1, "EUR")]), catalog=conform(pl.DataFrame(items), CATALOG_SCHEMA))
    report = ingest([batch], tmp_path / "log", settings=IngestSettings("EUR", {"USD": 0.5}))
    assert report.log.catalog().select("price", "currency").rows() == [(5, "EUR"), (None, None)]
    first = ingest([batch], tmp_path / "unstated")
    assert first.log.catalog().select("price", "currency").rows() == [(None, None), (None, None)]


def test_what_a_person_writes_is_checked():
    with pytest.raises(InputError, match="no currency"):
        Currency.build("Euros and cents", {})
    with pytest.raises(InputError, match="the rate of USD is 0"):
        Currency.build("EUR", {"USD": 0})


def test_rates_need_a_currency_that_they_lead_to(tmp_path: Path):
    with pytest.raises(InputError, match="no currency of the log"):
        read(tmp_path / "log", [("purchase", 1, "EUR")], None, USD=2)


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["purchase", "view_item"]),
        st.sampled_from([1.0, 9.99, 0.1]),
        st.sampled_from(["EUR", "USD", "JPY", None]),
    ),
    min_size=1,
    max_size=12,
)


@given(rows=ROWS, rates=st.booleans(), stated=st.booleans(), data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_result_does_not_depend_on_the_order_of_rows(
    rows: list[Row], rates: bool, stated: bool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
):
    tmp_path = tmp_path_factory.mktemp("currency")
    said = IngestSettings("EUR" if stated else None, {"USD": 0.92} if rates and stated else {})
    events = rows_of(rows)
    mixed = data.draw(st.permutations(range(len(rows))))

    def outcome(log: Path, order: list[int]) -> object:
        try:
            report = ingest([ParsedBatch(1, events[n : n + 1]) for n in order], log, settings=said)
        except InputError as error:
            return str(error).split(".rejected")[0].replace(str(log), "").split(", as ")[0]
        return report.log.fingerprint, report.kept, report.rejected, report.log.currency

    assert outcome(tmp_path / "one", list(range(len(rows)))) == outcome(tmp_path / "two", mixed)
