"""What customers were expected to do, and did."""

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
from features.tables import build
from models.customers.predictions import next_categories
from models.customers.propensity import INPUTS
from tests.features.shop import AS_OF, same_arrays
from tests.training.conftest import Run
from tests.training.regulars import BOUNDARIES, log, snapshot_at
from training.customers import fit
from training.customers.fit import Measured, Past, bought, fold, learn_customers
from training.customers.propensity import Fitted
from training.evaluation.backtest import predicted
from training.result import TrainingResult

NO_CLIENTS = pl.DataFrame(schema={"client_id": pl.String, "customer_id": pl.String})


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    return log()


@pytest.fixture(scope="module")
def snapshots(events: pl.DataFrame) -> list[Snapshot]:
    return [snapshot_at(events, BOUNDARIES[n])[0] for n in (0, 2, -1)]


@pytest.fixture(scope="module")
def learnt(events: pl.DataFrame, snapshots: list[Snapshot]) -> tuple[Fitted, Measured]:
    pasts = [Past.of(s, 7) for s in snapshots]
    return learn_customers(pasts, snapshots[-1], events.lazy(), NO_CLIENTS, AS_OF)


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
    past = Past.of(snapshot_at(base, at)[0], 7)
    both = pl.concat([base, *later]).lazy()
    made = fold(past, bought(both, NO_CLIENTS, at, AS_OF), AS_OF)
    assert {who for who, label in zip(past.customers, made.labels(7), strict=True) if label} == {a, b}
    assert made.labels(28).sum() == 3
    owners = pl.DataFrame({"client_id": ["phone", "laptop"], "customer_id": [e, a]})
    resolved = fold(past, bought(both, owners, at, AS_OF), AS_OF)
    assert {who for who, label in zip(past.customers, resolved.labels(7), strict=True) if label} == {a, b, e}
    assert resolved.labels(28).sum() == 4
    assert fold(past, bought(both, owners, at, at + 7 * DAY), at + 7 * DAY).labels(28).sum() == 3


def test_churn_risk_is_measured_where_ninety_days_are_known(learnt: tuple[Fitted, Measured]):
    churn = learnt[1].churn
    assert churn is not None
    assert churn.at == BOUNDARIES[0]  # 98 days before the end; the next one is 84
    assert churn.auc > 0.65
    assert 0.1 < churn.base_rate < 0.9


def test_expected_value_is_compared_with_what_was_bought(
    learnt: tuple[Fitted, Measured], events: pl.DataFrame, snapshots: list[Snapshot]
):
    value, past = learnt[1].value, Past.of(snapshots[-1], 7)
    assert value is not None
    assert value.at == BOUNDARIES[-1] == AS_OF - 28 * DAY
    expected = past.input("expected_orders_28d") * past.input("expected_order_value")
    told = past.customers.to_numpy()[~np.isnan(expected)]
    paid = events.filter(
        (pl.col("name") == "purchase") & (pl.col("timestamp") >= moment(value.at)) & pl.col("customer_id").is_in(told)
    )
    assert value.bought == pytest.approx((paid["price"] * paid["quantity"]).sum())
    assert value.expected == pytest.approx(np.nansum(expected), rel=1e-6)
    assert value.expected == pytest.approx(value.bought, rel=0.25)
    assert value.rank_correlation > 0.2
    predicted, came_true, n = (value.tenths[c].to_numpy() for c in ("predicted", "came_true", "customers"))
    assert n @ predicted == pytest.approx(value.expected)
    assert n @ came_true == pytest.approx(value.bought)
    assert came_true[-1] > 2 * came_true[0]


def test_what_is_given_back_was_not_bought(events: pl.DataFrame, snapshots: list[Snapshot]):
    pasts, at = [Past.of(snapshots[-1], 7)], BOUNDARIES[-1]
    buyers = snapshots[-1].customers.at(np.flatnonzero(snapshots[-1].segments > 0))
    back = events.filter((pl.col("timestamp") >= moment(at)) & (pl.col("name") == "purchase"))
    back = back.filter(pl.col("customer_id").is_in(buyers)).head(10)
    refunds = back.with_columns(pl.lit("refund").cast(EVENT_SCHEMA["name"]).alias("name"))
    one, other = (
        learn_customers(pasts, snapshots[-1], frame.lazy(), NO_CLIENTS, AS_OF)[1].value
        for frame in (events, pl.concat([events, refunds]))
    )
    assert one is not None
    assert other is not None
    assert one.bought - other.bought == pytest.approx((back["price"] * back["quantity"]).sum())


def test_the_next_category_is_that_of_the_next_order(
    learnt: tuple[Fitted, Measured], events: pl.DataFrame, snapshots: list[Snapshot]
):
    """By a loop over the orders after the hold-out begins."""
    s = snapshots[-1]
    guess, position = next_categories(s), {c: n for n, c in enumerate(s.customers.values.to_pylist())}
    category = dict(zip(s.items.values.to_pylist(), s.categories.tolist(), strict=True))
    after = events.filter((pl.col("timestamp") >= moment(s.as_of)) & (pl.col("name") == "purchase")).sort("timestamp")
    first: dict[str, int] = {}
    for who, item in after.select("customer_id", "item_id").iter_rows():
        first.setdefault(who, category[item])
    asked = [(position[who], c) for who, c in first.items() if who in position and c >= 0]
    found = learnt[1].next_category
    assert found["hit_at_1"] == pytest.approx(np.mean([guess[n, 0] == c for n, c in asked]))
    assert found["hit_at_3"] == 1.0  # there are only three
    assert found["best_selling_hit_at_1"] <= 1


