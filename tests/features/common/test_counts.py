import pytest

from features.common.counts import count


@pytest.mark.parametrize(
    ("n", "noun", "plural", "text"),
    [
        (0, "event", "", "0 events"),
        (1, "event", "", "1 event"),
        (1200, "event", "", "1,200 events"),
        (1, "country", "countries", "1 country"),
        (2, "country", "countries", "2 countries"),
    ],
)
def test_a_number_with_its_noun(n: int, noun: str, plural: str, text: str):
    assert count(n, noun, plural) == text
