import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA
from features.sources import online_retail
from tests.features.event_log.ingestion.combined import combine_events

DATA = Path(__file__).parents[4] / "shared" / "data" / "online_retail_II.parquet"
HEADER = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country"]
OLD_HEADER = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
]
WHEN = datetime(2010, 12, 1, 8, 26)
LINE = ["536365", "85123A", "T-LIGHT HOLDER", 6, WHEN, 2.5, 17850, "United Kingdom"]


def line(**changes: object) -> list[object]:
    names = dict.fromkeys(["invoice", "code", "title", "quantity", "when", "price", "customer", "country"])
    return list((dict(zip(names, LINE, strict=True)) | changes).values())


def read(path: Path) -> ParsedBatch:
    (parsed,) = online_retail.read([path])
    assert parsed.rows_read == parsed.events.height + parsed.merged + parsed.rejected.height
    assert parsed.events.schema == EVENT_SCHEMA
    assert parsed.catalog.schema == CATALOG_SCHEMA
    return parsed


def write(path: Path, lines: list[list[object]], header: list[str] = HEADER) -> Path:
    frame = pl.DataFrame(lines, schema=header, orient="row", strict=False, infer_schema_length=None)
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


@pytest.fixture
def parse(tmp_path: Path):
    return lambda *lines: read(write(tmp_path / "r.parquet", list(lines)))


def test_a_purchase(parse):
    parsed = parse(LINE)
    assert {k: v for k, v in parsed.events.row(0, named=True).items() if v is not None} == {
        "event_id": "536365", "name": "purchase", "timestamp": WHEN.replace(tzinfo=UTC),
        "customer_id": "17850", "item_id": "85123A", "quantity": 6.0, "price": 2.5, "currency": "GBP",
        "order_id": "536365", "country": "United Kingdom",
    }  # fmt: skip


def test_a_cancellation_is_a_refund_of_a_positive_quantity(parse):
    row = parse(line(invoice="C536379", quantity=-2)).events.row(0, named=True)
    assert (row["name"], row["quantity"], row["event_id"]) == ("refund", 2.0, "C536379")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"invoice": None}, "missing_event_id"),
        ({"when": None}, "bad_timestamp"),
        ({"invoice": "A506401", "code": "B", "price": -53594.36, "customer": None}, "adjustment"),
        ({"code": " "}, "missing_item_id"),
        ({"code": "POST"}, "fee_code"),
        ({"code": "gift_0001_20"}, "fee_code"),
        ({"code": "1234"}, "fee_code"),
        ({"code": "DOT", "customer": None}, "fee_code"),
        ({"customer": None}, "no_customer"),
        ({"customer": None, "quantity": -3, "price": 0.0}, "no_customer"),
        ({"customer": 12.5}, "no_customer"),
        ({"quantity": -1}, "bad_quantity"),
        ({"quantity": 0}, "bad_quantity"),
        ({"quantity": None}, "bad_quantity"),
        ({"invoice": "C1", "quantity": 1}, "bad_quantity"),
        ({"price": None}, "bad_price"),
        ({"price": math.nan}, "bad_price"),
        ({"price": -1.0}, "negative_price"),
        ({"price": 0.0}, "zero_price"),
    ],
)
def test_reasons_of_rejected_lines(parse, change: dict, reason: str):
    parsed = parse(LINE, line(**change))
    assert parsed.rejected.select("source", "row", "reason").rows() == [("r.parquet", 1, reason)]
    assert json.loads(parsed.rejected["raw"][0])["Description"] == "T-LIGHT HOLDER"
    assert parsed.events.height == 1


def test_lines_of_one_item_are_merged(parse):
    late = WHEN.replace(minute=30)
    parsed = parse(
        line(quantity=1, price=4.0, when=late), line(quantity=3, price=2.0),
        line(code="85123a"), line(code=" 22041 ", when=late)
    )  # fmt: skip
    rows = parsed.events.sort("item_id").select("item_id", "quantity", "price", "timestamp")
    first = WHEN.replace(tzinfo=UTC)
    assert rows.rows() == [("22041", 6, 2.5, first), ("85123A", 4, 2.5, first), ("85123a", 6, 2.5, first)]
    assert parsed.merged == 1


def test_the_mean_price_does_not_depend_on_the_order_of_lines(parse):
    draw = random.Random(0)
    lines = [line(quantity=1, price=draw.random() * 10 ** draw.randint(-3, 6)) for _ in range(40)]
    prices = {parse(*draw.sample(lines, len(lines))).events["price"].item() for _ in range(20)}
    assert len(prices) == 1


