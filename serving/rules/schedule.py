"""Schedules: from when until when a rule holds, half open, in the shop's time zone."""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from features.common import clock
from features.common.errors import InputError

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_FIRST_YEAR, _LAST_YEAR = 2000, 2200


@dataclass(frozen=True, slots=True)
class Schedule:
    """`start` ≤ t < `end`, microseconds; None: open."""

    start: int | None = None
    end: int | None = None

    def holds(self, at: int) -> bool:
        """Whether the instant `at` (microseconds) lies in it."""
        return (self.start is None or at >= self.start) and (self.end is None or at < self.end)

    def is_over(self, at: int) -> bool:
        """Whether it has ended by `at`."""
        return self.end is not None and at >= self.end

    def overlaps(self, other: "Schedule") -> bool:
        """Whether some instant lies in both."""
        starts = [s for s in (self.start, other.start) if s is not None]
        ends = [e for e in (self.end, other.end) if e is not None]
        return not starts or not ends or max(starts) < min(ends)


def load_zone(name: str) -> ZoneInfo:
    """Return a time zone by its name, such as Europe/Berlin. Raises InputError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            f"there is no time zone {name[:64]!r}; write a name of the IANA database, such as Europe/Berlin or UTC"
        ) from None


def parse_instant(text: str, zone: ZoneInfo) -> int:
    """Parse a local time of `zone`, or one with its own offset, to microseconds; a date is its midnight.

    Raises InputError, also for a time that the clocks skip or show twice.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError("this is no time; write 2026-11-27 (its midnight) or 2026-11-27T18:30") from None
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise InputError(f"the year must lie between {_FIRST_YEAR} and {_LAST_YEAR}")
    if moment.tzinfo is not None:
        return clock.micros(moment)
    first, second = (moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return clock.micros(first)
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != moment:
        after = second.astimezone(UTC).astimezone(zone)
        # Between the two offsets no clock shows this; the instant of the change is the first one after it.
        raise InputError(
            f"{text} does not exist in {zone.key}: the clocks go forward then; write "
            f"{max(first.astimezone(UTC).astimezone(zone), after).strftime('%Y-%m-%dT%H:%M')}"
        )
    choices = " or ".join(m.isoformat() for m in (first, second))
    raise InputError(f"{text} comes twice in {zone.key}, as the clocks go back then; write {choices}")


@dataclass(frozen=True, slots=True)
class LocalTime:
    """What a clock of the shop shows."""

    hour: float
    weekday: str
    date: str

    @classmethod
    def at(cls, t: int, zone: ZoneInfo) -> "LocalTime":
        """Read the clock at `t` microseconds."""
        moment = clock.moment(t).astimezone(zone)
        return cls(float(moment.hour), WEEKDAYS[moment.weekday()], moment.date().isoformat())
