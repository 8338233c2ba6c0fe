"""Mapping: how a shop's tables become events and catalog rows, written as YAML.

Every key of the language is a field here, with what it means; docs/sources.md shows them in use.
"""

import codecs
import difflib
import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from features.common.errors import InputError
from features.common.yaml_config import read_bounded
from features.event_log.schema import CATALOG_OPTIONAL, CATALOG_SCHEMA, EVENT_SCHEMA, LinkKind
from features.sources.parsing.mapping.conditions import Condition, name_groups, parse_entry
from features.sources.parsing.mapping.expressions import Expression, parse_columns, parse_expression

MAPPING_HELP = "YAML that maps your columns to ours."  # of the option, in all sources that take it

CATALOG_COLUMNS = tuple(c for c in (*CATALOG_SCHEMA, *CATALOG_OPTIONAL) if c != "updated_at")
ID_COLUMNS = ("event_id", "customer_id", "client_id", "session_id", "item_id", "order_id")
DATE_ORDERS = ("day first", "month first")
# What parts of `files` take from the mapping that they are in, unless they say otherwise.
INHERITED = (
    "encoding", "delimiter", "decimal", "dates", "timezone", "currency", "rates", "names", "placeholders",
    "price_of", "negative_quantity",
)  # fmt: skip


def _event_column(name: str) -> str:
    if name not in EVENT_SCHEMA:
        raise ValueError(f"no such event column; there are {', '.join(EVENT_SCHEMA)}")
    return name


def _catalog_column(name: str) -> str:
    if name not in CATALOG_COLUMNS:
        raise ValueError(f"no such column of a catalog; there are {', '.join(CATALOG_COLUMNS)}")
    return name


def _id_column(name: str) -> str:
    if name not in ID_COLUMNS:
        raise ValueError(f"no such id; there are {', '.join(ID_COLUMNS)}")
    return name


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("no such time zone; write it as Europe/Berlin")
    return name


def _encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError:
        raise ValueError(f"no such encoding {name!r}; write utf-8, cp1252, latin-1 or utf-16") from None
    return name


def _delimiter(text: str) -> str:
    text = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(text) != 1:
        raise ValueError(f'{text!r} is no delimiter; write one character, as in ";", or tab')
    return text


def _dates(text: str) -> str:
    if text not in DATE_ORDERS and "%" not in text:
        raise ValueError(f'{text!r} is no format; write day first, month first, or as in "%d.%m.%Y %H:%M"')
    return text


def _currency(code: str) -> str:
    code = {"€": "EUR", "£": "GBP", "¥": "JPY"}.get(code.strip(), code.strip().upper())
    if len(code) != 3 or not code.isalpha():
        raise ValueError(f"{code!r} is no currency; write its three letters, as in EUR")
    return code


def _as_text(value: Any) -> Any:
    """YAML reads 0 as a number and yes as a truth value where a text is meant."""
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


