"""Profiles: what the cells of a column look like, whatever its name says."""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from features.common import currencies
from features.event_log.ingestion.event_names import nearest_name
from features.event_log.schema import EVENT_NAMES
from features.sources.parsing.cells import coerce, numbers, pii, timestamps

MOST_NAMES = 200  # distinct values that are looked up as event names
_SOONEST, _LATEST = datetime(1995, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


_PERSON = r"^\pL[\pL.'’-]*(?:,? \pL[\pL.'’-]*)+(?: \([^()]+\))?$"  # Ann Hill, Hill, Ann; Etsy: Ann Hill (annhill7)


@dataclass(frozen=True)
class Profile:
    """Shares are of the filled cells, 0–1."""

    name: str
    rows: int
    filled: int
    distinct: int
    times: float = 0.0  # that are dates or times
    numbers: float = 0.0
    negative: float = 0.0
    addresses: float = 0.0  # e-mail
    currencies: float = 0.0
    events: float = 0.0  # names that are, or are probably meant for, one of the log's
    available: float = 0.0  # that say whether an item can be bought
    texts: float = 0.0  # that hold a letter
    numbered: float = 0.0  # such as #1001, as orders are numbered
    people: float = 0.0  # that are several words without a digit, as the names of people
    clocks: float = 0.0  # that are times of day, without a date
    dates: float = 0.0  # that are dates without a time
    values: tuple[tuple[str, int], ...] = ()  # the most frequent and how often, of a column of few
    typed_time: bool = False

    @property
    def empty(self) -> int:
        return self.rows - self.filled


def profile(cells: pl.Series) -> Profile:
    """Profile a column of a sample."""
    plain = cells.filter(coerce.is_filled(cells))
    if isinstance(cells.dtype, pl.List | pl.Struct | pl.Array | pl.Duration | pl.Object | pl.Binary):
        return Profile(cells.name, cells.len(), plain.len(), 0)
    texts = plain.cast(pl.String, strict=False).str.strip_chars()
    n = max(plain.len(), 1)
    distinct = texts.unique().drop_nulls()
    counts = texts.alias("value").value_counts().sort("count", "value", descending=[True, False])
    amounts = numbers.parse(plain, ".")
    values = tuple(counts.head(MOST_NAMES).iter_rows()) if distinct.len() <= MOST_NAMES else ()
    known = sum(c for value, c in values if value in EVENT_NAMES or nearest_name(value))
    return Profile(
        name=cells.name,
        rows=cells.len(),
        filled=plain.len(),
        distinct=distinct.len(),
        times=_time_share(plain) if plain.len() else 0.0,
        numbers=amounts.count() / n,
        negative=int((amounts < 0).sum()) / n,
        addresses=int(texts.str.contains(pii.WHOLE_ADDRESS).sum()) / n,
        currencies=_currency_share(counts) / n,
        events=known / n,
        available=coerce.parse_availability(plain).count() / n,
        texts=int(texts.str.contains(r"\pL").sum()) / n,
        numbered=int(texts.str.contains(r"^#\s?\w*\d+$").sum()) / n,
        people=int(texts.str.contains(_PERSON).sum()) / n,
        clocks=int(texts.str.contains(r"^\d{1,2}:\d{2}(?::\d{2})?(?: ?[AaPp][Mm])?$").sum()) / n,
        dates=int((~texts.str.contains(r"\d:\d")).sum()) / n if texts.len() else 0.0,
        values=values,
        typed_time=plain.dtype.is_temporal(),
    )


def _time_share(cells: pl.Series) -> float:
    read = [timestamps.parse(cells, day_first=order) for order in (True, False)]
    return max(int(times.is_between(_SOONEST, _LATEST).sum()) for times in read) / cells.len()


def _currency_share(counts: pl.DataFrame) -> int:
    if counts.height > 60:
        return 0
    known = currencies.parse_currency(counts["value"])
    return int(counts.filter(known.is_in(_CODES))["count"].sum())


# Of most shops; any three letters may be a code.
_CODES = (
    "EUR", "USD", "GBP", "CHF", "JPY", "CNY", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "RON", "BGN", "TRY", "UAH",
    "RUB", "CAD", "AUD", "NZD", "BRL", "MXN", "ARS", "CLP", "COP", "PEN", "INR", "IDR", "MYR", "SGD", "HKD", "KRW",
    "TWD", "THB", "PHP", "VND", "ZAR", "AED", "SAR", "ILS", "EGP", "NGN", "KES", "MAD", "ISK", "HRK", "RSD",
)  # fmt: skip
