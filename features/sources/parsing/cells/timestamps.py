"""Timestamps: times in any of the formats that shops export, as microseconds in UTC."""

from collections.abc import Callable, Iterable
from functools import reduce
from operator import or_
from zoneinfo import available_timezones

import numpy as np
import polars as pl

from features.common.ids import INVISIBLE
from features.common.text_views import TextViews
from features.event_log.schema import EARLIEST, LATEST, TIMESTAMP
from features.sources.parsing.cells import date_shapes
from features.sources.parsing.cells.characters import to_ascii

_ISO = (
    r"^(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2})(:\d{2}(?:\.\d+)?)?)?"
    r"\s*(?:([Zz]|UTC|GMT)|([+-]\d{2})(?::?(\d{2}))?)?$"
)
_NUMBER = r"^(?:[0-9]{5}|[0-9]{8,19})(?:[.,][0-9]+)?$"
_COMMON = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]| UTC)$"
_OFFSET = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?[+-]\d{2}(?::?\d{2})?$"
_LOCAL = r"^\d{4}-\d{2}-\d{2}[Tt ][0-2]\d:[0-5]\d:[0-5]\d(?:\.\d+)?$"
_SLASHED = r"^(\d{1,2})[-./](\d{1,2})[-./](\d{4}|\d{2}) (\d{1,2}:\d{2})(:\d{2})?$"

SLASHED_ORDERS = {
    "day first": "%d/%m/%Y %H:%M:%S",
    "month first": "%m/%d/%Y %H:%M:%S",
}


def parse(values: pl.Series, zone: str = "UTC", day_first: bool | None = None, pattern: str | None = None) -> pl.Series:
    """Parse `values` as instants in UTC; null where a value is no time.

    Accepts dates and datetimes of any unit and zone, numbers and texts. A number is a date by its digits (20260105,
    also with a time: 202601051000, 20260105100000), a spreadsheet's day (46027.5), or an epoch (seconds, milli-,
    micro- or nanoseconds, told apart by size). Texts are such numbers, ISO 8601 with or without offset, or any of the
    shapes of `date_shapes`; with `pattern`, of that strptime format only. Times without an offset are local to
    `zone`: of an hour that clocks repeat the first is taken, a time in an hour that they skip is null. A date that is
    ambiguous by itself, as 05/01/2026, is null where `day_first` is None.
    """
    dtype = values.dtype
    if isinstance(dtype, pl.Datetime):
        micros = values.dt.cast_time_unit("us")
        return micros.dt.convert_time_zone("UTC") if dtype.time_zone else _to_utc(micros, zone)
    if dtype == pl.Date:
        return _to_utc(values.cast(pl.Datetime("us")), zone)
    if pattern is not None:
        return _parse_pattern(_to_integers(values).cast(pl.String, strict=False), zone, pattern)
    if dtype.is_numeric():
        return _parse_numbers(values, zone)
    return _parse_text(values.cast(pl.String, strict=False).str.strip_chars(), zone, day_first)


def is_ambiguous(values: pl.Series) -> pl.Series:
    """Whether each cell is a date in numbers whose day and month cannot be told apart, as in 05/01/2026."""
    none = pl.repeat(False, values.len(), dtype=pl.Boolean, eager=True)
    rows = _year_last(values)
    if rows is None or not len(rows):
        return none
    return none.scatter(rows, date_shapes.is_ambiguous(values.cast(pl.String).gather(rows)))


def evidence(values: pl.Series) -> tuple[int, int]:
    """Count the cells that show the day first, and those that show the month first, by themselves."""
    rows = _year_last(values)
    if rows is None or not len(rows):
        return 0, 0
    numbers = date_shapes.day_and_month(values.cast(pl.String).gather(rows))
    return int((numbers["first"] > 12).sum()), int((numbers["then"] > 12).sum())


def _year_last(values: pl.Series) -> pl.Series | None:
    """Rows of the texts that may be dates in numbers with the year last; None where `values` are no texts."""
    if values.dtype.is_temporal() or values.dtype.is_numeric():
        return None
    texts = values.cast(pl.String, strict=False)
    if (views := TextViews.of(texts)) is None:
        return texts.is_not_null().arg_true()
    first, second, third = views.head(0), views.head(1), views.head(2)
    cut = [(byte - np.uint8(0x2D)) < 3 for byte in (second, third)]  # - . /
    likely = cut[0] | cut[1] | (first - np.uint8(0x30) >= 75)  # or it starts with what is neither digit nor letter
    return pl.Series(views.rows(np.flatnonzero(likely)))


