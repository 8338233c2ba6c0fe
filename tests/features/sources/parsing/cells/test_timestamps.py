import re
from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.event_log.schema import EARLIEST, LATEST
from features.sources.parsing.cells import timestamps

NOON = datetime(2023, 11, 14, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [
        "2023-11-14T12:30:00Z", "2023-11-14 12:30:00 UTC", "2023-11-14t12:30:00.000z",
        "2023-11-14T14:30:00+02:00", "2023-11-14T14:30:00+0200", "2023-11-14 14:30+02",
        "2023-11-14 07:00:00 -05:30", " 2023-11-14 12:30 ",
        "1699965000", "1699965000000", "1699965000000000", "1699965000.0",
    ],
)  # fmt: skip
def test_every_format_of_one_instant(written: str):
    # Each shape among others, as a column may mix them.
    assert timestamps.parse(pl.Series(["nonsense", written, None])).to_list() == [None, NOON, None]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "yesterday",
        "2023-13-01",
        "2023-11-31",
        "12:30",
        "1/2/2023",
        "2023-02-30T00:00:00Z",
        "2023-11-14T25:00:00+01:00",
    ],
)
def test_other_values_are_null(bad: str):
    assert timestamps.parse(pl.Series([bad, "2023-11-14T12:30:00Z"])).to_list() == [None, NOON]
    assert timestamps.parse(pl.Series([bad])).to_list() == [None]


def test_times_without_offset_are_local():
    local = pl.Series(["2023-07-01 12:00:00", "2023-07-01 12:00:00Z", "2023-03-26 02:30:00", "2023-10-29 02:30:00"])
    noon = datetime(2023, 7, 1, 12, tzinfo=UTC)
    # Skipped by the clocks: null. Repeated by them: the first.
    expected = [noon - timedelta(hours=2), noon, None, datetime(2023, 10, 29, 0, 30, tzinfo=UTC)]
    assert timestamps.parse(local, "Europe/Berlin").to_list() == expected


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_datetimes_of_any_unit_and_zone(unit, zone):
    series = pl.Series([NOON.replace(tzinfo=None)], dtype=pl.Datetime(unit))
    series = series.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else series
    parsed = timestamps.parse(series)
    assert parsed.to_list() == [NOON]
    assert parsed.dtype == pl.Datetime("us", "UTC")


def test_dates_and_numbers():
    assert timestamps.parse(pl.Series([date(2023, 11, 14)])).to_list() == [datetime(2023, 11, 14, tzinfo=UTC)]
    assert timestamps.parse(pl.Series([1699965000, 1699965000000, 1699965000000000000])).to_list() == [NOON] * 3
    half = NOON + timedelta(milliseconds=500)
    assert timestamps.parse(pl.Series([1699965000.5, float("nan"), None])).to_list() == [half, None, None]


@given(
    st.datetimes(min_value=datetime(1975, 1, 1), max_value=datetime(2190, 1, 1)),
    st.integers(min_value=-14 * 60, max_value=14 * 60),
)
def test_iso_with_offset_round_trips(when: datetime, minutes: int):
    there = when.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert timestamps.parse(pl.Series([there.isoformat()])).to_list() == [there.astimezone(UTC)]


def test_slashed_dates_are_read_in_the_order_that_most_of_the_column_fits():
    british, order = timestamps.parse_slashed(pl.Series(["01/12/2010 08:26", "13/12/2010 09:00", "oops"]))
    assert order == "day first"
    assert british.to_list() == [
        datetime(2010, 12, 1, 8, 26, tzinfo=UTC), datetime(2010, 12, 13, 9, tzinfo=UTC), None,
    ]  # fmt: skip
    american, order = timestamps.parse_slashed(pl.Series(["12/1/2010 8:26", "12/13/10 9:00:30"]))
    assert order == "month first"
    assert american.to_list() == [
        datetime(2010, 12, 1, 8, 26, tzinfo=UTC), datetime(2010, 12, 13, 9, 0, 30, tzinfo=UTC),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "order"), [("{:%d-%m-%Y %H:%M}", "day first"), ("{:%m/%d/%Y %H:%M}", "month first")]
)
def test_where_both_orders_parse_the_shorter_span_decides(written: str, order: str):
    days = [datetime(2010, 12, day) for day in range(1, 10)]
    parsed, assumed = timestamps.parse_slashed(pl.Series([written.format(d) for d in days]))
    assert assumed == order
    assert parsed.to_list() == [d.replace(tzinfo=UTC) for d in days]


def parse_one(written: str, zone: str = "UTC", day_first: bool | None = None) -> datetime | None:
    (time,) = timestamps.parse(pl.Series([written]), zone, day_first).to_list()
    # Among others, and however the cells are stored, it is the same.
    column = pl.Series(["x", written, None, "2023-11-14T12:30:00Z"])
    assert timestamps.parse(column, zone, day_first).to_list() == [None, time, None, NOON]
    assert timestamps.parse(column.cast(pl.Categorical), zone, day_first)[1] == time
    return time


