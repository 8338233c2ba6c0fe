"""Date shapes: dates and times as people, spreadsheets and programs write them, told apart by their shape.

A date in numbers with the year last, such as 05/01/2026, may have the day or the month first. Where one of the two is
greater than 12, or both are equal, the cell says it by itself; else the column's decision counts. 26-01-05 may even
have the year first, so it never says it by itself.
"""

import polars as pl

from features.sources.parsing.cells.characters import to_ascii

_SEPARATOR = r"(?:[Tt_:]|,? ?at |, ?| )"
_TIME = (
    rf"(?:{_SEPARATOR}(?P<hour>[0-9]{{1,2}})[:.](?P<minute>[0-9]{{2}})"
    r"(?:[:.](?P<second>[0-9]{2})(?:[.,:](?P<fraction>[0-9]{1,9}))?)?(?: ?(?P<half>[AaPp])\.? ?[Mm]\.?)?)?"
)
_COMPACT_TIME = (
    rf"(?:{_SEPARATOR}(?P<hour>[0-9]{{2}}):?(?P<minute>[0-9]{{2}})"
    r"(?::?(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?)?"
)
_ZONE = (
    r" ?(?:(?P<utc>[Zz]|UTC|GMT|UT)? ?(?:(?P<sign>[+-])(?P<hours>[0-9]{1,2}):?(?P<minutes>[0-9]{2})?)?)?"
    r"(?: ?(?P<zone>[A-Za-z][A-Za-z_]*/[A-Za-z_/+-]+[0-9]*|[A-Z]{3,4}))?"
    r"(?: ?\[(?P<bracket>[A-Za-z_/+-]+)\])?(?: ?\([^()]*\))?$"
)
_WEEKDAY = r"^(?:\p{L}{2,10}\.?,? )?"
_DAY = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th|\.|º)?"
_MONTH = r"(?P<name>\p{L}{3,11})\.?"
_YMD = r"^(?P<year>[0-9]{4})(?P<cut>[-/.]) ?(?P<month>[0-9]{1,2})(?P<cut_2>[-/.]) ?(?P<day>[0-9]{1,2})\.?"
_YEAR_LAST = (
    r"^(?P<first>[0-9]{1,2})(?P<cut>[-/.]) ?(?P<then>[0-9]{1,2})(?P<cut_2>[-/.]) ?(?P<year>[0-9]{4}|[0-9]{2})"
    + _TIME + _ZONE
)  # fmt: skip
_SHAPES = (
    _YMD + _TIME + _ZONE,
    _YEAR_LAST,
    rf"{_WEEKDAY}{_DAY}[ /-]?(?:de |of )?{_MONTH},?[ /-]?(?:de )?(?P<year>[0-9]{{4}}|[0-9]{{2}})" + _TIME + _ZONE,
    rf"{_WEEKDAY}{_MONTH}[ /-]{_DAY},?[ /-](?P<year>[0-9]{{4}})" + _TIME + _ZONE,
    rf"{_WEEKDAY}{_MONTH} {_DAY}{_TIME}(?: (?P<zone>[A-Z]{{3,4}}))? (?P<year>[0-9]{{4}})$",
    r"^(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})" + _COMPACT_TIME + _ZONE,
)
_PARTS = (
    "year", "month", "day", "first", "then", "cut", "cut_2", "name", "hour", "minute", "second", "fraction", "half",
    "utc", "sign", "hours", "minutes", "zone", "bracket",
)  # fmt: skip

_MONTH_NAMES = (
    "january jan januar jänner janvier janv enero ene gennaio gen januari janeiro stycznia",
    "february feb februar février févr fév febrero febbraio februari fevereiro fev lutego",
    "march mar märz mär mrz mars marzo maart mrt março marca",
    "april apr avril avr abril abr aprile kwietnia",
    "may mai mayo maggio mag mei maio maj maja",
    "june jun juni juin junio giugno giu junho czerwca",
    "july jul juli juillet juil julio luglio lug julho lipca",
    "august aug août aoû agosto ago augustus augusti sierpnia",
    "september sep sept septembre septiembre settembre set setembro września",
    "october oct oktober okt octobre octubre ottobre ott outubro out października",
    "november nov novembre noviembre novembro listopada",
    "december dec dezember dez décembre déc diciembre dic dicembre dezembro desember grudnia",
)
_MONTHS = {name: f"{n:02}" for n, names in enumerate(_MONTH_NAMES, start=1) for name in names.split()}
# Abbreviations with one meaning, in minutes ahead of UTC; most others, as PST or IST, have several.
_ABBREVIATIONS = {
    "UTC": 0, "GMT": 0, "WET": 0, "WEST": 60, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180, "EST": -300, "MST": -420,
    "HST": -600,
}  # fmt: skip


# Two digits and hyphens: 26-01-05 is in January 2026 for some, in January 2005 for others.
_YEAR_ANYWHERE = (
    (pl.col("cut") == "-")
    & (pl.col("year").str.len_bytes() == 2)
    & pl.col("year").cast(pl.Int16, strict=False).is_between(1, 31)
).fill_null(False)