def parse_slashed(values: pl.Series) -> tuple[pl.Series, str]:
    """Parse times written 1/12/2010 8:26 (also with - or . and two-digit years) as UTC; also return the order assumed.

    The order of day and month is decided for the column as a whole: the one that parses more values; where both
    parse as many, the one by which the dates lie closer together; then day first.
    """
    parts = values.cast(pl.String, strict=False).str.strip_chars().alias("t").to_frame()
    part = [pl.col("t").str.extract(_SLASHED, i) for i in range(1, 6)]
    year = pl.when(part[2].str.len_chars() == 2).then(pl.lit("20") + part[2]).otherwise(part[2])
    slashed = parts.select(
        pl.format("{}/{}/{} {}{}", part[0], part[1], year, part[3], part[4].fill_null(":00"))
    ).to_series()
    best: tuple[tuple[int, float], pl.Series, str] | None = None
    for order, pattern in SLASHED_ORDERS.items():
        times = slashed.str.to_datetime(pattern, strict=False, time_unit="us").dt.replace_time_zone("UTC")
        stamps = times.drop_nulls().to_physical().to_numpy()
        score = (len(stamps), -float(np.ptp(stamps)) if len(stamps) else 0.0)
        if best is None or score > best[0]:
            best = (score, times, order)
    assert best is not None  # noqa: S101  there is at least one order
    return best[1], best[2]


def count_usable(times: pl.Series) -> int:
    """Count the `times` that are neither null nor absurd."""
    return int(times.is_between(EARLIEST, LATEST).sum())


def _to_utc(values: pl.Series, zone: str) -> pl.Series:
    local = values.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC")


def _to_integers(values: pl.Series) -> pl.Series:
    """Whole floats as integers; other values stay as they are."""
    if not values.dtype.is_float():
        return values
    whole = values.cast(pl.Int64, strict=False)
    return values.set(whole != values, None).cast(pl.Int64, strict=False)


def _parse_pattern(values: pl.Series, zone: str, pattern: str) -> pl.Series:
    texts = values.str.strip_chars(INVISIBLE).str.replace("^'", "")
    if any(directive in pattern for directive in ("%z", "%Z", "%:z", "%#z", "%+", "%s")):
        return texts.str.to_datetime(pattern, strict=False, time_unit="us", time_zone="UTC").cast(TIMESTAMP)
    return _to_utc(texts.str.to_datetime(pattern, strict=False, time_unit="us"), zone)


# Numbers that are dates by their digits, from the year 1900 to 2199: how many digits of 17 they lack.
_CALENDAR = {9: (19000101, 21991232), 5: (190001010000, 219912312360), 3: (19000101 * 10**6, 21991232 * 10**6),
             0: (19000101 * 10**9, 21991232 * 10**9)}  # fmt: skip
_DAYS = (25569, 73051)  # a spreadsheet's days from 1970 to 2099


def _parse_numbers(values: pl.Series, zone: str) -> pl.Series:
    if values.dtype.is_integer() and values.dtype != pl.UInt64:
        values = values.cast(pl.Int64)  # the bounds fit into no narrower type
    epoch = _parse_epoch(values)
    plain = (values >= 10**8) & ~_any(values.is_between(*bounds, closed="left") for bounds in _CALENDAR.values())
    if plain.fill_null(True).all():
        return epoch
    whole = _to_integers(values) if values.dtype.is_float() else values.cast(pl.Int64, strict=False)
    result = epoch.set((values < 10**8).fill_null(False), None)
    for lacking, bounds in _CALENDAR.items():
        here = values.is_between(*bounds, closed="left").fill_null(False)
        if not here.any():
            continue
        digits = (whole.set(~here, None) * 10**lacking).cast(pl.String)
        written = digits.str.slice(0, 14) + "." + digits.str.slice(14)
        clock = written.str.to_datetime("%Y%m%d%H%M%S%.f", strict=False, time_unit="us")
        result = result.zip_with(~here, _to_utc(clock, zone))
    days = values.is_between(*_DAYS, closed="left").fill_null(False)
    if days.any():
        millis = ((values.set(~days, None).cast(pl.Float64) - _DAYS[0]) * 86_400_000).round().cast(pl.Int64)
        result = result.zip_with(~days, _to_utc(millis.cast(pl.Datetime("ms")).dt.cast_time_unit("us"), zone))
    return result.alias(values.name)


def _any(masks: Iterable[pl.Series]) -> pl.Series:
    return reduce(or_, masks)


