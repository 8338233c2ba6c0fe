"""What customers do next: learnt at the boundaries of a training run, and measured on its hold-out.

Each measure is taken at the latest boundary whose outcome is known by the end, from what was known at that boundary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from scipy.stats import rankdata

from features.common.clock import DAY, iso, moment
from features.ranking.snapshot import Snapshot
from features.tables.columns import names
from models.customers.predictions import next_categories
from models.customers.propensity import HORIZONS_DAYS, INPUTS, inputs
from training.customers import propensity
from training.customers.propensity import FEWEST, Evaluation, Fitted, Fold, tenths

MOST = 50_000  # customers of a boundary that are learnt from and measured on
CHURN_DAYS, VALUE_DAYS = 90, 28
_INPUT = {name: i for i, name in enumerate(names(INPUTS))}


@dataclass(frozen=True)
class Past:
    """Customers as they were known at a boundary: their ids, and float32[customers × len(INPUTS)]."""

    at: int
    customers: pl.Series
    matrix: np.ndarray

    @classmethod
    def of(cls, snapshot: Snapshot, seed: int) -> "Past":
        """All of a snapshot's, or `MOST` drawn at random."""
        size = len(snapshot.customers)
        chosen = np.arange(size)
        if size > MOST:
            chosen = np.sort(np.random.default_rng([seed, snapshot.as_of // DAY]).choice(size, MOST, replace=False))
        return cls(snapshot.as_of, pl.Series(snapshot.customers.at(chosen), dtype=pl.String), inputs(snapshot, chosen))

    def input(self, name: str) -> np.ndarray:
        return self.matrix[:, _INPUT[name]].astype(np.float64)


@dataclass(frozen=True)
class Value:
    """Money expected of customers against what they then bought, net of refunds, in `VALUE_DAYS`.

    `tenths`: predicted, came_true (means) and customers, per tenth of the customers by prediction.
    """

    at: int
    expected: float
    bought: float
    rank_correlation: float
    tenths: pl.DataFrame

    def metrics(self) -> dict[str, float]:
        return {"expected": self.expected, "bought": self.bought, "rank_correlation": self.rank_correlation}


@dataclass(frozen=True)
class Measured:
    """How the predictions did; what the log is too short for is left out, and `left_out` says so in words."""

    propensity: Mapping[int, Evaluation] = field(default_factory=dict)
    churn: Evaluation | None = None
    value: Value | None = None
    next_category: Mapping[str, float] = field(default_factory=dict)
    left_out: Sequence[str] = ()

    def metrics(self) -> dict[str, float]:
        """Under the names they have in the bundle and in MLflow."""
        found: dict[str, Mapping[str, float]] = {f"propensity_{d}d": e.metrics() for d, e in self.propensity.items()}
        if self.churn:
            found[f"churn_{CHURN_DAYS}d"] = self.churn.metrics()
        if self.value:
            found[f"expected_value_{VALUE_DAYS}d"] = self.value.metrics()
        found["next_category"] = self.next_category
        return {f"predictive_{kind}_{name}": v for kind, of in found.items() for name, v in of.items()}

    def tenths(self) -> pl.DataFrame:
        """prediction, tenth (1 is the lowest), predicted, came_true, customers of everything that has a size."""
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
        """In words, for people."""
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
                f"{self.value.bought:,.0f} bought; rank correlation {self.value.rank_correlation:.2f}"
            )
        if n := self.next_category:
            lines.append(
                f"next category: {n['hit_at_1']:.0%} right at first guess, {n['hit_at_3']:.0%} in three; the category "
                f"ordered most would be {n['most_ordered_hit_at_1']:.0%} and {n['most_ordered_hit_at_3']:.0%}"
            )
        return [*lines, *self.left_out]


def bought(events: pl.LazyFrame, profiles: pl.DataFrame, start: int, end: int) -> pl.DataFrame:
    """customer_id, t, name, item_id, value of consented purchases and refunds in [start, end) (microseconds).

    `profiles` (client_id, customer_id): whose an order without a customer_id is.
    """
    return (
        events.filter(
            pl.col("timestamp") >= moment(start),
            pl.col("timestamp") < moment(end),
            pl.col("consent").fill_null(True),
        )
        .with_columns(pl.col("name").cast(pl.String))
        .filter(pl.col("name").is_in(["purchase", "refund"]))
        .join(profiles.lazy().select("client_id", owner="customer_id"), on="client_id", how="left")
        .select(
            pl.coalesce("customer_id", "owner").alias("customer_id"),
            pl.col("timestamp").dt.timestamp("us").alias("t"),
            "name",
            "item_id",
            (pl.col("quantity") * pl.col("price")).fill_null(0.0).alias("value"),
        )
        .drop_nulls("customer_id")
        .collect()
    )


def fold(past: Past, later: pl.DataFrame, until: int) -> Fold:
    """`past` labelled from `later` (what `bought` made of a window that reaches `until`)."""
    orders = later.filter(pl.col("name") == "purchase", pl.col("t") >= past.at, pl.col("t") < until)
    first = orders.group_by("customer_id").agg(days=(pl.col("t").min() - past.at) / DAY)
    who = pl.DataFrame({"customer_id": past.customers})
    known = who.join(first, on="customer_id", how="left", maintain_order="left")
    return Fold(past.at, past.matrix, known["days"].fill_null(float("inf")).to_numpy(), until)


def learn_customers(
    pasts: Sequence[Past], holdout: Snapshot, events: pl.LazyFrame, profiles: pl.DataFrame, until: int
) -> tuple[Fitted, Measured]:
    """Classifiers from the boundaries `pasts`, and how the predictions made there did by `until`.

    `holdout`: the snapshot that the hold-out begins with.
    """
    pasts = sorted(pasts, key=lambda p: p.at)
    later = bought(events, profiles, pasts[0].at, until)
    folds = [fold(past, later, until) for past in pasts]
    fitted = propensity.fit(folds)
    left_out = [
        f"no propensity to order within {days} days: it takes a boundary to learn from and a later one to calibrate "
        f"on, {days} days apart and {days} before the end, each with {FEWEST} customers who order in that time and "
        f"{FEWEST} who do not; bring more history"
        for days in HORIZONS_DAYS
        if days not in fitted.model.classifiers
    ]
    return fitted, Measured(
        fitted.evaluations,
        _churn(pasts, folds, until),
        _value(pasts, later, until),
        _next_category(holdout, later, until),
        left_out,
    )


def _latest(pasts: Sequence[Past], days: int, until: int) -> int | None:
    """Which boundary is the latest with so many days after it."""
    known = [n for n, past in enumerate(pasts) if past.at + days * DAY <= until]
    return known[-1] if known else None


def _churn(pasts: Sequence[Past], folds: Sequence[Fold], until: int) -> Evaluation | None:
    """Churn risk against who did not come back."""
    if (n := _latest(pasts, CHURN_DAYS, until)) is None:
        return None
    risk, stayed_away = pasts[n].input(f"churn_risk_{CHURN_DAYS}d"), 1 - folds[n].labels(CHURN_DAYS)
    told = ~np.isnan(risk)
    risk, stayed_away = risk[told], stayed_away[told]
    if min(stayed_away.sum(), (1 - stayed_away).sum()) < FEWEST:
        return None
    return propensity.evaluate(pasts[n].at, stayed_away, risk, float(stayed_away.mean()))


def _value(pasts: Sequence[Past], later: pl.DataFrame, until: int) -> Value | None:
    """Expected value against what was bought."""
    if (n := _latest(pasts, VALUE_DAYS, until)) is None:
        return None
    past = pasts[n]
    inside = later.filter(pl.col("t") >= past.at, pl.col("t") < past.at + VALUE_DAYS * DAY)
    sign = pl.when(pl.col("name") == "refund").then(-1.0).otherwise(1.0)
    spent = inside.group_by("customer_id").agg(value=(pl.col("value") * sign).sum())
    who = pl.DataFrame({"customer_id": past.customers})
    spent = who.join(spent, on="customer_id", how="left", maintain_order="left")
    expected = past.input(f"expected_orders_{VALUE_DAYS}d") * past.input("expected_order_value")
    told = ~np.isnan(expected)
    expected, came = expected[told], spent["value"].fill_null(0.0).to_numpy()[told]
    if (came > 0).sum() < FEWEST:
        return None
    correlation = np.corrcoef(rankdata(expected), rankdata(came))[0, 1]
    return Value(
        past.at,
        float(expected.sum()),
        float(came.sum()),
        float(np.nan_to_num(correlation)),
        tenths(expected, came),
    )


def _next_category(snapshot: Snapshot, later: pl.DataFrame, until: int) -> dict[str, float]:
    """Hit-rates at 1 and 3 of the category of the next order, beside those of simpler guesses."""
    orders = later.filter(pl.col("name") == "purchase", pl.col("t") >= snapshot.as_of, pl.col("t") < until)
    orders = orders.filter(pl.col("t") == pl.col("t").min().over("customer_id"))
    customer = snapshot.customers.find(orders["customer_id"].to_list())
    item = snapshot.items.find(orders["item_id"].fill_null("").to_list())
    known = (customer >= 0) & (item >= 0)
    customer, category = customer[known], snapshot.categories[item[known]]
    customer, category = customer[category >= 0], category[category >= 0]
    asked, row = np.unique(customer, return_inverse=True)
    if len(asked) < FEWEST:
        return {}
    h = snapshot.history
    guesses = {
        "": next_categories(snapshot),
        "most_ordered_": next_categories(snapshot, h.column("orders")),
        "best_selling_": next_categories(snapshot, np.zeros(len(h.items))),
    }
    out = {}
    for name, guess in guesses.items():
        hits = guess[customer] == category[:, None]
        for k in (1, 3):
            out[f"{name}hit_at_{k}"] = float(np.mean(np.bincount(row, hits[:, :k].any(axis=1)) > 0))
    return out
