"""Schedules: half open, in the shop's zone, to the second, across changes of the clocks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.common.clock import SECOND, iso, parse
from features.common.errors import InputError
from serving.rules.schedule import LocalTime, Schedule, load_zone, parse_instant

BERLIN = load_zone("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-27", "2026-11-26T23:00:00Z"),
        ("2026-11-27T00:00", "2026-11-26T23:00:00Z"),
        ("2026-07-01T12:00:30", "2026-07-01T10:00:30Z"),
        ("2026-03-29T01:59:59", "2026-03-29T00:59:59Z"),
        ("2026-03-29T03:00", "2026-03-29T01:00:00Z"),
        ("2026-10-25T01:59:59", "2026-10-24T23:59:59Z"),
        ("2026-10-25T02:30:00+02:00", "2026-10-25T00:30:00Z"),
        ("2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00Z"),
        ("2026-10-25T03:00", "2026-10-25T02:00:00Z"),
        ("2026-11-27T00:00Z", "2026-11-27T00:00:00Z"),
    ],
)
def test_times_are_those_of_the_shops_clock(text: str, instant: str):
    assert iso(parse_instant(text, BERLIN)) == instant


def test_a_time_that_the_clocks_skip_or_show_twice_is_refused():
    with pytest.raises(InputError, match=r"does not exist in Europe/Berlin.*write 2026-03-29T03:30"):
        parse_instant("2026-03-29T02:30", BERLIN)
    with pytest.raises(InputError, match=r"comes twice.*02:30:00\+02:00 or 2026-10-25T02:30:00\+01:00"):
        parse_instant("2026-10-25T02:30", BERLIN)


@pytest.mark.parametrize(
    "text", ["tomorrow", "", "2026-02-30", "27.11.2026", "0001-01-01", "9999-12-31T23:59", "24:00"]
)
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(InputError):
        parse_instant(text, BERLIN)


@pytest.mark.parametrize("name", ["Berlin", "", "../../etc/passwd", "/etc/localtime", "Europe/Berlin\0", "x" * 200])
def test_what_is_no_zone_is_refused(name: str):
    with pytest.raises(InputError, match="no time zone"):
        load_zone(name)


def test_a_week_of_black_friday_across_the_change_of_clocks_is_an_hour_longer():
    """From Saturday noon to Monday noon: 49 hours, and it begins and ends to the second."""
    schedule = Schedule(parse_instant("2026-10-24T12:00", BERLIN), parse_instant("2026-10-26T12:00", BERLIN))
    start, end = parse("2026-10-24T10:00Z"), parse("2026-10-26T11:00Z")
    assert (schedule.start, schedule.end) == (start, end)
    assert [schedule.holds(t) for t in (start - 1, start, end - 1, end)] == [False, True, True, False]
    assert (end - start) // (3_600 * SECOND) == 49
    assert not schedule.is_over(end - 1)
    assert schedule.is_over(end)


def test_the_clock_of_the_shop_is_read_on_both_sides_of_a_change():
    at = LocalTime.at
    assert at(parse("2026-03-29T00:59:59Z"), BERLIN) == LocalTime(1.0, "sunday", "2026-03-29")
    assert at(parse("2026-03-29T01:00:00Z"), BERLIN).hour == 3.0
    assert [at(parse(f"2026-10-25T0{h}:30:00Z"), BERLIN).hour for h in (0, 1)] == [2.0, 2.0]
    assert at(parse("2026-11-26T23:00:00Z"), BERLIN) == LocalTime(0.0, "friday", "2026-11-27")


@settings(deadline=None)
@given(*[st.none() | st.integers(0, 50)] * 4)
def test_schedules_overlap_if_some_instant_is_in_both(a: int | None, b: int | None, c: int | None, d: int | None):
    first, second = Schedule(a, b), Schedule(c, d)
    both = any(first.holds(t) and second.holds(t) for t in range(-1, 52))
    proper = all(s.start is None or s.end is None or s.start < s.end for s in (first, second))
    assert not proper or first.overlaps(second) == both
