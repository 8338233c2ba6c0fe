from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.sources.parsing import timestamps

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
