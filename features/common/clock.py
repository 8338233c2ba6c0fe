"""Time: int64 microseconds since the epoch, in UTC, and windows that are half-open."""

import time
from datetime import UTC, datetime

from features.common.errors import InputError

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 86_400 * SECOND


def now() -> int:
    """The current time, in microseconds since the epoch."""
    return time.time_ns() // 1000


def micros(moment: datetime) -> int:
    """Convert to microseconds since the epoch, exactly; a datetime without a zone is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    delta = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


def moment(t: int) -> datetime:
    """Convert `t` microseconds to a datetime in UTC."""
    return datetime.fromtimestamp(t // SECOND, UTC).replace(microsecond=t % SECOND)


def iso(t: int) -> str:
    """Format `t` as ISO 8601 with a Z, as in manifests, tags and responses."""
    return moment(t).isoformat().replace("+00:00", "Z")


def parse(text: str, what: str = "the time") -> int:
    """Parse an ISO 8601 date or time, UTC without a zone, to microseconds. Raises `InputError`, which names `what`."""
    try:
        return micros(datetime.fromisoformat(text.strip()))
    except ValueError:
        raise InputError(
            f"{what} is {text!r}; expected a date or time such as 2011-11-11 or 2011-11-11T08:30Z"
        ) from None


def next_midnight(t: int) -> int:
    """The first midnight UTC at or after `t`."""
    return -(-t // DAY) * DAY
