"""RFM and behaviour in pandas, written the usual way: what `features.tables.rfm` and `features.tables.behaviour` are timed against.

The same columns from the same rules (consent, bots, who is who, half-open windows), so that the comparison is one of
like with like; `benchmarks/features.py` checks that the numbers agree.
"""

import numpy as np
import pandas as pd

from features.common.clock import moment
from features.event_log.log import EventLog
from features.tables import bots
from features.tables.behaviour import DAY_PARTS, KINDS, WEEKDAYS, WINDOWS_DAYS
from features.tables.rfm import WINDOW_DAYS

BY = "customer_id"
COLUMNS = [
    "event_id", "name", "timestamp", "customer_id", "client_id", "session_id", "item_id", "quantity", "price",
    "order_id", "consent",
]  # fmt: skip


def table(log: EventLog, as_of: int) -> pd.DataFrame:
    """One row per customer, indexed by customer_id."""
    at = pd.Timestamp(moment(as_of))
    events = people(log, at)
    known = events[events[BY].notna()]
    sales, refunds = (known[known["name"] == n] for n in ("purchase", "refund"))
    made = pd.DataFrame(index=pd.Index(known[BY].unique(), name=BY))
    lines = bought(sales)
    orders = lines.groupby([BY, "order"], as_index=False).agg(
        t=("t", "min"), value=("value", "sum"), quantity=("quantity", "sum"), items=("item_id", "size")
    )
    returned = refunds.assign(value=refunds["quantity"] * refunds["price"], order=order(refunds))
    returned = returned.groupby([BY, "order"], as_index=False).agg(value=("value", "sum"), t=("timestamp", "min"))
    for part in (
        rfm(orders, returned, at),
        activity(known, at),
        windows(known, orders, at),
        visits(known, at),
        baskets(lines, orders, returned, at),
        discounts(lines, events),
    ):
        made = made.join(part)
    counts = {c: made[c].fillna(0) for c in ("lines", "distinct_items", "sessions", "sessions_30d")}
    return made.assign(
        **counts,
        view_to_cart=(made["carts"] + 1) / (made["views"] + 20),
        cart_to_order=(counts["lines"] + 1) / (made["carts"] + 3),
        view_to_order=(counts["lines"] + 1) / (made["views"] + 50),
    )


def people(log: EventLog, at: pd.Timestamp) -> pd.DataFrame:
    """The events that count, without bots, anonymous ones under the customer they belong to."""
    events = pd.read_parquet([log.path / "events" / part.file for part in log.parts], columns=COLUMNS)
    events = events[(events["timestamp"] < at) & events["consent"].fillna(True).astype(bool)]
    visitor = events["client_id"].fillna(events[BY])
    pages = events["name"].isin(bots.PAGE_EVENTS)
    hours = events[pages].groupby([visitor[pages], events.loc[pages, "timestamp"].dt.floor("h")]).size()
    days = hours.groupby([hours.index.get_level_values(0), hours.index.get_level_values(1).floor("D")])
    machine = (days.sum() > bots.PER_DAY) | (days.max() > bots.PER_HOUR)
    events = events[~visitor.isin(machine[machine].index.get_level_values(0).unique())]
    links = log.links()
    links = links.filter(links["at"] < at.to_pydatetime()).to_pandas()
    tokens = links[links["kind"].isin(["email", "payment"])]
    owner = tokens.dropna(subset=[BY]).groupby(["kind", "token"])[BY].agg(["nunique", "first"])
    owner = owner[owner["nunique"] == 1]["first"].rename(BY).reset_index()
    by_token = tokens.dropna(subset=["client_id"])[["kind", "token", "client_id"]].merge(owner, on=["kind", "token"])
    pairs = [events, by_token, links[links["kind"] == "merge"]]
    both = pd.concat([p[["client_id", BY]].dropna().drop_duplicates() for p in pairs]).drop_duplicates()
    undone = links[links["kind"] == "unlink"][["client_id", BY]]
    both = both.merge(undone, how="left", indicator=True)
    both = both[both["_merge"] == "left_only"]
    single = both.groupby("client_id")[BY].agg(["nunique", "first"])
    single = single[single["nunique"] == 1]["first"]
    return events.assign(customer_id=events[BY].fillna(events["client_id"].map(single)))


