"""Traffic: each customer's source, device and country."""

import narwhals as nw

from features.tables.columns import Field
from features.tables.engine import Lazy, distinct

FIELDS = (
    Field("first_source", "string", "traffic source of the first visit that has one: what brought the customer"),
    Field("source", "string", "traffic source of the latest event that has one"),
    Field("device", "string", "device of the latest event that has one"),
    Field("country", "string", "country of the latest event that has one"),
)


def build_traffic(events: Lazy) -> Lazy:
    """Build one row per customer with an event: `FIELDS`, null where no event has a value."""
    columns = ("source", "device", "country")
    known = events.filter(~nw.col("customer_id").is_null())
    # One row per combination first: few, where events are many.
    combinations = known.group_by("customer_id", *columns).agg(first=nw.col("t").min(), last=nw.col("t").max())
    combinations = combinations.with_columns(*(nw.col(c).cast(nw.String) for c in columns))
    table = distinct(combinations, "customer_id")
    for name, column, end in (
        ("first_source", "source", "first"),
        ("source", "source", "last"),
        ("device", "device", "last"),
        ("country", "country", "last"),
    ):
        table = table.join(_value_at(end, combinations, column, name), on="customer_id", how="left")
    return table.select("customer_id", *(f.name for f in FIELDS))


def _value_at(end: str, combinations: Lazy, column: str, name: str) -> Lazy:
    """The value of the first or last event that has one; of several at one instant the least."""
    t = nw.col(end).min() if end == "first" else nw.col(end).max()
    return (
        combinations.filter(~nw.col(column).is_null())
        .with_columns(_end=t.over("customer_id"))
        .filter(nw.col(end) == nw.col("_end"))
        .group_by("customer_id")
        .agg(nw.col(column).min().alias(name))
    )