def test_catalog(parse):
    parsed = parse(
        line(title="HOLDER"), line(invoice="2", title="B", price=3.0, when=WHEN.replace(year=2011)),
        line(invoice="3", title="B "), line(invoice="4", title=None),
        line(invoice="5", code="22041", title="Z"), line(invoice="6", code="22041", title="Y"),
        line(invoice="C9", quantity=-1, price=9.0, when=WHEN.replace(year=2012)),
        line(invoice="7", code="22042", price=0.0),
    )  # fmt: skip
    rows = parsed.catalog.select("item_id", "title", "price", "currency", "available", "first_seen").rows()
    first = WHEN.replace(tzinfo=UTC)
    assert rows == [("22041", "Y", 2.5, "GBP", True, first), ("85123A", "B", 3.0, "GBP", True, first)]


@pytest.mark.parametrize("header", [HEADER, OLD_HEADER])
@pytest.mark.parametrize("pattern", ["{:%Y-%m-%d %H:%M:%S}", "{:%d/%m/%Y %H:%M}", "{:%m/%d/%Y %H:%M}"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_csv_dates_and_encodings(tmp_path: Path, header: list[str], pattern: str, encoding: str):
    days = [datetime(2010, 12, day, 8, 26) for day in (1, 2, 13)]
    lines = [
        line(invoice=str(n), title="£5 HOLDER", when=pattern.format(d), customer=17850.0) for n, d in enumerate(days)
    ]
    file = write(tmp_path / "r.csv", lines, header)
    file.write_bytes(file.read_text().encode(encoding))
    parsed = read(file)
    assert parsed.events.sort("event_id")["timestamp"].to_list() == [d.replace(tzinfo=UTC) for d in days]
    assert parsed.events["customer_id"].to_list() == ["17850"] * 3
    assert parsed.catalog["title"].to_list() == ["£5 HOLDER"]
    assert len(parsed.notes) == (0 if "%Y-" in pattern else 1)


def test_an_unparsable_date_is_one_rejected_row(tmp_path: Path):
    lines = [line(when="1/12/2010 8:26"), line(when="soon"), line(invoice="2", when="13/12/2010 8:26")]
    parsed = read(write(tmp_path / "r.csv", lines))
    assert parsed.rejected.select("row", "reason").rows() == [(1, "bad_timestamp")]
    assert "13/12/2010" in parsed.notes[0] or "1/12/2010" in parsed.notes[0]
    assert "day first" in parsed.notes[0]


def test_a_missing_column_is_an_error_with_a_hint(tmp_path: Path):
    file = tmp_path / "r.csv"
    file.write_text("Invoice,StockCode,Quantity,InvoiceDate,Country\n1,85123A,1,2010-12-01,UK\n")
    with pytest.raises(
        InputError, match=r"missing columns price, customerid\..*mapping.*Its columns: Invoice, StockCode"
    ):
        read(file)


def test_truncated_parquet(tmp_path: Path):
    file = write(tmp_path / "r.parquet", [LINE])
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"r\.parquet cannot be read"):
        read(file)


def sheets_overlap(n: int = 15) -> tuple[list[list[object]], list[list[object]]]:
    """Two years' lines; both hold the same day, in which one line is truly there twice."""
    before = [line(invoice="1", when=WHEN.replace(month=11))]
    day = [line(invoice=str(100 + i // 4), code=f"{22000 + i}") for i in range(n)]
    return [*before, *day, day[0]], [*day, day[0], line(invoice="999", when=WHEN.replace(year=2011))]


def test_rows_that_both_sheets_hold_count_once(tmp_path: Path, write_xlsx):
    one, two = sheets_overlap()
    both = read(write_xlsx(tmp_path / "r.xlsx", {"Year 1": [HEADER, *one], "Year 2": [HEADER, *two]}))
    alone = read(write(tmp_path / "r.parquet", [*one, two[-1]]))
    assert both.rows_read == len(one) + len(two)
    assert combine_events(both.events).equals(combine_events(alone.events))
    assert both.events.filter(item_id="22000")["quantity"].to_list() == [12.0]
    assert both.merged == alone.merged + len(two) - 1
    assert "sheets overlap" in both.notes[0]


def test_a_mirror_without_sheet_names_counts_once_too(tmp_path: Path):
    one, two = sheets_overlap()
    # The true repeat would be there four times.
    mirror = read(write(tmp_path / "m.parquet", [*one, *two]))
    alone = read(write(tmp_path / "r.parquet", [*one, two[-1]]))
    assert combine_events(mirror.events).equals(combine_events(alone.events))


def test_a_repeated_line_alone_is_no_overlap(parse):
    assert parse(LINE, LINE).events["quantity"].to_list() == [12.0]


def test_one_file_per_sheet_counts_once(tmp_path: Path):
    one, two = sheets_overlap()
    files = [write(tmp_path / "one.csv", one), write(tmp_path / "two.csv", two)]
    report = ingest(online_retail.read(files), tmp_path / "log")
    alone = read(write(tmp_path / "r.parquet", [*one, two[-1]]))
    assert report.log.scan_all_times().collect().equals(combine_events(alone.events))
    assert report.duplicates == 15


LINES = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "C3", "A4", None]),
        st.sampled_from(["85123A", "22041", " 22041", "POST", ""]),
        st.sampled_from(["A", "B", None]),
        st.sampled_from([-1, 0, 1, 2, None]),
        st.sampled_from([WHEN, WHEN.replace(hour=9), None]),
        st.sampled_from([-1.0, 0.0, 0.1, 0.7, None]),
        st.sampled_from([1, 2, None]),
        st.sampled_from(["UK", "France"]),
        st.sampled_from(["one", "two"]),
    ),
    min_size=1,
    max_size=25,
)
TYPES = [
    pl.String,
    pl.String,
    pl.String,
    pl.Int64,
    pl.Datetime("ms"),
    pl.Float64,
    pl.Int64,
    pl.String,
    pl.String,
]


