"""A shop in which it is known who buys: regulars at a steady rate, who come and leave."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features import tables
from features.clock import DAY, moment
from features.errors import InputError
from features.events import EVENT_SCHEMA, conform
from models.propensity import COLUMNS, HORIZONS_DAYS, Propensity
from tests.features.shop import AS_OF, CATALOG, ITEMS
from training.propensity import Fitted, Fold, PropensityConfig, fit, fold, plot

CUSTOMERS, DAYS = 2500, 160
START = AS_OF - DAYS * DAY
BOUNDARIES = [START + d * DAY for d in range(62, 133, 14)]


def log(seed: int = 11) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.8, 1 / 25, CUSTOMERS)  # orders a day
    comes = rng.uniform(-300, DAYS, CUSTOMERS)
    first, last = np.maximum(comes, 0), np.clip(comes + rng.exponential(150, CUSTOMERS), 0, DAYS)
    made = rng.poisson(rate * np.maximum(last - first, 0))
    who = np.repeat(np.arange(CUSTOMERS), made)
    at = rng.uniform(first[who], last[who])
    looks = rng.integers(0, CUSTOMERS, 4000)
    everyone, when = np.append(who, looks), np.append(at, rng.uniform(0, DAYS, len(looks)))
    frame = pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(len(everyone))],
            "name": ["purchase"] * len(who) + ["view_item"] * len(looks),
            "timestamp": START + (when * DAY).astype(np.int64),
            "customer_id": [f"c{n:04}" for n in everyone],
            "item_id": np.array(ITEMS)[rng.integers(0, len(ITEMS), len(everyone))],
            "quantity": 1.0,
            "price": rng.uniform(5, 50, len(everyone)).round(2),
        }
    )
    return conform(frame.with_columns(pl.from_epoch("timestamp", "us").dt.replace_time_zone("UTC")), EVENT_SCHEMA)


def fold_at(events: pl.DataFrame, at: int) -> Fold:
    return fold(events.lazy(), tables.build(events.lazy(), CATALOG, at).customers, at, AS_OF)


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    return log()


@pytest.fixture(scope="module")
def folds(events: pl.DataFrame) -> list[Fold]:
    return [fold_at(events, at) for at in BOUNDARIES]


@pytest.fixture(scope="module")
def fitted(folds: list[Fold]) -> Fitted:
    return fit(folds)


@pytest.mark.parametrize("days", HORIZONS_DAYS)
def test_it_knows_more_than_the_base_rate(fitted: Fitted, days: int):
    found = fitted.evaluations[days]
    assert found.at == BOUNDARIES[-1]
    assert found.customers > 800
    assert found.log_loss < 0.93 * found.base_log_loss
    assert found.auc > 0.7
    assert found.brier < found.base_rate * (1 - found.base_rate)
    assert fitted.model.classifiers.keys() == set(HORIZONS_DAYS)


@pytest.mark.parametrize("days", HORIZONS_DAYS)
def test_it_is_calibrated(fitted: Fitted, days: int):
    table = fitted.evaluations[days].calibration
    assert table["customers"].sum() == fitted.evaluations[days].customers
    predicted, ordered, n = (table[c].to_numpy() for c in ("predicted", "ordered", "customers"))
    assert (np.diff(predicted) >= 0).all()
    assert n @ predicted / n.sum() == pytest.approx(fitted.evaluations[days].base_rate, abs=0.04)
    noise = np.sqrt(predicted * (1 - predicted) / n)
    assert (np.abs(predicted - ordered) < 4 * noise + 0.03).all()
    axes = plot(fitted.evaluations[days], days).axes[0]
    assert axes.get_title() == f"order within {days} days of 2024-04-03: calibration"


def test_propensity_grows_with_the_horizon_and_needs_no_order(fitted: Fitted, folds: list[Fold]):
    scored = fitted.model.predict(folds[-1].customers)
    assert scored.columns == ["customer_id", *(c.name for c in COLUMNS)]
    assert scored.dtypes[1:] == [pl.Float32, pl.Float32]
    assert scored["customer_id"].equals(folds[-1].customers["customer_id"])
    week, month = scored["propensity_7d"].to_numpy(), scored["propensity_28d"].to_numpy()
    assert month.mean() > 2 * week.mean()
    assert np.corrcoef(week, month)[0, 1] > 0.8
    prospects = folds[-1].customers["recency_days"].is_null()
    new, known = month[prospects.to_numpy()], month[~prospects.to_numpy()]
    assert len(new) > 100
    assert new.mean() < known.mean() / 2
    alone = fitted.model.predict(folds[-1].customers[5:6])
    assert alone.equals(scored[5:6])


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
        order("stranger", at + DAY),
        order(e, at + 2 * DAY, event_id="at the till", customer_id=None, client_id="phone"),
    ]
    customers = tables.build(base.lazy(), CATALOG, at).customers
    log = pl.concat([base, *later]).lazy()
    made = fold(log, customers, at, AS_OF)
    assert dict(zip(customers["customer_id"], made.labels(7).tolist(), strict=True)) == {
        who: int(who in (a, b)) for who in customers["customer_id"]
    }
    assert made.labels(28).sum() == 3
    owners = pl.DataFrame({"client_id": ["phone", "laptop"], "customer_id": [e, a]})
    resolved = fold(log, customers, at, AS_OF, owners)
    assert dict(zip(customers["customer_id"], resolved.labels(7), strict=True))[e] == 1
    assert (resolved.labels(7).sum(), resolved.labels(28).sum()) == (3, 4)


def test_what_comes_after_a_boundary_changes_labels_only(events: pl.DataFrame, folds: list[Fold]):
    at = BOUNDARIES[2]
    past = events.filter(pl.col("timestamp") < moment(at))
    assert fold_at(past, at).customers.equals(folds[2].customers)
    assert fold_at(past, at).labels(28).sum() == 0 < folds[2].labels(28).sum()


def test_the_last_fold_is_only_looked_at_for_testing(fitted: Fitted, folds: list[Fold]):
    """With its labels turned round the evaluation changes, but not what was evaluated."""
    last = folds[-1]
    turned = replace(last, next_order_days=np.where(last.next_order_days < 28, np.inf, 1.0))
    other = fit([*folds[:-1], turned])
    for days in HORIZONS_DAYS:
        mine, theirs = fitted.evaluations[days], other.evaluations[days]
        np.testing.assert_allclose(theirs.calibration["predicted"], mine.calibration["predicted"], rtol=1e-12)
        assert theirs.log_loss > mine.log_loss


def test_a_fold_is_used_when_its_labels_are_known(folds: list[Fold]):
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
            tested = [e.evaluations[28].calibration["predicted"] for e in (whole, other)]
            assert tested[0].equals(tested[1]) == (n == 2)
        for days in HORIZONS_DAYS:
            same = mine[days].booster.model_to_string() == theirs[days].booster.model_to_string()
            assert same == (part.at + days * DAY > folds[-1].at), (days, n)


def test_what_is_saved_is_what_is_loaded(fitted: Fitted, folds: list[Fold], tmp_path: Path):
    fitted.model.save(tmp_path / "propensity")
    files = {f.name for f in (tmp_path / "propensity").iterdir()}
    assert files == {"propensity.json", "propensity_7d.txt", "propensity_28d.txt"}
    again = Propensity.load(tmp_path / "propensity")
    assert again.predict(folds[-1].customers).equals(fitted.model.predict(folds[-1].customers))
    again.save(tmp_path / "again")
    assert all((tmp_path / "again" / f).read_bytes() == (tmp_path / "propensity" / f).read_bytes() for f in files)


def test_the_same_folds_make_the_same_model(fitted: Fitted, folds: list[Fold], tmp_path: Path):
    fitted.model.save(tmp_path / "a")
    fit(folds[::-1]).model.save(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_damage_is_refused(fitted: Fitted, tmp_path: Path):
    def damaged(file: str, change) -> Path:
        path = tmp_path / f"{file}-{len(list(tmp_path.iterdir()))}"
        fitted.model.save(path)
        change(path / file)
        return path

    def without_columns(file: Path) -> None:
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "columns"}))

    def steeper(file: Path) -> None:
        file.write_text(file.read_text().replace('"slope": ', '"slope": -'))

    def newer(file: Path) -> None:
        file.write_text(file.read_text().replace('"format": 1', '"format": 99'))

    for file, change, message in (
        ("propensity_7d.txt", Path.unlink, r"propensity_7d.txt is missing; get it again"),
        (
            "propensity_28d.txt",
            lambda f: f.write_text(f.read_text()[:-200]),
            r"propensity_28d.txt is not what was saved",
        ),
        ("propensity.json", Path.unlink, r"holds no propensity model"),
        ("propensity.json", lambda f: f.write_text("{"), r"propensity.json: .*JSON"),
        ("propensity.json", without_columns, r"propensity.json: columns: Field required"),
        ("propensity.json", steeper, r"propensity.json: horizons.7.slope"),
        ("propensity.json", newer, r"format 99, this version reads format 1"),
    ):
        with pytest.raises(InputError, match=message):
            Propensity.load(damaged(file, change))


def test_tables_that_do_not_fit_are_named(fitted: Fitted, folds: list[Fold]):
    lacking = folds[0].customers.drop("recency_days", "frequency")
    with pytest.raises(InputError, match="the customer table lacks recency_days, frequency"):
        fitted.model.predict(lacking)
    with pytest.raises(InputError, match="differ in their columns: frequency, recency_days"):
        fit([replace(folds[0], customers=lacking), *folds[1:]])


def test_a_horizon_needs_folds_that_are_far_enough_apart(folds: list[Fold]):
    short = fit(folds[:2])  # 14 days apart: enough for a week ahead, not for four
    assert set(short.model.classifiers) == {7}
    assert short.evaluations == {}
    scored = short.model.predict(folds[2].customers)
    assert scored["propensity_28d"].is_null().all()
    assert scored["propensity_7d"].is_not_null().all()
    for few in (folds[:1], []):
        with pytest.raises(InputError, match=f"cannot be trained on {len(few)} boundaries"):
            fit(few)
    nobody = [replace(f, next_order_days=np.full(len(f.next_order_days), np.inf)) for f in folds]
    with pytest.raises(InputError, match="at least 20 customers who order in the 7 days"):
        fit(nobody)
