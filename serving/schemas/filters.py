"""`filter` of a request: conditions on what the catalog says of an item."""

from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Op = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not_in", "under", "contains"]
MOST_CONDITIONS, MOST_VALUES, MOST_ATTRIBUTES = 20, 100, 4  # each attribute is read out of every item's JSON
_LARGEST = 1e15
_ATTRIBUTES_KEPT = 32
_ORDER = ("<", "<=", ">", ">=")
_NUMERIC = ("price",)

Text = Annotated[str, Field(max_length=256)]
Value = Text | bool | float | int


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, frozen=True)


class Condition(_Message):
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
    def _fits(self) -> "Condition":
        several = isinstance(self.value, list)
        if several != (self.op in ("in", "not_in")):
            raise PydanticCustomError("bad_value", "`in` and `not_in` take a list, the others one value")
        values = self.value if isinstance(self.value, list) else [self.value]
        if len(values) > MOST_VALUES:
            raise PydanticCustomError("bad_value", f"A list may have {MOST_VALUES} values")
        if any(isinstance(v, int | float) and not abs(v) <= _LARGEST for v in values):  # also where it is NaN
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


class Filter(_Message):
    """Items of which all of `all` hold, at least one of `any`, and none of `none`."""

    all: list[Condition] = Field(default=[], max_length=MOST_CONDITIONS)
    any: list[Condition] = Field(default=[], max_length=MOST_CONDITIONS)
    none: list[Condition] = Field(default=[], max_length=MOST_CONDITIONS)

    @model_validator(mode="after")
    def _not_too_much(self) -> "Filter":
        conditions = [*self.all, *self.any, *self.none]
        if len(conditions) > MOST_CONDITIONS:
            raise PydanticCustomError("too_many_conditions", f"A filter may have {MOST_CONDITIONS} conditions")
        if len({c.field for c in conditions if c.field.startswith("attributes.")}) > MOST_ATTRIBUTES:
            raise PydanticCustomError("too_many_attributes", f"A filter may name {MOST_ATTRIBUTES} attributes")
        return self


class Columns:
    """The catalog's columns, one value per item; of `attributes` those that were asked for are kept."""

    def __init__(self, columns: dict[str, pa.Array], attributes: pa.Array, price: np.ndarray) -> None:
        self._columns, self._attributes, self.price = columns, attributes, price
        self._known: dict[str, pa.Array] = {}

    def with_prices(self, price: np.ndarray) -> "Columns":
        """The same with other prices, float64[items], NaN where none is known."""
        changed = Columns(self._columns, self._attributes, price)
        changed._known = self._known
        return changed

    def of(self, field: str) -> pa.Array:
        """Texts, null where not known."""
        if field in self._columns:
            return self._columns[field]
        if field not in self._known:
            if len(self._known) >= _ATTRIBUTES_KEPT:
                self._known.pop(next(iter(self._known), ""), None)
            found = _attribute(self._attributes, field.removeprefix("attributes."))
            self._known[field] = found
            return found
        return self._known[field]


def _attribute(attributes: pa.Array, name: str) -> pa.Array:
    import polars as pl

    found = pl.Series(attributes, dtype=pl.String).str.json_path_match(f'$["{name}"]')
    return found.to_arrow(compat_level=pl.CompatLevel.oldest())


def mask(of: Columns, wanted: Filter) -> np.ndarray:
    """bool[items]: which items a filter lets through."""
    passed = np.ones(len(of.price), bool)
    for condition in wanted.all:
        passed &= _holds(of, condition)
    if wanted.any:
        passed &= np.logical_or.reduce([_holds(of, condition) for condition in wanted.any])
    for condition in wanted.none:
        passed &= ~_holds(of, condition)
    return passed


def _holds(of: Columns, asked: Condition) -> np.ndarray:
    return _number(of, asked) if asked.field in _NUMERIC or asked.op in _ORDER else _text(of, asked)


def _number(of: Columns, asked: Condition) -> np.ndarray:
    if asked.field in _NUMERIC:
        known = of.price
    else:
        texts = pc.utf8_trim_whitespace(of.of(asked.field))
        numeric = pc.match_substring_regex(texts, r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$")
        known = pc.cast(pc.if_else(numeric, texts, None), pa.float64()).to_numpy(zero_copy_only=False)
    value: Any = asked.value
    with np.errstate(invalid="ignore"):
        found: np.ndarray
        match asked.op:
            case "<":
                found = known < value
            case "<=":
                found = known <= value
            case ">":
                found = known > value
            case ">=":
                found = known >= value
            case "==":
                found = known == value
            case "!=":
                found = known != value  # also where it is not known
            case "in":
                found = np.isin(known, value)
            case _:
                found = ~np.isin(known, value)
    return found


def _text(of: Columns, asked: Condition) -> np.ndarray:
    known, value = of.of(asked.field), asked.value
    match asked.op:
        case "under":
            found = pc.or_(pc.equal(known, value), pc.starts_with(known, f"{value}/"))
        case "contains":
            found = pc.match_substring(known, str(value), ignore_case=True)
        case _:
            values = value if isinstance(value, list) else [value]
            found = pc.is_in(known, pa.array([_as_text(v) for v in values], pa.string()))
            if asked.op in ("!=", "not_in"):
                found = pc.invert(found)
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), bool)


def _as_text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
