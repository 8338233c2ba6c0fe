"""Queries of a boundary: the visitors that are ranked for after it, and the items relevant to each.

`build_queries` collects those of every recommender; `customer_queries` and `visit_queries` are the two kinds.
"""

from dataclasses import dataclass

import narwhals as nw
import numpy as np
import polars as pl

from features.common.clock import DAY, SECOND, moment
from features.event_log.schema import ITEM_EVENTS, conform
from features.event_log.stated_answers import PREFERENCES
from features.ranking.pair_index import look_up
from features.ranking.snapshot import Snapshot
from features.ranking.stated_preferences import state
from features.ranking.visitors import KIND, Visitors, age_seconds
from features.tables import bots, repeats
from features.tables.engine import Lazy, PolarsEngine
from models.bundle import RecommenderName
from training.recipe import Recipe

GRADES = {"select_item": 1, "view_item": 1, "add_to_cart": 2, "purchase": 3}
_TRAFFIC = ("source", "device", "country")
CONTEXT_SCHEMA: dict[str, pl.DataType] = {
    "at": pl.Int64(),
    "visit_events": pl.Int64(),
    **{name: pl.String() for name in ("customer_id", "client_id", *_TRAFFIC)},
}
VISIT_GAP = 30 * 60 * SECOND  # without events for longer a new visit begins, where the log has no session_id


@dataclass(frozen=True)
class Queries:
    """Visitors at the moments at which they are ranked for, and their relevant items.

    `query`, `item`, `grade` (1 click or view, 2 cart, 3 purchase): one entry per relevant pair, sorted by query,
    then item. Every query has at least one. `context`, one row per query, is for evaluation only: `at` (microseconds),
    the moment of the query, how many events of the visit came before, customer_id and client_id, and source, device
    and country of the visit, null where unknown.
    """

    visitors: Visitors
    query: np.ndarray
    item: np.ndarray
    grade: np.ndarray
    context: pl.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.visitors)

    def sample(self, limit: int) -> "Queries":
        """Take at most `limit` of them, spread evenly."""
        if len(self) <= limit:
            return self
        sample = np.linspace(0, len(self) - 1, limit).astype(np.int64)
        number = np.full(len(self), -1)
        number[sample] = np.arange(limit)
        rows = number[self.query] >= 0
        context = None if self.context is None else self.context[sample]
        query = number[self.query[rows]]
        return Queries(self.visitors.only(sample), query, self.item[rows], self.grade[rows], context)

    def labels(self, query: np.ndarray, item: np.ndarray, items: int) -> np.ndarray:
        """int64[n]: the grade of each (query, item) of a catalog of `items`, 0 where the item is not relevant."""
        keys = self.query.astype(np.int64) * items + self.item
        return look_up(keys, self.grade, query.astype(np.int64) * items + item, 0)


def read_window(events: pl.LazyFrame, start: int, end: int) -> pl.DataFrame:
    """Read the events in [start, end), both in microseconds, that visitors and labels are made of; `t`: microseconds.

    Without consent, of a bot or an unproven device, without the item that events of their kind have, or lines of an
    order that came before (`features.tables.repeats`), they are left out.
    """
    # Orders are looked for in the days before, too: an order that is reported again is not bought again.
    numbered = (pl.col("name") == "purchase") & pl.col("order_id").is_not_null()
    consented = (
        events.filter(
            pl.col("timestamp") >= moment(start - repeats.WINDOW_DAYS * DAY),
            pl.col("timestamp") < moment(end),
            pl.col("consent").fill_null(True),
        )
        .with_columns(pl.col("name").cast(pl.String), t=pl.col("timestamp").dt.timestamp("us"))
        .filter(
            (pl.col("t") >= start) | numbered,
            pl.col("name").is_in([*KIND, PREFERENCES]),
            pl.col("item_id").is_not_null() | ~pl.col("name").is_in(list(ITEM_EVENTS)),
        )
        .collect()
    )
    consented = _drop_repeats(consented, numbered)
    rows = bots.drop_unproven_clients(nw.from_native(consented.filter(pl.col("t") >= start).lazy()))
    return bots.remove_bots(rows, _find_bots(events, rows, start)).to_native().collect()


def _find_bots(events: pl.LazyFrame, rows: Lazy, start: int) -> bots.Bots:
    """Find the bots among `rows`; who ordered before `start` is none."""
    engine = PolarsEngine()
    ids = engine.materialize(bots.count_ids(rows))
    shared = engine.materialize(bots.find_shared_devices(ids))
    found = bots.find_bots(engine, rows, ids, shared)
    if not found.whole:
        return found
    earlier = events.filter(pl.col("timestamp") < moment(start), pl.col("consent").fill_null(True))
    ordered = bots.count_ids(nw.from_native(earlier.with_columns(pl.col("name").cast(pl.String)))).filter(
        nw.col("money") > 0
    )
    every = engine.materialize(nw.concat([ids, ordered.with_columns(pages=nw.lit(0).cast(nw.Int64))]))
    return bots.find_bots(engine, rows, every, shared)