@pytest.mark.parametrize(
    "written",
    [
        "Nov 14, 2023 12:30", "November 14, 2023 at 12:30 PM", "14 Nov 2023 12:30", "14. November 2023, 12:30",
        "2023/11/14 12:30", "2023.11.14 12:30", "2023-11-14 12:30:00.000+0000", "2023-11-14 07:30:00 -0500",
        "2023-11-14T18:00:00+05:30[Asia/Kolkata]", "20231114T123000Z", "20231114 1230", "202311141230",
        "20231114123000",
        "20231114123000000", "202311141230.0", "45244.520833333336", "45244,520833333336",
        "Tue Nov 14 2023 13:30:00 GMT+0100 (CET)", "Tue, 14 Nov 2023 12:30:00 GMT", "Tue Nov 14 12:30:00 2023",
        "Tue Nov 14 07:30:00 EST 2023", "14/Nov/2023:13:30:00 +0100", "14-Nov-23 12:30", "14/11/2023 12:30",
        "14.11.23 12:30", "11/14/2023 12:30 PM", "11/14/2023, 12:30:00\u202fPM", "2023-11-14 12:30:00.000 UTC",
        "2023-11-14 13:30 Europe/Berlin", "2023-11-14 13:30 CET", "2023年11月14日 12:30", "2023. 11. 14. 12:30",
        "14 de noviembre de 2023 12:30", "'2023-11-14 12:30", "２０２３-11-14 12:30", "2023-11-14\u00a012:30",
        "1699965000,0",
    ],
)  # fmt: skip
def test_a_time_is_read_in_any_shape(written: str):
    assert parse_one(written) == NOON
    assert not timestamps.is_ambiguous(pl.Series([written])).any()


@pytest.mark.parametrize(
    "written",
    ["20231114", "45244", "45244.0", "14.11.2023", "11/14/23", "Nov 14, 2023", "2023-11-14", "14-NOV-2023",
    "20231114.0"],
)  # fmt: skip
def test_a_date_is_its_first_instant(written: str):
    assert parse_one(written) == datetime(2023, 11, 14, tzinfo=UTC)
    assert parse_one(written, "Europe/Berlin") == datetime(2023, 11, 13, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [
        "1.7676E+12", "1,7676E+12", "0000-00-00 00:00:00", "2023-11-14 24:00:00", "2023-11-14 12:30:00 PST",
        "2023-11-14 12:30:00 Mars/Phobos", "2023-11-14 13:30 PM", "14/13/2023", "32/01/2023", "31/02/2023", "20231314",
        "202311142530", "14112023", "2023", "12:30", "231114", "5", "0", "-5", "nan", "NULL", "14/11-2023",
        "Foo 14, 2023",
        "2023-11-14T12:30:00+25:00", "2023-11-14 12:30 +01:00 Europe/Berlin", "2023-W46-2", "2023-318",
        "99999999999999999999",
    ],
)  # fmt: skip
def test_what_is_no_time_for_certain_is_none(written: str):
    assert parse_one(written) is None
    assert parse_one(written, day_first=True) is None


def test_a_leap_second_is_the_next_instant():
    assert parse_one("2023-11-14 12:29:60") == parse_one("14 Nov 2023 12:29:60") == NOON


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.UInt64])
def test_numbers_are_dates_by_their_digits(dtype):
    noon, midnight = NOON, datetime(2023, 11, 14, tzinfo=UTC)
    values = {20231114: midnight, 202311141230: noon, 20231114123000: noon, 45244: midnight, 1699965000: noon,
              1699965000000: noon, 20231314: None, 5: None, 0: None, 231114: None}  # fmt: skip
    assert timestamps.parse(pl.Series(list(values), dtype=dtype)).to_list() == list(values.values())
    for value, time in values.items():
        assert timestamps.parse(pl.Series([value], dtype=dtype)).to_list() == [time]
    assert timestamps.parse(pl.Series([45244.520833333336])).to_list() == [noon]
    assert timestamps.parse(pl.Series([20231114.5])).to_list() == [None]
    assert timestamps.parse(pl.Series([20231114]), "Europe/Berlin").to_list() == [
        datetime(2023, 11, 13, 23, tzinfo=UTC)
    ]


def test_the_order_of_day_and_month_is_the_columns():
    column = pl.Series(["05/01/2026 10:00", "25/01/2026 10:00", "5.5.2026", "01/25/26", "2026-01-05", None])
    assert timestamps.is_ambiguous(column).to_list() == [True, False, False, False, False, False]
    assert timestamps.evidence(column) == (1, 1)
    assert timestamps.evidence(column[:2]) == (1, 0)
    assert timestamps.evidence(pl.Series([datetime(2026, 1, 5)])) == (0, 0)
    read = {order: timestamps.parse(column, day_first=order)[0] for order in (None, True, False)}
    assert read == {
        None: None, True: datetime(2026, 1, 5, 10, tzinfo=UTC), False: datetime(2026, 5, 1, 10, tzinfo=UTC)
    }  # fmt: skip
    for order in (None, True, False):
        assert timestamps.parse(column, day_first=order)[1] == datetime(2026, 1, 25, 10, tzinfo=UTC)


