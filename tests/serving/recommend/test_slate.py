import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.interface import Ranking
from serving.recommend.slate import ARRIVALS, arrange, diversify, place_arrivals
from tests.features.shop import examples
from tests.serving.small_shop import CATEGORIES, small_shop

SHOP = small_shop(200)


def ranking(numbers: list[int], ordered: int | None = None, new: set[int] = frozenset()) -> Ranking:  # type: ignore[assignment]
    return Ranking(
        item_ids=[f"i{n}" for n in numbers],
        scores=[-float(n) for n in range(len(numbers))],
        generators=[("als", ARRIVALS) if n in new else ("als",) for n in numbers],
        strategy="one_to_one",
        fallback=None,
        segment="LOYAL",
        n_ranked=len(numbers) if ordered is None else ordered,
        positions=np.array(numbers, np.int64),
    )


NUMBERS = st.lists(st.integers(0, 199), unique=True, max_size=60)


@examples(60)
@given(
    numbers=NUMBERS,
    share=st.floats(0, 1),
    explore=st.floats(0, 1),
    bought=st.lists(st.integers(0, 199), max_size=3),
    limit=st.integers(1, 30),
)
def test_the_order_is_a_permutation(numbers, share, explore, bought, limit) -> None:
    example = ranking(numbers, len(numbers) // 2, new=set(numbers[::7]))
    order = arrange(example, SHOP, limit, share, explore, np.array(bought, np.int64))
    assert sorted(order.tolist()) == list(range(len(numbers)))


def test_the_ranking_is_kept_by_default() -> None:
    assert arrange(ranking([5, 3, 9, 1]), SHOP, 4).tolist() == [0, 1, 2, 3]


def test_diversity_spreads_over_categories_and_keeps_the_best_first() -> None:
    same_shelf = [n * CATEGORIES for n in range(8)]  # eight of shelf 0, then one each of the others
    numbers = [*same_shelf, *range(1, CATEGORIES)]
    order = diversify(SHOP, np.array(numbers), 5, 0.7)
    shelves = [numbers[n] % CATEGORIES for n in order[:5]]
    assert order[0] == 0
    assert len(set(shelves)) == 5
    assert [numbers[n] % CATEGORIES for n in diversify(SHOP, np.array(numbers), 5, 0.0)[:5]] == [0] * 5


@examples(30)
@given(numbers=NUMBERS.filter(lambda n: len(n) > 5))
def test_full_diversity_never_shows_fewer_categories_than_none(numbers: list[int]) -> None:
    def categories(diversity: float) -> int:
        order = diversify(SHOP, np.array(numbers), 5, diversity)[:5]
        return len({numbers[n] % CATEGORIES for n in order})

    assert categories(1.0) >= categories(0.0)


def test_categories_that_cool_down_go_last() -> None:
    numbers = [3, 13, 4, 23, 5]
    order = arrange(ranking(numbers), SHOP, 5, cooling=np.array([93]))
    assert [numbers[n] for n in order] == [4, 5, 3, 13, 23]


def test_new_arrivals_get_their_share_of_places() -> None:
    def order(new: set[int], since: int = 0) -> list[int]:
        at = np.isin(np.arange(40), list(new))
        return place_arrivals(np.arange(40), at, 12, 4, since).tolist()

    assert order({30, 31, 32})[:12] == [0, 1, 2, 30, 3, 4, 5, 31, 6, 7, 8, 32]
    assert order({30, 31, 32}, since=2)[:7] == [0, 30, 1, 2, 3, 31, 4]
    assert order({1, 30})[:6] == [0, 1, 2, 3, 4, 30], "one that ranks high counts"
    assert order(set()) == list(range(40))


def test_the_smallest_share_shows_no_arrival() -> None:
    assert arrange(ranking([5, 3, 9, 1], new={9}), SHOP, 4, explore=5e-324).tolist() == [0, 1, 2, 3]


def test_a_small_share_reaches_short_lists() -> None:
    example = ranking(list(range(40)), new={35, 36})
    slates = [arrange(example, SHOP, 5, explore=0.1, rotation=rotation)[:5].tolist() for rotation in range(100)]
    with_new = sum(bool({35, 36} & set(places)) for places in slates)
    assert with_new == 50, "half of the lists of five, at one in ten"
