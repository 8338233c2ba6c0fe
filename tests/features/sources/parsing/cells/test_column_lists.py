"""Column lists in messages: short, without addresses, and with the column that was probably meant."""

from pathlib import Path

import pytest

from features.sources.parsing.cells.column_lists import ColumnsError, list_columns, suggest_column


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([], "none"),
        (["a", "b"], "a, b"),
        ([f"c{n}" for n in range(15)], ", ".join(f"c{n}" for n in range(12)) + " and 3 more"),
        (["x" * 60], "x" * 39 + "…"),
        (["jane@example.org", "o1"], "[redacted], o1"),  # the first row of a file without a header
    ],
)
def test_lists_are_short_and_name_nobody(columns: list[str], expected: str):
    assert list_columns(columns) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Wen", "did you mean When?"),
        ("custommer id", "did you mean Customer ID?"),
        ("{SKU", "did you mean SKU?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_the_column_that_was_meant_is_asked_for(name: str, expected: str):
    assert suggest_column(name, ["When", "Customer ID", "SKU"]) == expected


def test_what_to_do_comes_first_and_the_columns_last():
    error = ColumnsError("f.csv: missing columns name.", ["a", "b"], Path("f.csv"))
    assert str(error) == "f.csv: missing columns name. Its columns: a, b"
    advised = error.with_advice("`usual inspect f.csv` proposes a mapping")
    assert str(advised) == "f.csv: missing columns name. `usual inspect f.csv` proposes a mapping. Its columns: a, b"
    assert advised.path == Path("f.csv")