def _as_constant(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value


Text = Annotated[str, BeforeValidator(_as_text)]
Texts = Annotated[list[Text], BeforeValidator(_as_list)]
Constant = Annotated[str | bool | int | float, BeforeValidator(_as_constant)]
Theirs = Annotated[Expression, PlainValidator(parse_expression)]
TheirColumns = Annotated[Expression, PlainValidator(parse_columns)]
Conditions = Annotated[dict[str, Annotated[Condition, PlainValidator(parse_entry)]], AfterValidator(name_groups)]
Currency = Annotated[str, AfterValidator(_currency)]


class _Loader(yaml.SafeLoader):
    """Reads on, off, yes and no as the words they are, as YAML 1.2 does: `on` is a key, and `no` a cell."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), [*"tTfF"]
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FillDown(_Strict):
    """Cells that are empty in later lines of the same order and take the value above."""

    by: str
    """The column that is equal in the lines of one order."""
    columns: Texts
    """The columns to fill. With `by` among them, a row without it belongs to the order above."""


class Join(_Strict):
    """A table whose rows are added to the rows that share a value with them, as order headers to order lines."""

    on: Texts
    """The column, or columns, that both have."""
    has: Texts = []
    """Columns by which the table is recognised among the files of the command."""
    file: Path | None = None
    """Its file beside the mapping, where it is not among the files of the command."""

    @model_validator(mode="after")
    def _check(self) -> "Join":
        if not self.has and self.file is None:
            raise ValueError("says not which file is meant; write has: [its columns], or file: its name")
        return self


class Refunds(_Strict):
    """Rows that were bought and refunded: each is a purchase, and one row more is its refund."""

    where: Conditions
    timestamp: Theirs | None = None
    """When it was refunded; where that is empty, or not given, the time of the purchase."""
    quantity: Theirs | None = None
    """How many pieces; default: all."""
    price: Theirs | None = None
    """What was paid back a piece; default: the price."""


class TableMapping(_Strict):
    """What mappings of events and of catalogs share: how a table is read, and which rows of it."""

    has: Texts = []
    """Columns by which a file is recognised among several."""
    encoding: Annotated[str, AfterValidator(_encoding)] | None = None
    """Default: recognised."""
    delimiter: Annotated[str, AfterValidator(_delimiter)] | None = None
    """Default: recognised."""
    decimal: Literal[",", "."] | None = None
    """The decimal mark; the other one, ' and spaces are thousands. Default: recognised, column by column."""
    dates: Annotated[str, AfterValidator(_dates)] | None = None
    """day first, month first, or a format of strptime. Default: recognised, column by column."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """IANA zone of times written without an offset."""
    currency: Currency | None = None
    """The log's currency: amounts without one are in it."""
    rates: dict[Currency, PositiveFloat] = {}
    """Other currencies → what one unit is in `currency`. Rows in any other currency are rejected."""
    fill_down: FillDown | None = None
    explode: str | None = None
    """A list of objects, of which each becomes a row; with `explode: events` their keys are columns `events.key`."""
    where: Conditions = {}
    """The file's column → what a row must have in it; others are left out and counted. `any` → sets of conditions."""
    optional: Texts = []
    """Our columns that a file need not have though `columns` names them."""


class CatalogMapping(TableMapping):
    """A file of products."""

    file: Path | None = None
    """The file, beside the mapping. Not given under `items`, which recognises it among the files of the command."""
    columns: dict[Annotated[str, AfterValidator(_catalog_column)], Theirs] = {}
    """Catalog column → the file's column. Others are read under their own name."""
    constants: dict[Annotated[str, AfterValidator(_catalog_column)], Constant] = {}
    category_separator: Text | None = None
    """What stands between the categories of a product that is in several: the deepest counts. Default: one category."""


def _as_catalog(value: Any) -> Any:
    return {"file": value} if isinstance(value, str | Path) else value


class Mapping(TableMapping):
    """Which of a shop's columns, constants and names are which of the event log's."""

    columns: dict[Annotated[str, AfterValidator(_event_column)], Theirs] = {}
    """Event column → the file's column, or an expression of several. Others are read under their own name."""
    constants: dict[Annotated[str, AfterValidator(_event_column)], Constant] = {}
    """Event column → the value of every row, whatever the file says."""
    names: dict[Text, str] = {}
    """The file's event names → the log's. Others are kept as they are."""
    join: Annotated[list[Join], BeforeValidator(lambda v: [v] if isinstance(v, dict) else v)] = []
    price_of: Literal["piece", "line"] = "piece"
    """What `price` is the amount of: of a whole line it is divided by the quantity."""
    negative_quantity: Literal["reject", "refund"] = "reject"
    """Whether a purchase of negative quantity or price is refused or a return."""
    refunds: Refunds | None = None
    placeholders: dict[Annotated[str, AfterValidator(_id_column)], Texts] = {}
    """Event column → words that are no id, in place of the built-in ones."""
    email: TheirColumns | None = None
    """The file's column with the customer's e-mail address, of which only a salted hash is kept."""
    payment_token: TheirColumns | None = None
    """The file's column with what names a card or account to the shop; only a salted hash is kept."""
    catalog: Annotated[CatalogMapping, BeforeValidator(_as_catalog)] | None = None
    """Products, as a file beside the mapping."""
    items: CatalogMapping | None = None
    """Products, as a file among those of the command."""
    files: "list[Mapping]" = []
    """Mappings of the kinds of files that are read in one command, each recognised by its `has`."""

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("files"), list):
            return value
        settings = {key: value[key] for key in INHERITED if key in value}
        parts = [settings | part if isinstance(part, dict) else part for part in value["files"]]
        return value | {"files": parts}

    @model_validator(mode="after")
    def _check(self) -> "Mapping":
        if self.rates and self.currency is None:
            raise ValueError("rates need the currency they lead to; write currency: EUR")
        for n, part in enumerate(self.files):
            if not part.has:
                raise ValueError(f"files.{n} says not which files it is for; write has: [columns that they have]")
        return self

    @property
    def secrets(self) -> dict[LinkKind, Expression]:
        """Kind of token → the file's columns that hold it."""
        columns: dict[LinkKind, Expression | None] = {"email": self.email, "payment": self.payment_token}
        return {kind: column for kind, column in columns.items() if column is not None}

    @property
    def hashed_columns(self) -> tuple[str, ...]:
        """The file's columns of which only a salted hash may be kept."""
        named = [c for expression in self.secrets.values() for c in expression.columns]
        return tuple(dict.fromkeys([*named, *(c for e in self.columns.values() for c in e.hashed)]))

    @property
    def parts(self) -> "Iterator[Mapping]":
        """The mapping and those of its `files`."""
        yield self
        for part in self.files:
            yield from part.parts

    @classmethod
    def load(cls, path: Path) -> "Mapping":
        """Read a mapping. Raises `InputError` that names the file, the key at fault, and what to write."""
        return cls.parse(read_yaml(path), f"the mapping {path}", path.parent)

    @classmethod
    def parse(cls, content: Any, where: str, directory: Path) -> "Mapping":
        """Validate what a mapping's YAML holds; its files are relative to `directory`. Errors as `load`."""
        try:
            mapping = cls.model_validate({} if content is None else content)
        except ValidationError as error:
            raise InputError(f"{where} does not fit: {describe_errors(error)}") from error
        for part in mapping.parts:
            _check_secrets(part, where)
        return _locate(mapping, directory)


