"""Customer predictions: labels, and the evaluation of propensity, churn risk, expected value and next category."""

import json
import math
from dataclasses import replace
from html import escape
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest

from features.common.clock import DAY, moment
from features.common.errors import InputError
from features.event_log.log import EventLog
from features.event_log.schema import EVENT_SCHEMA, conform
from features.ranking.snapshot import Snapshot
from features.tables.build import build_tables
from models.customers.predictions import rank_next_categories
from models.customers.propensity import INPUTS
from tests.features.shop import AS_OF, same_arrays
from tests.training.conftest import Run
from tests.training.regulars import BOUNDARIES, log, snapshot_at
from training.customers import fit
from training.customers.fit import CustomerEvaluation, CustomerInputs, fit_customers, label_customers, load_orders
from training.customers.propensity import FittedPropensity
from training.evaluation.backtest import predict_customers
from training.result import TrainingResult

FittedCustomers = tuple[FittedPropensity, CustomerEvaluation]
NO_CLIENTS = pl.DataFrame(schema={"client_id": pl.String, "customer_id": pl.String})


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    return log()


@pytest.fixture(scope="module")
def snapshots(events: pl.DataFrame) -> list[Snapshot]:
    return [snapshot_at(events, BOUNDARIES[n])[0] for n in (0, 2, -1)]


@pytest.fixture(scope="module")
def fitted_customers(events: pl.DataFrame, snapshots: list[Snapshot]) -> FittedCustomers:
    inputs = [CustomerInputs.from_snapshot(s, 7) for s in snapshots]
    return fit_customers(inputs, snapshots[-1], events.lazy(), NO_CLIENTS, AS_OF)


def test_labels_are_the_orders_of_the_window(events: pl.DataFrame):
    at = BOUNDARIES[0]
    base = events.filter(pl.col("timestamp") < moment(at))
    a, b, c, d, e = base["customer_id"].unique().sort()[:5]

    def order(who: str, when: int, **columns: object) -> pl.DataFrame:
        row = {"event_id": f"{who}{when}", "name": "purchase", "timestamp": moment(when), "customer_id": who}
        return conform(pl.DataFrame(row | {"item_id": "i0", "quantity": 1.0, "price": 1.0} | columns), EVENT_SCHEMA)

    later = [
        order(a, at),
        order(b, at + 7 * DAY - 1),
        order(c, at + 7 * DAY),
        order(d, at + DAY, consent=False),
        order(e, at + DAY, name="add_to_cart"),
        order(e, at + DAY, name="refund"),
        order("stranger", at + DAY),
        order(e, at + 2 * DAY, event_id="at the till", customer_id=None, client_id="phone"),
    ]
    inputs = CustomerInputs.from_snapshot(snapshot_at(base, at)[0], 7)
    both = pl.concat([base, *later]).lazy()
    fold = label_customers(inputs, load_orders(both, NO_CLIENTS, at, AS_OF), AS_OF)
    assert {who for who, label in zip(inputs.customers, fold.labels(7), strict=True) if label} == {a, b}
    assert fold.labels(28).sum() == 3
    owners = pl.DataFrame({"client_id": ["phone", "laptop"], "customer_id": [e, a]})
    resolved = label_customers(inputs, load_orders(both, owners, at, AS_OF), AS_OF)
    assert {who for who, label in zip(inputs.customers, resolved.labels(7), strict=True) if label} == {a, b, e}
    assert resolved.labels(28).sum() == 4
    assert label_customers(inputs, load_orders(both, owners, at, at + 7 * DAY), at + 7 * DAY).labels(28).sum() == 3


def test_churn_risk_is_evaluated_at_the_latest_boundary_with_ninety_days_after_it(
    fitted_customers: FittedCustomers,
):
    churn = fitted_customers[1].churn
    assert churn is not None
    assert churn.at == BOUNDARIES[0]  # 98 days before the end; the next one is 84
    assert churn.auc > 0.65
    assert 0.1 < churn.base_rate < 0.9


