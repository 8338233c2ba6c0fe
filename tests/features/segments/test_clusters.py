import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.common.errors import InputError
from features.segments import clusters, preferences
from features.segments.clusters import Clustering

AFFINITIES = {"customer_id": pl.String, "facet": pl.String, "value": pl.String, "share": pl.Float32}
# What each planted group leans to, eight parts in ten; the rest is spread over everything.
GROUPS = (
    {"category_1": "grocery", "category_2": "grocery/coffee", "brand": "Alder", "price_tier": "5"},
    {"category_1": "garden", "category_2": "garden/tools", "brand": "Birch", "price_tier": "1"},
    {"category_1": "home", "category_2": "home/decor", "brand": "Cedar", "price_tier": "3"},
    {"category_1": "pets", "category_2": "pets/dogs", "brand": "Dogwood", "price_tier": "2"},
    {"category_1": "books", "category_2": "books/cooking", "brand": "Elm", "price_tier": "4"},
)
Shop = tuple[pl.DataFrame, pl.DataFrame]


def people(ids: list[str], **columns: Any) -> pl.DataFrame:
    """A customer table with as much of it as habits are made of."""
    blank = dict.fromkeys(("basket_items", "basket_quantity", "order_gap_days", "repeat_share"), [None] * len(ids))
    numbers = {name: pl.Series(values, dtype=pl.Float32) for name, values in (blank | columns).items()}
    return pl.DataFrame({"customer_id": ids, **numbers})


def planted(groups: int, each: int = 40, seed: int = 0) -> Shop:
    """Customers c<group>-<n>, each group five smaller than the one before; a last one c- has touched nothing."""
    draw = np.random.default_rng(seed)
    ids, rows = [], []
    for group in range(groups):
        for n in range(each + 5 * (groups - 1 - group)):
            ids.append(f"c{group}-{n:03}")
            for facet, favourite in GROUPS[group].items():
                noise = draw.dirichlet(np.full(len(GROUPS), 0.5)) * 0.2
                for other, share in zip(GROUPS, noise, strict=True):
                    value = other[facet]
                    rows.append((ids[-1], facet, value, share + 0.8 * (value == favourite)))
    return people([*ids, "c-"]), pl.DataFrame(rows, AFFINITIES, orient="row")


def groups_of(clustering: Clustering, shop: Shop) -> dict[str, set[int]]:
    """Which clusters each planted group is in."""
    assigned = clustering.assign(*shop).with_columns(group=pl.col("customer_id").str.head(2)).drop_nulls("cluster")
    return {g: set(c) for g, c in assigned.group_by("group").agg("cluster").iter_rows()}


@pytest.mark.parametrize("k", [2, 3, 5])
def test_planted_groups_are_found_and_counted(k: int) -> None:
    shop = planted(k)
    clustering = clusters.fit_clusters(*shop)
    assert len(clustering.clusters) == k
    assert max(clustering.silhouettes, key=clustering.silhouettes.__getitem__) == k
    groups = groups_of(clustering, shop)
    assert groups == {f"c{n}": {n + 1} for n in range(k)}  # the largest first
    assert [c.customers for c in clustering.clusters] == [40 + 5 * (k - 1 - n) for n in range(k)]


def test_a_cluster_is_named_by_what_sets_it_apart() -> None:
    clustering = clusters.fit_clusters(*planted(3))
    assert {frozenset(c.name.split(" · ")) for c in clustering.clusters} == {
        frozenset({"coffee", "Alder", "dear (tier 5)"}),
        frozenset({"tools", "Birch", "cheap (tier 1)"}),
        frozenset({"decor", "Cedar", "mid-priced (tier 3)"}),
    }
    for facet, _, share, everybody in clustering.clusters[0].marks:
        assert facet != "category_1"  # its branch is told by the deeper level
        assert share == pytest.approx(0.84, abs=0.03)
        assert everybody == pytest.approx(0.32, abs=0.03)


def test_the_order_of_rows_does_not_matter() -> None:
    customers, affinities = planted(3)
    one = clusters.fit_clusters(customers, affinities)
    mixed = customers.sample(fraction=1, shuffle=True, seed=1), affinities.sample(fraction=1, shuffle=True, seed=2)
    other = clusters.fit_clusters(*mixed)
    assert one.as_dict() == other.as_dict()
    assigned = other.assign(*mixed)
    assert assigned["customer_id"].to_list() == mixed[0]["customer_id"].to_list()
    assert assigned.sort("customer_id").equals(one.assign(customers, affinities).sort("customer_id"))


