"""Checks of time: the span of the log, its gaps and its end, and clocks that were read wrongly."""

from datetime import date, timedelta

import numpy as np
import polars as pl

from features.checks.facts import Facts
from features.checks.finding import Finding, count, part, quote
from features.common import clock
from features.common.clock import DAY, HOUR

EPOCH = date(1970, 1, 1)
LONG_GAP_DAYS = 14
EXPECTED = 10.0  # events or orders on a day that has none: by chance once in 22,000 such days
ENOUGH_DAYS = 28
ENOUGH_EVENTS = 2_000
NIGHT_HOURS = 6
# Hours from UTC of where most people of a country live, in winter.
OFFSETS = {
    "GB": 0, "UK": 0, "IE": 0, "PT": 0, "DE": 1, "FR": 1, "IT": 1, "ES": 1, "NL": 1, "BE": 1, "AT": 1, "CH": 1, "PL": 1,
    "CZ": 1, "DK": 1, "SE": 1, "NO": 1, "HU": 1, "FI": 2, "GR": 2, "RO": 2, "UA": 2, "ZA": 2, "TR": 3, "SA": 3, "AE": 4,
    "IN": 5.5, "CN": 8, "HK": 8, "SG": 8, "JP": 9, "KR": 9, "NZ": 12, "AR": -3, "CO": -5, "PE": -5,
    "UNITED KINGDOM": 0, "IRELAND": 0, "PORTUGAL": 0, "GERMANY": 1, "FRANCE": 1, "ITALY": 1, "SPAIN": 1,
    "NETHERLANDS": 1, "BELGIUM": 1, "AUSTRIA": 1, "SWITZERLAND": 1, "POLAND": 1, "DENMARK": 1, "SWEDEN": 1, "NORWAY": 1,
    "FINLAND": 2, "GREECE": 2, "TURKEY": 3, "INDIA": 5.5, "CHINA": 8, "SINGAPORE": 8, "JAPAN": 9,
}  # fmt: skip


def check_isolated(facts: Facts) -> list[Finding]:
    """Whether a few events lie far before or after all others."""
    body = facts.body
    if body is None:
        return []
    first, last, events = _date(body.first), _date(body.last), body.before + body.after
    outside = facts.days.filter(~pl.col("day").is_between(body.first, body.last))["day"]
    # Whatever lies behind the end becomes the hold-out; before the start it only makes histories long.
    stretched = body.first - outside[0] > 365
    return [
        Finding(
            "isolated_times",
            "stop" if body.after or stretched else "warn",
            f"{count(events, 'event')} of {facts.rows:,} {'lies' if events == 1 else 'lie'} far off all others, which "
            f"are from {first} to {last}.",
            f"correct the dates, or {_leave_out(facts)}"
            + (f"; `--until {last + timedelta(days=1)}` trains on what came before" if body.after else ""),
            f"an event on {_date(outside[-1] if body.after else outside[0])}",
            {"events": events, "first": str(first), "last": str(last)},
        )
    ]


def _leave_out(facts: Facts) -> str:
    if facts.log.info["all_times"]:
        return "ingest any of its files again with `--no-all-times`, which sets these rows aside"
    return "ingest the log again and leave these rows out"