def test_expected_value_is_compared_with_what_was_bought(
    fitted_customers: FittedCustomers, events: pl.DataFrame, snapshots: list[Snapshot]
):
    value, inputs = fitted_customers[1].value, CustomerInputs.from_snapshot(snapshots[-1], 7)
    assert value is not None
    assert value.at == BOUNDARIES[-1] == AS_OF - 28 * DAY
    expected = inputs.input("expected_orders_28d") * inputs.input("expected_order_value")
    ids = inputs.customers.to_numpy()[~np.isnan(expected)]
    paid = events.filter(
        (pl.col("name") == "purchase") & (pl.col("timestamp") >= moment(value.at)) & pl.col("customer_id").is_in(ids)
    )
    assert value.actual == pytest.approx((paid["price"] * paid["quantity"]).sum())
    assert value.expected == pytest.approx(np.nansum(expected), rel=1e-6)
    assert value.expected == pytest.approx(value.actual, rel=0.25)
    assert value.rank_correlation > 0.2
    predicted, came_true, n = (value.tenths[c].to_numpy() for c in ("predicted", "came_true", "customers"))
    assert n @ predicted == pytest.approx(value.expected)
    assert n @ came_true == pytest.approx(value.actual)
    assert came_true[-1] > 2 * came_true[0]


def test_refunds_are_subtracted(events: pl.DataFrame, snapshots: list[Snapshot]):
    inputs, at = [CustomerInputs.from_snapshot(snapshots[-1], 7)], BOUNDARIES[-1]
    buyers = snapshots[-1].customers.at(np.flatnonzero(snapshots[-1].segments > 0))
    back = events.filter((pl.col("timestamp") >= moment(at)) & (pl.col("name") == "purchase"))
    back = back.filter(pl.col("customer_id").is_in(buyers)).head(10)
    refunds = back.with_columns(pl.lit("refund").cast(EVENT_SCHEMA["name"]).alias("name"))
    one, other = (
        fit_customers(inputs, snapshots[-1], frame.lazy(), NO_CLIENTS, AS_OF)[1].value
        for frame in (events, pl.concat([events, refunds]))
    )
    assert one is not None
    assert other is not None
    assert one.actual - other.actual == pytest.approx((back["price"] * back["quantity"]).sum())


def test_the_next_category_is_that_of_the_next_order(
    fitted_customers: FittedCustomers, events: pl.DataFrame, snapshots: list[Snapshot]
):
    """By a loop over the orders after the hold-out begins."""
    s = snapshots[-1]
    guess, position = rank_next_categories(s), {c: n for n, c in enumerate(s.customers.values.to_pylist())}
    category = dict(zip(s.items.values.to_pylist(), s.categories.tolist(), strict=True))
    after = events.filter((pl.col("timestamp") >= moment(s.as_of)) & (pl.col("name") == "purchase")).sort("timestamp")
    first: dict[str, int] = {}
    for who, item in after.select("customer_id", "item_id").iter_rows():
        first.setdefault(who, category[item])
    orders = [(position[who], c) for who, c in first.items() if who in position and c >= 0]
    rates = fitted_customers[1].next_category
    assert rates["hit_at_1"] == pytest.approx(np.mean([guess[n, 0] == c for n, c in orders]))
    assert rates["hit_at_3"] == 1.0  # there are only three
    assert rates["best_selling_hit_at_1"] <= 1


def test_every_metric_is_finite_and_described(fitted_customers: FittedCustomers):
    fitted, evaluation = fitted_customers
    metrics = evaluation.metrics()
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["predictive_propensity_7d_auc"] == fitted.evaluations[7].auc
    assert {name.removeprefix("predictive_").rpartition("_")[0] for name in metrics} >= {
        "propensity_7d",
        "propensity_28d",
        "churn_90d",
        "next_category_hit_at",
    }
    table = evaluation.tenths()
    assert table["prediction"].unique(maintain_order=True).to_list() == [
        "propensity_7d",
        "propensity_28d",
        "churn_90d",
        "expected_value_28d",
    ]
    assert table["tenth"].to_list() == [*range(1, 11)] * 4
    lines = "\n".join(evaluation.lines())
    assert f"AUC {fitted.evaluations[28].auc:.3f}" in lines
    assert "churn risk, 90 days" in lines
    assert "no propensity" not in lines


def test_a_log_that_is_too_short_is_reported_and_does_not_fail(events: pl.DataFrame, snapshots: list[Snapshot]):
    last = snapshots[-1]
    fitted, evaluation = fit_customers(
        [CustomerInputs.from_snapshot(last, 7)], last, events.lazy(), NO_CLIENTS, last.as_of + 3 * DAY
    )
    assert fitted.model.classifiers == {}
    assert (evaluation.churn, evaluation.value) == (None, None)
    assert [line.split(":")[0] for line in evaluation.left_out] == [
        f"no propensity to order within {days} days" for days in (7, 28)
    ]
    assert "predictive_next_category_hit_at_1" in evaluation.metrics()