@settings(max_examples=60, deadline=None)
@given(lines=LINES, shuffled=st.randoms(use_true_random=False))
def test_counts_add_up_and_order_does_not_matter(tmp_path_factory, lines: list[tuple], shuffled):
    schema = dict(zip([*HEADER, "Sheet"], TYPES, strict=True))
    folder = tmp_path_factory.mktemp("lines")

    def results() -> Iterator[ParsedBatch]:
        for rows in (lines, shuffled.sample(lines, len(lines))):
            pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / "r.parquet")
            yield read(folder / "r.parquet")

    one, other = results()
    assert combine_events(one.events).equals(combine_events(other.events))
    assert one.catalog.equals(other.catalog)
    assert one.merged == other.merged
    assert sorted(one.rejected["reason"]) == sorted(other.rejected["reason"])
    # A key once per source: merging left nothing for the log to throw away.
    assert combine_events(one.events).height == one.events.height


@pytest.fixture(scope="module")
def real() -> ParsedBatch:
    return read(DATA)


@pytest.mark.skipif(not DATA.exists(), reason=f"no {DATA.name}: get it from doi.org/10.24432/C5CG6D, see README")
class TestRealFile:
    def test_counts(self, real: ParsedBatch):
        assert real.rows_read == 1_044_848
        assert dict(real.events["name"].cast(pl.String).value_counts().iter_rows()) == {
            "purchase": 766_079, "refund": 17_525,
        }  # fmt: skip
        assert real.merged == 22_224
        assert dict(real.rejected["reason"].value_counts().iter_rows()) == {
            "no_customer": 232_968, "fee_code": 5_986, "zero_price": 60, "adjustment": 6,
        }  # fmt: skip
        assert real.catalog.height == 4_633
        assert real.notes == ()

    def test_purchases_are_those_of_the_fixed_evaluation(self, real: ParsedBatch):
        raw = pl.read_parquet(DATA)
        usable = raw.filter(
            pl.col("Customer ID").is_not_null(), pl.col("Quantity") > 0, pl.col("Price") > 0,
            ~pl.col("Invoice").str.starts_with("C"), pl.col("StockCode").str.contains(r"^\d{5}"),
        )  # fmt: skip
        bought = real.events.filter(name="purchase")
        split = pl.lit(datetime(2011, 11, 11))
        for late in (False, True):
            theirs = usable.filter((pl.col("InvoiceDate") >= split) == late).select(
                customer_id=pl.col("Customer ID").cast(pl.String), item_id="StockCode"
            )
            ours = bought.filter((pl.col("timestamp").dt.replace_time_zone(None) >= split) == late)
            key = ["customer_id", "item_id"]
            assert ours.select(key).unique().sort(key).equals(theirs.unique().sort(key))
        assert bought["quantity"].sum() == usable["Quantity"].sum()
        paid = (bought["quantity"] * bought["price"]).sum()
        assert paid == pytest.approx((usable["Quantity"] * usable["Price"]).sum(), rel=1e-12)
