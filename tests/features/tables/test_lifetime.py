import json
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path

import narwhals as nw
import numpy as np
import polars as pl
import pytest

from features.common.clock import DAY, micros
from features.tables.columns import names
from features.tables.lifetime import COLUMNS, Lifetime, build_order_days, build_summary
from features.tables.lifetime_models import BgNbd, GammaGamma
from tests.features.shop import AS_OF, one, same_arrays
from tests.features.tables.populations import PUBLISHED, PUBLISHED_VALUES, simulate, simulate_values

CDNOW = Path(__file__).resolve().parents[4] / "shared" / "data" / "cdnow_sample.parquet"
needs_cdnow = pytest.mark.skipif(
    not CDNOW.exists(),
    reason="needs the 1/10 sample of CDNOW (brucehardie.com/datasets) as ../shared/data/cdnow_sample.parquet",
)
CALIBRATED = micros(datetime(1997, 10, 1, tzinfo=UTC))


_ROW = {"customer_id": pl.String, "order": pl.String, "t": pl.Int64, "value": pl.Float64}


def order(customer_id: str, days: float, name: str, value: float) -> dict:
    """An order of `features.tables.orders.build_orders`, `days` after `AS_OF`, or a line of it that was refunded."""
    return {"customer_id": customer_id, "order": name, "t": AS_OF + round(days * DAY), "value": value}


def summarise(orders: list[dict], refunds: list[dict], as_of: int = AS_OF) -> pl.DataFrame:
    order_frame, refund_frame = (nw.from_native(pl.LazyFrame(rows, schema=_ROW)) for rows in (orders, refunds))
    order_days = build_order_days(order_frame, refund_frame)
    return build_summary(order_frame, refund_frame, as_of, order_days).to_native().collect().sort("customer_id")


@pytest.fixture(scope="module")
def cdnow() -> pl.DataFrame:
    return pl.read_parquet(CDNOW).select(
        pl.col("customer_id").cast(pl.String),
        pl.int_range(pl.len()).cast(pl.String).alias("order"),
        t=pl.col("date").dt.timestamp("us"),
        value=pl.col("spend"),
    )


@pytest.fixture(scope="module")
def cdnow_summary(cdnow: pl.DataFrame) -> pl.DataFrame:
    past = nw.from_native(cdnow.filter(pl.col("t") < CALIBRATED).lazy())
    none = nw.from_native(cdnow.clear().lazy())
    table = build_summary(past, none, CALIBRATED, build_order_days(past, none)).to_native().collect()
    return table.sort(pl.col("customer_id").cast(pl.Int64))


@needs_cdnow
def test_the_published_fit_of_cdnow(cdnow_summary: pl.DataFrame):
    assert cdnow_summary.row(0) == (
        "1",
        2,
        pytest.approx(30.43, abs=0.005),
        pytest.approx(38.86, abs=0.005),
        pytest.approx(22.345),
        0,
    )
    model = Lifetime.fit(cdnow_summary)
    assert model.purchases is not None
    assert model.value is not None
    assert astuple(model.purchases) == pytest.approx(astuple(PUBLISHED), rel=0.002)
    x, t_x, T = (cdnow_summary[c].to_numpy() for c in ("repeat_orders", "first_to_last_weeks", "age_weeks"))
    assert model.purchases.log_likelihood(x, t_x, T).sum() == pytest.approx(-9582.4, abs=0.05)
    assert model.purchases.expected_purchases(39, 2, 30.43, 38.86) == pytest.approx(1.226, abs=0.0005)
    assert ((x > 0) & (cdnow_summary["repeat_value"].to_numpy() > 0)).sum() == 946
    assert astuple(model.value) == pytest.approx(astuple(PUBLISHED_VALUES), rel=0.002)


@needs_cdnow
def test_purchases_held_out_of_cdnow(cdnow: pl.DataFrame, cdnow_summary: pl.DataFrame):
    model = Lifetime.fit(cdnow_summary).purchases
    assert model is not None
    x, t_x, T = (cdnow_summary[c].to_numpy() for c in ("repeat_orders", "first_to_last_weeks", "age_weeks"))
    expected = model.expected_purchases(39, x, t_x, T)
    after = cdnow.filter(pl.col("t") >= CALIBRATED).unique(["customer_id", "t"]).group_by("customer_id").len()
    actual = cdnow_summary.join(after, on="customer_id", how="left")["len"].fill_null(0).to_numpy()
    assert expected.sum() == pytest.approx(actual.sum(), rel=0.15)  # as in the paper, below the actual number
    for few, many in ((0, 0), (1, 1), (2, 3), (4, 6), (7, 99)):
        rows = (x >= few) & (x <= many)
        assert expected[rows].sum() == pytest.approx(actual[rows].sum(), rel=0.3), (few, many)
    quiet = model.no_purchase(39, x, t_x, T)
    assert quiet.mean() == pytest.approx((actual == 0).mean(), abs=0.04)


