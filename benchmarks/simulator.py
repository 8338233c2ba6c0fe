"""Statistics of simulated shops compared with real ones, and the speed of the simulator.

    python benchmarks/simulator.py [--data DIRECTORY] [--customers 80000] [--scale 1]

The first table compares the simulator's presets with the click-stream of REES46 and with Online Retail II, if their
files exist (../shared/data beside the checkout, or --data); docs/simulator.md shows it. The second table is the time
and peak memory of simulating a large log, whose events are dropped as if each part were written to a file.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import shop  # first: BLAS reads its threads when numpy is imported

import numpy as np  # isort: skip
import polars as pl

from features.sources import SimulatorConfig, read

PRESETS: dict[str, Callable[[], SimulatorConfig]] = {
    "default": SimulatorConfig, "grocery": SimulatorConfig.grocery, "fashion": SimulatorConfig.fashion,
    "longtail": SimulatorConfig.longtail, "wholesale": SimulatorConfig.wholesale,
}  # fmt: skip
BOT_VIEWS = 200  # sessions with this many views are not a person's


def read_rees46(path: Path) -> pl.DataFrame:
    """Read the first hours of REES46 with the columns of the event log."""
    names = pl.col("event_type").replace_strict({"view": "view_item", "cart": "add_to_cart", "purchase": "purchase"})
    return pl.read_parquet(path).select(
        name=names, session_id="user_session", item_id=pl.col("product_id").cast(pl.String), price="price",
        category="category_code", order_id=pl.when(names == "purchase").then("user_session"), customer_id=pl.lit(None),
    )  # fmt: skip


def simulate_shop(config: SimulatorConfig) -> pl.DataFrame:
    parts = list(read("simulated", config=config))
    per_item = parts[0].catalog.select("item_id", "category")
    return pl.concat([p.events for p in parts]).join(per_item, on="item_id", how="left")


def format_number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def format_quantiles(values: np.ndarray, percent: tuple[int, ...]) -> str:
    return " / ".join(format_number(q) for q in np.percentile(values, percent))


def top_tenth_share(counts: pl.DataFrame) -> float:
    """Return the per cent of all events that the most frequent tenth of the items has."""
    ordered = -np.sort(-counts["len"].to_numpy())
    return 100 * float(ordered[: max(1, len(ordered) // 10)].sum() / ordered.sum())


def describe_clicks(events: pl.DataFrame) -> list[str]:
    """Describe visits and views: the first rows of the table."""
    viewed, steps = pl.col("name") == "view_item", events.drop_nulls("session_id")
    visits = steps.group_by("session_id").agg(
        views=viewed.sum(), items=pl.col("item_id").filter(viewed).n_unique(),
        carts=(pl.col("name") == "add_to_cart").sum(), bought=(pl.col("name") == "purchase").sum(),
    ).filter(pl.col("views") < BOT_VIEWS)  # fmt: skip
    views, items, carts, bought = visits.select("views", "items", "carts", "bought").to_numpy().T.astype(float)
    if not views.sum():
        return [""] * 10
    viewed_events = steps.filter(viewed).join(visits.select("session_id"), on="session_id", how="semi")
    per_item = viewed_events.group_by("item_id").agg(pl.len(), pl.col("price").median(), pl.col("category").first())
    prices = per_item.filter(pl.col("price") > 0).drop_nulls("category").with_columns(pl.col("price").log())
    spread = prices.group_by("category").agg(pl.len(), pl.col("price").std()).drop_nulls()
    return [
        format_number(len(views)),
        format_number(views.mean(), 2),
        format_number(items.mean(), 2),
        format_quantiles(views, (50, 90, 99)),
        format_number(100 * (views == 1).mean()),
        format_number(1000 * carts.sum() / views.sum(), 1),
        format_number(1000 * bought.sum() / views.sum(), 1),
        format_number(100 * (bought > 0).mean(), 1),
        format_number(top_tenth_share(per_item)),
        format_number(float(np.average(spread["price"].to_numpy(), weights=spread["len"].to_numpy())), 2),
    ]


def describe_orders(events: pl.DataFrame) -> list[str]:
    """Describe orders and repeat purchases: the other rows of the table."""
    sales = events.filter(pl.col("name") == "purchase")
    placed = sales.group_by("order_id").agg(pl.len(), pl.col("customer_id").first())
    times = placed.drop_nulls("customer_id").group_by("customer_id").len()["len"].to_numpy()
    purchases = sales.drop_nulls("customer_id").unique(["customer_id", "item_id", "order_id"])
    repeat_cells = [""] * 4
    if len(times):
        repeat_cells = [
            format_number(times.mean(), 1),
            format_quantiles(times, (50, 90, 99)),
            format_number(100 * (times > 1).mean()),
            format_number(100 * (1 - purchases.unique(["customer_id", "item_id"]).height / purchases.height)),
        ]
    refunds = events.filter(pl.col("name") == "refund").height
    return [
        format_number(sales.height / placed.height, 1),
        format_quantiles(placed["len"].to_numpy(), (25, 50, 75, 90)),
        *repeat_cells,
        format_number(100 * refunds / sales.height, 1) if refunds else "",
        format_number(top_tenth_share(sales.group_by("item_id").len())),
    ]


ROWS = (
    "visits", "views a visit", "items a visit", "views, quantiles 50 / 90 / 99", "visits of one view, %",
    "in the cart per 1,000 views", "bought per 1,000 views", "visits with an order, %",
    "views on the top tenth of items, %", "log price, sd within a category",
    "lines an order", "lines, quantiles 25 / 50 / 75 / 90", "orders a customer", "orders, quantiles 50 / 90 / 99",
    "customers with a second order, %", "lines bought before, %", "lines given back, %",
    "lines on the top tenth of items, %",
)  # fmt: skip


def simulate_large(customers: int) -> tuple[int, float, float]:
    """Simulate a large log. Returns events, seconds and peak GB."""
    start, events = time.perf_counter(), 0
    for part in read("simulated", config=SimulatorConfig(customers=customers)):
        events += part.events.height
    return events, time.perf_counter() - start, shop.peak_gb()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=shop.ONLINE_RETAIL.parent, help="directory of the real data")
    parser.add_argument("--customers", type=int, default=80_000, help="of the large log; 0: leave it out")
    parser.add_argument("--scale", type=int, default=1, help="times as many customers in the compared shops")
    args = parser.parse_args()
    if args.customers:
        # First, and in its own process, so that the peak of memory is that of this log alone.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            events_made, seconds, peak = pool.apply(simulate_large, (args.customers,))
    logs: dict[str, pl.DataFrame] = {}
    if (clickstream := args.data / "rees46_head.parquet").exists():
        logs["REES46"] = read_rees46(clickstream)
    if (retail := args.data / "online_retail_II.parquet").exists():
        events = next(iter(read("online-retail", [retail]))).events
        logs["Online Retail II"] = events.with_columns(category=pl.lit(None, pl.String))
    for name, preset in PRESETS.items():
        config = preset()
        logs[name] = simulate_shop(config.model_copy(update={"customers": config.customers * args.scale}))
    columns = {}
    for name, events in logs.items():
        plain = events.with_columns(pl.col("name").cast(pl.String))
        columns[name] = [format_number(events.height), *describe_clicks(plain), *describe_orders(plain)]
    rows = [[name, *(c[i] for c in columns.values())] for i, name in enumerate(("rows", *ROWS))]
    shop.print_table(["", *columns], rows)
    if args.customers:
        cells = [f"{events_made:,}", f"{seconds:.1f}", f"{events_made / seconds:,.0f}", f"{peak:.2f}"]
        print()
        shop.print_table(["customers", "events", "seconds", "events/s", "peak GB"], [[f"{args.customers:,}", *cells]])


if __name__ == "__main__":
    main()
