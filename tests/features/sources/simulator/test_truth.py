"""The truth behind a simulated log is calibrated, and nobody ranks better."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.common.errors import InputError
from features.sources.simulator.frames import log_start
from features.sources.simulator.shop import SimulatorConfig, read, simulate
from features.sources.simulator.truth import Truth, TruthEvent, write_truth

DAY = 86_400_000_000
CONFIG = SimulatorConfig(customers=500, visitors_per_customer=0, items=240, days=120, seed=2, conversion=0.12)


def load_rows(config: SimulatorConfig, event: TruthEvent) -> pl.DataFrame:
    """Customers' views or purchases: customer_id, item (number), t. Those of the night belong to the day before."""
    (parsed,) = read(config)
    rows = parsed.events.filter(pl.col("name") == event, pl.col("customer_id").is_not_null())
    return rows.select(
        "customer_id", item=pl.col("item_id").str.slice(1).cast(pl.Int64), t=pl.col("timestamp").to_physical()
    )


@dataclass(frozen=True)
class Outcomes:
    """Rows of a log beside the truth before them: `p` (rows, items) probabilities, `item` the actual one."""

    rows: pl.DataFrame
    p: np.ndarray

    @property
    def item(self) -> np.ndarray:
        return self.rows["item"].to_numpy()

    def surprise(self) -> np.ndarray:
        """Log-loss less entropy of each row: 0 on average where the probabilities are right."""
        log = np.log(np.maximum(self.p, 1e-300))
        return -log[np.arange(len(self.p)), self.item] + (self.p * log).sum(axis=1)

    def chi_square(self) -> float:
        """Per degree of freedom, over the items that are expected five times and more."""
        expected, observed = self.p.sum(axis=0), np.bincount(self.item, minlength=self.p.shape[1])
        often = expected >= 5
        # A row's item is one draw from its own probabilities.
        variance = (self.p * (1 - self.p)).sum(axis=0)[often]
        return float(np.mean((observed[often] - expected[often]) ** 2 / variance))


def compare(config: SimulatorConfig, event: TruthEvent, most: int = 2500) -> Outcomes:
    truth = Truth.from_shop(simulate(config))
    rows = load_rows(config, event)
    rows = rows.sample(min(most, rows.height), seed=1)
    return Outcomes(rows, truth.probabilities(rows["customer_id"].to_list(), rows["t"].to_numpy(), event))


@pytest.fixture(scope="module")
def bought() -> Outcomes:
    return compare(CONFIG, "purchase")


@pytest.fixture(scope="module")
def viewed() -> Outcomes:
    return compare(CONFIG, "view_item")


@pytest.mark.parametrize("event", ["purchase", "view_item"])
def test_probabilities_are_calibrated_over_all_customers(event: str, request: pytest.FixtureRequest):
    outcomes: Outcomes = request.getfixturevalue({"purchase": "bought", "view_item": "viewed"}[event])
    assert len(outcomes.rows) > 1500
    assert outcomes.p.sum(axis=1) == pytest.approx(1.0)
    assert outcomes.p.min() >= 0
    surprise = outcomes.surprise()
    # Rows of one visit are about one thing, so their mean varies more than that of as many alone.
    assert abs(surprise.mean()) < 4 * 1.5 * surprise.std() / np.sqrt(len(surprise))
    assert 0.5 < outcomes.chi_square() < 1.6
    # As often as predicted, at every level.
    hit = np.arange(outcomes.p.shape[1]) == outcomes.item[:, None]
    for low, high in [(0.001, 0.01), (0.01, 0.05), (0.05, 0.2), (0.2, 1.0)]:
        cells = (outcomes.p >= low) & (outcomes.p < high)
        assert hit[cells].mean() == pytest.approx(outcomes.p[cells].mean(), rel=0.15), (low, high)


@pytest.mark.parametrize("event", ["purchase", "view_item"])
@pytest.mark.parametrize("seed", [2, 3, 6])
def test_one_customer_over_thousands_of_draws(event: TruthEvent, seed: int):
    # All looks are of their own, so they are as many independent draws.
    one = SimulatorConfig(
        customers=1, visitors_per_customer=0, items=60, days=20, seed=seed, sessions_per_customer=60_000, logged_in=1.0,
        late_login=0.0, wander=1.0, repeat_views=0.0, views_per_session=1.0, conversion=0.3, stock_outs=0.1, bots=0.0,
        departments=("grocery", "home", "clothing"), shared_devices=0.0, basket=1.0,
    )  # fmt: skip
    outcomes = compare(one, event, most=8000)
    assert len(outcomes.rows) > 3000
    assert outcomes.chi_square() < 2.0
    assert abs(outcomes.surprise().mean()) < 4 * outcomes.surprise().std() / np.sqrt(len(outcomes.rows))


def test_a_wrong_truth_is_detected(bought: Outcomes):
    others = Outcomes(bought.rows, np.roll(bought.p, 7, axis=0))
    flat = Outcomes(bought.rows, np.full_like(bought.p, 1 / bought.p.shape[1]))
    assert others.surprise().mean() > 1
    assert flat.chi_square() > 3


def hits(scores: np.ndarray, item: np.ndarray) -> float:
    """Share of rows whose item is among the ten best."""
    mine = scores[np.arange(len(item)), item][:, None]
    better, level = (scores > mine).sum(axis=1), (scores == mine).sum(axis=1)
    return float(np.clip((10 - better) / level, 0, 1).mean())


