import polars as pl
import pytest

from features.sources.parsing.text_files import json_lines

SCHEMA: json_lines.Schema = {"a": pl.String(), "b": pl.String()}


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("company", [[], ["{oops"], ['{"a": [1], "b": 7.0}']])
def test_numbers_that_json_has_not_are_unknown(constant: str, company: list[str]):
    lines = [f'{{"a": {constant}, "b": "x {constant}, y"}}', *company]
    parsed = json_lines.parse(lines, SCHEMA)
    assert parsed.select("a", "b", json_lines.LINE, json_lines.UNPARSED).row(0) == (
        None,
        f"x {constant}, y",
        lines[0],
        None,
    )


@pytest.mark.parametrize("spoiler", [None, "{oops", '{"a": NaN}', '{"a": 1e999}'])
@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("7", "7"), ("7.0", "7"), ("9007199254740993", "9007199254740993"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("1" * 60, "1" * 60), ("1.10", "1.1"), ("-0.5", "-0.5"), ('"007"', "007"), ("null", None),
    ],
)  # fmt: skip
def test_numbers_are_written_alike_in_any_company(number: str, text: str | None, spoiler: str | None):
    lines = [f'{{"a": {number}}}', *([spoiler] if spoiler else [])]
    assert json_lines.parse(lines, SCHEMA)["a"][0] == text