def _parse_epoch(values: pl.Series) -> pl.Series:
    value = pl.col("t")
    size = value.abs()
    if values.dtype.is_integer():
        frame = values.cast(pl.Int64, strict=False).alias("t").to_frame()
        micros = (
            pl.when(size < 10**11).then(value * 10**6)
            .when(size < 10**14).then(value * 10**3)
            .when(size < 10**17).then(value)
            .otherwise(value // 10**3)
        )  # fmt: skip
    else:
        frame = values.cast(pl.Float64).alias("t").to_frame()
        scale = pl.when(size < 1e11).then(1e6).when(size < 1e14).then(1e3).when(size < 1e17).then(1.0)
        micros = (value * scale.otherwise(1e-3)).round().cast(pl.Int64, strict=False)
    return frame.select(micros.cast(TIMESTAMP).alias(values.name)).to_series()


def _parse_text(values: pl.Series, zone: str, day_first: bool | None) -> pl.Series:
    """Parse the common formats with one call each, the rest by shape."""
    # A batch has one format as a rule: values that are parsed already are not tried again.
    parsed = values.clear().extend_constant(None, values.len()).cast(TIMESTAMP)
    rest = values
    for pattern, parse_format in _FORMATS:
        matches = rest.str.contains(pattern).fill_null(False)
        if matches.any():
            parsed = parsed.zip_with(~matches, parse_format(rest.set(~matches, None), zone))
            rest = rest.set(matches, None)
        if rest.null_count() == rest.len():
            return parsed
    rows = rest.is_not_null().arg_true()
    times = _parse_iso(rest[rows], zone)
    left = times.is_null().arg_true()
    if left.len():
        times = times.scatter(left, _parse_shapes(rest[rows.gather(left)], zone, day_first))
    return parsed.scatter(rows, times)


def _parse_clock(values: pl.Series) -> pl.Series:
    clock = values.str.slice(0, 10) + " " + values.str.slice(11)
    return clock.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")


def _parse_with_offset(values: pl.Series) -> pl.Series:
    clock = values.str.slice(0, 10) + " " + values.str.slice(11)
    return clock.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%#z", strict=False, time_unit="us").cast(TIMESTAMP)


_FORMATS: tuple[tuple[str, Callable[[pl.Series, str], pl.Series]], ...] = (
    (_COMMON, lambda values, _: _parse_with_offset(values.str.strip_chars_end("ZzUTC ") + "+00")),
    (_OFFSET, lambda values, _: _parse_with_offset(values)),
    (_LOCAL, lambda values, zone: _to_utc(_parse_clock(values), zone)),
    (r"^[0-9]{8,18}$", lambda values, zone: _parse_numbers(values.cast(pl.Int64, strict=False), zone)),
)


def _parse_iso(values: pl.Series, zone: str) -> pl.Series:
    group = [pl.col("t").str.extract(_ISO, i) for i in range(7)]
    frame = values.alias("t").to_frame().select(
        "t",
        clock=pl.format(
            "{} {}{}", group[1], group[2].fill_null("00:00"), group[3].fill_null(":00")
        ).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us"),
        offset=pl.when(group[4].is_not_null()).then(pl.lit("+00")).otherwise(group[5]),
        minutes=group[6].fill_null("00"),
    )  # fmt: skip
    ahead = pl.col("offset").str.slice(1).cast(pl.Int64) * 60 + pl.col("minutes").cast(pl.Int64)
    signed = pl.when(pl.col("offset").str.starts_with("-")).then(-ahead).otherwise(ahead)
    local = _to_utc(frame["clock"], zone)
    return frame.select(
        pl.when(pl.col("offset").is_null())
        .then(local)
        .otherwise(pl.col("clock").dt.replace_time_zone("UTC") - pl.duration(minutes=signed))
        .alias(values.name)
    ).to_series()


def _parse_shapes(values: pl.Series, zone: str, day_first: bool | None) -> pl.Series:
    distinct = values.unique()
    read = date_shapes.read(distinct, day_first)
    clock, offset = read["clock"], read["offset"]
    times = read.select(pl.col("clock") - pl.duration(minutes="offset")).to_series()
    times = times.dt.replace_time_zone("UTC")
    for place in read["zone"].unique():
        known = zone if place is None else place if place in available_timezones() else None
        here = read["zone"].eq_missing(pl.Series([place], dtype=pl.String)) & offset.is_null()
        local = _to_utc(clock, known) if known else times.clear().extend_constant(None, times.len())
        times = times.zip_with(~here, local)
    digits = to_ascii(distinct)
    digits = digits.set(~digits.str.contains(_NUMBER).fill_null(False), None)
    if digits.null_count() < digits.len():
        whole = _parse_numbers(digits.cast(pl.Int64, strict=False), zone)
        decimals = digits.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
        fraction = _parse_numbers(decimals, zone)
        numbers = whole.zip_with(whole.is_not_null(), fraction)
        times = times.zip_with(digits.is_null(), numbers)
    pairs = pl.DataFrame({"text": distinct, "at": times})
    return values.alias("text").to_frame().join(
        pairs, on="text", how="left", maintain_order="left", nulls_equal=True
    )["at"].alias(values.name)  # fmt: skip
