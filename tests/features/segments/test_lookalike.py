import numpy as np
import polars as pl
import pytest

from features.common.errors import InputError
from features.segments import lookalike
from tests.features.segments.test_clusters import AFFINITIES, people

SIZE, ALIKE = 300, 60


def shop() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Customers c000…: the first `ALIKE` order large baskets and lean to Alder, everybody else is mixed."""
    draw = np.random.default_rng(5)
    alike = np.arange(SIZE) < ALIKE
    ids = [f"c{n:03}" for n in range(SIZE)]
    items = draw.gamma(3, 1, SIZE) * np.where(alike, 3, 1)
    gaps = [None if n % 3 else 10.0 for n in range(SIZE)]
    alder = np.clip(draw.beta(2, 2, SIZE) + 0.3 * alike, 0.01, 0.99)
    rows = [(i, "brand", b, s) for i, a in zip(ids, alder, strict=True) for b, s in (("Alder", a), ("Birch", 1 - a))]
    customers = people(ids, basket_items=items, order_gap_days=gaps, noise=draw.normal(size=SIZE))
    return customers, pl.DataFrame(rows, AFFINITIES, orient="row")


SHOP = shop()
SEEDS = [f"c{n:03}" for n in range(0, ALIKE, 2)]


def test_customers_similar_to_the_seeds_rank_first() -> None:
    lookalikes = lookalike.rank_lookalikes(*SHOP, SEEDS, 20)
    best = lookalikes.scores.filter(pl.col("lookalike_rank").is_not_null())["customer_id"]
    assert sum(c < f"c{ALIKE:03}" for c in best) >= 12  # of the 30 that are left among 270
    assert 0.8 < lookalikes.auc < 1


def test_random_seeds_have_an_auc_near_chance() -> None:
    by_chance = np.random.default_rng(6).permutation(SIZE)[:60]
    lookalikes = lookalike.rank_lookalikes(*SHOP, [f"c{n:03}" for n in by_chance], 10)
    assert 0.3 < lookalikes.auc < 0.7


def test_scores_and_ranks() -> None:
    scores = lookalike.rank_lookalikes(*SHOP, SEEDS, 20).scores
    seeds = scores.filter("seed")
    assert seeds["customer_id"].to_list() == SEEDS
    assert seeds["lookalike_score"].is_null().all()
    assert seeds["lookalike_rank"].is_null().all()
    others = scores.filter(~pl.col("seed")).sort("lookalike_score", descending=True)
    assert others["lookalike_score"].is_between(0, 1).all()
    assert others["lookalike_rank"].to_list() == [*range(1, 21)] + [None] * (others.height - 20)
    everybody = lookalike.rank_lookalikes(*SHOP, SEEDS, 10**6).scores
    assert everybody["lookalike_rank"].count() == SIZE - len(SEEDS)


def test_the_order_of_rows_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    one = lookalike.rank_lookalikes(*SHOP, SEEDS, 20)
    customers, affinities = (t.sample(fraction=1, shuffle=True, seed=4) for t in SHOP)
    other = lookalike.rank_lookalikes(customers, affinities, SEEDS[::-1], 20)
    assert one.scores.equals(other.scores)
    assert one.auc == other.auc
    monkeypatch.setattr(lookalike, "CHUNK", 7)
    parts = lookalike.rank_lookalikes(*SHOP, SEEDS, 20).scores
    assert parts["lookalike_score"].to_numpy() == pytest.approx(one.scores["lookalike_score"].to_numpy(), nan_ok=True)


def test_unknown_and_repeated_seeds_are_counted() -> None:
    lookalikes = lookalike.rank_lookalikes(*SHOP, [*SEEDS, *SEEDS, "nobody", "no one"], 20)
    assert (lookalikes.seeds, lookalikes.unknown) == (len(SEEDS), 2)
    assert "2 unknown" in lookalikes.text()


def test_too_few_seeds_or_others_are_refused() -> None:
    with pytest.raises(InputError, match=r"9 of the 10 seeds .* at least 10"):
        lookalike.rank_lookalikes(*SHOP, [*SEEDS[:9], "nobody"], 20)
    with pytest.raises(InputError, match="all but 3 of the 300"):
        lookalike.rank_lookalikes(*SHOP, SHOP[0]["customer_id"].to_list()[3:], 20)
