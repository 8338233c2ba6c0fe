import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.ranking.pair_index import find_keys, look_up
from tests.features.shop import examples

KEYS = st.lists(st.integers(0, 60), unique=True).map(sorted)


@examples(50)
@given(KEYS, st.lists(st.integers(-3, 70)))
def test_look_up_is_a_dictionary(keys: list[int], pairs: list[int]):
    values = {key: 10 * key for key in keys}
    result = look_up(
        np.array(keys, np.int64), np.array([*values.values()], np.int64), np.array(pairs, np.int64), missing=-1
    )
    assert result.tolist() == [values.get(pair, -1) for pair in pairs]
    assert result.dtype == np.int64


def test_find_keys_says_where_and_whether():
    slot, hit = find_keys(np.array([2, 5, 9]), np.array([9, 1, 5, 12]))
    assert hit.tolist() == [True, False, True, False]
    assert slot[hit].tolist() == [2, 1]
    assert slot.max() < 3


def test_missing_values_keep_the_dtype():
    none, keys = np.zeros(0, np.int64), np.array([3])
    for k, values in ((none, np.zeros(0, np.float32)), (keys, np.ones(1, np.float32))):
        assert look_up(k, values, np.array([1, 3]), np.float32(0)).dtype == np.float32