def test_a_stated_format_reads_that_format_only():
    column = pl.Series(["05.01.2026 10:00", "2026-01-05 10:00", " 31.12.2025 09:30 ", None])
    parsed = timestamps.parse(column, "Europe/Berlin", pattern="%d.%m.%Y %H:%M").to_list()
    assert parsed == [datetime(2026, 1, 5, 9, tzinfo=UTC), None, datetime(2025, 12, 31, 8, 30, tzinfo=UTC), None]
    assert timestamps.parse(pl.Series([260105.0, 260106.0]), pattern="%y%m%d").to_list() == [
        datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)
    ]  # fmt: skip
    offset = timestamps.parse(pl.Series(["05.01.2026 10:00 +0100"]), "Asia/Tokyo", pattern="%d.%m.%Y %H:%M %z")
    assert offset.to_list() == [datetime(2026, 1, 5, 9, tzinfo=UTC)]


# Shape → the precision that it keeps, in seconds.
SHAPES = {
    "%b %d, %Y %H:%M:%S": 1, "%d %B %Y %H:%M": 60, "%Y/%m/%d %H:%M": 60, "%m/%d/%Y %I:%M %p": 60,
    "%d.%m.%Y %H:%M:%S": 1, "%d-%b-%y": 86400, "%Y%m%d": 86400, "%Y%m%dT%H%M%SZ": 1, "%Y%m%d%H%M": 60,
    "%Y%m%d%H%M%S": 1, "%a %b %d %Y %H:%M:%S GMT+0000 (UTC)": 1, "%a, %d %b %Y %H:%M:%S +0000": 1,
    "%a %b %d %H:%M:%S %Y": 1, "%d/%m/%y %H:%M": 60, "'%Y-%m-%d": 86400, "%Y-%m-%d %H:%M:%S UTC": 1,
}  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(
    st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2060, 1, 1)),
    st.sampled_from(sorted(SHAPES)),
    st.booleans(),
)
def test_a_rendered_time_is_read_as_itself_or_not_at_all(when: datetime, shape: str, unpadded: bool):
    at = datetime.fromtimestamp(when.replace(tzinfo=UTC).timestamp() // SHAPES[shape] * SHAPES[shape], UTC)
    written = at.strftime(shape)
    if unpadded and "/" in shape:
        written = re.sub(r"(^|/| )0(\d)(?=[/:])", r"\1\2", written)
    ambiguous = timestamps.is_ambiguous(pl.Series([written]))[0]
    assert parse_one(written) == (None if ambiguous else at)
    if ambiguous:
        assert parse_one(written, day_first=shape.startswith("%d")) == at


@settings(deadline=None)
@given(
    st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2060, 1, 1)),
    st.sampled_from([1, 10**3, 10**6, 10**9]),
)
def test_an_epoch_is_read_as_itself_or_not_at_all(when: datetime, unit: int):
    at = when.replace(tzinfo=UTC, microsecond=0)
    number = int(at.timestamp()) * unit
    for column in (pl.Series([number]), pl.Series([str(number)]), pl.Series([f"{number // unit}.0"])):
        assert timestamps.parse(column).to_list() == [at]


@settings(deadline=None)
@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2060, 1, 1)))
def test_a_spreadsheets_day_is_read_to_the_second(when: datetime):
    at = when.replace(microsecond=0)
    days = (at - datetime(1899, 12, 30)) / timedelta(days=1)
    for column in (pl.Series([days]), pl.Series([repr(days)]), pl.Series([repr(days).replace(".", ",")])):
        (read,) = timestamps.parse(column).to_list()
        assert read == at.replace(tzinfo=UTC)


@settings(deadline=None)
@given(
    st.text(alphabet="0123456789-/.: TZ+APMJanFeb", max_size=20)
    | st.from_regex(r"[0-9]{1,4}[-/. ][0-9A-z]{1,3}[-/. ][0-9]{1,4}")
)
def test_no_text_is_a_time_beyond_belief(written: str):
    time = timestamps.parse(pl.Series([written]))[0]
    assert time is None or EARLIEST < time < LATEST or not 1 < time.year < 9999


def test_two_digits_and_hyphens_never_say_where_the_year_is():
    cells = pl.Series(["26-01-05", "05-01-26", "13-05-99", "25.01.26"])
    assert timestamps.is_ambiguous(cells).to_list() == [True, True, False, False]
    assert timestamps.evidence(cells) == (2, 0)
    read = timestamps.parse(cells).dt.date().to_list()
    assert read == [None, None, date(1999, 5, 13), date(2026, 1, 25)]
    stated = timestamps.parse(cells, day_first=True).dt.date().to_list()
    assert stated[:2] == [date(2005, 1, 26), date(2026, 1, 5)]
    assert timestamps.parse(cells[:1], pattern="%y-%m-%d").dt.date().to_list() == [date(2026, 1, 5)]
