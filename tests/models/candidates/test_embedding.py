import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.clock import DAY, moment
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import KIND, Visitors
from models.candidates import embedding
from models.candidates.embedding import Embedding, EmbeddingConfig, nearest_by_cosine
from models.candidates.generators import Generators
from models.candidates.registry import GeneratorsConfig
from tests.features.shop import AS_OF, CATALOG, examples, row, same_arrays, snapshot
from tests.models.fitted import dense, matrix

NAN = float("nan")
VECTORS: dict[str, list[float] | None] = {"a": [1, 0], "b": [2, 1], "c": [0, 3], "d": [-1, 0], "e": None, "f": [0, 0]}


def shop(vectors: dict[str, list[float] | None] | None = None, **more: object) -> Snapshot:
    """c1 bought a, c2 viewed c, nobody has touched the others."""
    vectors = VECTORS if vectors is None else vectors
    catalog = pl.DataFrame({"item_id": [*vectors]}, schema={"item_id": pl.String}).join(
        CATALOG, on="item_id", how="left"
    )
    catalog = catalog.with_columns(
        first_seen=pl.lit(moment(AS_OF - 9 * DAY)), embedding=pl.Series([*vectors.values()], dtype=pl.List(pl.Float32))
    )
    return snapshot([row("purchase", -1, "c1", "a"), row("view_item", -2, "c2", "c")], catalog=catalog, **more)


def exact(vectors: np.ndarray, k: int) -> np.ndarray:
    """float64[items × items], worked out one pair at a time."""
    out = np.zeros((len(vectors), len(vectors)))
    for i, x in enumerate(vectors.astype(np.float64)):
        near = []
        for j, y in enumerate(vectors.astype(np.float64)):
            length = np.linalg.norm(x) * np.linalg.norm(y)
            if i != j and length > 0 and x @ y / length > 1e-6:
                near.append((-(x @ y) / length, j))
        for value, j in sorted(near)[:k]:
            out[i, j] = -value
    return out


def test_similar_items_are_those_whose_vectors_point_the_same_way():
    s = shop()
    of = matrix(Embedding.fit(s, EmbeddingConfig()).similar)
    at = {item: n for n, item in enumerate(s.items.values.to_pylist())}
    assert of[at["a"], at["b"]] == pytest.approx(2 / 5**0.5)
    assert of[at["b"], at["c"]] == pytest.approx(1 / 5**0.5)
    assert (of > 0).sum() == 4  # both ways; d points away from all, e has no vector, f no direction


@examples(200)
@given(
    data=st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=3, max_size=3), min_size=1, max_size=90),
    k=st.integers(1, 100),
    block=st.integers(1, 1 << 12),
)
def test_the_nearest_are_those_of_a_comparison_of_all_pairs(data: list[list[float]], k: int, block: int):
    vectors = np.array(data, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "_BLOCK_CELLS", block)
        similarity = matrix(nearest_by_cosine(vectors, k))
    expected = exact(vectors, k)
    # Equal ones may change places in the last bit: what is kept is as similar as it can be.
    assert np.allclose(np.sort(similarity, axis=1), np.sort(expected, axis=1), atol=1e-6)
    assert (np.diag(similarity) == 0).all()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_length_of_a_vector_does_not_matter(scale: float):
    vectors = np.array([[1, 0], [2, 1], [0, 3]], np.float32) * np.float32(scale)
    assert matrix(nearest_by_cosine(vectors, 5))[0, 1] == pytest.approx(2 / 5**0.5)


def test_of_many_equal_items_the_first_are_kept():
    similarity = matrix(nearest_by_cosine(np.ones((700, 2), np.float32), 3))
    assert ((similarity > 0).sum(axis=1) == 3).all()
    assert (similarity[10:, :3] > 0).all()


def test_an_item_nobody_has_touched_is_proposed_for_the_history_and_for_the_visit():
    s = shop()
    generators = Generators.fit(s, GeneratorsConfig())
    a, b, c = s.items.find(["a", "b", "c"])
    known = Visitors.of_customers(s.customers.find(["c1"]))
    scores = dense(generators.scores("embedding", s, known), 1, len(s.items))[0]
    assert scores.argmax() == b
    view = np.array([KIND["view_item"]], np.uint8)
    visit = Visitors.from_events(np.array([-1]), np.array([0]), np.array([c]), view)
    scores = dense(generators.scores("embedding_visit", s, visit), 1, len(s.items))[0]
    assert scores.argmax() == b
    assert scores[a] == 0
    assert not dense(generators.scores("embedding", s, visit), 1, len(s.items)).any()


@pytest.mark.parametrize("catalog", [CATALOG, CATALOG.with_columns(embedding=pl.lit(None, pl.List(pl.Float32)))])
def test_without_vectors_it_is_inactive_and_costs_nothing(catalog: pl.DataFrame):
    s = snapshot([row("purchase", -1, "c1", "a")], catalog=catalog)
    generators = Generators.fit(s, GeneratorsConfig())
    assert "embedding" not in generators.active
    assert not {"embedding", "embedding_visit"} & set(generators.names)
    assert not any(name.startswith("embedding.") for name in generators.arrays())


def test_a_refresh_knows_new_vectors_and_keeps_what_it_knew_without_them():
    old = shop({"a": [1, 0], "b": [2, 1]})
    fitted = Embedding.fit(old, EmbeddingConfig())
    new = shop()
    items = old.items.find(new.items.values.to_pylist())
    assert same_arrays(
        matrix(fitted.refit_to(new, items).similar), matrix(Embedding.fit(new, EmbeddingConfig()).similar)
    )
    without = snapshot([row("purchase", -1, "c1", "a"), row("view_item", -2, "c2", "b")])
    refitted = fitted.refit_to(without, old.items.find(without.items.values.to_pylist()))
    a, b = without.items.find(["a", "b"])
    assert matrix(refitted.similar)[a, b] == pytest.approx(2 / 5**0.5)


def test_arrays_say_all():
    fitted = Embedding.fit(shop(), EmbeddingConfig(neighbours=30))
    again = Embedding.from_arrays(fitted.arrays())
    assert again.config == fitted.config
    assert same_arrays(matrix(again.similar), matrix(fitted.similar))
