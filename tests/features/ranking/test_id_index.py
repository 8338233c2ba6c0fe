import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ranking import id_index
from features.ranking.id_index import IdIndex
from tests.features.shop import examples

TEXTS = st.text(max_size=8)


def constant(text: bytes) -> int:
    return 2**63 + 5


def modulo_three(text: bytes) -> int:
    return sum(text) % 3


@pytest.mark.parametrize("hashed", [None, constant, modulo_three])
def test_known_ids_have_their_positions_and_others_none(monkeypatch: pytest.MonkeyPatch, hashed):
    if hashed:
        monkeypatch.setattr(id_index, "_hash", hashed)

    @examples(60)
    @given(st.lists(TEXTS, unique=True, max_size=12), st.lists(TEXTS, max_size=8))
    def check(known: list[str], strangers: list[str]):
        index = IdIndex.from_ids(known)
        ids = [*known, *strangers, *known[:1], *strangers[:1]]
        expected = [known.index(i) if i in known else -1 for i in ids]
        assert index.find(ids).tolist() == expected
        assert [index.find([i]).tolist() for i in ids] == [[p] for p in expected]
        positions = np.array([p for p in expected if p >= 0], np.int64)
        assert index.at(positions) == [known[p] for p in positions]

    check()


def test_mapped_memory_finds_the_same():
    index = IdIndex.from_ids(["b", "a", "ü", "a/b"])
    again = IdIndex(index.values, index.hashes.copy(), index.order.copy())
    assert again.find(["ü", "a", "A", ""]).tolist() == [2, 1, -1, -1]


def test_a_slice_of_mapped_memory_starts_at_its_own_first_id():
    whole = pa.array(["x", "b", "äh", "c", "y"])
    index = IdIndex.from_ids(["b", "äh", "c"])
    assert IdIndex(whole[1:4], index.hashes, index.order).find(["c", "äh", "x", "\ud800"]).tolist() == [2, 1, -1, -1]
    assert IdIndex(whole[1:4], index.hashes, index.order).at(np.array([0, 2])) == ["b", "c"]


def test_empty_queries_and_empty_indices():
    assert IdIndex.from_ids([]).find(["a", ""]).tolist() == [-1, -1]
    assert IdIndex.from_ids(["a"]).find([]).tolist() == []
    assert IdIndex.from_ids(["a"]).at(np.zeros(0, np.int64)) == []


def test_ids_keep_their_order():
    assert IdIndex.from_ids(["b", "a"]).at(np.array([0, 1, 0])) == ["b", "a", "b"]
    assert len(IdIndex.from_ids(["b", "a"])) == 2
