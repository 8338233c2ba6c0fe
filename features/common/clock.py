"""Time as the pipeline counts it: int64 microseconds since the epoch, UTC, half-open windows."""

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
    """Microseconds since the epoch, exact; a datetime without a zone is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    delta = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


def moment(t: int) -> datetime:
    """The UTC datetime of `t` microseconds."""
    return datetime.fromtimestamp(t // SECOND, UTC).replace(microsecond=t % SECOND)


def iso(t: int) -> str:
    """`t` as ISO 8601 with a Z: what manifests, tags and answers carry."""
    return moment(t).isoformat().replace("+00:00", "Z")


def parse(text: str, what: str = "the time") -> int:
    """Microseconds of an ISO 8601 date or time; without a zone it is UTC. Raises `InputError`."""
    try:
        return micros(datetime.fromisoformat(text.strip()))
    except ValueError:
        raise InputError(
            f"{what} is {text!r}; expected a date or time such as 2011-11-11 or 2011-11-11T08:30Z"
        ) from None


def next_midnight(t: int) -> int:
    """The first midnight UTC at or after `t`."""
    return -(-t // DAY) * DAY