def order(rows: pd.DataFrame) -> pd.Series:
    return rows["order_id"].fillna(rows["event_id"])


def days_before(at: pd.Timestamp, t: pd.Series) -> pd.Series:
    return (at - t).dt.total_seconds() / 86_400


def bought(sales: pd.DataFrame) -> pd.DataFrame:
    rows = sales.assign(order=order(sales), value=sales["quantity"] * sales["price"])
    return rows.groupby([BY, "order", "item_id"], as_index=False).agg(
        t=("timestamp", "min"), quantity=("quantity", "sum"), value=("value", "sum")
    )


def rfm(orders: pd.DataFrame, returned: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    start = at - pd.Timedelta(days=WINDOW_DAYS)
    made = orders.groupby(BY).agg(last=("t", "max"), first=("t", "min"))
    net = orders[orders["t"] >= start].merge(
        returned[[BY, "order", "value"]].rename(columns={"value": "back"}), on=[BY, "order"], how="left"
    )
    net["whole"] = net["back"].isna() | (net["back"] < net["value"])
    net["net"] = net["value"] - net["back"].fillna(0)
    made = made.join(net.groupby(BY).agg(frequency=("whole", "sum"), spent=("net", "sum")))
    loose = returned[returned["t"] >= start].merge(orders[[BY, "order"]], on=[BY, "order"], how="left", indicator=True)
    credit = loose[loose["_merge"] == "left_only"].groupby(BY)["value"].sum()
    frequency = made["frequency"].fillna(0)
    monetary = made["spent"].fillna(0) - credit.reindex(made.index).fillna(0)
    return pd.DataFrame({
        "recency_days": days_before(at, made["last"]), "frequency": frequency, "monetary": monetary,
        "average_order_value": (monetary / frequency).where(frequency > 0),
        "tenure_days": days_before(at, made["first"]),
    })  # fmt: skip


def activity(known: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    grouped = known.groupby(BY)["timestamp"]
    n = grouped.size()
    made = pd.DataFrame({
        "active_days_ago": days_before(at, grouped.max()), "known_days": days_before(at, grouped.min()),
    })  # fmt: skip
    for kind, (name, _) in KINDS.items():
        made[f"last_{kind}_days"] = days_before(at, known[known["name"] == name].groupby(BY)["timestamp"].max())
    for values, labels in ((known["timestamp"].dt.hour // 6, DAY_PARTS), (known["timestamp"].dt.day_of_week, WEEKDAYS)):
        counts = (
            known.groupby([BY, values]).size().unstack(fill_value=0).reindex(columns=range(len(labels)), fill_value=0)
        )
        shares = counts.div(n, axis=0)
        shares.columns = [f"{label}_share" for label in labels]
        made = made.join(shares)
    for kind in ("views", "carts"):
        made[kind] = known[known["name"] == KINDS[kind][0]].groupby(BY).size()
        made[kind] = made[kind].fillna(0)
    return made


def windows(known: pd.DataFrame, orders: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    made = {}
    for days in WINDOWS_DAYS:
        recent = known[known["timestamp"] >= at - pd.Timedelta(days=days)]
        for kind, (name, _) in KINDS.items():
            made[f"{kind}_{days}d"] = recent[recent["name"] == name].groupby(BY).size()
        made[f"orders_{days}d"] = orders[orders["t"] >= at - pd.Timedelta(days=days)].groupby(BY).size()
        made[f"events_{days}d"] = recent.groupby(BY).size()
    made = pd.DataFrame(made, index=pd.Index(known[BY].unique(), name=BY)).fillna(0)
    made["trend_7d"] = (made["events_7d"] + 1) / (made["events_30d"] * 7 / 30 + 1)
    made["trend_30d"] = (made["events_30d"] + 1) / (made["events_90d"] / 3 + 1)
    return made


def visits(known: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    rows = known[known["session_id"].notna() & (known["name"] != "view_item_list")]
    named = {kind: rows["name"] == name for kind, name in (
        ("views", "view_item"), ("carts", "add_to_cart"), ("sales", "purchase"), ("searches", "search"),
    )}  # fmt: skip
    rows = rows[[BY, "session_id", "timestamp"]].assign(**named)
    per = rows.groupby([BY, "session_id"]).agg(
        start=("timestamp", "min"), end=("timestamp", "max"), events=("timestamp", "size"), views=("views", "sum"),
        carts=("carts", "sum"), sales=("sales", "sum"), searches=("searches", "sum"),
    ).reset_index()  # fmt: skip
    per["seconds"] = (per["end"] - per["start"]).dt.total_seconds()
    per["bounce"], per["carted"] = per["events"] == 1, per["carts"] > 0
    per["abandoned"] = per["carted"] & (per["sales"] == 0)
    per["recent"] = per["start"] >= at - pd.Timedelta(days=30)
    by = per.groupby(BY)
    made = by.agg(
        sessions=("events", "size"), sessions_30d=("recent", "sum"), session_seconds=("seconds", "mean"),
        session_events=("events", "mean"), session_views=("views", "mean"), bounce_share=("bounce", "mean"),
        searches_per_session=("searches", "mean"), carted=("carted", "sum"), abandoned=("abandoned", "sum"),
        seconds=("seconds", "sum"), n=("events", "sum"),
    )  # fmt: skip
    more = made["n"] - made["sessions"]
    made["dwell_seconds"] = (made["seconds"] / more).where(more > 0)
    made["cart_abandonment"] = (made["abandoned"] / made["carted"]).where(made["carted"] > 0)
    return made.drop(columns=["carted", "abandoned", "seconds", "n"])


def baskets(lines: pd.DataFrame, orders: pd.DataFrame, returned: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    made = lines.groupby(BY).agg(
        distinct_items=("item_id", "nunique"),
        lines=("item_id", "size"),
        units=("quantity", "sum"),
        value=("value", "sum"),
    )
    made["price_paid"] = made["value"] / made["units"]
    made["repeat_share"] = 1 - made["distinct_items"] / made["lines"]
    made["refund_share"] = returned.groupby(BY)["value"].sum().reindex(made.index).fillna(0) / made["value"]
    made = made.join(
        orders.groupby(BY).agg(
            basket_items=("items", "mean"), basket_quantity=("quantity", "mean"), basket_value=("value", "mean")
        )
    )
    ordered = orders.sort_values([BY, "t"])
    gaps = ordered.groupby(BY)["t"].diff().dt.total_seconds() / 86_400
    by = gaps.groupby(ordered[BY])
    made["order_gap_days"] = by.mean()
    made["last_gap_days"] = by.last(skipna=False)
    made["order_gap_spread"] = (by.std(ddof=0) / by.mean()).where((by.count() > 1) & (by.mean() > 0))
    last = days_before(at, orders.groupby(BY)["t"].max())
    made["gap_ratio"] = (last / made["order_gap_days"]).where(made["order_gap_days"] > 0)
    return made.drop(columns=["units", "value"])


def discounts(lines: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    priced = events[events["price"].notna() & events["item_id"].notna() & (events["name"] != "refund")]
    high = priced.groupby(["item_id", priced["timestamp"].dt.floor("D")])["price"].max()
    usual = high.groupby(level=0).median().rename("usual")
    rows = lines.merge(usual, left_on="item_id", right_index=True)
    rows = rows[(rows["quantity"] > 0) & (rows["usual"] > 0)]
    off = 1 - rows["value"] / (rows["quantity"] * rows["usual"])
    rows = rows.assign(cheap=rows["quantity"] * (off > 0.05), saved=rows["quantity"] * np.maximum(off, 0))
    sums = rows.groupby(BY)[["quantity", "cheap", "saved"]].sum()
    return pd.DataFrame(
        {"discount_share": sums["cheap"] / sums["quantity"], "discount_depth": sums["saved"] / sums["quantity"]}
    )
