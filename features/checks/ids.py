"""Checks of ids: words that are no ids, ids that a spreadsheet mangled, addresses, and ids that look alike."""

import re
from dataclasses import dataclass
from typing import cast

import polars as pl

from features.checks.facts import Facts
from features.checks.finding import Finding, count, percent, quote
from features.common.ids import SCIENTIFIC, IdKind, placeholder_words

MUCH = 0.01
HEAVY_CUSTOMER = 0.1
ENOUGH_ORDERS = 100
_UNTIDY = r"^\s|\s$|[\x00-\x1f\u00a0\u200b-\u200d\u2060\ufeff]"


@dataclass(frozen=True)
class _Fault:
    code: str
    broken: pl.Expr
    what: str
    advice: str


def check_ids(facts: Facts) -> list[Finding]:
    """Whether ids are ids: per column those that are words for nothing, mangled, untidy, or addresses."""
    return [f for column, ids in _columns(facts).items() for f in _check_column(column, ids)]


def check_heavy_customer(facts: Facts) -> list[Finding]:
    """Whether one customer orders so much that it is an account of many."""
    orders = facts.orders.height
    if orders < ENOUGH_ORDERS or facts.buyers.is_empty():
        return []
    customer, n, revenue = facts.buyers.select("customer_id", "orders", "revenue").row(0)
    if n < HEAVY_CUSTOMER * orders:
        return []
    of_revenue = revenue / facts.revenue if facts.revenue > 0 else 0.0
    return [
        Finding(
            "heavy_customer",
            "warn",
            f"One customer has {percent(n / orders)} of {orders:,} orders and {percent(of_revenue)} of the revenue.",
            "if it is a till, a marketplace or a guest account, name its id in the mapping: "
            "`placeholders: {customer_id: [ID]}`",
            f"customer_id {_show(customer)}",
            {"share": round(n / orders, 4), "orders": n},
        )
    ]


def check_lookalikes(facts: Facts) -> list[Finding]:
    """Ids that differ in nothing but capitals, leading zeros or separators, such as 42 and 00042."""
    items = facts.items.select(id="item_id", weight="events")
    shop = facts.shop_catalog.select(id="item_id", weight=pl.lit(0, pl.UInt32))
    items = pl.concat([items, shop]).group_by("id").agg(pl.col("weight").sum())
    customers = facts.visitors.drop_nulls("customer_id").select(id="customer_id", weight="events")
    findings = []
    for noun, ids, listed in (("item", items, shop["id"]), ("customer", customers, None)):
        alike = find_lookalikes(ids)
        if alike.is_empty():
            continue
        total, wrong = int(ids["weight"].sum()), _count_wrong(alike, listed)
        first = alike.sort("weight", "id", descending=[True, False])["plain"][0]
        pair = alike.filter(pl.col("plain") == first).sort("id")["id"].to_list()[:3]
        groups = alike["plain"].n_unique()
        findings.append(
            Finding(
                f"lookalike_{noun}s",
                "warn" if wrong > MUCH * total else "info",
                f"{count(alike.height, f'{noun} id')} differ from another one in nothing but capitals, leading zeros "
                f"or separators ({count(groups, 'group')}); {percent(wrong / total if total else 0.0)} of "
                f"{count(total, 'event')} may be on the wrong one.",
                "if they are the same, write them alike in all sources and ingest again",
                " and ".join(_show(value) for value in pair),
                {"share": round(wrong / total if total else 0.0, 4), "ids": alike.height, "groups": groups},
            )
        )
    return findings


def find_lookalikes(ids: pl.DataFrame) -> pl.DataFrame:
    """Of rows with id and weight those whose id, written plainly (column `plain`), is that of another row too.

    `cased` is the same without regard to leading zeros and separators alone.
    """
    cased = pl.col("id").str.replace(r"\.0+$", "").str.replace_all(r"[\s_./#-]+", "-").str.strip_chars("-")
    cased = cased.str.replace(r"^0+([0-9])", "$1")
    marked = ids.with_columns(cased=cased, plain=cased.str.to_lowercase()).filter(pl.col("plain") != "")
    return marked.filter(pl.col("plain").count().over("plain") > 1)


def _count_wrong(alike: pl.DataFrame, listed: pl.Series | None) -> int:
    """Events that are probably on the wrong of several ids.

    Those of an id that the shop's catalog has not, though it has one that looks like it. Where there is no catalog,
    all but the greatest of those that differ in zeros and separators alone: capitals may tell random ids apart.
    """
    if listed is not None and listed.len():
        known = pl.col("id").is_in(listed.implode())
        return int(alike.filter(known.any().over("plain") & ~known)["weight"].sum())
    groups = alike.group_by("cased").agg(pl.col("weight").sum() - pl.col("weight").max())
    return int(groups["weight"].sum())