def read_yaml(path: Path) -> Any:
    """Read the content of a mapping. Raises `InputError` for a file that is no YAML, or a huge or deep one."""
    return read_bounded(lambda: _Loader(path.read_text(encoding="utf-8-sig")).get_single_data(), f"the mapping {path}")


def _check_secrets(mapping: Mapping, where: str) -> None:
    if doubled := sorted(mapping.columns.keys() & mapping.constants.keys()):
        raise InputError(f"{where} names {', '.join(doubled)} as column and as constant; keep one")
    plain = {
        c: ours
        for ours, theirs in mapping.columns.items()
        for part in theirs.parts
        for c in part.columns
        if c not in theirs.hashed
    }
    stored = plain | {c: c for c in EVENT_SCHEMA}
    if kept := sorted(set(mapping.hashed_columns) & stored.keys()):
        raise InputError(
            f"{where} would keep {', '.join(kept)}, an e-mail address or payment token, as "
            f"{', '.join(stored[c] for c in kept)}; only its hash may be kept: name another column, or write "
            f"{{hash: {kept[0]}}}"
        )


def _locate(mapping: Mapping, directory: Path) -> Mapping:
    """Name files by their path, not relative to the mapping."""
    update: dict[str, Any] = {
        "join": [j if j.file is None else j.model_copy(update={"file": directory / j.file}) for j in mapping.join],
        "files": [_locate(part, directory) for part in mapping.files],
    }
    if mapping.catalog is not None and mapping.catalog.file is not None:
        update["catalog"] = mapping.catalog.model_copy(update={"file": directory / mapping.catalog.file})
    return mapping.model_copy(update=update)


def describe_errors(error: ValidationError) -> str:
    """Describe each fault as `key.in.the.file: what is wrong, and what to write`."""
    faults = [(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors()]
    described = {
        _name_key(location): _describe(location, kind, message) for location, kind, message in reversed(faults)
    }
    return "; ".join(reversed(described.values()))


def _name_key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part not in ("str", "bool", "int", "float", "[key]"))


def _describe(location: tuple[int | str, ...], kind: str, message: str) -> str:
    key = _name_key(location)
    message = message.removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _keys_at(location)
        near = difflib.get_close_matches(str(location[-1]), known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        return f"{key}: no such key; {hint}"
    # The outermost key has the example that shows the others in place; parts of `files` have their own.
    example = _EXAMPLES.get(
        next((p for p in location if p in _EXAMPLES and p != "files"), location[0] if location else ""), ""
    )
    needs_example = example and kind != "value_error"
    return f"{key or 'the file'}: {message}{f'; write it as in `{example}`' if needs_example else ''}"


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    models: dict[int | str, type[BaseModel]] = {
        "fill_down": FillDown, "join": Join, "refunds": Refunds, "catalog": CatalogMapping, "items": CatalogMapping,
    }  # fmt: skip
    model = next((models[part] for part in reversed(location[:-1]) if part in models), Mapping)
    return list(model.model_fields)


_EXAMPLES: dict[int | str, str] = {
    "columns": "columns: {customer_id: Customer ID, item_id: [SKU, Name]}",
    "constants": "constants: {name: purchase}",
    "names": "names: {order: purchase}",
    "decimal": 'decimal: ","',
    "dates": "dates: day first",
    "rates": "rates: {USD: 0.92}",
    "fill_down": "fill_down: {by: Name, columns: [Created at]}",
    "explode": "explode: events",
    "join": "join: {has: [order_id, user_id], on: order_id}",
    "where": "where: {Status: [paid]}",
    "price_of": "price_of: line",
    "negative_quantity": "negative_quantity: refund",
    "refunds": "refunds: {where: {Status: [refunded]}, timestamp: Refunded at}",
    "placeholders": 'placeholders: {customer_id: ["0"]}',
    "catalog": "catalog: products.csv",
    "items": "items: {columns: {item_id: SKU}}",
    "files": "files: [{has: [SKU, Status], columns: {item_id: SKU}}]",
    "has": "has: [SKU, Status]",
    "optional": "optional: [currency]",
    "email": "email: Email",
    "payment_token": "payment_token: Card",
}