def test_customers_without_interactions_are_in_no_cluster() -> None:
    shop = planted(2)
    assigned = clusters.fit_clusters(*shop).assign(*shop)
    assert assigned.filter(pl.col("cluster").is_null())["customer_id"].to_list() == ["c-"]
    assert assigned.filter(pl.col("cluster_name").is_null())["customer_id"].to_list() == ["c-"]
    assert dict(assigned.schema) == {"customer_id": pl.String, "cluster": pl.Int32, "cluster_name": pl.String}


def test_customers_without_a_facet_are_placed_by_the_others() -> None:
    customers, affinities = planted(2)
    quiet = (pl.col("facet") != "price_tier") & pl.col("customer_id").str.contains("[13579]$")
    silent = affinities.filter(~quiet)
    assert groups_of(clusters.fit_clusters(customers, silent, k=2), (customers, silent)) == {"c0": {1}, "c1": {2}}


def test_without_categories_and_brands_habits_separate_customers() -> None:
    draw = np.random.default_rng(3)
    bulk = np.arange(120) < 40
    items = np.where(bulk, 3, 20) + draw.integers(0, 5, 120)
    units = items * np.where(bulk, draw.integers(30, 60, 120), draw.integers(1, 4, 120))
    ids = [f"c{'w' if b else 'r'}{n:03}" for n, b in enumerate(bulk)]
    customers = people(ids, basket_items=items, basket_quantity=units)
    affinities = pl.DataFrame([(i, "discount", "none", 1.0) for i in ids], AFFINITIES, orient="row")
    clustering = clusters.fit_clusters(customers, affinities, k=2)
    assert groups_of(clustering, (customers, affinities)) == {"cr": {1}, "cw": {2}}
    assert set(clustering.clusters[1].name.split(" · ")) == {"many of each item", "small baskets"}
    with_brands = pl.concat([affinities, affinities.with_columns(facet=pl.lit("brand"), value=pl.lit("Alder"))])
    assert not clusters.fit_clusters(customers, with_brands).preferences.grids


def test_names_are_unique() -> None:
    clustering = clusters.fit_clusters(*planted(2), k=7)
    assert len(clustering.clusters) == 7
    assert len({c.name for c in clustering.clusters}) == 7


def test_a_clustering_from_json_assigns_new_customers() -> None:
    clustering = clusters.fit_clusters(*planted(3))
    again = Clustering.from_dict(json.loads(json.dumps(clustering.as_dict())))
    newcomers = planted(3, each=9, seed=8)
    assert again.assign(*newcomers).equals(clustering.assign(*newcomers))
    assert [len(c) for c in groups_of(again, newcomers).values()] == [1, 1, 1]


@pytest.mark.parametrize("change", [{"centres": [[1.0, 2.0]]}, {"clusters": []}, {"leanings": {}}, {"silhouettes": 3}])
def test_a_damaged_clustering_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="damaged"):
        Clustering.from_dict(clusters.fit_clusters(*planted(2)).as_dict() | change)


def test_a_shop_without_interactions_has_no_clusters(tmp_path: Path) -> None:
    shop = people(["c1", "c2"]), pl.DataFrame(schema=AFFINITIES)
    clustering = clusters.fit_clusters(*shop)
    assert clustering.clusters == ()
    assert clustering.assign(*shop)["cluster"].to_list() == [None, None]
    clustering.write(tmp_path / "clusters.json")
    assert Clustering.read(tmp_path / "clusters.json").assign(*shop).equals(clustering.assign(*shop))
    (tmp_path / "clusters.json").write_text("{")
    with pytest.raises(InputError, match="holds no clusters"):
        Clustering.read(tmp_path / "clusters.json")


def test_few_or_equal_customers_are_one_cluster() -> None:
    customers = people([f"c{n:02}" for n in range(50)])
    equal = pl.DataFrame([(c, "brand", "Alder", 1.0) for c in customers["customer_id"]], AFFINITIES, orient="row")
    for shop in ((customers, equal), planted(2, each=4)):
        clustering = clusters.fit_clusters(*shop)
        assert [c.name for c in clustering.clusters] == [clusters.EVERYBODY]


def test_large_shops_are_processed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = planted(3)
    whole = clusters.fit_clusters(*shop)
    for module in (clusters, preferences):
        monkeypatch.setattr(module, "CHUNK", 7)
    monkeypatch.setattr(clusters, "MOST_ROWS", 60)
    parts = clusters.fit_clusters(*shop)
    assert parts.assign(*shop).drop("cluster_name").equals(whole.assign(*shop).drop("cluster_name"))
    assert [c.customers for c in parts.clusters] == [c.customers for c in whole.clusters]
    for one, other in zip(parts.clusters, whole.clusters, strict=True):
        assert sorted(m[:2] for m in one.marks) == sorted(m[:2] for m in other.marks)