def _drop_repeats(rows: pl.DataFrame, numbered: pl.Expr) -> pl.DataFrame:
    """Drop purchases whose visitor, order and item came within the days before."""
    line = ("name", "_visitor", "order_id", "item_id")
    visitor = pl.coalesce("customer_id", pl.format("client:{}", "client_id"))
    lines = rows.with_row_index("_row").filter(numbered).with_columns(_visitor=visitor)
    several = lines.filter(pl.struct(line).is_duplicated())
    if several.is_empty():
        return rows
    marked = repeats.mark_repeats(nw.from_native(several.lazy()), line, ("t", "event_id", "price", "quantity"))
    again = marked.filter(nw.col("repeated")).to_native().collect()["_row"]
    return rows.with_row_index("_row").filter(~pl.col("_row").is_in(again.implode())).drop("_row")


def build_queries(events: pl.LazyFrame, snapshot: Snapshot, end: int, recipe: Recipe) -> dict[RecommenderName, Queries]:
    """Collect each recommender's queries from the snapshot's instant up to `end` (microseconds).

    Those inside visits come from the first `visit_days` only.
    """
    future = read_window(events, snapshot.as_of, end)
    visits = future.filter(pl.col("t") < snapshot.as_of + recipe.visit_days * DAY)
    return {
        "one_to_one": customer_queries(future, snapshot),
        **visit_queries(visits, snapshot, recipe.visits_per_boundary, recipe.seed),
    }


def customer_queries(future: pl.DataFrame, snapshot: Snapshot) -> Queries:
    """Collect the customers with history before the snapshot who buy in `future`; relevant: the items they buy."""
    purchases = future.filter(pl.col("name") == "purchase", pl.col("customer_id").is_not_null())
    pairs = purchases.select("customer_id", "item_id").unique()
    customer = snapshot.customers.find(pairs["customer_id"].to_list())
    item = snapshot.items.find(pairs["item_id"].to_list())
    known = (customer >= 0) & (item >= 0)
    known &= snapshot.has_history(customer)
    customer, item = customer[known], item[known]
    customers, query = np.unique(customer, return_inverse=True)
    order = np.lexsort((item, query))
    grade = np.full(len(item), GRADES["purchase"], np.int64)
    context = pl.DataFrame({"customer_id": snapshot.customers.at(customers)}, schema={"customer_id": pl.String})
    context = conform(context.with_columns(at=pl.lit(snapshot.as_of, pl.Int64)), CONTEXT_SCHEMA)
    visitors = Visitors.of_customers(customers, snapshot.answers.gather(customers))
    return Queries(visitors, query[order], item[order], grade, context)


def visit_queries(future: pl.DataFrame, snapshot: Snapshot, limit: int, seed: int) -> dict[RecommenderName, Queries]:
    """Sample moments inside visits, at most `limit` for each recommender.

    one_to_one_visit: of customers with history who have touched something since the snapshot. predictive: of people
    the snapshot does not know. Each visit has one query, at an instant at which an item is touched, chosen by a hash
    of the visit. What the visitor did in `future` before that instant is known (`Visitors`), what they touch in the
    visit from then on is relevant.
    """
    visits = _resolve(_split_visits(future.filter(pl.col("name") != PREFERENCES)), snapshot)
    return {
        "one_to_one_visit": _queries(future, _choose_instants(visits, limit, seed, True), snapshot, has_history=True),
        "predictive": _queries(future, _choose_instants(visits, limit, seed, False), snapshot, has_history=False),
    }


def _queries(future: pl.DataFrame, visits: pl.DataFrame, snapshot: Snapshot, has_history: bool) -> Queries:
    before = _events_before(future, visits)
    answers = before.filter(pl.col("name") == PREFERENCES)
    before = before.filter(pl.col("name") != PREFERENCES)
    if has_history:
        # Without an event before it, a customer's moment is no query of one_to_one_visit: one_to_one serves it.
        old = before["query"].unique().sort()
        number = pl.DataFrame({"query": old, "_n": np.arange(len(old))})
        visits, before, answers = (
            t.join(number, on="query", maintain_order="left").with_columns(query="_n")
            for t in (visits, before, answers)
        )
    if visits.is_empty():
        none = np.zeros(0, np.int64)
        return Queries(Visitors.of_customers(none), none, none, none)
    pairs = (
        visits.filter(pl.col("t") >= pl.col("query_t"), "relevant")
        .with_columns(grade=pl.col("name").replace_strict(GRADES, return_dtype=pl.Int64))
        .group_by("query", "item")
        .agg(pl.col("grade").max())
        .sort("query", "item")
    )
    context = (
        visits.group_by("query")
        .agg(
            pl.col("query_t").first().alias("at"),
            (pl.col("t") < pl.col("query_t")).sum().alias("visit_events"),
            pl.col("customer").first(),
            pl.col("current_id").first().alias("customer_id"),
            *(pl.col(c).cast(pl.String).drop_nulls().first() for c in ("client_id", *_TRAFFIC)),
        )
        .sort("query")
    )
    visitors = Visitors.from_events(
        context["customer"].to_numpy(),
        before["query"].to_numpy(),
        snapshot.items.find(before["item_id"].fill_null("").to_list()),
        before["name"].replace_strict(KIND, return_dtype=pl.UInt8).to_numpy(),
        age_seconds(before["query_t"].to_numpy(), before["t"].to_numpy()),
        before["price"].cast(pl.Float32).fill_null(np.nan).to_numpy(),
        state(
            snapshot.answers,
            snapshot.customers.find(context["customer_id"].fill_null("").to_list()),
            answers["query"].to_numpy(),
            answers["question"].to_list(),
            answers["answer"].to_list(),
        ),
    )
    query, item, grade = (pairs[column].to_numpy() for column in ("query", "item", "grade"))
    return Queries(visitors, query, item, grade, conform(context, CONTEXT_SCHEMA))


