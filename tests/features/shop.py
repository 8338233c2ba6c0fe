"""Small shops: events by hand or by hypothesis, and the tables and snapshots built from them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from features.common.clock import DAY, SECOND, micros, moment
from features.event_log.schema import CATALOG_SCHEMA, EVENT_NAMES, EVENT_SCHEMA, LINK_SCHEMA, conform
from features.ranking.snapshot import Snapshot
from features.tables.build import FILES, Tables, build_from_events

AS_OF = micros(datetime(2024, 5, 1, tzinfo=UTC))

ITEMS = tuple(f"i{n}" for n in range(7))
_CATEGORIES = ["Kitchen/Tea", "Kitchen/Tea", "Kitchen", None, "Garden", "Garden", "Garden"]
_BRANDS = ["Alder", "Birch", "Alder", "Birch", None, "Alder", None]
CATALOG = conform(pl.DataFrame({"item_id": ITEMS, "category": _CATEGORIES, "brand": _BRANDS}), CATALOG_SCHEMA)

TABLES = (*FILES, "interactions")  # the written ones, and the one that only fitting reads

Row = dict[str, Any]


def row(name: str, days: float, visitor: str | None, item: str | None = None, *more: object, **columns: object) -> Row:
    """An event `days` after `AS_OF`; `more` is quantity, price, order_id.

    `visitor` is a customer (c1), a client (d1) or a customer on a client (c1+d1).
    """
    customer, _, client = visitor.partition("+") if visitor and visitor.startswith("c") else (None, None, visitor)
    values = dict(zip(("quantity", "price", "order_id"), more, strict=False))
    if name in ("purchase", "refund"):
        values = {"quantity": 1.0, "price": 1.0} | values
    visitor_columns = {"customer_id": customer, "client_id": client or None}
    when = moment(AS_OF + round(days * DAY))
    return {"name": name, "timestamp": when, "item_id": item} | visitor_columns | values | columns


def frame(rows: Sequence[Row]) -> pl.DataFrame:
    """The rows as an event log; each is an event of its own unless it says which."""
    numbered = [{"event_id": f"e{n}"} | r for n, r in enumerate(rows)]
    used = {c: t for c, t in EVENT_SCHEMA.items() if c == "event_id" or any(c in r for r in rows)}
    return conform(pl.DataFrame(numbered, schema=used), EVENT_SCHEMA)


def link(kind: str, days: float, client: str | None, customer: str | None, token: str | None = None) -> Row:
    """A row of the log's links, `days` after `AS_OF`."""
    at = moment(AS_OF + round(days * DAY))
    return {"at": at, "kind": kind, "token": token, "client_id": client, "customer_id": customer}


def build(
    rows: Sequence[Row], as_of: int = AS_OF, links: Sequence[Row] = (), catalog: pl.DataFrame = CATALOG
) -> Tables:
    return build_from_events(frame(rows).lazy(), catalog, as_of, pl.DataFrame(links, schema=LINK_SCHEMA))


def snapshot(rows: Sequence[Row], as_of: int = AS_OF, catalog: pl.DataFrame = CATALOG) -> Snapshot:
    return Snapshot.from_tables(build(rows, as_of, catalog=catalog))


def one(table: pl.DataFrame, **keys: str) -> Row:
    """The single row of a table with these ids."""
    return table.row(by_predicate=pl.all_horizontal(pl.col(k) == v for k, v in keys.items()), named=True)


def differences(actual: Row, expected: Row) -> Row:
    """Key → (actual, expected) where they are not equal to float32's precision; None equals None alone."""
    pairs = {k: (actual[k], v) for k, v in expected.items()}

    def same(f: Any, e: Any) -> bool:
        return f is e or (f is not None and e is not None and f == pytest.approx(e, rel=1e-6))

    return {k: pair for k, pair in pairs.items() if not same(*pair)}


def same_tables(a: Tables, b: Tables) -> bool:
    """Bit for bit; NaN equals NaN, null equals null."""
    fitted = (a.cut_points, a.lifetime) == (b.cut_points, b.lifetime)
    return fitted and all(getattr(a, f).equals(getattr(b, f)) for f in TABLES)


def same_arrays(a: np.ndarray, b: np.ndarray) -> bool:
    """Bit for bit, dtype and shape included."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def snapshot_arrays(s: Snapshot) -> dict[str, np.ndarray]:
    held = s.fitting_data
    descriptions = [repr(d) for d in held.descriptions] if held else []
    fitting = (*held.anonymous, *held.recent, np.array(descriptions, str)) if held else ()
    return {
        "customers": np.array(s.customers.values.to_pylist(), str),
        "segments": s.segments,
        "customer_features": s.customer_features,
        "lifetime": s.lifetime,
        "items": np.array(s.items.values.to_pylist(), str),
        "categories": s.categories,
        "category_names": np.array(s.category_names.to_pylist(), str),
        "departments": s.departments,
        "brands": s.brands,
        "item_features": s.item_features,
        "indptr": s.history.indptr,
        "pairs": s.history.items,
        "values": s.history.values,
        **{f"answers_{name}": array for name, array in s.answers.arrays().items()},
        **{f"fitting_{n}": a for n, a in enumerate(fitting)},
    }


def same_snapshots(a: Snapshot, b: Snapshot) -> bool:
    one_, other = snapshot_arrays(a), snapshot_arrays(b)
    return (
        (a.as_of, a.cut_points) == (b.as_of, b.cut_points)
        and one_.keys() == other.keys()
        and all(same_arrays(one_[k], other[k]) for k in one_)
    )


# Mostly the events that count, so that a few of them make a shop.
_NAMES = ("purchase", "purchase", "purchase", "view_item", "view_item", "view_item", *EVENT_NAMES, "tea_brewed")


def events(first_day: int, last_day: int, *, newcomers: bool = False, least: int = 0) -> st.SearchStrategy[list[Row]]:
    """Events in [first_day, last_day) relative to `AS_OF`, in any order; some at the very first instant.

    `newcomers` adds customers, clients and items that other calls do not draw.
    """
    people = ("c0", "c1", "c2", "c3", "c4", "c1+d0", "c2+d2", "c3+d2", "d0", "d1", "d2")
    people += ("c8", "c9", "d9", "c0+d1") if newcomers else ()
    wares = (*ITEMS[:5], *(("i6", "new") if newcomers else ()))
    span = (last_day - first_day) * DAY
    offset = st.one_of(st.sampled_from([0, 1, SECOND]), st.integers(0, span - 1)).map(lambda t: t / DAY)
    drawn = st.builds(
        lambda name, after, visitor, item, units, cents, order, session, source, brand: row(
            name,
            first_day + after,
            visitor,
            item,
            float(units) if name != "login" else None,
            cents / 100,
            order,
            session_id=session,
            source=source,
            consent=None,
            **({"question": "brand", "answer": f'["{brand}"]' if brand else None} if name == "preferences" else {}),
        ),
        st.sampled_from(_NAMES),
        offset,
        st.sampled_from(people),
        st.sampled_from(wares),
        st.integers(1, 4),
        st.integers(1, 999),
        st.sampled_from([None, "o1", "o2", "o3", "o4"]),
        st.sampled_from([None, "s1", "s2", "s3"]),
        st.sampled_from([None, "email", "social"]),
        st.sampled_from(["Alder", "Birch", None]),
    )
    return st.lists(drawn, min_size=least, max_size=24)


def examples(n: int) -> settings:
    """So many examples, the same ones each time."""
    return settings(max_examples=n, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