def test_no_count_ranks_better_than_the_truth():
    at = log_start(CONFIG) + 90 * DAY
    rows = {event: load_rows(CONFIG, event) for event in ("view_item", "purchase")}
    customers = [f"c{i:06d}" for i in range(CONFIG.customers)]
    truth = Truth.from_shop(simulate(CONFIG)).bought_within(customers, at, at + 30 * DAY)
    after = rows["purchase"].filter(pl.col("t") >= at)
    who = after["customer_id"].str.slice(1).cast(pl.Int64).to_numpy()
    counts = np.zeros_like(truth)
    for event, weight in (("view_item", 0.1), ("purchase", 1.0)):
        before = rows[event].filter(pl.col("t") < at)
        np.add.at(
            counts, (before["customer_id"].str.slice(1).cast(pl.Int64).to_numpy(), before["item"].to_numpy()), weight
        )
    popular = np.broadcast_to(counts.sum(axis=0), counts.shape)
    item = after["item"].to_numpy()
    best, own, anyone = (hits(scores[who], item) for scores in (truth, counts + 1e-6 * popular, popular))
    assert len(item) > 300
    assert best > own + 0.02 > anyone + 0.1


def test_probabilities_of_a_window_are_calibrated():
    at, shop = log_start(CONFIG) + 60 * DAY, simulate(CONFIG)
    # The truth does not foresee who comes for the first time, or leaves.
    there = np.flatnonzero((shop.people.since[: CONFIG.customers] < 60) & (shop.people.until[: CONFIG.customers] > 88))
    predicted = Truth.from_shop(shop).bought_within([f"c{i:06d}" for i in there], at, at + 28 * DAY)
    # All that was bought, logged in or not.
    bought = (shop.visits.units > 0) & (shop.visits.day >= 60)[shop.visits.visit]
    bought &= (shop.visits.day < 88)[shop.visits.visit]
    real = np.zeros((CONFIG.customers, CONFIG.items), bool)
    real[shop.visits.person[shop.visits.visit[bought]], shop.visits.item[bought]] = True
    real = real[there]
    assert real.sum() > 300
    assert predicted.sum() == pytest.approx(real.sum(), rel=0.12)
    for low, high in [(0.001, 0.01), (0.01, 0.05), (0.05, 0.3), (0.3, 1.0)]:
        cells = (predicted >= low) & (predicted < high)
        assert real[cells].mean() == pytest.approx(predicted[cells].mean(), rel=0.25), (low, high)


def test_unavailable_items_have_no_probability():
    config = CONFIG.model_copy(update={"stock_outs": 0.2, "launched": 0.5})
    shop = simulate(config)
    day = 40
    p = Truth.from_shop(shop).probabilities(["c000003", "c000009"], log_start(config) + day * DAY + DAY // 2)
    gone, coming = shop.calendar.out[day], shop.items.launch_day > day
    assert gone.any()
    assert coming.any()
    assert (p[:, gone | coming] == 0).all()
    assert (p[:, ~(gone | coming)] > 0).all()
    views = Truth.from_shop(shop).probabilities(["c000003"], log_start(config) + day * DAY + DAY // 2, "view_item")
    assert (views[:, gone & ~coming] > 0).all()


def test_probabilities_are_constant_within_a_day():
    truth = Truth.from_shop(simulate(CONFIG))
    at = log_start(CONFIG) + 50 * DAY + np.array([4, 20, 26, 28]) * 3_600_000_000
    p = truth.probabilities(["c000001"] * 4, at)
    assert (p[0] == p[1]).all()
    assert (p[0] == p[2]).all()  # two in the morning is still the day before
    assert (p[0] != p[3]).any()
    assert np.allclose(truth.probabilities(["c000001"], int(at[3])), p[3])


def test_saved_and_loaded(tmp_path: Path):
    config = SimulatorConfig.fashion(customers=30, items=90, days=30)
    write_truth(config, tmp_path / "truth")
    again, truth = Truth.load(tmp_path / "truth"), Truth.from_shop(simulate(config))
    assert again.config == config
    assert sorted(f.name for f in (tmp_path / "truth").iterdir()) == ["config.json", "truth.npz"]
    customers, at = ["c000000", "c000029"], log_start(config) + 20 * DAY
    assert (again.probabilities(customers, at) == truth.probabilities(customers, at)).all()
    assert again.items == read_catalog(config)


def read_catalog(config: SimulatorConfig) -> list[str]:
    return next(iter(read(config))).catalog["item_id"].to_list()


def test_invalid_arguments(tmp_path: Path):
    truth = Truth.from_shop(simulate(SimulatorConfig(customers=5, items=10, days=10)))
    start = log_start(truth.config)
    for customer in ("c000005", "d000001", "", "cx"):
        with pytest.raises(InputError, match="no customer"):
            truth.probabilities([customer], start)
    for at in (start - 1, start + 11 * DAY):
        with pytest.raises(InputError, match="10 days from 2026-01-01"):
            truth.probabilities(["c000001"], at)
    with pytest.raises(InputError, match="10 days from 2026-01-01"):
        truth.bought_within(["c000001"], start + 5 * DAY, start + 11 * DAY)
    assert truth.probabilities([], start).shape == (0, 10)
    with pytest.raises(InputError, match="holds no simulated truth"):
        Truth.load(tmp_path)
    truth.save(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"format": 1', '"format": 0'))
    with pytest.raises(InputError, match="has format 0, expected 1"):
        Truth.load(tmp_path)
