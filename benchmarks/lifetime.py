"""Time to fit and score the customer lifetime models, BG/NBD and Gamma-Gamma, on simulated customers.

    python benchmarks/lifetime.py [--customers 1000000]
    python benchmarks/lifetime.py --plot docs/images/cdnow.png    expected against actual purchases of CDNOW

Times are whole days, as in `features.tables.lifetime.build_summary`, so many customers have equal values and only
distinct ones are fitted. The plot reads cdnow_sample.parquet (../shared/data beside the checkout, or --data) with the
columns customer_id, date and spend of http://brucehardie.com/datasets/CDNOW_sample.zip.
"""

import time
from datetime import UTC, datetime
from pathlib import Path

import narwhals as nw
import shop  # first: BLAS reads its threads when numpy is imported

import numpy as np  # isort: skip
import polars as pl
from matplotlib.figure import Figure

from features.common.clock import DAY, micros
from features.tables.lifetime import Lifetime, build_order_days, build_summary
from features.tables.lifetime_models import BgNbd, GammaGamma

CDNOW = shop.ROOT.parent / "shared" / "data" / "cdnow_sample.parquet"
CALIBRATED = micros(datetime(1997, 10, 1, tzinfo=UTC))
LAST = micros(datetime(1998, 7, 1, tzinfo=UTC))
TRUE = BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426)
VALUES = GammaGamma(p=6.25, q=3.74, v=15.44)


def main() -> None:
    parser = shop.build_parser(__doc__)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path, default=CDNOW)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    if args.plot:
        plot(args.data).savefig(args.plot, dpi=80)
        return
    table = simulate_summary(args.customers)
    start = time.perf_counter()
    model = Lifetime.fit(table)
    fit_end = time.perf_counter()
    model.score(table)
    score_end = time.perf_counter()
    distinct = table.select("repeat_orders", "first_to_last_weeks", "age_weeks").n_unique()
    print(f"{args.customers:,} customers, {distinct:,} distinct, two years; peak {shop.peak_gb():.2f} GB")
    shop.print_table(
        ["", "s", "customers/s"],
        [
            [what, f"{s:.1f}", f"{args.customers / s:,.0f}"]
            for what, s in (("fit", fit_end - start), ("score", score_end - fit_end))
        ],
    )
    print(f"true   {TRUE} {VALUES}\nfitted {model.purchases} {model.value}")


def simulate_summary(customers: int, seed: int = 7) -> pl.DataFrame:
    """Simulate a summary table of customers who follow the models and arrived within the last two years."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(TRUE.r, 1 / TRUE.alpha, customers) / 7
    stops = rng.beta(TRUE.a, TRUE.b, customers)
    age = rng.integers(1, 731, customers)
    repeats, last, now = np.zeros(customers, np.int64), np.zeros(customers, np.int64), np.zeros(customers)
    going = np.arange(customers)
    while len(going):
        now[going] += rng.exponential(1 / np.maximum(rate[going], 1e-12))
        going = going[now[going] <= age[going]]
        day = np.floor(now[going]).astype(np.int64)
        repeats[going] += day > last[going]  # orders of one day count once
        last[going] = day
        going = going[rng.random(len(going)) >= stops[going]]
    scale = rng.gamma(VALUES.q, 1 / VALUES.v, customers)
    mean = rng.gamma(VALUES.p * np.maximum(repeats, 1)) / np.maximum(repeats, 1) / scale
    return pl.DataFrame(
        {
            "customer_id": np.arange(customers),
            "repeat_orders": repeats,
            "first_to_last_weeks": last / 7,
            "age_weeks": age / 7,
            "repeat_value": pl.Series(mean).set(pl.Series(repeats == 0), None),
        }
    )


def plot(data: Path) -> Figure:
    """Plot CDNOW: repeat purchases by week, and purchases in the 39 weeks held out by the number before."""
    purchases = pl.read_parquet(data).select(
        pl.col("customer_id").cast(pl.String),
        pl.int_range(pl.len()).cast(pl.String).alias("order"),
        t=pl.col("date").dt.timestamp("us"),
        value=pl.col("spend"),
    )
    none = nw.from_native(purchases.clear().lazy())
    past = purchases.filter(pl.col("t") < CALIBRATED)
    orders = nw.from_native(past.lazy())
    table = (
        build_summary(orders, none, CALIBRATED, build_order_days(orders, none))
        .to_native()
        .collect()
        .sort("customer_id")
    )
    model = Lifetime.fit(table).purchases
    assert model is not None
    days = purchases.select("customer_id", day=pl.col("t") // DAY).unique()
    repeats = days.with_columns(first=pl.col("day").min().over("customer_id")).filter(pl.col("day") > pl.col("first"))
    start = int(days["day"].min())  # type: ignore[arg-type]
    first = days.group_by("customer_id").agg(pl.col("day").min())["day"].to_numpy() - start
    weeks = np.arange(1, 79)
    curve = np.array([0.0, *(model.expected_new(d / 7) for d in range(1, 7 * 78 + 1))])
    expected = [curve[np.maximum(7 * w - first, 0)].sum() for w in weeks]
    actual = np.searchsorted(np.sort(repeats["day"].to_numpy() - start), 7 * weeks)

    x = table["repeat_orders"].to_numpy()
    later = repeats.filter(pl.col("day") >= CALIBRATED // DAY, pl.col("day") < LAST // DAY)
    counts = (
        table.join(later.group_by("customer_id").len(), on="customer_id", how="left")["len"].fill_null(0).to_numpy()
    )
    expected_later = model.expected_purchases(
        39, x, table["first_to_last_weeks"].to_numpy(), table["age_weeks"].to_numpy()
    )
    bins = [x == n for n in range(7)] + [x >= 7]

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(weeks, actual, color="#222222", label="actual")
    left.plot(weeks, expected, color="#ee7733", linestyle="--", label="BG/NBD")
    left.axvline(39, color="#999999", linewidth=1)
    left.annotate("fitted on the weeks before", (38, max(expected)), ha="right", fontsize=8)
    left.set_xlabel("week")
    left.set_title("CDNOW: repeat purchases so far", fontsize=10)
    left.set_ylim(bottom=0)
    right.plot([counts[b].mean() for b in bins], "o-", color="#222222", label="actual")
    right.plot([expected_later[b].mean() for b in bins], "s--", color="#ee7733", label="BG/NBD")
    right.set_xticks(range(8), [*map(str, range(7)), "7+"])
    right.set_xlabel("repeat purchases in weeks 1–39")
    right.set_title("purchases a customer in weeks 40–78", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
