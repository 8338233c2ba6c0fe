"""Lists in a cell of text: JSON, or entries of named values as BigCommerce writes the products of an order.

    [{"sku": "A", "qty": 1}, {"sku": "B", "qty": 2}]
    Product ID: 1, Product SKU: A, Product Qty: 1|Product ID: 2, Product SKU: B, Product Qty: 2

In the second form each entry begins with the name that the cell begins with, and all names with the same word; values
may hold commas, colons and bars.
"""

import json
import re
from collections.abc import Iterable, Sequence

import polars as pl

_NAME = re.compile(r"\s*([^:,|]{1,60}):")


def find_keys(cells: Iterable[str | None]) -> list[str]:
    """The keys of the entries in `cells`, in order of appearance."""
    return list(dict.fromkeys(key for cell in cells if cell for entry in _parse_cell(cell) for key in entry))


def parse(cells: pl.Series, keys: Sequence[str]) -> pl.Series:
    """Parse `cells` as lists of objects with the texts of `keys`; a cell that holds no list is empty."""
    lists = [
        [{key: entry.get(key) for key in keys} for entry in _parse_cell(cell)] if cell else []
        for cell in cells.cast(pl.String, strict=False)
    ]
    return pl.Series(cells.name, lists, pl.List(pl.Struct(dict.fromkeys(keys, pl.String()))))


def _parse_cell(cell: str) -> list[dict[str, str | None]]:
    if cell.lstrip().startswith("["):
        return _parse_json(cell)
    first = _NAME.match(cell)
    if first is None:
        return []
    name = re.escape(first[1].strip())
    word = re.escape(first[1].split()[0])
    entries = re.split(rf"(?:^|\||\s)\s*(?={name}:)", cell)
    return [fields for entry in entries if (fields := _parse_entry(entry, rf"{name}|{word} [^:,|]{{1,60}}"))]


def _parse_entry(entry: str, name: str) -> dict[str, str | None]:
    _, *parts = re.split(rf"(?:^|,)\s*({name}):", entry)
    return {key: value.strip() or None for key, value in zip(parts[::2], parts[1::2], strict=True)}


def _parse_json(cell: str) -> list[dict[str, str | None]]:
    try:
        values = json.loads(cell, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return []
    entries = [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
    return [{key: _write(value) for key, value in entry.items()} for entry in entries]


def _write(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
