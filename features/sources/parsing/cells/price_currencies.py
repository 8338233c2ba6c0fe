"""Currencies of prices: what a price's own cell says, what the currency column says, and where these do not agree."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from features.common import currencies
from features.event_log.schema import Rule


@dataclass
class PriceCurrencies:
    """The codes, null for the log's currency; None where no cell says any."""

    codes: pl.Series | None = None
    rules: list[Rule] = field(default_factory=list)
    open_signs: int = 0
    """Prices of which only a sign of several currencies is known."""


def find(
    prices: pl.Series | None,
    column: pl.Series | None,
    beside: pl.Series | None,
    signs: Sequence[pl.Series | None],
    target: str | None,
) -> PriceCurrencies:
    """Find the currencies of `prices` from their `column`, from the codes `beside` them and from `signs` such as $.

    A code beside a price that is not its column's breaks the rule `bad_currency`. A sign is the column's currency or
    `target`, the mapping's, if it may stand for it; else the row breaks `bad_currency` or `no_rate_for_currency`.
    """
    parsed = PriceCurrencies(column)
    if prices is None:
        return parsed
    priced = prices.is_not_null()
    if beside is not None and beside.null_count() < beside.len():
        if column is not None:
            _add_rule(
                parsed, "bad_currency", priced & beside.is_not_null() & column.is_not_null() & ~_fit(beside, column)
            )
            beside = column.zip_with(column.is_not_null(), beside)
        parsed.codes = beside.alias("currency")
    for sign in signs:
        if sign is None or sign.null_count() == sign.len():
            continue
        code = parsed.codes if parsed.codes is not None else pl.repeat(None, sign.len(), dtype=pl.String, eager=True)
        signed = priced & sign.is_not_null()
        _add_rule(parsed, "bad_currency", signed & code.is_not_null() & ~_fit(sign, code))
        unknown = signed & code.is_null()
        if target is None:
            parsed.open_signs += int(unknown.sum())
        else:
            goal = pl.repeat(target, sign.len(), dtype=pl.String, eager=True)
            _add_rule(parsed, "no_rate_for_currency", unknown & ~_fit(sign, goal))
    return parsed


def _add_rule(parsed: PriceCurrencies, reason: str, broken: pl.Series) -> None:
    if broken.any():
        parsed.rules.append(Rule(reason, pl.lit(broken)))


def _fit(signs: pl.Series, codes: pl.Series) -> pl.Series:
    """Whether each sign, or code that was read from one, may stand for the code of its row."""
    pairs = pl.DataFrame([signs.alias("sign"), codes.alias("code")])
    distinct = pairs.unique().drop_nulls()
    fits = [currencies.may_stand_for(sign, code) for sign, code in distinct.iter_rows()]
    known = distinct.with_columns(fits=pl.Series(fits, dtype=pl.Boolean))
    return pairs.join(known, on=["sign", "code"], how="left", maintain_order="left")["fits"].fill_null(False)