def test_every_number_is_one_and_is_told(learnt: tuple[Fitted, Measured]):
    fitted, measured = learnt
    metrics = measured.metrics()
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["predictive_propensity_7d_auc"] == fitted.evaluations[7].auc
    assert {name.removeprefix("predictive_").rpartition("_")[0] for name in metrics} >= {
        "propensity_7d",
        "propensity_28d",
        "churn_90d",
        "next_category_hit_at",
    }
    table = measured.tenths()
    assert table["prediction"].unique(maintain_order=True).to_list() == [
        "propensity_7d",
        "propensity_28d",
        "churn_90d",
        "expected_value_28d",
    ]
    assert table["tenth"].to_list() == [*range(1, 11)] * 4
    told = "\n".join(measured.lines())
    assert f"AUC {fitted.evaluations[28].auc:.3f}" in told
    assert "churn risk, 90 days" in told
    assert "no propensity" not in told


def test_a_log_that_is_too_short_is_told_and_does_not_fail(events: pl.DataFrame, snapshots: list[Snapshot]):
    last = snapshots[-1]
    fitted, measured = learn_customers([Past.of(last, 7)], last, events.lazy(), NO_CLIENTS, last.as_of + 3 * DAY)
    assert fitted.model.classifiers == {}
    assert (measured.churn, measured.value) == (None, None)
    assert [line.split(":")[0] for line in measured.left_out] == [
        f"no propensity to order within {days} days" for days in (7, 28)
    ]
    assert "predictive_next_category_hit_at_1" in measured.metrics()


def test_a_shop_without_customers_has_nothing_to_tell(events: pl.DataFrame):
    strangers = events.with_columns(client_id="customer_id", customer_id=pl.lit(None, pl.String))
    made = [snapshot_at(strangers, at)[0] for at in BOUNDARIES[-2:]]
    fitted, measured = learn_customers([Past.of(s, 7) for s in made], made[-1], strangers.lazy(), NO_CLIENTS, AS_OF)
    assert fitted.model.classifiers == measured.metrics() == {}
    assert measured.tenths().height == 0
    assert len(measured.lines()) == 2


def test_of_many_customers_some_are_drawn(snapshots: list[Snapshot], monkeypatch: pytest.MonkeyPatch):
    s = snapshots[-1]
    whole = Past.of(s, 7)
    monkeypatch.setattr(fit, "MOST", 50)
    some, again, other = Past.of(s, 7), Past.of(s, 7), Past.of(s, 8)
    assert some.matrix.shape == (50, len(INPUTS))
    assert some.customers.equals(again.customers)
    assert not some.customers.equals(other.customers)
    place = {c: n for n, c in enumerate(whole.customers)}
    assert same_arrays(some.matrix, whole.matrix[[place[c] for c in some.customers]])


def test_what_comes_after_the_end_changes_nothing(
    learnt: tuple[Fitted, Measured], events: pl.DataFrame, snapshots: list[Snapshot]
):
    pasts = [Past.of(s, 7) for s in snapshots]
    end = AS_OF - 10 * DAY
    cut = events.filter(pl.col("timestamp") < moment(end))
    (whole, a), (part, b) = (learn_customers(pasts, snapshots[-1], e.lazy(), NO_CLIENTS, end) for e in (events, cut))
    assert a.metrics() == b.metrics() != learnt[1].metrics()
    for days, classifier in whole.model.classifiers.items():
        assert classifier.booster.model_to_string() == part.model.classifiers[days].booster.model_to_string()
    assert replace(a, propensity={}, churn=None, value=None) == replace(b, propensity={}, churn=None, value=None)


def test_a_run_logs_what_was_measured(run: Run, result: TrainingResult):
    """Under names of their own, with plots, the tenths as a table, and lines in report and card."""
    measured = result.customers
    assert measured.propensity
    folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.logged.run_id}/", tracking_uri=run.config.uri))
    logged = mlflow.MlflowClient(run.config.uri).get_run(run.logged.run_id).data.metrics
    assert logged["predictive_propensity_7d_auc"] == pytest.approx(measured.propensity[7].auc)
    assert logged["predictive/propensity_7d/log_loss"] == pytest.approx(measured.propensity[7].log_loss)
    assert logged["predictive/next_category/hit_at_3"] == pytest.approx(measured.next_category["hit_at_3"])
    assert result.bundle.metrics.items() >= measured.metrics().items()
    assert (folder / "plots" / "propensity_7d_calibration.png").stat().st_size > 1000
    table = json.loads((folder / "customer_predictions.json").read_text())
    assert table["columns"] == ["prediction", "tenth", "predicted", "came_true", "customers"]
    for line in measured.lines():
        assert line in (folder / "MODEL_CARD.md").read_text()
        assert escape(line) in (folder / "report.html").read_text()


def test_what_is_shipped_predicts(result: TrainingResult):
    """Seventy days are too few to learn four weeks ahead: that one is left out, and said to be."""
    table = result.bundle.predictions.table(result.bundle.snapshot)
    assert table["propensity_7d"].null_count() == 0
    assert table["propensity_28d"].null_count() == table.height
    assert any("no propensity to order within 28 days" in line for line in result.customers.lines())


def test_segments_get_a_models_predictions_as_of_any_later_time(result: TrainingResult, event_log: EventLog):
    bundle = result.bundle
    same = predicted(bundle, build.at(event_log, bundle.snapshot.as_of))
    assert same.equals(bundle.predictions.table(bundle.snapshot))
    later = predicted(bundle, build.at(event_log, bundle.snapshot.as_of + 30 * DAY))
    assert later["propensity_7d"].mean() < same["propensity_7d"].mean()  # nobody has come for a month
    with pytest.raises(InputError, match="would know its future"):
        predicted(bundle, build.at(event_log, bundle.snapshot.as_of - DAY))