def read(texts: pl.Series, day_first: bool | None) -> pl.DataFrame:
    """Read `texts`: the time on the clock, its offset from UTC in minutes where it has one, and else its zone.

    Columns: clock (datetime in microseconds, null where a text is no time, or is ambiguous and `day_first` is None),
    offset, zone.
    """
    part = _split(texts)
    first, then = pl.col("first").cast(pl.Int16), pl.col("then").cast(pl.Int16)
    clear = (
        pl.when(_YEAR_ANYWHERE).then(pl.lit(day_first, pl.Boolean))
        .when(first > 12).then(True).when(then > 12).then(False).when(first == then).then(True)
    )  # fmt: skip
    leads = first.is_not_null() & clear.otherwise(pl.lit(day_first, pl.Boolean))
    follows = first.is_not_null() & ~leads
    hour = pl.col("hour").fill_null("0").cast(pl.Int16)
    afternoon = pl.when(pl.col("half").str.to_lowercase() == "p").then(12).otherwise(0)
    on_clock = pl.when(pl.col("half").is_null()).then(hour).when(hour.is_between(1, 12)).then(hour % 12 + afternoon)
    year = pl.col("year")
    century = pl.when(year.cast(pl.Int16) < 70).then(pl.lit("20")).otherwise(pl.lit("19"))
    parts = part.with_columns(
        pl.when(leads).then("first").when(follows).then("then").otherwise("day").alias("day"),
        pl.when(leads).then("then").when(follows).then("first").otherwise("month").alias("month"),
        pl.when(year.str.len_bytes() == 4).then(year).otherwise(century + year).alias("year"),
        on_clock.alias("hour"),
        pl.col("second", "minute").fill_null("00"),
        pl.col("fraction").fill_null("0"),
        (pl.col("cut") == pl.col("cut_2")).fill_null(True).alias("even"),
    )
    written = pl.format(
        "{}-{}-{} {}:{}:{}.{}", *(pl.col(c) for c in ("year", "month", "day", "hour", "minute", "second", "fraction"))
    )
    clock = written.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
    ahead = pl.col("hours").cast(pl.Int32) * 60 + pl.col("minutes").fill_null("00").cast(pl.Int32)
    named = pl.col("zone").replace_strict(_ABBREVIATIONS, default=None, return_dtype=pl.Int32)
    offset = (
        pl.when(ahead.is_not_null()).then(pl.when(pl.col("sign") == "-").then(-ahead).otherwise(ahead))
        .when(pl.col("utc").is_not_null()).then(0)
        .otherwise(named)
    )  # fmt: skip
    place = pl.coalesce(pl.when(named.is_null()).then("zone"), "bracket")
    result = parts.select("even", "minutes", "sign", clock=clock, offset=offset, zone=place)
    valid = (
        pl.col("even")
        & (pl.col("offset").abs() <= 18 * 60).fill_null(True)
        & (pl.col("minutes").cast(pl.Int16) < 60).fill_null(True)
        # 2026-01-05-06 may be an hour.
        & ~(pl.lit(part["hour"].is_null()) & pl.col("sign").is_not_null() & pl.col("minutes").is_null())
        # An offset, and a zone that may contradict it.
        & ~(pl.col("offset").is_not_null() & pl.lit(part["zone"].str.contains("/", literal=True).fill_null(False)))
    )
    local = pl.when(pl.col("offset").is_null()).then("zone")
    return result.select(pl.when(valid).then("clock").alias("clock"), "offset", local.alias("zone"))


def day_and_month(texts: pl.Series) -> pl.DataFrame:
    """Select the numbers `first` and `then` of those `texts` that are dates in numbers with the year last."""
    part = to_ascii(texts).str.extract_groups(_YEAR_LAST).struct.unnest()
    numbers = part.filter(pl.col("cut") == pl.col("cut_2"), ~_YEAR_ANYWHERE).select(
        pl.col("first", "then").cast(pl.Int16)
    )
    return numbers.filter(pl.all_horizontal(pl.all().is_between(1, 31)), pl.any_horizontal(pl.all() <= 12))


def is_ambiguous(texts: pl.Series) -> pl.Series:
    """Whether each text is a date in numbers whose day and month cannot be told apart."""
    part = to_ascii(texts).str.extract_groups(_YEAR_LAST).struct.unnest()
    first, then = pl.col("first").cast(pl.Int16), pl.col("then").cast(pl.Int16)
    low = first.is_between(1, 12) & then.is_between(1, 12) & (first != then)
    either = (low | _YEAR_ANYWHERE) & (pl.col("cut") == pl.col("cut_2"))
    return part.select(either.fill_null(False)).to_series()


def _split(texts: pl.Series) -> pl.DataFrame:
    """Split each text by the first shape it has into the columns `_PARTS`, nulls where it has none."""
    plain = to_ascii(texts)
    if (plain.str.len_bytes() != plain.str.len_chars()).any():
        plain = plain.str.replace_many(["年", "月", "日", "  "], ["-", "-", "", " "])
    plain = plain.str.replace_all("  ", " ", literal=True).str.replace(r"^(\d{4}-\d{1,2}-\d{1,2}) $", "$1")
    parts_by_row = pl.DataFrame({c: pl.Series([None], dtype=pl.String).new_from_index(0, len(plain)) for c in _PARTS})
    rest = plain
    for shape in _SHAPES:
        part = rest.str.extract_groups(shape).struct.unnest()
        hit = part["year"].is_not_null()
        if not hit.any():
            continue
        absent = [pl.lit(None, pl.String).alias(c) for c in _PARTS if c not in part.columns]
        part = part.with_columns(absent).select(_PARTS)
        parts_by_row = parts_by_row.select(c.zip_with(~hit, part[c.name]) for c in parts_by_row)
        rest = rest.set(hit, None)
        if rest.null_count() == len(rest):
            break
    month = pl.col("name").str.to_lowercase().replace_strict(_MONTHS, default=None, return_dtype=pl.String)
    return parts_by_row.with_columns(pl.coalesce("month", month).alias("month"))