ORDERS = [
    # Three days with orders, one of them with two; a part of the last was refunded.
    order("c1", -50.5, "o1", 100.0),
    order("c1", -20.6, "o2", 10.0),
    order("c1", -20.4, "o3", 4.0),
    order("c1", -1 / DAY, "o4", 16.0),
    # Of two orders the first was refunded whole, in two parts; the credit note does not touch the second.
    order("c2", -40, "o5", 8.0),
    order("c2", -7, "o6", 4.0),
    # All refunded.
    order("c3", -9, "o7", 4.0),
    # Bought today, and again on the same day.
    order("c5", -0.5, "o8", 4.0),
    order("c5", -0.1, "o9", 4.0),
    # Free of charge, and a number another customer has, too.
    order("c6", -30, "o1", 3.0),
    order("c6", -10, "o10", 0.0),
]
REFUNDS = [
    order("c1", -0.9, "o4", 2.0),
    order("c2", -35, "o5", 4.0),
    order("c2", -34, "o5", 4.0),
    order("c2", -1, "credit note", 4.0),
    order("c3", -8, "o7", 4.0),
    order("c4", -3, "o1", 100.0),
]


def test_the_summary_counts_days_with_orders_not_refunded():
    table = summarise(ORDERS, REFUNDS)
    assert table.rows() == [
        ("c1", 2, pytest.approx(50 / 7), pytest.approx(50 / 7), (14.0 + 14.0) / 2, 0),
        ("c2", 0, 0.0, pytest.approx(6 / 7), None, 0),
        ("c5", 0, 0.0, 0.0, None, 0),
        ("c6", 1, pytest.approx(20 / 7), pytest.approx(29 / 7), 0.0, 0),
    ]
    assert summarise(ORDERS[::-1], REFUNDS[::-1]).equals(table)
    later = summarise(ORDERS, REFUNDS, AS_OF + DAY)
    assert later["age_weeks"].to_list() == pytest.approx([51 / 7, 1, 1 / 7, 30 / 7])


@pytest.fixture(scope="module")
def shop() -> pl.DataFrame:
    """Simulated customers as a summary."""
    x, t_x, T, _ = simulate(PUBLISHED, np.random.default_rng(2).integers(1, 60, 3000).astype(float))
    _, mean = simulate_values(PUBLISHED_VALUES, 3000)
    return pl.DataFrame(
        {
            "customer_id": [f"c{n}" for n in range(3000)],
            "repeat_orders": x.astype(np.int64),
            "first_to_last_weeks": t_x,
            "age_weeks": T,
            "repeat_value": pl.Series(mean).set(pl.Series(x == 0), None),
            "bounded": np.zeros(3000, np.int64),
        }
    )


@pytest.fixture(scope="module")
def model(shop: pl.DataFrame) -> Lifetime:
    return Lifetime.fit(shop)


def test_scores_are_what_the_columns_declare(model: Lifetime, shop: pl.DataFrame):
    predictions = model.score(shop)
    assert predictions.columns == ["customer_id", *names(COLUMNS)]
    assert set(predictions.dtypes[1:]) == {pl.Float32}
    assert predictions.null_count().row(0) == (0,) * len(predictions.columns)
    scores = {name: predictions[name].to_numpy() for name in names(COLUMNS)}
    assert all((scores[name] >= 0).all() and (scores[name] <= 1).all() for name in ("alive", "churn_risk_90d"))
    assert (scores["expected_orders_365d"] >= scores["expected_orders_28d"]).all()
    assert scores["expected_value_365d"] == pytest.approx(
        scores["expected_orders_365d"] * scores["expected_order_value"], rel=1e-5
    )
    known, regular = shop.row(int(shop["repeat_orders"].arg_max() or 0)), int(shop["repeat_orders"].arg_max() or 0)
    assert model.purchases is not None
    assert scores["expected_orders_28d"][regular] == pytest.approx(model.purchases.expected_purchases(4, *known[1:4]))
    assert scores["churn_risk_90d"][regular] == pytest.approx(
        model.purchases.no_purchase(90 / 7, *known[1:4]), abs=1e-6
    )


def test_a_score_does_not_depend_on_other_customers(model: Lifetime, shop: pl.DataFrame):
    predictions = model.score(shop)
    for part in (shop[:1], shop[7:40], shop[::-1], shop[5:6]):
        alone = model.score(part)
        together = part.select("customer_id").join(predictions, on="customer_id", how="left", maintain_order="left")
        for name in names(COLUMNS):
            assert same_arrays(alone[name].to_numpy(), together[name].to_numpy()), name


def test_the_fit_of_a_shop_ignores_the_order_of_rows_and_unknown_customers(model: Lifetime, shop: pl.DataFrame):
    assert Lifetime.fit(shop[::-1]) == model
    stranger = pl.DataFrame({"customer_id": ["p"]}).join(shop, on="customer_id", how="left")
    both = pl.concat([shop[:3], stranger])
    assert Lifetime.fit(pl.concat([shop, stranger])) == model
    assert one(model.score(both), customer_id="p") == {"customer_id": "p"} | dict.fromkeys(names(COLUMNS))
    assert model.score(both)[:3].equals(model.score(shop[:3]))


def test_too_small_a_shop_is_scored_with_nulls():
    table = summarise(ORDERS, REFUNDS)
    model = Lifetime.fit(table)
    assert (model.purchases, model.value) == (None, None)
    assert model.score(table).drop("customer_id").null_count().row(0) == (4,) * len(COLUMNS)
    assert model.parameters() == {"order_bounds": None, "purchases": None, "value": None}
    assert Lifetime.fit(table.clear()).score(table.clear()).columns == ["customer_id", *names(COLUMNS)]


def test_parameters_are_plain_numbers(model: Lifetime):
    parameters = json.loads(json.dumps(model.parameters()))
    assert BgNbd(**parameters["purchases"]) == model.purchases
    assert GammaGamma(**parameters["value"]) == model.value
