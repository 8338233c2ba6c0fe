"""Customer predictions: fit propensity models on the folds of a training run, and evaluate all predictions.

Each prediction is evaluated at the latest boundary whose outcome is known by the end, with what was known then. Churn
risk, expected value and next category are not fitted here: they come from the features and the snapshot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from scipy.stats import rankdata

from features.common.clock import DAY, iso, moment
from features.common.robust import fit_bounds
from features.ranking.snapshot import Snapshot
from features.tables import repeats
from features.tables.columns import names
from models.customers.predictions import rank_next_categories
from models.customers.propensity import HORIZONS_DAYS, INPUTS, input_matrix
from training.customers import propensity
from training.customers.propensity import MIN_CUSTOMERS, ClassifierEvaluation, CustomerFold, FittedPropensity, tenths

MAX_CUSTOMERS = 50_000  # of a boundary, to fit and evaluate on
CHURN_DAYS, VALUE_DAYS = 90, 28
_INPUT = {name: i for i, name in enumerate(names(INPUTS))}


@dataclass(frozen=True)
class CustomerInputs:
    """Customers as they were known at a boundary: their ids, and `matrix` float32[customers × len(INPUTS)]."""

    at: int
    customers: pl.Series
    matrix: np.ndarray

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot, seed: int) -> "CustomerInputs":
        """Take all customers of a snapshot, or `MAX_CUSTOMERS` drawn at random."""
        size = len(snapshot.customers)
        rows = np.arange(size)
        if size > MAX_CUSTOMERS:
            rng = np.random.default_rng([seed, snapshot.as_of // DAY])
            rows = np.sort(rng.choice(size, MAX_CUSTOMERS, replace=False))
        return cls(
            snapshot.as_of, pl.Series(snapshot.customers.at(rows), dtype=pl.String), input_matrix(snapshot, rows)
        )

    def input(self, name: str) -> np.ndarray:
        """float64[customers]: one input column."""
        return self.matrix[:, _INPUT[name]].astype(np.float64)


@dataclass(frozen=True)
class ValueEvaluation:
    """Expected value of customers against what they then bought, net of refunds, in `VALUE_DAYS`.

    `tenths`: predicted, came_true (means) and customers, per tenth of the customers by prediction.
    """

    at: int
    expected: float
    actual: float
    rank_correlation: float
    tenths: pl.DataFrame

    def metrics(self) -> dict[str, float]:
        return {"expected": self.expected, "bought": self.actual, "rank_correlation": self.rank_correlation}


@dataclass(frozen=True)
class CustomerEvaluation:
    """Metrics of all customer predictions.

    What the log is too short for is None or absent, with the reason in `left_out`, one sentence each.
    """

    propensity: Mapping[int, ClassifierEvaluation] = field(default_factory=dict)
    churn: ClassifierEvaluation | None = None
    value: ValueEvaluation | None = None
    next_category: Mapping[str, float] = field(default_factory=dict)
    left_out: Sequence[str] = ()

    def metrics(self) -> dict[str, float]:
        """Flatten under the names that the metrics have in the bundle and in MLflow."""
        groups: dict[str, Mapping[str, float]] = {f"propensity_{d}d": e.metrics() for d, e in self.propensity.items()}
        if self.churn:
            groups[f"churn_{CHURN_DAYS}d"] = self.churn.metrics()
        if self.value:
            groups[f"expected_value_{VALUE_DAYS}d"] = self.value.metrics()
        groups["next_category"] = self.next_category
        return {f"predictive_{kind}_{name}": v for kind, group in groups.items() for name, v in group.items()}

    def tenths(self) -> pl.DataFrame:
        """Calibration by tenths: prediction, tenth (1 is the lowest), predicted, came_true, customers.

        Without columns where nothing was evaluated; the next category has no tenths.
        """
        parts = {f"propensity_{d}d": e.tenths for d, e in self.propensity.items()}
        parts |= {f"churn_{CHURN_DAYS}d": self.churn.tenths} if self.churn else {}
        parts |= {f"expected_value_{VALUE_DAYS}d": self.value.tenths} if self.value else {}
        return pl.concat(
            [
                t.select(pl.lit(kind).alias("prediction"), pl.int_range(1, pl.len() + 1).alias("tenth"), pl.all())
                for kind, t in parts.items()
            ]
            or [pl.DataFrame()]
        )

    def lines(self) -> list[str]:
        """Describe the metrics in sentences, for the terminal and reports."""
        lines = [
            f"order within {days} days: AUC {e.auc:.3f}, log loss {e.log_loss:.3f} ({e.base_log_loss:.3f} by the share "
            f"alone), predictions {e.calibration_error:.1%} off on average, {e.customers:,} customers as of "
            f"{iso(e.at)[:10]}"
            for days, e in self.propensity.items()
        ]
        if self.churn:
            lines.append(
                f"churn risk, {CHURN_DAYS} days: AUC {self.churn.auc:.3f}, predictions "
                f"{self.churn.calibration_error:.1%} off on average, {self.churn.customers:,} buyers as of "
                f"{iso(self.churn.at)[:10]}"
            )
        if self.value:
            lines.append(
                f"expected value, {VALUE_DAYS} days: {self.value.expected:,.0f} expected of all, "
                f"{self.value.actual:,.0f} bought; rank correlation {self.value.rank_correlation:.2f}"
            )
        if n := self.next_category:
            lines.append(
                f"next category: {n['hit_at_1']:.0%} right at first guess, {n['hit_at_3']:.0%} in three; the category "
                f"ordered most would be {n['most_ordered_hit_at_1']:.0%} and {n['most_ordered_hit_at_3']:.0%}"
            )
        return [*lines, *self.left_out]


def load_orders(events: pl.LazyFrame, profiles: pl.DataFrame, start: int, end: int) -> pl.DataFrame:
    """Load consented purchases and refunds in [start, end) (microseconds): customer_id, t, name, item_id, value.

    `profiles` (client_id, customer_id) resolves orders without a customer_id. An order that is reported again is not
    bought again (`features.tables.repeats`), also if it was bought in the days before `start`.
    """
    rows = (
        events.filter(
            pl.col("timestamp") >= moment(start - repeats.WINDOW_DAYS * DAY),
            pl.col("timestamp") < moment(end),
            pl.col("consent").fill_null(True),
        )
        .with_columns(pl.col("name").cast(pl.String))
        .filter(pl.col("name").is_in(["purchase", "refund"]))
        .join(profiles.lazy().select("client_id", owner="customer_id"), on="client_id", how="left")
        .select(
            pl.coalesce("customer_id", "owner").alias("customer_id"),
            pl.col("timestamp").dt.timestamp("us").alias("t"),
            *("name", "item_id", "order_id", "event_id", "quantity", "price"),
        )
        .drop_nulls("customer_id")
        .collect()
    )
    return (
        repeats.drop_repeats(rows)
        .filter(pl.col("t") >= start)
        .with_columns(value=(pl.col("quantity") * pl.col("price")).fill_null(0.0))
        .select("customer_id", "t", "name", "item_id", "value")
    )


def label_customers(customers: CustomerInputs, orders: pl.DataFrame, until: int) -> CustomerFold:
    """Label `customers` by their first order in `orders` (see `load_orders`), a window that reaches `until`."""
    at = customers.at
    purchases = orders.filter(pl.col("name") == "purchase", pl.col("t") >= at, pl.col("t") < until)
    first = purchases.group_by("customer_id").agg(days=(pl.col("t").min() - at) / DAY)
    ids = pl.DataFrame({"customer_id": customers.customers})
    days = ids.join(first, on="customer_id", how="left", maintain_order="left")["days"]
    return CustomerFold(at, customers.matrix, days.fill_null(float("inf")).to_numpy(), until)


def fit_customers(
    boundaries: Sequence[CustomerInputs], holdout: Snapshot, events: pl.LazyFrame, profiles: pl.DataFrame, until: int
) -> tuple[FittedPropensity, CustomerEvaluation]:
    """Fit propensity models on the customers of all boundaries, and evaluate the predictions made there by `until`.

    `holdout`: the snapshot at the start of the hold-out.
    """
    boundaries = sorted(boundaries, key=lambda customers: customers.at)
    orders = load_orders(events, profiles, boundaries[0].at, until)
    folds = [label_customers(customers, orders, until) for customers in boundaries]
    fitted = propensity.fit(folds)
    left_out = [
        f"no propensity to order within {days} days: it takes a boundary to learn from and a later one to calibrate "
        f"on, {days} days apart and {days} before the end, each with {MIN_CUSTOMERS} customers who order in that time "
        f"and {MIN_CUSTOMERS} who do not; bring more history"
        for days in HORIZONS_DAYS
        if days not in fitted.model.classifiers
    ]
    return fitted, CustomerEvaluation(
        fitted.evaluations,
        _evaluate_churn(boundaries, folds, until),
        _evaluate_value(boundaries, orders, until),
        _evaluate_next_category(holdout, orders, until),
        left_out,
    )


def _latest(boundaries: Sequence[CustomerInputs], days: int, until: int) -> int | None:
    """Position of the latest boundary with so many days after it."""
    complete = [n for n, customers in enumerate(boundaries) if customers.at + days * DAY <= until]
    return complete[-1] if complete else None


def _evaluate_churn(
    boundaries: Sequence[CustomerInputs], folds: Sequence[CustomerFold], until: int
) -> ClassifierEvaluation | None:
    """Compare churn risk with who did not come back."""
    if (n := _latest(boundaries, CHURN_DAYS, until)) is None:
        return None
    risk, stayed_away = boundaries[n].input(f"churn_risk_{CHURN_DAYS}d"), 1 - folds[n].labels(CHURN_DAYS)
    has_risk = ~np.isnan(risk)
    risk, stayed_away = risk[has_risk], stayed_away[has_risk]
    if min(stayed_away.sum(), (1 - stayed_away).sum()) < MIN_CUSTOMERS:
        return None
    return propensity.evaluate(boundaries[n].at, stayed_away, risk, float(stayed_away.mean()))


def _evaluate_value(boundaries: Sequence[CustomerInputs], orders: pl.DataFrame, until: int) -> ValueEvaluation | None:
    """Compare expected value with what was bought, an absurd amount at its robust bound."""
    if (n := _latest(boundaries, VALUE_DAYS, until)) is None:
        return None
    customers = boundaries[n]
    window = orders.filter(pl.col("t") >= customers.at, pl.col("t") < customers.at + VALUE_DAYS * DAY)
    sign = pl.when(pl.col("name") == "refund").then(-1.0).otherwise(1.0)
    ids = pl.DataFrame({"customer_id": customers.customers}).with_row_index("row")
    lines = window.with_columns(pl.col("value") * sign).join(ids, on="customer_id").sort("row", "t", "value")
    # Added up in one order: a group_by adds in the order of its threads, and the last bit varies.
    values = np.bincount(lines["row"].to_numpy(), lines["value"].to_numpy(), ids.height)
    if bounds := fit_bounds(values):  # nor do absurd orders count whole in what is expected
        values = np.clip(values, -bounds.high, bounds.high)
    expected = customers.input(f"expected_orders_{VALUE_DAYS}d") * customers.input("expected_order_value")
    has_value = ~np.isnan(expected)
    expected, actual = expected[has_value], values[has_value]
    if (actual > 0).sum() < MIN_CUSTOMERS:
        return None
    correlation = np.corrcoef(rankdata(expected), rankdata(actual))[0, 1]
    return ValueEvaluation(
        customers.at,
        float(expected.sum()),
        float(actual.sum()),
        float(np.nan_to_num(correlation)),
        tenths(expected, actual),
    )


def _evaluate_next_category(snapshot: Snapshot, orders: pl.DataFrame, until: int) -> dict[str, float]:
    """Hit-rates at 1 and 3 of the category of the next order, and of two baselines."""
    purchases = orders.filter(pl.col("name") == "purchase", pl.col("t") >= snapshot.as_of, pl.col("t") < until)
    purchases = purchases.filter(pl.col("t") == pl.col("t").min().over("customer_id"))
    customer = snapshot.customers.find(purchases["customer_id"].to_list())
    item = snapshot.items.find(purchases["item_id"].fill_null("").to_list())
    known = (customer >= 0) & (item >= 0)
    customer, category = customer[known], snapshot.categories[item[known]]
    customer, category = customer[category >= 0], category[category >= 0]
    customers, row = np.unique(customer, return_inverse=True)
    if len(customers) < MIN_CUSTOMERS:
        return {}
    history = snapshot.history
    predictions = {
        "": rank_next_categories(snapshot),
        "most_ordered_": rank_next_categories(snapshot, history.column("orders")),
        "best_selling_": rank_next_categories(snapshot, np.zeros(len(history.items))),
    }
    rates = {}
    for name, predicted in predictions.items():
        hits = predicted[customer] == category[:, None]
        for k in (1, 3):
            rates[f"{name}hit_at_{k}"] = float(np.mean(np.bincount(row, hits[:, :k].any(axis=1)) > 0))
    return rates
