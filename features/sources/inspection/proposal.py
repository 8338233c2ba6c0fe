"""Proposals: the mapping that reads inspected files, with a comment for what was found, guessed or left open."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from features.common import currencies
from features.event_log.ingestion.event_names import nearest_name
from features.event_log.schema import EVENT_NAMES, EVENT_SCHEMA
from features.sources.inspection import cells
from features.sources.inspection.kinds import InspectedFile
from features.sources.inspection.roles import LIKELY, MOST, SURE, fits
from features.sources.inspection.words import score_name
from features.sources.parsing.cells.pii import redact_text
from features.sources.parsing.mapping.column_names import fold
from features.sources.parsing.mapping.mapping import CATALOG_COLUMNS

Path_ = tuple[str, ...]
_SHOWN = 12  # values in a comment


@dataclass
class Proposal:
    """The content of a mapping; `comments` stand behind the keys of `content` that they are named by.

    `hints` are lines for the end, keys that may be needed; `problems` say why files cannot be read by any mapping.
    """

    content: dict[str, Any] = field(default_factory=dict)
    comments: dict[Path_, str] = field(default_factory=dict)
    hints: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def set(self, *path: str, value: Any, comment: str = "") -> None:
        node = self.content
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
        if comment:
            self.comments[path] = comment

    def nest(self, key: str, inner: "Proposal") -> None:
        """Put a proposal under a key of this one."""
        self.content[key] = inner.content
        self.comments |= {(key, *path): comment for path, comment in inner.comments.items()}
        self.hints += inner.hints


def propose_events(file: InspectedFile, header: InspectedFile | None = None) -> Proposal:
    """Propose how a file of events or orders is read; `header` is the file that has what the lines lack."""
    proposal = Proposal()
    sources = [file] if header is None else [file, header]
    if file.sample.explode:
        proposal.set("explode", value=file.sample.explode, comment="each entry becomes a row")
    if header is not None:
        _join(proposal, file, header)
    _map_columns(proposal, sources)
    _name_events(proposal, file)
    _map_amounts(proposal, file)
    _choose_formats(proposal, file, sources)
    _choose_currency(proposal, sources)
    _choose_rows(proposal, file, sources)
    if {"StockCode", "InvoiceDate", "Quantity"} <= set(file.sample.columns):
        proposal.hints.append(
            "UCI's Online Retail: `usual ingest online-retail FILE` leaves out its fees and corrections"
        )
    return proposal


def propose_items(file: InspectedFile, others: Sequence[InspectedFile] = ()) -> Proposal:
    """Propose how a catalog is read that is recognised among the `others`."""
    proposal = Proposal()
    columns = {r: a.column for r, a in file.roles.items() if r in CATALOG_COLUMNS}
    proposal.set("has", value=distinctive_columns(file, list(columns.values()), others))
    if file.sample.explode:
        proposal.set("explode", value=file.sample.explode, comment="each entry becomes a row")
    for role, column in columns.items():
        if fold(column) != fold(role):
            proposal.set("columns", role, value=column, comment=_doubt(file, role))
    if not proposal.content.get("columns"):
        proposal.content["columns"] = {"item_id": columns["item_id"]} if "item_id" in columns else {}
    if "item_id" not in columns:
        proposal.problems.append(
            f"{file.sample.path.name} has no column with ids of items: name it under items.columns"
        )
    if "price" in columns and cells.unclear_decimals(file.sample.table, [columns["price"]]):
        _guess_decimal(proposal, file)
    if "available" not in columns:
        proposal.hints.append("no column says what is in stock: every item of the catalog counts as available")
    return proposal


def distinctive_columns(file: InspectedFile, wanted: Sequence[str], others: Sequence[InspectedFile]) -> list[str]:
    """A few columns by which a file is told apart from the others."""
    taken = {fold(c) for other in others for c in other.sample.columns}
    plain = [c for c in wanted if "." not in c] or [c for c in file.sample.columns if "." not in c]
    own = [c for c in plain if fold(c) not in taken]
    own = own or [c for c in file.sample.columns if fold(c) not in taken and "." not in c]
    return (own or plain)[:3]


def _join(proposal: Proposal, file: InspectedFile, header: InspectedFile) -> None:
    ours, theirs = file.column("order_id"), header.column("order_id")
    if ours is None or theirs is None or fold(ours) != fold(theirs):
        proposal.problems.append(
            f"{file.sample.path.name} calls the order {ours}, {header.sample.path.name} calls it {theirs}: give both "
            "columns one name"
        )
        return
    has = distinctive_columns(header, [a.column for a in header.roles.values()], [file])
    proposal.set("join", value={"has": [theirs, *has[:2]], "on": theirs}, comment=f"from {header.sample.path.name}")


def _map_columns(proposal: Proposal, sources: Sequence[InspectedFile]) -> None:
    for file in sources:
        for role, found in file.roles.items():
            if role not in EVENT_SCHEMA or role in proposal.content.get("columns", {}):
                continue
            value: Any = found.column
            if role == "timestamp" and (clock := _clock_beside(file)):
                value = f"{{{found.column}}} {{{clock}}}"
            if role == "item_id" and file.profile_of(role).empty and file.column("title"):
                value = [found.column, file.column("title")]
            if role == "customer_id" and file.profile_of(role).people >= MOST:
                comment = "names of people, of which only salted hashes are kept: set USUAL_IDENTITY_SALT first"
                proposal.set("columns", role, value={"hash": found.column}, comment=comment)
            elif role == "customer_id" and file.profile_of(role).addresses:
                proposal.set(
                    "columns", role, value=value, comment="addresses among them are hashed: set the salt first"
                )
            elif value != found.column or fold(found.column) != fold(role):
                proposal.set("columns", role, value=value, comment=_doubt(file, role))
    email = next((c for file in sources if (c := file.column("email"))), None)
    comment = "only a salted hash is kept: set USUAL_IDENTITY_SALT first"
    if email and any(fold(email) == fold(ours) for ours in EVENT_SCHEMA):  # a column of ours is never kept as a secret
        proposal.set("columns", "customer_id", value={"hash": email}, comment=comment)
    elif email:
        proposal.set("email", value=email, comment=comment)
    roles = {role for file in sources for role in file.roles}
    if not roles & {"customer_id", "client_id", "email"}:
        proposal.hints.append("no column says who it was: rows with an order id become guests of that order")


def _clock_beside(file: InspectedFile) -> str | None:
    """The column with the time of day, where that of the date has none."""
    dated = file.profile_of("timestamp")
    if dated.typed_time or dated.dates < 1:
        return None
    names = (n for n, p in file.profiles.items() if p.clocks >= MOST and not set("{}") & set(n + dated.name))
    return next(names, None)


def _doubt(file: InspectedFile, role: str) -> str:
    score = file.roles[role].score
    if score >= SURE - 35 or (role == "timestamp" and score):
        return ""
    return "by what its cells look like: check" if not score else "a guess by its name: check"


def _name_events(proposal: Proposal, file: InspectedFile) -> None:
    if "name" not in file.roles:
        views = file.kind == "views"
        proposal.set(
            "constants", "name", value="view_item" if views else "purchase",
            comment="every row is a view" if views else "every row is a sale",
        )  # fmt: skip
        proposal.content.get("columns", {}).pop("name", None)
        return
    values = [value for value, _ in file.profile_of("name").values]
    unknown = [value for value in values if value not in EVENT_NAMES]
    names = {value: near for value in unknown if (near := nearest_name(value))}
    rest = [redact_text(value) for value in unknown if value not in names]
    for value, near in names.items():
        proposal.set("names", value, value=near)
    if rest:
        known = ", ".join(EVENT_NAMES)
        proposal.hints.append(
            f"nothing is learnt from the events {_list(rest)}; under `names:` say what they are: {known}"
        )


def _sells(proposal: Proposal, file: InspectedFile) -> bool:
    if "name" not in file.roles:
        return bool(proposal.content["constants"]["name"] == "purchase")
    names = proposal.content.get("names", {})
    return any(names.get(value, value) in ("purchase", "refund") for value, _ in file.profile_of("name").values)


def _map_amounts(proposal: Proposal, file: InspectedFile) -> None:
    """Every sale needs an item, a quantity and a price of one piece."""
    if not _sells(proposal, file):
        return
    if file.kind == "orders":
        proposal.set("constants", "item_id", value="order", comment="products are not named: an order is one item")
    if "price" not in file.roles and (total := file.column("total")):
        proposal.set("columns", "price", value=total, comment="the amount of the whole line")
        if "quantity" in file.roles:
            proposal.set("price_of", value="line", comment="divided by the quantity")
            return
        proposal.set("constants", "quantity", value=1, comment="so that the line is worth its amount")
        return
    if "price" not in file.roles:
        proposal.set("constants", "price", value=0, comment="prices are not known")
    if "quantity" not in file.roles:
        proposal.set("constants", "quantity", value=1, comment="each row is one piece")


def _choose_formats(proposal: Proposal, file: InspectedFile, sources: Sequence[InspectedFile]) -> None:
    table = file.sample.table
    numbers = [c for role in ("price", "quantity", "total") if (c := file.column(role))]
    if cells.unclear_decimals(table, numbers):
        _guess_decimal(proposal, file)
    timed = next((f for f in sources if "timestamp" in f.roles), None)
    if timed is None:
        return
    times = timed.sample.table[timed.roles["timestamp"].column]
    if cells.unclear_dates(times):
        american = _main_currency(sources) == "USD"
        proposal.set(
            "dates", value="month first" if american else "day first",
            comment="a guess: no date says which of the two it is",
        )  # fmt: skip
    if not cells.has_offsets(times):
        proposal.hints.append("timezone: Europe/Berlin   # times do not say their zone and are taken as UTC")


def _guess_decimal(proposal: Proposal, file: InspectedFile) -> None:
    mark = "," if file.sample.dialect.delimiter == ";" else "."
    proposal.set("decimal", value=mark, comment="a guess: no number says whether 1.299 is one or a thousand")


def _main_currency(sources: Sequence[InspectedFile]) -> str | None:
    codes = _currencies(sources)
    return codes[0][0] if codes else None


def _currencies(sources: Sequence[InspectedFile]) -> list[tuple[str, int]]:
    for file in sources:
        if "currency" in file.roles:
            counts: dict[str, int] = {}
            for value, n in file.profile_of("currency").values:
                code = currencies.currency_code(value) or value.upper()
                counts[code] = counts.get(code, 0) + n
            return sorted(counts.items(), key=lambda c: (-c[1], c[0]))
        amounts = file.column("price") or file.column("total")
        if amounts and (found := cells.currencies_in(file.sample.table[amounts])):
            return found
    return []


def _choose_currency(proposal: Proposal, sources: Sequence[InspectedFile]) -> None:
    codes = _currencies(sources)
    if len(codes) > 1:
        main, others = codes[0][0], [code for code, _ in codes[1:]]
        counts_text = ", ".join(f"{code} {n:,}" for code, n in codes[:_SHOWN])
        proposal.set("currency", value=main, comment=f"a log has one; found {counts_text}")
        proposal.hints.append(
            f"rates: {{{', '.join(f'{code}: 1.0' for code in others)}}}   # what one is worth in {main}; without a "
            "rate their rows are rejected"
        )
    elif not codes and any("price" in f.roles or "total" in f.roles for f in sources):
        proposal.hints.append("currency: EUR   # no cell says the currency")


def _choose_rows(proposal: Proposal, file: InspectedFile, sources: Sequence[InspectedFile]) -> None:
    """Which rows are sales, which are returns, and what later lines of an order take from the first."""
    negative = [r for r in ("quantity", "price", "total") if r in file.roles and file.profile_of(r).negative]
    if negative and _sells(proposal, file):
        proposal.set(
            "negative_quantity",
            value="refund",
            comment=f"there are negative cells in {_list(_columns(file, negative))}",
        )
    if file.kind == "events" or not _sells(proposal, file):
        return
    parent, price = file.column("parent"), file.column("price") or file.column("total")
    if parent and cells.children_are_free(file.sample.table, parent, price):
        proposal.set("where", parent, value="empty", comment="lines of the parts of a product cost nothing")
    status = next((f for f in sources if "status" in f.roles), None)
    if status is not None:
        _choose_statuses(proposal, status)
    order = file.column("order_id")
    if order:
        items = [c for role in ("item_id", "title") if (c := file.column(role))]
        mapped = [
            a.column for r, a in file.roles.items() if r not in ("item_id", "quantity", "price", "title", "total")
        ]
        if filled := cells.find_fill_down(file.sample.table, order, items, [c for c in mapped if c != order]):
            proposal.set(
                "fill_down", value={"by": order, "columns": filled}, comment="empty in later lines of an order"
            )


def _choose_statuses(proposal: Proposal, file: InspectedFile) -> None:
    column = file.roles["status"].column
    values = file.profile_of("status").values
    no_sales = [value for value, _ in values if cells.is_no_sale(value)]
    refunded = [value for value, _ in values if cells.is_refunded(value) and value not in no_sales]
    counts_text = _counted(values)
    if no_sales:
        proposal.set("where", column, value={"not": no_sales}, comment=f"no sales; found {counts_text}")
    elif not refunded:
        proposal.hints.append(f"where: {{{column}: [paid]}}   # if some are no sales; found {counts_text}")
    if refunded:
        proposal.set("refunds", value={"where": {column: refunded}}, comment="bought and paid back")
    _choose_further_statuses(proposal, file)


def _choose_further_statuses(proposal: Proposal, file: InspectedFile) -> None:
    """Leave out what another column says is no sale, as where the order and its payment each have a status."""
    assigned = {found.column for found in file.roles.values()}
    for column, profile in file.profiles.items():
        score = score_name("status", column)
        if column in assigned or score < LIKELY or not fits("status", profile, score):
            continue
        if no_sales := [value for value, _ in profile.values if cells.is_no_sale(value)]:
            comment = f"no sales; found {_counted(profile.values)}"
            proposal.set("where", column, value={"not": no_sales}, comment=comment)


def _counted(values: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{redact_text(value)} {n:,}" for value, n in values[:_SHOWN])


def _columns(file: InspectedFile, roles: Sequence[str]) -> list[str]:
    return [file.roles[role].column for role in roles]


def _list(values: Sequence[str]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(values[:_SHOWN]) + more
