"""Who is asked about at a boundary, and what they turn out to want: queries and their labels."""

from dataclasses import dataclass

import narwhals as nw
import numpy as np
import polars as pl

from features.common.clock import DAY, SECOND, moment
from features.event_log.schema import ITEM_EVENTS, conform
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import KIND, Visitors, age_seconds
from features.tables import bots
from models.bundle import RecommenderName
from training.recipe import Recipe

GRADE = {"select_item": 1, "view_item": 1, "add_to_cart": 2, "purchase": 3}
_SAID = ("customer_id", "client_id", "source", "device", "country")
ABOUT: dict[str, pl.DataType] = {
    "at": pl.Int64(),
    "visit_events": pl.Int64(),
    **{name: pl.String() for name in _SAID},
}
VISIT_GAP = 30 * 60 * SECOND  # a visitor silent for longer starts a new visit, where the log has no session_id


@dataclass(frozen=True)
class Queries:
    """Visitors at a boundary and their relevant items.

    `query`, `item`, `grade` (1 click or view, 2 cart, 3 purchase): one entry per relevant pair, sorted by query,
    then item. Every query has at least one. `about`, one row per query, only evaluation reads: `at` (microseconds)
    when it was asked, how many events of the visit came before, customer_id and client_id, and source, device and
    country as the visit says, null where unknown.
    """

    visitors: Visitors
    query: np.ndarray
    item: np.ndarray
    grade: np.ndarray
    about: pl.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.visitors)

    def some(self, most: int) -> "Queries":
        """At most so many of them, spread evenly."""
        if len(self) <= most:
            return self
        keep = np.linspace(0, len(self) - 1, most).astype(np.int64)
        place = np.full(len(self), -1)
        place[keep] = np.arange(most)
        rows = place[self.query] >= 0
        about = None if self.about is None else self.about[keep]
        return Queries(self.visitors.only(keep), place[self.query[rows]], self.item[rows], self.grade[rows], about)

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


def after(events: pl.LazyFrame, snapshot: Snapshot, end: int, recipe: Recipe) -> dict[RecommenderName, Queries]:
    """Each recommender's queries from the snapshot's instant up to `end` (microseconds); visits of the first
    `visit_days` only."""
    future = window(events, snapshot.as_of, end)
    visits = future.filter(pl.col("t") < snapshot.as_of + recipe.visit_days * DAY)
    return {
        "one_to_one": one_to_one(future, snapshot),
        **inside_visits(visits, snapshot, recipe.visits_per_boundary, recipe.seed),
    }


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


def inside_visits(future: pl.DataFrame, snapshot: Snapshot, limit: int, seed: int) -> dict[RecommenderName, Queries]:
    """Moments inside visits, at most `limit` of each kind.

    one_to_one_visit: of customers with history, of whom the visit or an earlier one has said something. predictive: of
    people the snapshot does not know. Each visit is cut at an instant at which an item is touched, chosen by a hash of
    the visit. That instant is when the visitor asks: what they did in `future` before it is known (`Visitors`), what
    they touch in the visit from then on is relevant.
    """
    visits = _described(_visits(future), snapshot)
    return {
        "one_to_one_visit": _moments(future, _cut(visits, limit, seed, True), snapshot, known=True),
        "predictive": _moments(future, _cut(visits, limit, seed, False), snapshot, known=False),
    }


