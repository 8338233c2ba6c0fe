from datetime import UTC, datetime

import pytest

from features.common.clock import DAY, iso, micros, moment, next_midnight, now, parse
from features.common.errors import InputError

MIDNIGHT = micros(datetime(2024, 5, 1, tzinfo=UTC))


def test_now_is_in_microseconds():
    before, current, after = micros(datetime.now(UTC)), now(), micros(datetime.now(UTC))
    assert before <= current <= after


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2011-11-11", "2011-11-11T00:00:00Z"),
        ("2011-11-11T08:30Z", "2011-11-11T08:30:00Z"),
        (" 2011-11-11T09:30+01:00", "2011-11-11T08:30:00Z"),
        ("2011-11-11T08:30:00.000001", "2011-11-11T08:30:00.000001Z"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_times_are_read_and_shown_in_utc(text: str, shown: str):
    assert iso(parse(text)) == shown
    assert micros(moment(parse(text))) == parse(text)


def test_a_time_that_is_none_is_named():
    with pytest.raises(InputError, match=r"--until is 'soon'; expected a date or time such as 2011-11-11"):
        parse("soon", "--until")


def test_midnight_is_its_own_next_midnight():
    assert [next_midnight(MIDNIGHT + d) - MIDNIGHT for d in (-1, 0, 1, DAY)] == [0, 0, DAY, DAY]
