"""What simulated shops have in common with real ones, and how fast they are made.

    python benchmarks/simulator.py [--data DIRECTORY] [--customers 80000] [--scale 1]

The first table compares the simulator's presets with REES46's click-stream and Online Retail II, where they
are found (../shared/data beside the checkout, or --data); docs/simulator.md holds it. The second is the
time and memory of a large log: events are made and dropped, as if each part was written to a file.
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
A_BOT = 200  # views in a session from which on no person is behind it


def rees46(path: Path) -> pl.DataFrame:
    """Its first hours, with our names for its columns."""
    names = pl.col("event_type").replace_strict({"view": "view_item", "cart": "add_to_cart", "purchase": "purchase"})
    return pl.read_parquet(path).select(
        name=names, session_id="user_session", item_id=pl.col("product_id").cast(pl.String), price="price",
        category="category_code", order_id=pl.when(names == "purchase").then("user_session"), customer_id=pl.lit(None),
    )  # fmt: skip


def shop_log(config: SimulatorConfig) -> pl.DataFrame:
    parts = list(read("simulated", config=config))
    about = parts[0].catalog.select("item_id", "category")
    return pl.concat([p.events for p in parts]).join(about, on="item_id", how="left")


def number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def quantiles(values: np.ndarray, percent: tuple[int, ...]) -> str:
    return " / ".join(number(q) for q in np.percentile(values, percent))


def top_tenth(counts: pl.DataFrame) -> float:
    """Per cent of all that the most frequent tenth has."""
    ordered = -np.sort(-counts["len"].to_numpy())
    return 100 * float(ordered[: max(1, len(ordered) // 10)].sum() / ordered.sum())


def clicks(events: pl.DataFrame) -> list[str]:
    """Visits and what is looked at in them."""
    viewed, steps = pl.col("name") == "view_item", events.drop_nulls("session_id")
    visits = steps.group_by("session_id").agg(
        views=viewed.sum(), items=pl.col("item_id").filter(viewed).n_unique(),
        carts=(pl.col("name") == "add_to_cart").sum(), bought=(pl.col("name") == "purchase").sum(),
    ).filter(pl.col("views") < A_BOT)  # fmt: skip
    views, items, carts, bought = visits.select("views", "items", "carts", "bought").to_numpy().T.astype(float)
    if not views.sum():
        return [""] * 10
    looked = steps.filter(viewed).join(visits.select("session_id"), on="session_id", how="semi")
    about = looked.group_by("item_id").agg(pl.len(), pl.col("price").median(), pl.col("category").first())
    prices = about.filter(pl.col("price") > 0).drop_nulls("category").with_columns(pl.col("price").log())
    spread = prices.group_by("category").agg(pl.len(), pl.col("price").std()).drop_nulls()
    return [
        number(len(views)),
        number(views.mean(), 2),
        number(items.mean(), 2),
        quantiles(views, (50, 90, 99)),
        number(100 * (views == 1).mean()),
        number(1000 * carts.sum() / views.sum(), 1),
        number(1000 * bought.sum() / views.sum(), 1),
        number(100 * (bought > 0).mean(), 1),
        number(top_tenth(about)),
        number(float(np.average(spread["price"].to_numpy(), weights=spread["len"].to_numpy())), 2),
    ]


def orders(events: pl.DataFrame) -> list[str]:
    """Orders, and who comes back."""
    sales = events.filter(pl.col("name") == "purchase")
    placed = sales.group_by("order_id").agg(pl.len(), pl.col("customer_id").first())
    times = placed.drop_nulls("customer_id").group_by("customer_id").len()["len"].to_numpy()
    ours = sales.drop_nulls("customer_id").unique(["customer_id", "item_id", "order_id"])
    again = [""] * 4
    if len(times):
        again = [
            number(times.mean(), 1),
            quantiles(times, (50, 90, 99)),
            number(100 * (times > 1).mean()),
            number(100 * (1 - ours.unique(["customer_id", "item_id"]).height / ours.height)),
        ]
    back = events.filter(pl.col("name") == "refund").height
    return [
        number(sales.height / placed.height, 1),
        quantiles(placed["len"].to_numpy(), (25, 50, 75, 90)),
        *again,
        number(100 * back / sales.height, 1) if back else "",
        number(top_tenth(sales.group_by("item_id").len())),
    ]


ROWS = (
    "visits", "views a visit", "items a visit", "views, quantiles 50 / 90 / 99", "visits of one view, %",
    "in the cart per 1,000 views", "bought per 1,000 views", "visits with an order, %",
    "views on the top tenth of items, %", "log price, sd within a category",
    "lines an order", "lines, quantiles 25 / 50 / 75 / 90", "orders a customer", "orders, quantiles 50 / 90 / 99",
    "customers with a second order, %", "lines bought before, %", "lines given back, %",
    "lines on the top tenth of items, %",
)  # fmt: skip


def large(customers: int) -> tuple[int, float, float]:
    """Events, seconds and peak GB of one large log."""
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
        # First, and in a process of its own, so that the peak of memory is this log's alone.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            events_made, seconds, peak = pool.apply(large, (args.customers,))
    made: dict[str, pl.DataFrame] = {}
    if (clickstream := args.data / "rees46_head.parquet").exists():
        made["REES46"] = rees46(clickstream)
    if (retail := args.data / "online_retail_II.parquet").exists():
        events = next(iter(read("online-retail", [retail]))).events
        made["Online Retail II"] = events.with_columns(category=pl.lit(None, pl.String))
    for name, preset in PRESETS.items():
        config = preset()
        made[name] = shop_log(config.model_copy(update={"customers": config.customers * args.scale}))
    columns = {}
    for name, events in made.items():
        plain = events.with_columns(pl.col("name").cast(pl.String))
        columns[name] = [number(events.height), *clicks(plain), *orders(plain)]
    shop.table(["", *columns], [[what, *(c[i] for c in columns.values())] for i, what in enumerate(("rows", *ROWS))])
    if args.customers:
        cells = [f"{events_made:,}", f"{seconds:.1f}", f"{events_made / seconds:,.0f}", f"{peak:.2f}"]
        print()
        shop.table(["customers", "events", "seconds", "events/s", "peak GB"], [[f"{args.customers:,}", *cells]])


if __name__ == "__main__":
    main()
