"""Matching: which of a table's columns a mapping means, once per file or table of a database."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from features.event_log.schema import EVENT_SCHEMA, LinkKind
from features.sources.parsing.cells.column_lists import ColumnsError
from features.sources.parsing.mapping import conditions as where_conditions
from features.sources.parsing.mapping.column_names import ColumnNames
from features.sources.parsing.mapping.conditions import Condition
from features.sources.parsing.mapping.expressions import ColumnPart, Expression
from features.sources.parsing.mapping.mapping import Mapping, Refunds
from features.sources.parsing.rows.fill_and_join import FillingDown, JoinedTable
from features.sources.parsing.rows.order_lines import PeopleAbove


@dataclass
class MatchedTable:
    """A table as a mapping reads it, in the table's own column names, and how far reading it has come."""

    where: str
    """The file or table, for messages."""
    file: int
    """Its number in the command."""
    columns: dict[str, Expression]
    secrets: dict[LinkKind, Expression]
    conditions: dict[str, Condition]
    """By column or `any`; its text in the mapping's words is in `wording`."""
    wording: dict[str, str]
    joins: list[tuple[JoinedTable, list[str]]]
    filling_down: FillingDown | None = None
    refunds: Refunds | None = None
    explode: str | None = None
    mapped: frozenset[str] = frozenset()
    """Columns of the table that the mapping names anywhere."""
    exact_numbers: frozenset[str] = frozenset()
    """Columns whose texts are numbers as a database writes them."""
    people: PeopleAbove = field(default_factory=PeopleAbove)

    @property
    def hashed(self) -> list[str]:
        """Columns of which only a salted hash may be kept."""
        named = [c for expression in self.secrets.values() for c in expression.columns]
        return list(dict.fromkeys([*named, *(c for e in self.columns.values() for c in e.hashed)]))

    @property
    def joined(self) -> set[str]:
        """Columns of joined tables."""
        return {c for table, _ in self.joins for c in table.columns}

    @property
    def used(self) -> list[str]:
        """Columns that are read, without those of joined tables."""
        return sorted(self.mapped - self.joined)

    def describe_columns(self) -> dict[str, str]:
        """Our column → theirs, the first of several."""
        named = {ours: expression.columns[0] for ours, expression in self.columns.items()}
        refunds = {f"refund_{c}": getattr(self.refunds, c, None) for c in ("timestamp", "quantity", "price")}
        return named | {ours: theirs.columns[0] for ours, theirs in refunds.items() if theirs is not None}


def match(
    mapping: Mapping,
    available: Iterable[str],
    where: str,
    file: int = 0,
    joined: Collection[JoinedTable] = (),
    nested: bool = False,
    rare: bool = False,
    exact_numbers: Collection[str] = (),
    hint: str = "",
) -> MatchedTable:
    """Match `mapping` to the columns `available` in a table.

    With `nested`, names may be paths into columns; with `rare` the table may have more of our columns than are known.
    Raises `InputError` where a column that the mapping names is missing, or name, timestamp, and customer_id or
    client_id are; `hint` is added to it.
    """
    own = ColumnNames(available, nested)
    names = ColumnNames([*own.names, *(c for table in joined for c in table.columns)], nested)
    mapped: set[str] = set()
    read: set[str] = set()  # of these, what a column of ours or a secret is read from
    absent: list[str] = []
    optional = set(mapping.optional)

    def find(name: str, reason: str, among: ColumnNames = names) -> str:
        column = among.find(name)
        if column is None:
            absent.append(among.describe_missing([name], reason))
            return name
        mapped.add(column)
        return column

    def resolve(expression: Expression, reason: str, needed: bool = True) -> Expression | None:
        resolved = expression.resolve(names.find)
        if resolved is None:
            if needed:
                missing = [column for column in expression.columns if names.find(column) is None]
                absent.append(names.describe_missing(missing, reason))
            return None
        mapped.update(resolved.columns)
        read.update(resolved.columns)
        return resolved

    columns = {o: resolve(e, f"for {o}", o not in optional) for o, e in mapping.columns.items()}
    secrets = {k: resolve(e, f"for the {k} token", k not in optional) for k, e in mapping.secrets.items()}
    joins = [(table, [find(c, "in join", own) for c in on.on]) for table, on in zip(joined, mapping.join, strict=False)]

    def find_for_where(name: str) -> str | None:
        return find(name, "in where") if name not in optional or names.find(name) else None

    conditions, wording = dict[str, Condition](), dict[str, str]()
    for key, condition in mapping.where.items():
        for actual, resolved in where_conditions.resolve({key: condition}, find_for_where).items():
            conditions[actual], wording[actual] = resolved, f"{key}: {condition}"
    filling_down = None
    if mapping.fill_down is not None:
        fill = [c for c in mapping.fill_down.columns if c not in optional or names.find(c)]
        filling_down = FillingDown(find(mapping.fill_down.by, "in fill_down"), [find(c, "in fill_down") for c in fill])
    refunds = None
    if mapping.refunds is not None:
        refund_conditions = where_conditions.resolve(mapping.refunds.where, find_for_where)
        extra = {
            c: e and resolve(e, f"for {c} in refunds", not optional.issuperset(e.columns))
            for c, e in (("timestamp", mapping.refunds.timestamp), ("quantity", mapping.refunds.quantity),
                         ("price", mapping.refunds.price))
        }  # fmt: skip
        # Without the column that says which rows were refunded, none is known to be.
        if all(c not in optional or names.find(c) for c in where_conditions.name_columns(mapping.refunds.where)):
            refunds = mapping.refunds.model_copy(update={"where": refund_conditions, **extra})
    if absent:
        raise ColumnsError(f"{where} lacks columns the mapping names: {', '.join(absent)}{hint}", own.names)
    table = MatchedTable(
        where=where, file=file, columns={o: e for o, e in columns.items() if e is not None},
        secrets={k: e for k, e in secrets.items() if e is not None}, conditions=conditions, wording=wording,
        joins=joins,
        filling_down=filling_down, refunds=refunds, explode=mapping.explode,
        exact_numbers=frozenset(exact_numbers),
    )  # fmt: skip
    for ours in EVENT_SCHEMA:
        if ours in mapping.constants or ours in mapping.columns:
            continue
        # A column that is only filled down, joined on or in a condition may be one of ours by its own name.
        theirs = names.find(ours, read)
        if theirs is None and mapping.explode:
            theirs = ColumnNames(names.names).find(f"{mapping.explode}.{ours}", read)
        if theirs is None and rare and ours != "event_id" and not mapping.explode:
            theirs = ours
        if theirs is not None and theirs not in table.hashed:
            table.columns[ours] = Expression((ColumnPart(theirs),))
            mapped.add(theirs)
            read.add(theirs)
    table.mapped = frozenset(mapped)
    _check_required(table, mapping, own, hint)
    return table


def _check_required(table: MatchedTable, mapping: Mapping, own: ColumnNames, hint: str) -> None:
    present = table.columns.keys() | mapping.constants.keys()
    missing = [c for c in ("name", "timestamp") if c not in present]
    if not present & {"customer_id", "client_id"} and "email" not in table.secrets:
        missing.append("customer_id or client_id")
    if missing:
        raise ColumnsError(
            f"{table.where}: missing columns {', '.join(missing)}. Say in a mapping which of its columns are meant, as "
            f"in `columns: {{{missing[0].split()[0]}: THEIR_NAME}}`, or give `constants`{hint}",
            own.names,
        )
