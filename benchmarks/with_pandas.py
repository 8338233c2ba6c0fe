"""RFM and behaviour tables in pandas, written the usual way, as a reference for speed and correctness.

They have the columns of `features.tables.rfm` and `features.tables.behaviour` and follow the same rules (consent, bots,
identity, half-open windows). `benchmarks/features.py` times them and checks that the numbers agree.
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


def build_table(log: EventLog, as_of: int) -> pd.DataFrame:
    """Build both tables: one row per customer, indexed by customer_id."""
    at = pd.Timestamp(moment(as_of))
    events = read_events(log, at)
    identified = events[events[BY].notna()]
    sales, refunds = (identified[identified["name"] == n] for n in ("purchase", "refund"))
    result = pd.DataFrame(index=pd.Index(identified[BY].unique(), name=BY))
    lines = build_lines(sales)
    orders = lines.groupby([BY, "order"], as_index=False).agg(
        t=("t", "min"), value=("value", "sum"), quantity=("quantity", "sum"), items=("item_id", "size")
    )
    refunded = refunds.assign(value=refunds["quantity"] * refunds["price"], order=order_ids(refunds))
    refunded = refunded.groupby([BY, "order"], as_index=False).agg(value=("value", "sum"), t=("timestamp", "min"))
    for part in (
        build_rfm(orders, refunded, at),
        build_activity(identified, at),
        build_windows(identified, orders, at),
        build_visits(identified, at),
        build_baskets(lines, orders, refunded, at),
        build_discounts(lines, events),
    ):
        result = result.join(part)
    counts = {c: result[c].fillna(0) for c in ("lines", "distinct_items", "sessions", "sessions_30d")}
    return result.assign(
        **counts,
        view_to_cart=(result["carts"] + 1) / (result["views"] + 20),
        cart_to_order=(counts["lines"] + 1) / (result["carts"] + 3),
        view_to_order=(counts["lines"] + 1) / (result["views"] + 50),
    )


def read_events(log: EventLog, at: pd.Timestamp) -> pd.DataFrame:
    """Read the events before `at` with consent and without bots; anonymous ones get the customer of their client."""
    events = pd.read_parquet([log.path / "events" / part.file for part in log.partitions], columns=COLUMNS)
    events = events[(events["timestamp"] < at) & events["consent"].fillna(True).astype(bool)]
    unproven = events["client_id"].str.startswith(bots.UNPROVEN).fillna(False).astype(bool)
    events = events.assign(client_id=events["client_id"].mask(unproven & events[BY].notna()))
    events = events[~(unproven & events[BY].isna())]
    owners = find_owners(events, log, at)
    customers = events[["client_id", BY]].dropna().drop_duplicates().groupby("client_id").size()
    on_shared = events["client_id"].isin(customers[customers > 1].index) & events[BY].notna()
    visitor = events["client_id"].where(~on_shared).fillna(events[BY])
    money = events["name"].isin(["purchase", "refund"])
    buyers = events.loc[money, BY].fillna(events.loc[money, "client_id"].map(owners)).dropna().unique()
    of_buyers = events[events[BY].isin(buyers)]["client_id"].dropna().unique()
    people = {*buyers, *of_buyers, *owners[owners.isin(buyers)].index}
    hour = events["timestamp"].dt.floor("h")
    pages = events["name"].isin(bots.PAGE_EVENTS)
    hours = events[pages].groupby([visitor[pages].rename("visitor"), hour[pages]]).size().rename("pages").reset_index()
    days = [hours["visitor"], hours["timestamp"].dt.floor("D")]
    per_day = hours.groupby(days)["pages"].transform("sum")
    slow = hours["pages"].where(hours["pages"] <= bots.PER_HOUR, 0).groupby(days).transform("sum")
    machine = (per_day > bots.PER_DAY) | (hours["pages"] > bots.PER_HOUR)
    robots = {*hours[machine]["visitor"]} - people
    burst = hours["visitor"].isin(people) & ((hours["pages"] > bots.PER_HOUR) | (slow > bots.PER_DAY))
    fast = pd.MultiIndex.from_frame(hours[burst][["visitor", "timestamp"]])
    in_burst = pd.MultiIndex.from_arrays([visitor, hour]).isin(fast) & ~money
    events = events[~visitor.isin(robots) & ~in_burst]
    owners = owners[~owners.index.isin(robots)]
    return events.assign(customer_id=events[BY].fillna(events["client_id"].map(owners)))


def find_owners(events: pd.DataFrame, log: EventLog, at: pd.Timestamp) -> pd.Series:
    """Find the clients that belong to one customer, by client."""
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
    return single[single["nunique"] == 1]["first"]


def order_ids(rows: pd.DataFrame) -> pd.Series:
    return rows["order_id"].fillna(rows["event_id"])


def days_before(at: pd.Timestamp, t: pd.Series) -> pd.Series:
    return (at - t).dt.total_seconds() / 86_400


def build_lines(sales: pd.DataFrame) -> pd.DataFrame:
    rows = sales.assign(order=order_ids(sales), value=sales["quantity"] * sales["price"])
    return rows.groupby([BY, "order", "item_id"], as_index=False).agg(
        t=("timestamp", "min"), quantity=("quantity", "sum"), value=("value", "sum")
    )


def build_rfm(orders: pd.DataFrame, refunded: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    start = at - pd.Timedelta(days=WINDOW_DAYS)
    result = orders.groupby(BY).agg(last=("t", "max"), first=("t", "min"))
    net = orders[orders["t"] >= start].merge(
        refunded[[BY, "order", "value"]].rename(columns={"value": "back"}), on=[BY, "order"], how="left"
    )
    net["whole"] = net["back"].isna() | (net["back"] < net["value"])
    net["net"] = net["value"] - net["back"].fillna(0)
    result = result.join(net.groupby(BY).agg(frequency=("whole", "sum"), spent=("net", "sum")))
    loose = refunded[refunded["t"] >= start].merge(orders[[BY, "order"]], on=[BY, "order"], how="left", indicator=True)
    credit = loose[loose["_merge"] == "left_only"].groupby(BY)["value"].sum()
    frequency = result["frequency"].fillna(0)
    monetary = result["spent"].fillna(0) - credit.reindex(result.index).fillna(0)
    return pd.DataFrame({
        "recency_days": days_before(at, result["last"]), "frequency": frequency, "monetary": monetary,
        "average_order_value": (monetary / frequency).where(frequency > 0),
        "tenure_days": days_before(at, result["first"]),
    })  # fmt: skip


def build_activity(identified: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    grouped = identified.groupby(BY)["timestamp"]
    n = grouped.size()
    result = pd.DataFrame({
        "active_days_ago": days_before(at, grouped.max()), "known_days": days_before(at, grouped.min()),
    })  # fmt: skip
    for kind, (name, _) in KINDS.items():
        result[f"last_{kind}_days"] = days_before(
            at, identified[identified["name"] == name].groupby(BY)["timestamp"].max()
        )
    for values, labels in (
        (identified["timestamp"].dt.hour // 6, DAY_PARTS),
        (identified["timestamp"].dt.day_of_week, WEEKDAYS),
    ):
        counts = (
            identified.groupby([BY, values])
            .size()
            .unstack(fill_value=0)
            .reindex(columns=range(len(labels)), fill_value=0)
        )
        shares = counts.div(n, axis=0)
        shares.columns = [f"{label}_share" for label in labels]
        result = result.join(shares)
    for kind in ("views", "carts"):
        result[kind] = identified[identified["name"] == KINDS[kind][0]].groupby(BY).size()
        result[kind] = result[kind].fillna(0)
    return result


def build_windows(identified: pd.DataFrame, orders: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    result = {}
    for days in WINDOWS_DAYS:
        recent = identified[identified["timestamp"] >= at - pd.Timedelta(days=days)]
        for kind, (name, _) in KINDS.items():
            result[f"{kind}_{days}d"] = recent[recent["name"] == name].groupby(BY).size()
        result[f"orders_{days}d"] = orders[orders["t"] >= at - pd.Timedelta(days=days)].groupby(BY).size()
        result[f"events_{days}d"] = recent.groupby(BY).size()
    result = pd.DataFrame(result, index=pd.Index(identified[BY].unique(), name=BY)).fillna(0)
    result["trend_7d"] = (result["events_7d"] + 1) / (result["events_30d"] * 7 / 30 + 1)
    result["trend_30d"] = (result["events_30d"] + 1) / (result["events_90d"] / 3 + 1)
    return result


def build_visits(identified: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    rows = identified[identified["session_id"].notna() & (identified["name"] != "view_item_list")]
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
    result = by.agg(
        sessions=("events", "size"), sessions_30d=("recent", "sum"), session_seconds=("seconds", "mean"),
        session_events=("events", "mean"), session_views=("views", "mean"), bounce_share=("bounce", "mean"),
        searches_per_session=("searches", "mean"), carted=("carted", "sum"), abandoned=("abandoned", "sum"),
        seconds=("seconds", "sum"), n=("events", "sum"),
    )  # fmt: skip
    more = result["n"] - result["sessions"]
    result["dwell_seconds"] = (result["seconds"] / more).where(more > 0)
    result["cart_abandonment"] = (result["abandoned"] / result["carted"]).where(result["carted"] > 0)
    return result.drop(columns=["carted", "abandoned", "seconds", "n"])


def build_baskets(lines: pd.DataFrame, orders: pd.DataFrame, refunded: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    result = lines.groupby(BY).agg(
        distinct_items=("item_id", "nunique"),
        lines=("item_id", "size"),
        units=("quantity", "sum"),
        value=("value", "sum"),
    )
    result["price_paid"] = result["value"] / result["units"]
    result["repeat_share"] = 1 - result["distinct_items"] / result["lines"]
    result["refund_share"] = refunded.groupby(BY)["value"].sum().reindex(result.index).fillna(0) / result["value"]
    result = result.join(
        orders.groupby(BY).agg(
            basket_items=("items", "mean"), basket_quantity=("quantity", "mean"), basket_value=("value", "mean")
        )
    )
    ordered = orders.sort_values([BY, "t"])
    gaps = ordered.groupby(BY)["t"].diff().dt.total_seconds() / 86_400
    by = gaps.groupby(ordered[BY])
    result["order_gap_days"] = by.mean()
    result["last_gap_days"] = by.last(skipna=False)
    result["order_gap_spread"] = (by.std(ddof=0) / by.mean()).where((by.count() > 1) & (by.mean() > 0))
    last = days_before(at, orders.groupby(BY)["t"].max())
    result["gap_ratio"] = (last / result["order_gap_days"]).where(result["order_gap_days"] > 0)
    return result.drop(columns=["units", "value"])


def build_discounts(lines: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
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