def _columns(facts: Facts) -> dict[str, pl.DataFrame]:
    """Id column → its distinct ids and their events."""
    return {
        "customer_id": facts.visitors.drop_nulls("customer_id").select(id="customer_id", events="events"),
        "client_id": facts.clients.select(id="client_id", events="events"),
        "item_id": facts.items.select(id="item_id", events="events"),
        "order_id": facts.orders.filter("has_id").select(id="order", events="lines"),
    }


def _check_column(column: str, ids: pl.DataFrame) -> list[Finding]:
    kind = column.removesuffix("_id")
    text = pl.col("id")
    words = placeholder_words(cast(IdKind, kind))
    faults = (
        _Fault(
            "placeholder_ids",
            text.str.to_lowercase().str.strip_chars().is_in(words),
            "a word for nothing",
            f"ingest again: words such as NULL are nobody now; others are named by "
            f"`placeholders: {{{column}: [WORD]}}`",
        ),
        _Fault(
            "scientific_ids",
            text.str.contains(SCIENTIFIC),
            "a number that a spreadsheet shortened, and stands for many",
            "export the column as text and ingest into a new log",
        ),
        _Fault(
            "float_ids",
            text.str.contains(r"^\d+\.0+$"),
            "written as a fraction, and joins with none that is written as a whole number",
            "export the column as text or whole numbers and ingest into a new log",
        ),
        _Fault(
            "untidy_ids",
            text.str.contains(_UNTIDY),
            "with spaces or characters around it that cannot be seen",
            "ingest again into a new log: ids are tidied now",
        ),
        _Fault(
            "address_ids",
            text.str.contains(r"[^@\s]@[^@\s]+\.[^@\s]"),
            "an e-mail address",
            "name the column in the mapping as `email:` or `{hash: COLUMN}`, so that only a hash is kept, "
            "and remove the log",
        ),
    )
    findings = []
    total = int(ids["events"].sum())
    for fault in faults:
        bad = ids.filter(fault.broken).sort("events", "id", descending=[True, False])
        if bad.is_empty():
            continue
        events = int(bad["events"].sum())
        share = events / total if total else 0.0
        findings.append(
            Finding(
                f"{fault.code}_{kind}",
                "stop" if share > 0.5 and fault.code in ("placeholder_ids", "scientific_ids") else "warn",
                f"{count(bad.height, f'{column}')} of {ids.height:,} {'is' if bad.height == 1 else 'are'} {fault.what} "
                f"({count(events, 'event')}, {percent(share)}).",
                fault.advice,
                f"{column} {_show(bad['id'][0])}",
                {"share": round(share, 4), "ids": bad.height, "events": events},
            )
        )
    return findings


def check_shapes(facts: Facts) -> list[Finding]:
    """Whether ids of one column are of several kinds, such as numbers among UUIDs."""
    findings = []
    for column, ids in _columns(facts).items():
        shapes = ids.group_by(shape=_shape()).agg(pl.len(), pl.col("id").min(), pl.col("events").sum())
        shapes = shapes.sort("len", "shape", descending=[True, False])
        if shapes.height < 2 or column == "item_id":
            continue
        others = shapes[1:]
        n = int(others["len"].sum())
        if n > 0.5 * ids.height:
            continue
        findings.append(
            Finding(
                f"mixed_{column}s",
                "info",
                f"{count(n, column)} of {ids.height:,} {'is' if n == 1 else 'are'} not {shapes['shape'][0]} "
                f"like the others.",
                "check that all sources call the same thing by the same id",
                f"{_show(shapes['id'][0])} ({shapes['shape'][0]}) and {_show(others['id'][0])} ({others['shape'][0]})",
                {"ids": n, "share": round(n / ids.height, 4)},
            )
        )
    return findings


def _shape() -> pl.Expr:
    text = pl.col("id")
    return (
        pl.when(text.str.contains(r"^\d+$"))
        .then(pl.lit("whole numbers"))
        .when(text.str.contains(r"^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"))
        .then(pl.lit("UUIDs"))
        .when(text.str.contains(r"^[0-9a-fA-F]{32,}$"))
        .then(pl.lit("hashes"))
        .when(text.str.starts_with("email:"))
        .then(pl.lit("hashed e-mail addresses"))
        .when(text.str.starts_with("order:"))
        .then(pl.lit("guests of one order"))
        .otherwise(pl.lit("texts"))
    )


def _show(value: object) -> str:
    """An id as an example; an address is never shown."""
    return quote(re.sub(r"\S*@\S*", "…@…", str(value)))
