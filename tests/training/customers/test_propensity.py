"""Purchase propensity in a shop whose truth is known: regulars who buy at a steady rate, come and leave."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.ranking.snapshot import Snapshot
from features.tables.build import build_from_events
from models.customers.propensity import COLUMNS, HORIZONS_DAYS, PropensityModel
from tests.features.shop import AS_OF, CATALOG, same_arrays
from tests.training.regulars import BOUNDARIES, fold_at, log
from training.customers.propensity import CustomerFold, FittedPropensity, PropensityConfig, fit


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    return log()


@pytest.fixture(scope="module")
def folds(events: pl.DataFrame) -> list[CustomerFold]:
    return [fold_at(events, at) for at in BOUNDARIES]


@pytest.fixture(scope="module")
def fitted(folds: list[CustomerFold]) -> FittedPropensity:
    return fit(folds)


@pytest.fixture(scope="module")
def now(events: pl.DataFrame) -> Snapshot:
    return Snapshot.from_tables(build_from_events(events.lazy(), CATALOG, AS_OF))


@pytest.mark.parametrize("days", HORIZONS_DAYS)
def test_predictions_beat_the_base_rate(fitted: FittedPropensity, days: int):
    evaluation = fitted.evaluations[days]
    assert evaluation.at == BOUNDARIES[-1]
    assert evaluation.customers > 800
    assert evaluation.log_loss < 0.93 * evaluation.base_log_loss
    assert evaluation.auc > 0.7
    assert evaluation.brier < evaluation.base_rate * (1 - evaluation.base_rate)
    assert fitted.model.classifiers.keys() == set(HORIZONS_DAYS)


@pytest.mark.parametrize("days", HORIZONS_DAYS)
def test_predictions_are_calibrated(fitted: FittedPropensity, days: int):
    evaluation = fitted.evaluations[days]
    assert evaluation.tenths["customers"].sum() == evaluation.customers
    predicted, came_true, n = (evaluation.tenths[c].to_numpy() for c in ("predicted", "came_true", "customers"))
    assert (np.diff(predicted) > -1e-12).all()
    assert n @ predicted / n.sum() == pytest.approx(evaluation.base_rate, abs=0.04)
    noise = np.sqrt(predicted * (1 - predicted) / n)
    assert (np.abs(predicted - came_true) < 4 * noise + 0.03).all()
    assert evaluation.calibration_error == pytest.approx(n @ np.abs(predicted - came_true) / n.sum())


def test_propensity_grows_with_the_horizon_and_needs_no_order(fitted: FittedPropensity, now: Snapshot):
    scored = fitted.model.predict(now)
    assert scored.shape == (len(now.customers), len(COLUMNS))
    assert scored.dtype == np.float32
    week, month = scored.T
    assert month.mean() > 2 * week.mean()
    assert np.corrcoef(week, month)[0, 1] > 0.8
    prospects = now.segments == 0
    new, known = month[prospects], month[~prospects]
    assert len(new) > 100
    assert new.mean() < known.mean() / 2


def test_what_comes_after_a_boundary_changes_labels_only(events: pl.DataFrame, folds: list[CustomerFold]):
    at = BOUNDARIES[2]
    past = events.filter(pl.col("timestamp").dt.timestamp("us") < at)
    blind = fold_at(past, at)
    assert same_arrays(blind.matrix, folds[2].matrix)
    assert blind.labels(28).sum() == 0 < folds[2].labels(28).sum()


def test_the_last_fold_is_only_looked_at_for_testing(fitted: FittedPropensity, folds: list[CustomerFold]):
    """With its labels turned round the evaluation changes, but not what was evaluated."""
    last = folds[-1]
    turned = replace(last, next_order_days=np.where(last.next_order_days < 28, np.inf, 1.0))
    other = fit([*folds[:-1], turned])
    for days in HORIZONS_DAYS:
        mine, theirs = fitted.evaluations[days], other.evaluations[days]
        np.testing.assert_allclose(theirs.tenths["predicted"], mine.tenths["predicted"], rtol=1e-12)
        assert theirs.log_loss > mine.log_loss


def test_a_fold_is_used_when_its_labels_are_known(folds: list[CustomerFold]):
    """Labels that were not known at the boundary calibrated on do not matter."""
    few = PropensityConfig(rounds=3)
    whole = fit(folds, few)
    mine = whole.model.classifiers
    for n, part in enumerate(folds[:-1]):
        turned = replace(part, next_order_days=np.full(len(part.next_order_days), np.inf))
        other = fit([*folds[:n], turned, *folds[n + 1 :]], few)
        theirs = other.model.classifiers
        if n in (1, 2):
            # What is tested was calibrated four weeks before the last fold, on the fourth; when that one began the
            # labels of the second were just known, those of the third were not.
            tested = [e.evaluations[28].tenths["predicted"] for e in (whole, other)]
            assert tested[0].equals(tested[1]) == (n == 2)
        for days in HORIZONS_DAYS:
            same = mine[days].booster.model_to_string() == theirs[days].booster.model_to_string()
            assert same == (part.known_by(days) > folds[-1].at), (days, n)


def test_what_is_saved_is_what_is_loaded(fitted: FittedPropensity, now: Snapshot, tmp_path: Path):
    fitted.model.save(tmp_path / "propensity")
    files = {f.name for f in (tmp_path / "propensity").iterdir()}
    assert files == {"propensity.json", "propensity_7d.txt", "propensity_28d.txt"}
    again = PropensityModel.load(tmp_path / "propensity")
    assert same_arrays(again.predict(now), fitted.model.predict(now))
    again.save(tmp_path / "again")
    assert all((tmp_path / "again" / f).read_bytes() == (tmp_path / "propensity" / f).read_bytes() for f in files)


def test_the_same_folds_make_the_same_model(fitted: FittedPropensity, folds: list[CustomerFold], tmp_path: Path):
    fitted.model.save(tmp_path / "a")
    fit(folds[::-1]).model.save(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_horizon_needs_folds_that_are_far_enough_apart(folds: list[CustomerFold], now: Snapshot):
    short = fit(folds[:2])  # 14 days apart: enough for a week ahead, not for four
    assert set(short.model.classifiers) == {7}
    assert short.evaluations == {}
    week, month = short.model.predict(now).T
    assert np.isnan(month).all()
    assert not np.isnan(week).any()
    nobody = [replace(f, next_order_days=np.full(len(f.next_order_days), np.inf)) for f in folds]
    for few in (folds[:1], [], nobody):
        none = fit(few)
        assert none.model.classifiers == none.evaluations == {}
        assert np.isnan(none.model.predict(now)).all()