def _moments(future: pl.DataFrame, visits: pl.DataFrame, snapshot: Snapshot, known: bool) -> Queries:
    before = _before(future, visits)
    if known:
        told = before["query"].unique().sort()
        number = pl.DataFrame({"query": told, "_n": np.arange(len(told))})
        visits, before = (
            t.join(number, on="query", maintain_order="left").with_columns(query="_n") for t in (visits, before)
        )
    if visits.is_empty():
        none = np.zeros(0, np.int64)
        return Queries(Visitors.of_customers(none), none, none, none)
    after = (
        visits.filter(pl.col("t") >= pl.col("asked"), "wanted")
        .with_columns(grade=pl.col("name").replace_strict(GRADE, return_dtype=pl.Int64))
        .group_by("query", "item")
        .agg(pl.col("grade").max())
        .sort("query", "item")
    )
    said = [pl.col(c).cast(pl.String).drop_nulls().first() for c in _SAID[1:]]
    so_far = (pl.col("t") < pl.col("asked")).sum().alias("visit_events")
    who = [pl.col("whose").first(), pl.col("here").first().alias("customer_id")]
    told_of = [pl.col("asked").first().alias("at"), so_far, *who, *said]
    about = visits.group_by("query").agg(told_of).sort("query")
    visitors = Visitors.of(
        about["whose"].to_numpy(),
        before["query"].to_numpy(),
        snapshot.items.find(before["item_id"].fill_null("").to_list()),
        before["name"].replace_strict(KIND, return_dtype=pl.UInt8).to_numpy(),
        age_seconds(before["asked"].to_numpy(), before["t"].to_numpy()),
        before["price"].cast(pl.Float32).fill_null(np.nan).to_numpy(),
    )
    wanted = after["query"].to_numpy(), after["item"].to_numpy(), after["grade"].to_numpy()
    return Queries(visitors, *wanted, conform(about, ABOUT))


def _described(visits: pl.DataFrame, snapshot: Snapshot) -> pl.DataFrame:
    """Adds `item`, its position; `wanted`; `here`, who was last said to be there; `whose`, their position if they have
    a history, else -1."""
    visits = visits.with_columns(here=pl.col("customer_id").forward_fill().over("visit"))
    item = snapshot.items.find(visits["item_id"].fill_null("").to_list())
    customer = snapshot.customers.find(visits["here"].fill_null("").to_list())
    return visits.with_columns(
        item=pl.Series(item, dtype=pl.Int64),
        whose=pl.Series(np.where(snapshot.has_history(customer), customer, -1), dtype=pl.Int64),
    ).with_columns(wanted=(pl.col("item") >= 0) & pl.col("name").is_in(list(GRADE)))


def _cut(visits: pl.DataFrame, limit: int, seed: int, known: bool) -> pl.DataFrame:
    """`limit` of the visits, in order, with `query` (0…) and `asked`: an instant at which a wanted item is touched.

    `here` and `whose` are then those of that instant, at which they have a history or not, as `known` says.
    """
    # The view that a click opens is no wish of its own: asked between the two, a ranker would learn to name the click.
    opened = (pl.col("name") == "view_item") & (pl.col("name").shift() == "select_item")
    opened &= pl.col("item_id") == pl.col("item_id").shift()
    mine = pl.col("wanted") & ((pl.col("whose") >= 0) == known)
    draw = pl.col("visit").hash(seed)
    chosen = visits.filter(mine).select("visit", _draw=draw).unique().sort("_draw", "visit").head(limit)
    instant = pl.when("free").then("t").rank("dense").over("visit")
    place = 1 + (draw // 2**20) % instant.max().over("visit").cast(pl.UInt64)
    return (
        visits.join(chosen.select("visit"), on="visit")
        .sort("visit", "t", "event_id", "item_id")
        .with_columns(free=mine & ~opened.over("visit").fill_null(False))
        .filter(pl.col("free").any().over("visit"))
        .with_columns(query=pl.col("visit").rank("dense").cast(pl.Int64) - 1)
        .with_columns(_asked=instant.cast(pl.UInt64) == place)
        .with_columns(
            pl.col(column).filter("_asked").first().over("visit").alias(name)
            for name, column in (("asked", "t"), ("here", "here"), ("whose", "whose"), ("client", "client_id"))
        )
    )


def _before(future: pl.DataFrame, visits: pl.DataFrame) -> pl.DataFrame:
    """What each query's visitor did in `future` before `asked`, oldest first: under the customer's id, or under the
    client's without any customer's."""
    asked = visits.select("query", "asked", "here", "client").unique()
    said = future.select("customer_id", "client_id", "t", "event_id", "item_id", "name", "price")
    named = pl.col("customer_id").is_not_null()
    theirs = said.filter(named).join(asked.drop("client"), left_on="customer_id", right_on="here")
    nobodys = said.filter(~named).join(asked.drop("here"), left_on="client_id", right_on="client")
    columns = ["query", "asked", "t", "event_id", "item_id", "name", "price"]
    before = pl.concat([theirs.select(columns), nobodys.select(columns)]).filter(pl.col("t") < pl.col("asked"))
    return before.sort("query", "t", "event_id", "item_id")


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
