"""Filters: conditions of a request on what the catalog says of an item, and their evaluation as masks."""

from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from features.common.arrays import BoolArray, Float64Array

Op = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not_in", "under", "contains"]
MAX_CONDITIONS, MAX_VALUES, MAX_ATTRIBUTES = 20, 100, 4  # each attribute is read out of every item's JSON
_MAX_NUMBER = 1e15
_MAX_CACHED_ATTRIBUTES = 32
_ORDER = ("<", "<=", ">", ">=")
_NUMERIC = ("price",)

Text = Annotated[str, Field(max_length=256)]
Value = Text | bool | float | int


class _FilterPart(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, frozen=True)


class Condition(_FilterPart):
    """One comparison. Of an item whose value is not known only `!=` and `not_in` hold."""

    field: Annotated[
        str, Field(pattern=r"^(category|brand|title|price|currency|attributes\.[A-Za-z0-9_\-]{1,64})$", max_length=80)
    ]
    """category, brand, title, price, currency, or attributes.NAME of the catalog."""
    op: Op
    """`under`: a category and those below it; `contains`: part of a text, whatever its case."""
    value: Value | list[Value]
    """A list for `in` and `not_in`."""

    @model_validator(mode="after")
    def _check_value(self) -> "Condition":
        is_list = isinstance(self.value, list)
        if is_list != (self.op in ("in", "not_in")):
            raise PydanticCustomError("bad_value", "`in` and `not_in` take a list, the others one value")
        values = self.value if isinstance(self.value, list) else [self.value]
        if len(values) > MAX_VALUES:
            raise PydanticCustomError("bad_value", f"A list may have {MAX_VALUES} values")
        if any(isinstance(v, int | float) and not abs(v) <= _MAX_NUMBER for v in values):  # also where it is NaN
            raise PydanticCustomError("bad_value", "A number may have 15 digits before the point")
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        texts = all(isinstance(v, str) for v in values)
        if self.field in _NUMERIC and (not numbers or self.op in ("under", "contains")):
            raise PydanticCustomError("bad_value", "A price is compared with a number")
        if self.field not in _NUMERIC and not self.field.startswith("attributes.") and not texts:
            raise PydanticCustomError("bad_value", "This field is compared with text")
        if self.op in ("under", "contains") and not texts:
            raise PydanticCustomError("bad_value", "`under` and `contains` take text")
        if self.op in _ORDER and not numbers:
            raise PydanticCustomError("bad_value", "`<`, `<=`, `>` and `>=` take a number")
        return self


class Filter(_FilterPart):
    """Items of which all of `all` hold, at least one of `any`, and none of `none`."""

    all: list[Condition] = Field(default=[], max_length=MAX_CONDITIONS)
    any: list[Condition] = Field(default=[], max_length=MAX_CONDITIONS)
    none: list[Condition] = Field(default=[], max_length=MAX_CONDITIONS)

    @model_validator(mode="after")
    def _check_size(self) -> "Filter":
        conditions = [*self.all, *self.any, *self.none]
        if len(conditions) > MAX_CONDITIONS:
            raise PydanticCustomError("too_many_conditions", f"A filter may have {MAX_CONDITIONS} conditions")
        if len({c.field for c in conditions if c.field.startswith("attributes.")}) > MAX_ATTRIBUTES:
            raise PydanticCustomError("too_many_attributes", f"A filter may name {MAX_ATTRIBUTES} attributes")
        return self


class CatalogColumns:
    """The catalog as columns with one value per item; attributes that filters name are read once and cached.

    `price`: float64[items], NaN where none is known.
    """

    def __init__(self, columns: dict[str, pa.Array], attributes: pa.Array, price: Float64Array) -> None:
        self._columns, self._attributes, self.price = columns, attributes, price
        self._attribute_cache: dict[str, pa.Array] = {}

    def with_prices(self, price: Float64Array) -> "CatalogColumns":
        """Replace the prices; the cache of attributes is shared."""
        changed = CatalogColumns(self._columns, self._attributes, price)
        changed._attribute_cache = self._attribute_cache
        return changed

    def texts(self, field: str) -> pa.Array:
        """The texts of a field, null where not known."""
        if field in self._columns:
            return self._columns[field]
        if field not in self._attribute_cache:
            if len(self._attribute_cache) >= _MAX_CACHED_ATTRIBUTES:
                self._attribute_cache.pop(next(iter(self._attribute_cache), ""), None)
            texts = _read_attribute(self._attributes, field.removeprefix("attributes."))
            self._attribute_cache[field] = texts
            return texts
        return self._attribute_cache[field]


def _read_attribute(attributes: pa.Array, name: str) -> pa.Array:
    import polars as pl

    texts = pl.Series(attributes, dtype=pl.String).str.json_path_match(f'$["{name}"]')
    return texts.to_arrow(compat_level=pl.CompatLevel.oldest())


def evaluate(filter_: Filter, columns: CatalogColumns) -> BoolArray:
    """bool[items]: which items pass a filter."""
    mask = np.ones(len(columns.price), bool)
    for condition in filter_.all:
        mask &= _evaluate(condition, columns)
    if filter_.any:
        mask &= np.logical_or.reduce([_evaluate(condition, columns) for condition in filter_.any])
    for condition in filter_.none:
        mask &= ~_evaluate(condition, columns)
    return mask


def _evaluate(condition: Condition, columns: CatalogColumns) -> BoolArray:
    numeric = condition.field in _NUMERIC or condition.op in _ORDER
    return _compare_numbers(condition, columns) if numeric else _compare_texts(condition, columns)


def _compare_numbers(condition: Condition, columns: CatalogColumns) -> BoolArray:
    if condition.field in _NUMERIC:
        numbers = columns.price
    else:
        texts = pc.utf8_trim_whitespace(columns.texts(condition.field))
        numeric = pc.match_substring_regex(texts, r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$")
        numbers = pc.cast(pc.if_else(numeric, texts, None), pa.float64()).to_numpy(zero_copy_only=False)
    value: Any = condition.value
    with np.errstate(invalid="ignore"):
        mask: BoolArray
        match condition.op:
            case "<":
                mask = numbers < value
            case "<=":
                mask = numbers <= value
            case ">":
                mask = numbers > value
            case ">=":
                mask = numbers >= value
            case "==":
                mask = numbers == value
            case "!=":
                mask = numbers != value  # also where it is not known
            case "in":
                mask = np.isin(numbers, value)
            case _:
                mask = ~np.isin(numbers, value)
    return mask


def _compare_texts(condition: Condition, columns: CatalogColumns) -> BoolArray:
    texts, value = columns.texts(condition.field), condition.value
    match condition.op:
        case "under":
            mask = pc.or_(pc.equal(texts, value), pc.starts_with(texts, f"{value}/"))
        case "contains":
            mask = pc.match_substring(texts, str(value), ignore_case=True)
        case _:
            values = value if isinstance(value, list) else [value]
            mask = pc.is_in(texts, pa.array([_as_text(v) for v in values], pa.string()))
            if condition.op in ("!=", "not_in"):
                mask = pc.invert(mask)
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), bool)


def _as_text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