def _resolve(visits: pl.DataFrame, snapshot: Snapshot) -> pl.DataFrame:
    """Adds to each event `item`, its position; `relevant`, whether it can make the item a label; `current_id`, the
    latest customer_id of the visit so far; `customer`, that customer's position if they have a history, else -1."""
    visits = visits.with_columns(current_id=pl.col("customer_id").forward_fill().over("visit"))
    item = snapshot.items.find(visits["item_id"].fill_null("").to_list())
    customer = snapshot.customers.find(visits["current_id"].fill_null("").to_list())
    return visits.with_columns(
        item=pl.Series(item, dtype=pl.Int64),
        customer=pl.Series(np.where(snapshot.has_history(customer), customer, -1), dtype=pl.Int64),
    ).with_columns(relevant=(pl.col("item") >= 0) & pl.col("name").is_in(list(GRADES)))


def _choose_instants(visits: pl.DataFrame, limit: int, seed: int, has_history: bool) -> pl.DataFrame:
    """`limit` of the visits, in order, with `query` (0…) and `query_t`: an instant at which a relevant item is touched.

    `current_id` and `customer` are then those of that instant, at which the visitor has a history or not, as
    `has_history` says; `client` is the client of that instant.
    """
    # A view right after a click on the same item follows from the click. With a query between the two, a ranker would
    # learn to repeat the click.
    opened = (pl.col("name") == "view_item") & (pl.col("name").shift() == "select_item")
    opened &= pl.col("item_id") == pl.col("item_id").shift()
    eligible = pl.col("relevant") & ((pl.col("customer") >= 0) == has_history)
    draw = pl.col("visit").hash(seed)
    sample = visits.filter(eligible).select("visit", _draw=draw).unique().sort("_draw", "visit").head(limit)
    instant = pl.when("eligible").then("t").rank("dense").over("visit")
    place = 1 + (draw // 2**20) % instant.max().over("visit").cast(pl.UInt64)
    return (
        visits.join(sample.select("visit"), on="visit")
        .sort("visit", "t", "event_id", "item_id")
        .with_columns(eligible=eligible & ~opened.over("visit").fill_null(False))
        .filter(pl.col("eligible").any().over("visit"))
        .with_columns(query=pl.col("visit").rank("dense").cast(pl.Int64) - 1)
        .with_columns(_at_query=instant.cast(pl.UInt64) == place)
        .with_columns(
            pl.col(column).filter("_at_query").first().over("visit").alias(name)
            for name, column in (
                ("query_t", "t"),
                ("current_id", "current_id"),
                ("customer", "customer"),
                ("client", "client_id"),
            )
        )
    )


def _events_before(future: pl.DataFrame, visits: pl.DataFrame) -> pl.DataFrame:
    """What each query's visitor did in `future` before `query_t`, oldest first: under the customer's id, or under the
    client's without any customer's."""
    queries = visits.select("query", "query_t", "current_id", "client").unique()
    read = ["t", "event_id", "item_id", "name", "price", "question", "answer"]
    events = future.select("customer_id", "client_id", *read)
    identified = pl.col("customer_id").is_not_null()
    by_customer = events.filter(identified).join(queries.drop("client"), left_on="customer_id", right_on="current_id")
    by_client = events.filter(~identified).join(queries.drop("current_id"), left_on="client_id", right_on="client")
    columns = ["query", "query_t", *read]
    both = pl.concat([by_customer.select(columns), by_client.select(columns)])
    return both.filter(pl.col("t") < pl.col("query_t")).sort("query", "t", "event_id", "item_id")


def _split_visits(future: pl.DataFrame) -> pl.DataFrame:
    """Adds `visit`: a visitor's session, or where there is none a run of events without a gap of half an hour.

    Session ids need not be unique among visitors: GA4's are the second in which a session began. The client
    comes first, so that a login does not split the visit it happens in.
    """
    visitor = pl.coalesce(pl.format("client/{}", "client_id"), pl.format("customer/{}", "customer_id"))
    ordered = future.with_columns(_visitor=visitor).sort("_visitor", "t", "event_id", "item_id")
    gap = (pl.col("t").diff().over("_visitor") > VISIT_GAP).fill_null(True)
    run = pl.format("{}/{}", "_visitor", gap.cum_sum().over("_visitor"))
    visit = pl.coalesce(pl.format("{}/{}", "_visitor", "session_id"), run)
    return ordered.with_columns(visit=visit).drop("_visitor")
