"""Currency: amounts of one log are in one currency, so that sums mean something.

The log's currency is the one that the first ingest states, or the only one that its purchases and refunds are in.
Amounts in another are converted by the rates given. Without a rate a purchase or refund is rejected; the price of
another event, or of the catalog, becomes unknown. Amounts without a currency are taken as in the log's.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from features.common.counts import count
from features.common.currencies import currency_code
from features.common.errors import InputError
from features.event_log.schema import Rule

NO_RATE = "no_rate_for_currency"
_CODE = re.compile(r"[A-Z]{3}")
_SALE = ["purchase", "refund"]


@dataclass(frozen=True)
class Currency:
    """The currency of a log, None where it is not known yet, and what one unit of others is worth in it."""

    code: str | None = None
    rates: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def build(cls, code: str | None, rates: Mapping[str, float]) -> "Currency":
        """Check what a person wrote. Raises `InputError`."""
        for text in (*([code] if code else []), *rates):
            if not _CODE.fullmatch(normalize_code(text)):
                raise InputError(f"{text!r} is no currency; write its code of three letters, as EUR")
        if bad := [c for c, rate in rates.items() if not 0 < rate < float("inf")]:
            raise InputError(f"the rate of {bad[0]} is {rates[bad[0]]}; write what 1 {bad[0]} is worth, above 0")
        return cls(normalize_code(code) if code else None, {normalize_code(c): float(r) for c, r in rates.items()})

    def convert(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Write codes as they are written here, and convert what has a rate; `rows` has `price` and `currency`."""
        codes = find_currencies(rows)
        written = {c: normalize_code(c) for c in codes}
        if any(theirs != ours for theirs, ours in written.items()):
            rows = rows.with_columns(pl.col("currency").replace(written))
        rates = {c: r for c, r in self.rates.items() if c in written.values() and c != self.code}
        if not rates or self.code is None:
            return rows
        rate = pl.col("currency").replace_strict(rates, default=None, return_dtype=pl.Float64)
        return rows.with_columns(
            pl.when(rate.is_not_null()).then(pl.col("price") * rate).otherwise("price").alias("price"),
            pl.when(rate.is_not_null()).then(pl.lit(self.code)).otherwise("currency").alias("currency"),
        )

    def is_foreign(self) -> pl.Expr:
        """True where an amount, after `convert`, is in another currency than the log's."""
        return (pl.col("currency") != (self.code or "")).fill_null(False) & pl.lit(self.code is not None)

    def rule(self) -> Rule:
        """The rule that purchases and refunds break for which there is no rate, after `convert`."""
        return Rule(NO_RATE, self.is_foreign() & is_sale())

    def forget_foreign(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Make the price unknown where it is in another currency, after `convert`."""
        if self.code is None or not (set(find_currencies(rows)) - {self.code}):
            return rows
        known = ~self.is_foreign()
        return rows.with_columns(pl.when(known).then(c).alias(c) for c in ("price", "currency"))


def is_sale() -> pl.Expr:
    """True for purchases and refunds, whose amounts are added up."""
    return pl.col("name").cast(pl.String).is_in(_SALE)


def normalize_code(text: str) -> str:
    """A currency as three capital letters; as it is written where it names no single one."""
    return currency_code(text) or text.strip()


def find_currencies(rows: pl.DataFrame) -> list[str]:
    """The distinct currencies of `rows`, as they are written."""
    column = rows["currency"]
    if column.null_count() == column.len():
        return []
    first = column[0]
    if first is not None and (column == first).all():  # one for all, as a rule: faster than to look for others
        return [first]
    return column.drop_nulls().unique().to_list()


def count_currencies(rows: pl.DataFrame) -> tuple[Counter[str], Counter[str]]:
    """Rows with a price per currency, after `convert`: those of purchases and refunds, and those of other events."""
    priced = pl.col("price").is_not_null() & pl.col("currency").is_not_null()
    # Only these columns: to filter takes a copy of each.
    counts = rows.lazy().filter(priced).group_by("currency", "name").len().with_columns(sale=is_sale()).collect()
    sales, others = Counter[str](), Counter[str]()
    for code, _, n, sale in counts.iter_rows():
        (sales if sale else others)[code] += n
    return sales, others


def establish(sales: Counter[str], others: Counter[str]) -> str | None:
    """The log's currency after a first ingest with these rows of sales and of other events.

    Raises `InputError` for sales in several. Other events in several currencies establish none.
    """
    if len(sales) > 1:
        counts = ", ".join(
            f"{count(n, 'row')} in {code}" for code, n in sorted(sales.items(), key=lambda c: (-c[1], c[0]))
        )
        first, *rest = sorted(sales, key=lambda c: (-sales[c], c))
        rates = " ".join(f"--rate {code}=…" for code in sorted(rest))
        mapping = f"`currency: {first}` and `rates: {{{', '.join(f'{code}: …' for code in sorted(rest))}}}`"
        raise InputError(
            f"purchases and refunds are in several currencies ({counts}), and a log has one: their sum would mean "
            f"nothing. Write `--currency {first} {rates}`, or {mapping} in the mapping, with what 1 {rest[0]} is worth "
            f"in {first}; rows without a rate are then rejected as {NO_RATE}"
        )
    if sales:
        return next(iter(sales))
    return next(iter(others)) if len(others) == 1 else None


def describe_forgotten(forgotten: Counter[str], code: str) -> str:
    """Say which prices became unknown."""
    counts = ", ".join(f"{n:,} in {c}" for c, n in sorted(forgotten.items()))
    return f"prices of events other than purchases and refunds, {counts}, are unknown now: the log is in {code}"
