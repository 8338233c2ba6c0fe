import numpy as np
import polars as pl
import pytest

from features.common.clock import DAY, moment
from features.event_log.schema import CATALOG_SCHEMA, conform
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import KIND, Visitors
from models.candidates.content import Content, ContentConfig, words
from models.candidates.generators import Generators
from models.candidates.item_knn import ItemKnn, ItemKnnConfig
from tests.features.shop import AS_OF, row, same_arrays, snapshot
from tests.models import fitted
from tests.models.fitted import dense, matrix

CONFIG = ContentConfig()


def shop(titles: list[str | None], categories: list[str | None] | None = None, **more: list) -> Snapshot:
    """Item n, viewed by a visitor of its own, has title n."""
    ids = [f"i{n:02}" for n in range(len(titles))]
    columns = {"item_id": ids, "title": titles, "category": categories or [None] * len(ids), **more}
    catalog = conform(pl.DataFrame(columns, schema_overrides=dict.fromkeys(columns, pl.String)), CATALOG_SCHEMA)
    return snapshot([row("view_item", -1, f"d{i}", i) for i in ids], catalog=catalog)


def related(s: Snapshot, config: ContentConfig = CONFIG) -> set[tuple[int, int]]:
    """Pairs of items, the lower one first; the relation goes both ways."""
    of = matrix(Content.fit(s, config).similar)
    assert ((of > 0) == (of.T > 0)).all()
    return {(a, b) for a, b in zip(*(part.tolist() for part in np.nonzero(of)), strict=True) if a < b}


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (("Green Tea, 100 g", None, None), ["green", "tea", "100", "g"]),
        (("TEA-pot_blue", None, None), ["tea", "pot", "blue"]),
        (("Grüner Tee ÉTÉ", None, None), ["grüner", "tee", "été"]),
        (("緑茶 чай", None, None), ["緑茶", "чай"]),
        (("☕ !?", None, None), []),
        ((None, "Kitchen/Tea", None), ["category:/Kitchen", "category:/Kitchen/Tea"]),
        ((None, None, "Alder"), ["brand:Alder"]),
        (("tea", "", ""), ["tea"]),
        ((None, None, None), []),
    ],
)
def test_words_of_a_description(described: tuple, expected: list[str]):
    assert words(*described) == expected


def test_a_word_is_neither_a_category_nor_a_brand():
    s = shop(["alder", "x", "y", "z"], [None, "alder", None, None], brand=[None, None, "alder", None])
    assert related(s) == set()


def test_items_with_the_same_words_are_similar():
    s = shop(["green tea", "Green TEA pot", "red wine", "wine glass", "lamp", None, "", "Ägypten", "ägypten"])
    assert related(s) == {(0, 1), (2, 3), (7, 8)}


def test_rarer_words_in_common_make_items_more_similar():
    s = shop(["tea cup", "tea pot", "cup mat", "cup rack", *(["lamp"] * 2), *(f"other {n}" for n in range(30))])
    of = matrix(Content.fit(s, ContentConfig(common=0.3)).similar)
    assert of[0, 1] > of[0, 2] > 0
    assert of[4, 5] == pytest.approx(1)
    assert (of <= 1 + 1e-6).all()
    np.testing.assert_allclose(of, of.T, rtol=1e-6)


@pytest.mark.parametrize(("times", "pairs"), [(1, 0), (2, 1), (3, 3), (4, 0)])
def test_a_word_in_too_many_items_is_ignored(times: int, pairs: int):
    titles = [*(["common"] * times), *(f"x{n}" for n in range(30 - times))]
    assert len(related(shop(titles, None), ContentConfig(common=0.1))) == pairs


def test_categories_and_brands_describe_too():
    categories = ["Kitchen/Tea", "Kitchen/Tea", "Kitchen/Wine", None, None, "Garden", *([None] * 6)]
    brands = [None, None, None, "Alder", "Alder", *([None] * 7)]
    s = shop([None] * 12, categories, brand=brands)
    assert related(s, ContentConfig(common=0.3)) == {(0, 1), (0, 2), (1, 2), (3, 4)}
    of = matrix(Content.fit(s, ContentConfig(common=0.3)).similar)
    assert of[0, 1] > of[0, 2] > 0


def test_without_descriptions_no_items_are_similar():
    s = shop([None] * 3)
    assert related(s) == set()
    visitors = Visitors.from_events(np.array([-1]), np.array([0]), np.array([1]), np.array([KIND["view_item"]]))
    assert not dense(Content.fit(s, CONFIG).scores("content_visit", s, visitors), 1, 3).any()


def test_only_the_most_similar_are_kept():
    titles = ["a b c", "a b x", "a y z", *(f"n{n}" for n in range(30))]
    of = matrix(Content.fit(shop(titles), ContentConfig(neighbours=1)).similar)
    assert np.flatnonzero(of[0]).tolist() == [1]


def test_content_relates_items_that_nobody_took_together():
    s = shop(["green tea", "black tea", "lamp", "desk"])
    visitors = Visitors.from_events(np.array([-1]), np.array([0]), np.array([0]), np.array([KIND["add_to_cart"]]))
    scores = dense(Content.fit(s, CONFIG).scores("content_visit", s, visitors), 1, 4)
    assert np.flatnonzero(scores).tolist() == [1]
    assert not dense(ItemKnn.fit(s, ItemKnnConfig()).scores("item_knn_visit", s, visitors), 1, 4).any()


def test_content_goes_by_the_customers_history():
    catalog = conform(
        pl.DataFrame({"item_id": ["a", "b", "c", "d"], "title": ["tea", "tea", "ink", "ink"]}), CATALOG_SCHEMA
    )
    rows = [row("purchase", -1, "c1", "a"), *(row("view_item", -1, f"d{i}", i) for i in "bcd")]
    s = snapshot(rows, catalog=catalog)
    scores = dense(Content.fit(s, CONFIG).scores("content", s, Visitors.of_customers(np.array([0, -1]))), 2, 4)
    assert [np.flatnonzero(line).tolist() for line in scores] == [[1], []]


def test_refit_to_another_catalog_fits_anew_with_the_same_settings():
    old, new = (
        shop(["tea", "tea", "tea", "ink"]),
        shop(["ink", "lamp", "ink", "ink", "ink", *(f"x{n}" for n in range(25))]),
    )
    for config in (ContentConfig(common=0.1), ContentConfig(common=0.5, neighbours=2)):
        again = Content.from_arrays(Content.fit(old, config).arrays())
        assert again.config == config
        fresh = Content.fit(new, config).arrays()
        assert all(
            same_arrays(array, fresh[name])
            for name, array in again.refit_to(new, np.zeros(0, np.int64)).arrays().items()
        )


def test_an_item_without_events_is_proposed_by_its_words():
    listed = {"item_id": ["i0", "i1", "i2"], "title": ["green tea", "lamp", "green tea pot"]}
    since = pl.lit(moment(AS_OF - 2 * DAY))
    catalog = conform(pl.DataFrame(listed).with_columns(first_seen=since), CATALOG_SCHEMA)
    s = snapshot([row("view_item", -1, "d1", "i0"), row("view_item", -1, "d1", "i1")], catalog=catalog)
    query, item, kind = np.array([0]), s.items.find(["i0"]), np.array([KIND["view_item"]])
    visitor = Visitors.from_events(np.array([-1]), query, item, kind)
    _, proposed = Generators.fit(s, fitted.CONFIG).scores("content_visit", s, visitor).top(5)
    assert s.items.at(proposed) == ["i2"]
