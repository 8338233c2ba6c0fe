"""Timestamps: times in any of the formats that shops export, as microseconds in UTC."""

from collections.abc import Callable

import numpy as np
import polars as pl

from features.event_log.schema import EARLIEST, LATEST, TIMESTAMP

_ISO = (
    r"^(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2})(:\d{2}(?:\.\d+)?)?)?"
    r"\s*(?:([Zz]|UTC|GMT)|([+-]\d{2})(?::?(\d{2}))?)?$"
)
_EPOCH = r"^\d{9,19}(\.\d+)?$"  # fewer digits would be a date written as 20191001
_COMMON = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]| UTC)$"
_OFFSET = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?[+-]\d{2}(?::?\d{2})?$"
_SLASHED = r"^(\d{1,2})[-./](\d{1,2})[-./](\d{4}|\d{2}) (\d{1,2}:\d{2})(:\d{2})?$"

SLASHED_ORDERS = {
    "day first": "%d/%m/%Y %H:%M:%S",
    "month first": "%m/%d/%Y %H:%M:%S",
}


def parse(values: pl.Series, zone: str = "UTC") -> pl.Series:
    """Parse `values` as instants in UTC; null where a value is no time.

    Accepts dates and datetimes of any unit and zone, epoch numbers (seconds, milli-, micro- or
    nanoseconds, told apart by size) and strings: ISO 8601 with or without offset, or epoch digits.
    Times without an offset are local to `zone`: of an hour that clocks repeat the first is taken, a time in an
    hour that they skip is null.
    """
    dtype = values.dtype
    if isinstance(dtype, pl.Datetime):
        micros = values.dt.cast_time_unit("us")
        return micros.dt.convert_time_zone("UTC") if dtype.time_zone else _to_utc(micros, zone)
    if dtype == pl.Date:
        return _to_utc(values.cast(pl.Datetime("us")), zone)
    if dtype.is_numeric():
        return _parse_epoch(values)
    return _parse_text(values.cast(pl.String, strict=False).str.strip_chars(), zone)


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


def _parse_text(values: pl.Series, zone: str) -> pl.Series:
    """Parse the common formats with one call each, the rest value by value."""
    # A batch has one format as a rule: values that are parsed already are not tried again.
    parsed = values.clear().extend_constant(None, values.len()).cast(TIMESTAMP)
    rest = values
    for pattern, parse_format in _FORMATS:
        matches = rest.str.contains(pattern).fill_null(False)
        if matches.any():
            parsed = parsed.zip_with(~matches, parse_format(rest.set(~matches, None)))
            rest = rest.set(matches, None)
        if rest.null_count() == rest.len():
            return parsed
    rows = rest.is_not_null().arg_true()
    return parsed.scatter(rows, _parse_any_format(rest[rows], zone))


def _parse_with_offset(values: pl.Series) -> pl.Series:
    clock = values.str.slice(0, 10) + " " + values.str.slice(11)
    return clock.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%#z", strict=False, time_unit="us").cast(TIMESTAMP)


_FORMATS: tuple[tuple[str, Callable[[pl.Series], pl.Series]], ...] = (
    (_COMMON, lambda values: _parse_with_offset(values.str.strip_chars_end("ZzUTC ") + "+00")),
    (_OFFSET, _parse_with_offset),
    (r"^\d{9,18}$", lambda values: _parse_epoch(values.cast(pl.Int64, strict=False))),
)


def _parse_any_format(values: pl.Series, zone: str) -> pl.Series:
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
    result = frame.select(
        pl.when(pl.col("offset").is_null())
        .then(local)
        .otherwise(pl.col("clock").dt.replace_time_zone("UTC") - pl.duration(minutes=signed))
        .alias(values.name)
    ).to_series()
    digits = values.str.contains(_EPOCH).fill_null(False)
    if not digits.any():
        return result
    whole = _parse_epoch(values.cast(pl.Int64, strict=False))
    fraction = _parse_epoch(values.cast(pl.Float64, strict=False))
    return result.to_frame("r").select(
        pl.when(digits).then(pl.coalesce(whole, fraction)).otherwise(pl.col("r")).alias(values.name)
    ).to_series()  # fmt: skip
