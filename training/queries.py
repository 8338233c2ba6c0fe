"""Who is asked about at a boundary, and what they turn out to want: queries and their labels."""

from dataclasses import dataclass

import narwhals as nw
import numpy as np
import polars as pl

from features import bots
from features.clock import SECOND, moment
from features.events import ITEM_EVENTS, conform
from features.snapshot import Snapshot
from features.visitors import KIND, Visitors, age_seconds

GRADE = {"select_item": 1, "view_item": 1, "add_to_cart": 2, "purchase": 3}
_SAID = ("customer_id", "client_id", "source", "device", "country")
ABOUT: dict[str, pl.DataType] = {"at": pl.Int64(), **{name: pl.String() for name in _SAID}}
VISIT_GAP = 30 * 60 * SECOND  # a visitor silent for longer starts a new visit, where the log has no session_id


@dataclass(frozen=True)
class Queries:
    """Visitors at a boundary and their relevant items.

    `query`, `item`, `grade` (1 click or view, 2 cart, 3 purchase): one entry per relevant pair, sorted by query,
    then item. Every query has at least one. `about`, one row per query, only evaluation reads: `at` (microseconds)
    when it was asked, customer_id and client_id, and source, device and country as the visit says, null where unknown.
    """

    visitors: Visitors
    query: np.ndarray
    item: np.ndarray
    grade: np.ndarray
    about: pl.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.visitors)

    def labels(self, query: np.ndarray, item: np.ndarray, items: int) -> np.ndarray:
        """int64[n]: the grade of each (query, item), 0 where it is not relevant."""
        if not len(self.query):
            return np.zeros(len(query), np.int64)
        keys = self.query.astype(np.int64) * items + self.item
        wanted = query.astype(np.int64) * items + item
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, self.grade[at], 0)


def window(events: pl.LazyFrame, start: int, end: int) -> pl.DataFrame:
    """Consented events of people in [start, end) that say what a visit is about, with `t` in microseconds."""
    inside = (
        events.filter(
            pl.col("timestamp") >= moment(start),
            pl.col("timestamp") < moment(end),
            pl.col("consent").fill_null(True),
        )
        .with_columns(pl.col("name").cast(pl.String), t=pl.col("timestamp").dt.timestamp("us"))
        .filter(
            pl.col("name").is_in(list(KIND)),
            pl.col("item_id").is_not_null() | ~pl.col("name").is_in(list(ITEM_EVENTS)),
        )
        .collect()
    )
    rows = nw.from_native(inside)
    machines = bots.bots(rows.lazy()).collect("polars").to_native()
    return bots.without(rows.lazy(), machines).to_native().collect()


def one_to_one(future: pl.DataFrame, snapshot: Snapshot) -> Queries:
    """Customers with history before the snapshot who buy in `future`; relevant: the items they buy."""
    bought = future.filter(pl.col("name") == "purchase", pl.col("customer_id").is_not_null())
    pairs = bought.select("customer_id", "item_id").unique()
    customer = snapshot.customers.find(pairs["customer_id"].to_list())
    item = snapshot.items.find(pairs["item_id"].to_list())
    keep = (customer >= 0) & (item >= 0)
    keep &= snapshot.has_history(customer)
    customer, item = customer[keep], item[keep]
    asked, query = np.unique(customer, return_inverse=True)
    order = np.lexsort((item, query))
    grade = np.full(len(item), GRADE["purchase"], np.int64)
    about = pl.DataFrame({"customer_id": snapshot.customers.at(asked)}, schema={"customer_id": pl.String})
    about = about.with_columns(at=pl.lit(snapshot.as_of, pl.Int64))
    return Queries(Visitors.of_customers(asked), query[order], item[order], grade, conform(about, ABOUT))