def check_future(facts: Facts) -> list[Finding]:
    """Whether events lie after the present."""
    future = facts.hours.filter(pl.col("hour") > clock.now() // HOUR + 24)  # a zone is at most a day ahead
    if future.is_empty():
        return []
    events = int(future["events"].sum())
    return [
        Finding(
            "future",
            "stop" if events > facts.rows / 2 else "warn",
            f"{part(events, facts.rows, 'event')} of a time that is yet to come.",
            "correct the clock or the date format (`dates: day first`) and ingest again, or set `--as-of`",
            f"an event on {_date(future['hour'][-1] // 24)}",
            {"events": events},
        )
    ]


def check_set_aside(facts: Facts) -> list[Finding]:
    """Whether the ingest set isolated ends of time aside."""
    span = facts.log.info["span"]
    if not span:
        return []
    aside = int(span["rows_before"] + span["rows_after"])
    return [
        Finding(
            "times_set_aside",
            "info",
            f"{count(aside, 'event')} far off all others in time {'is' if aside == 1 else 'are'} set aside: "
            f"{span['rows_before']:,} before {span['first'][:10]}, {span['rows_after']:,} after {span['last'][:10]}.",
            "correct the dates at their source; if they are right, ingest again with `--all-times`",
            numbers={"events": aside, "before": span["rows_before"], "after": span["rows_after"]},
        )
    ]


def check_gaps(facts: Facts) -> list[Finding]:
    """Whether days are missing, of all events or of orders alone, that such days usually have."""
    findings = []
    totals = count_days(facts, None)
    if (gap := _longest_gap(totals)) is not None:
        length = gap[1] - gap[0]
        findings.append(
            Finding(
                "gap",
                "warn" if length > LONG_GAP_DAYS else "info",
                f"There are no events from {_date(facts.days['day'][0] + gap[0])} on for {length} days, which usually "
                f"have {count(round(float(np.median(totals[totals > 0]))), 'event')} each.",
                "if the shop was open, an export is missing: ingest it",
                numbers={"days": length, "first": str(_date(facts.days["day"][0] + gap[0]))},
            )
        )
    orders = count_days(facts, "purchase")
    silent = _unlikely_zero(orders) & (totals > 0)
    if silent.any():
        first = _date(facts.days["day"][0] + int(np.flatnonzero(silent)[0]))
        findings.append(
            Finding(
                "days_without_orders",
                "warn" if silent.sum() >= 3 else "info",
                f"{count(int(silent.sum()), 'day')} {'has' if silent.sum() == 1 else 'have'} events but no order, "
                f"where {count(round(float(np.median(orders[orders > 0]))), 'order line')} are usual.",
                "ask whether orders were tracked on these days, and ingest them from the shop's database",
                f"{first}",
                {"days": int(silent.sum()), "first": str(first)},
            )
        )
    return findings


def check_ends(facts: Facts) -> list[Finding]:
    """Whether one kind of event ends long before the others, or begins long after."""
    findings = []
    begin, end = facts.days["day"][0] * 24, facts.end // HOUR
    for name, n in facts.names.items():
        hours = facts.hours.filter(pl.col("name") == name, pl.col("hour") < end)["hour"]
        if n < 100 or hours.is_empty():
            continue
        steps = np.diff(hours.to_numpy())
        usual = max(float(steps.max()) if len(steps) else 0.0, 24.0)  # its longest silence between two of its own
        for code, silence, verb, when in (
            ("ends_early", end - 1 - hours[-1], "ends", hours[-1]),
            ("begins_late", hours[0] - begin, "begins", hours[0]),
        ):
            if silence <= max(3 * usual, 7 * 24):
                continue
            findings.append(
                Finding(
                    code,
                    "warn" if name in ("purchase", "view_item") and code == "ends_early" else "info",
                    f"{name} {verb} on {_date(when // 24)}, {silence // 24:,} days "
                    f"{'before' if verb == 'ends' else 'after'} the log.",
                    f"ingest what is missing of {name}, or look only at the time that has all kinds of events",
                    numbers={"name": name, "days": int(silence // 24), "at": str(_date(when // 24))},
                )
            )
    return findings


def check_hours(facts: Facts) -> list[Finding]:
    """Whether people seem to shop at night, as where times were read in the wrong time zone."""
    hours = facts.hours.group_by(hour=pl.col("hour") % 24).agg(pl.col("events").sum())
    profile = np.zeros(24)
    profile[hours["hour"].to_numpy()] = hours["events"].to_numpy()
    total = profile.sum()
    if total < ENOUGH_EVENTS:
        return []
    if profile.max() == total:
        return [
            Finding(
                "days_only",
                "info",
                f"All {facts.rows:,} events are in one hour of the day, {int(profile.argmax()):02d}:00 UTC: the source "
                "says the day only.",
                "what depends on the hour or on the order of events within a day is not known; bring times if you can",
            )
        ]
    windows = np.array([np.roll(profile, -h)[:NIGHT_HOURS].sum() for h in range(24)])
    night = windows.min() / total
    if night > 0.1:  # of a quarter of the day: no clear night
        return []
    quiet = np.flatnonzero(windows <= windows.min() + 0.002 * total)  # several where the shop is shut for long
    countries = facts.countries
    known = {c: n for c, n in countries.items() if c.upper() in OFFSETS}
    country = next(iter(countries), None)
    if country is None or country not in known or known[country] < 0.6 * sum(countries.values()):
        return []
    offset = OFFSETS[country.upper()]
    # People are least active around four in the morning; up to four hours off may be habits of the shop's own.
    middles = (quiet + NIGHT_HOURS / 2 + offset) % 24
    off = (middles - 4 + 12) % 24 - 12
    least = off[np.abs(off).argmin()]
    if abs(least) <= 4:
        return []
    start = int((quiet[np.abs(off).argmin()] + offset) % 24)
    return [
        Finding(
            "night_shoppers",
            "warn",
            f"Most events are from {country}, but the quiet hours there are {start:02d}:00 to "
            f"{(start + NIGHT_HOURS) % 24:02d}:00: times seem to be {abs(round(float(least)))} hours "
            f"{'late' if least > 0 else 'early'}.",
            "write the zone of the source's times in the mapping, as in `timezone: Europe/Berlin`, and ingest again",
            f"{quote(country)} is UTC{offset:+g}",
            {"hours_off": round(float(least), 1), "share_in_quiet_hours": round(float(night), 4)},
        )
    ]


def count_days(facts: Facts, name: str | None) -> np.ndarray:
    """int64[days]: events of `name` (None: all) on each day of the log that is not isolated at its end."""
    hours = facts.hours if name is None else facts.hours.filter(pl.col("name") == name)
    first, last = int(facts.days["day"][0]), (facts.end - 1) // DAY
    rows = hours.group_by(day=pl.col("hour") // 24).agg(pl.col("events").sum()).filter(pl.col("day") <= last)
    counts = np.zeros(last - first + 1, np.int64)
    counts[rows["day"].to_numpy() - first] = rows["events"].to_numpy()
    return counts


def _unlikely_zero(counts: np.ndarray) -> np.ndarray:
    """bool[days]: nothing on that day, though the same weekday of the four weeks around usually has `EXPECTED`."""
    if len(counts) < ENOUGH_DAYS:
        return np.zeros(len(counts), bool)
    around = np.full((8, len(counts)), np.nan)
    for n, weeks in enumerate((-4, -3, -2, -1, 1, 2, 3, 4)):
        shift = 7 * weeks
        if abs(shift) < len(counts):
            source, target = (
                (slice(shift, None), slice(None, -shift)) if shift > 0 else (slice(None, shift), slice(-shift, None))
            )
            around[n, target] = counts[source]
    result: np.ndarray = (counts == 0) & (np.nanmedian(around, axis=0) >= EXPECTED)
    return result


def _longest_gap(counts: np.ndarray) -> tuple[int, int] | None:
    """Start and end of the longest run of days without events that has at least three unlikely ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (counts == 0).astype(np.int8), [0]])))
    unlikely = _unlikely_zero(counts)
    runs = [(int(start), int(end)) for start, end in edges.reshape(-1, 2) if unlikely[start:end].sum() >= 3]
    return max(runs, key=lambda run: run[1] - run[0], default=None)


def _date(day: int) -> date:
    return EPOCH + timedelta(days=int(day))