def test_a_shop_without_customers_has_no_metrics(events: pl.DataFrame):
    strangers = events.with_columns(client_id="customer_id", customer_id=pl.lit(None, pl.String))
    boundaries = [snapshot_at(strangers, at)[0] for at in BOUNDARIES[-2:]]
    fitted, evaluation = fit_customers(
        [CustomerInputs.from_snapshot(s, 7) for s in boundaries], boundaries[-1], strangers.lazy(), NO_CLIENTS, AS_OF
    )
    assert fitted.model.classifiers == evaluation.metrics() == {}
    assert evaluation.tenths().height == 0
    assert len(evaluation.lines()) == 2


def test_customers_are_sampled_beyond_a_maximum(snapshots: list[Snapshot], monkeypatch: pytest.MonkeyPatch):
    s = snapshots[-1]
    whole = CustomerInputs.from_snapshot(s, 7)
    monkeypatch.setattr(fit, "MAX_CUSTOMERS", 50)
    some, again, other = (
        CustomerInputs.from_snapshot(s, 7),
        CustomerInputs.from_snapshot(s, 7),
        CustomerInputs.from_snapshot(s, 8),
    )
    assert some.matrix.shape == (50, len(INPUTS))
    assert some.customers.equals(again.customers)
    assert not some.customers.equals(other.customers)
    place = {c: n for n, c in enumerate(whole.customers)}
    assert same_arrays(some.matrix, whole.matrix[[place[c] for c in some.customers]])


def test_events_after_the_end_change_nothing(
    fitted_customers: FittedCustomers, events: pl.DataFrame, snapshots: list[Snapshot]
):
    inputs = [CustomerInputs.from_snapshot(s, 7) for s in snapshots]
    end = AS_OF - 10 * DAY
    cut = events.filter(pl.col("timestamp") < moment(end))
    (whole, a), (part, b) = (fit_customers(inputs, snapshots[-1], e.lazy(), NO_CLIENTS, end) for e in (events, cut))
    assert a.metrics() == b.metrics() != fitted_customers[1].metrics()
    for days, classifier in whole.model.classifiers.items():
        assert classifier.booster.model_to_string() == part.model.classifiers[days].booster.model_to_string()
    assert replace(a, propensity={}, churn=None, value=None) == replace(b, propensity={}, churn=None, value=None)


def test_a_run_logs_the_evaluation(run: Run, result: TrainingResult):
    """Metrics under their names, plots, the tenths as a table, and lines in report and card."""
    evaluation = result.customers
    assert evaluation.propensity
    folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.logged.run_id}/", tracking_uri=run.config.uri))
    logged = mlflow.MlflowClient(run.config.uri).get_run(run.logged.run_id).data.metrics
    assert logged["predictive_propensity_7d_auc"] == pytest.approx(evaluation.propensity[7].auc)
    assert logged["predictive/propensity_7d/log_loss"] == pytest.approx(evaluation.propensity[7].log_loss)
    assert logged["predictive/next_category/hit_at_3"] == pytest.approx(evaluation.next_category["hit_at_3"])
    assert result.bundle.metrics.items() >= evaluation.metrics().items()
    assert (folder / "plots" / "propensity_7d_calibration.png").stat().st_size > 1000
    table = json.loads((folder / "customer_predictions.json").read_text())
    assert table["columns"] == ["prediction", "tenth", "predicted", "came_true", "customers"]
    for line in evaluation.lines():
        assert line in (folder / "MODEL_CARD.md").read_text()
        assert escape(line) in (folder / "report.html").read_text()


def test_a_shipped_bundle_predicts(result: TrainingResult):
    """Seventy days are too few to learn four weeks ahead: that horizon is left out, with the reason."""
    table = result.bundle.predictions.table(result.bundle.snapshot)
    assert table["propensity_7d"].null_count() == 0
    assert table["propensity_28d"].null_count() == table.height
    assert any("no propensity to order within 28 days" in line for line in result.customers.lines())


def test_segments_use_a_models_predictions_as_of_any_later_time(result: TrainingResult, event_log: EventLog):
    bundle = result.bundle
    same = predict_customers(bundle, build_tables(event_log, bundle.snapshot.as_of))
    assert same.equals(bundle.predictions.table(bundle.snapshot))
    later = predict_customers(bundle, build_tables(event_log, bundle.snapshot.as_of + 30 * DAY))
    assert later["propensity_7d"].mean() < same["propensity_7d"].mean()  # nobody has come for a month
    with pytest.raises(InputError, match="would know its future"):
        predict_customers(bundle, build_tables(event_log, bundle.snapshot.as_of - DAY))