def predictive(future: pl.DataFrame, snapshot: Snapshot, limit: int, seed: int) -> Queries:
    """Moments inside visits of people the snapshot does not know.

    Each visit is cut at an instant at which an item is touched, chosen by a hash of the visit. That instant is
    when the visitor asks: what came before is known (`Visitors`), what they touch from then on is relevant.
    """
    visits = _visits(future)
    customers = snapshot.customers.find(visits["customer_id"].fill_null("").to_list())
    visits = visits.filter(~pl.Series(snapshot.has_history(customers), dtype=pl.Boolean))
    visits = visits.with_columns(item=pl.Series(snapshot.items.find(visits["item_id"].fill_null("").to_list())))
    visits = visits.with_columns(wanted=(pl.col("item") >= 0) & pl.col("name").is_in(list(GRADE)))
    visits = visits.filter(pl.col("wanted").any().over("visit"))
    if visits.is_empty():
        none = np.zeros(0, np.int64)
        return Queries(Visitors.of_customers(none), none, none, none)
    visits = _cut(visits, limit, seed)
    before = visits.filter(pl.col("t") < pl.col("asked"))
    after = (
        visits.filter(pl.col("t") >= pl.col("asked"), "wanted")
        .with_columns(grade=pl.col("name").replace_strict(GRADE, return_dtype=pl.Int64))
        .group_by("query", "item")
        .agg(pl.col("grade").max())
        .sort("query", "item")
    )
    n = visits["query"].n_unique()
    visitors = Visitors.of(
        np.full(n, -1, np.int64),
        before["query"].to_numpy(),
        before["item"].to_numpy(),
        before["name"].replace_strict(KIND, return_dtype=pl.UInt8).to_numpy(),
        age_seconds(before["asked"].to_numpy(), before["t"].to_numpy()),
        before["price"].cast(pl.Float32).fill_null(np.nan).to_numpy(),
    )
    said = [pl.col(c).cast(pl.String).drop_nulls().first() for c in _SAID]
    about = conform(visits.group_by("query").agg(pl.col("asked").first().alias("at"), *said).sort("query"), ABOUT)
    return Queries(visitors, after["query"].to_numpy(), after["item"].to_numpy(), after["grade"].to_numpy(), about)


def _cut(visits: pl.DataFrame, limit: int, seed: int) -> pl.DataFrame:
    """`limit` of the visits, in order, with `query` (0…) and `asked`: an instant at which a wanted item is touched."""
    # The view that a click opens is no wish of its own: asked between the two, a ranker would learn to name the click.
    opened = (pl.col("name") == "view_item") & (pl.col("name").shift() == "select_item")
    opened &= pl.col("item_id") == pl.col("item_id").shift()
    draw = pl.col("visit").hash(seed)
    chosen = visits.select("visit", _draw=draw).unique().sort("_draw", "visit").head(limit)
    instant = pl.when("free").then("t").rank("dense").over("visit")
    place = 1 + (draw // 2**20) % instant.max().over("visit").cast(pl.UInt64)
    return (
        visits.join(chosen.select("visit"), on="visit")
        .sort("visit", "t", "event_id", "item_id")
        .with_columns(
            query=pl.col("visit").rank("dense").cast(pl.Int64) - 1,
            free=pl.col("wanted") & ~opened.over("visit").fill_null(False),
        )
        .with_columns(_asked=instant.cast(pl.UInt64) == place)
        .with_columns(asked=pl.col("t").filter("_asked").first().over("visit"))
    )


def _visits(future: pl.DataFrame) -> pl.DataFrame:
    """Adds `visit`: a visitor's session, or where there is none a run of events without a gap of half an hour.

    Session ids need not be unique among visitors: GA4's are the second in which a session began. The client
    comes first, so that a login does not split the visit it happens in.
    """
    who = pl.coalesce(pl.format("client/{}", "client_id"), pl.format("customer/{}", "customer_id"))
    ordered = future.with_columns(_who=who).sort("_who", "t", "event_id", "item_id")
    gap = (pl.col("t").diff().over("_who") > VISIT_GAP).fill_null(True)
    run = pl.format("{}/{}", "_who", gap.cum_sum().over("_who"))
    return ordered.with_columns(visit=pl.coalesce(pl.format("{}/{}", "_who", "session_id"), run)).drop("_who")
