"""Reading notes: what was assumed, filled in or guessed in reading a shop's tables, counted and told once."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import polars as pl

from features.common import ids
from features.common.counts import count
from features.sources.parsing.cells import coerce, pii
from features.sources.parsing.mapping.column_names import fold
from features.sources.parsing.mapping.conditions import to_plain_text

_STATUS = re.compile(r"status|state(\.?(technical)?name)?$")
_EVENT = re.compile(
    r"^(is|was)?(cancell?ed|refunded|voided|returned)|(cancell?ed|refunded|voided)(at|on|date|amount)?$|refundamount$"
)
_SHIPPING = re.compile(r"fulfil|shipping|shipment|deliver|versand|liefer|livraison|expedition")
_PARENT = re.compile(r"^parent(product|order|line|lineitem|item)?(id|sku|item|product)$")
_UNSOLD = (
    r"(?i)cancel|refund|fail|unpaid|pending|void|declin|denied|chargeback|disput|on[-_ ]?hold|abandon|fraud|returned"
)
_UNSHIPPED = r"(?i)cancel|refund|returned"  # where goods are: pending or failed is on its way, and sold
_AS_RETURNS = "`negative_quantity: refund` in a mapping reads them as returns"
_NOTHING = r"(?i)^[-+]?[0., ]*$|^false$|^no$|^n$"


def is_telling(column: str) -> bool:
    """Whether a column may say of a row that it is no sale of its own: a status, or the parent of a line."""
    name = fold(column)
    return bool(_STATUS.search(name) or _EVENT.search(name) or _PARENT.search(name))


class ReadingNotes:
    """Counts over all batches of a command."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._placeholders: dict[str, Counter[str]] = {}
        self._filled: Counter[str] = Counter()
        self._statuses: dict[str, Counter[str]] = {}
        self._flags: Counter[str] = Counter()
        self._blanks: dict[str, set[str]] = {}  # of flags: the filled cells that say nothing, such as 0
        self._parents: Counter[str] = Counter()
        self._ambiguous: dict[str, tuple[int, str]] = {}
        self._partners: Counter[str] = Counter()
        self.converted: Counter[str] = Counter()
        self.texts: dict[str, None] = {}

    def add_placeholders(self, column: str, counts: Mapping[str, int]) -> None:
        if counts:
            self._placeholders.setdefault(column, Counter()).update(counts)

    def add_filled(self, counts: Mapping[str, int]) -> None:
        self._filled.update(counts)

    def add_ambiguous(self, column: str, cells: pl.Series) -> None:
        n, example = self._ambiguous.get(column, (0, ""))
        texts = cells.cast(pl.String)
        smallest = min(filter(None, [example, texts.min()]))  # type: ignore[type-var]
        self._ambiguous[column] = (n + texts.len(), str(smallest))

    def add_partners(self, table: str, missing: int) -> None:
        if missing:
            self._partners[table] += missing

    def add_statuses(self, rows: pl.DataFrame, columns: Iterable[str], purchases: pl.Series) -> None:
        """Count what `columns`, which the mapping ignores, say of purchases."""
        for column in columns:
            if not purchases.any():
                return
            cells = rows[column].filter(purchases)
            name = fold(column)
            if _STATUS.search(name):
                if cells.dtype.is_nested() or cells.dtype.is_numeric():
                    continue
                texts = cells.cast(pl.String, strict=False).str.strip_chars().alias("word")
                unsold = _UNSHIPPED if _SHIPPING.search(name) else _UNSOLD
                unsold_counts = texts.filter(texts.str.contains(unsold).fill_null(False)).value_counts()
                if unsold_counts.height:
                    self._statuses.setdefault(column, Counter()).update(dict(unsold_counts.iter_rows()))
                continue
            texts = cells.cast(pl.String, strict=False)
            meaningful = coerce.is_filled(cells) & ~texts.str.strip_chars().str.contains(_NOTHING).fill_null(True)
            if _PARENT.search(name):
                self._parents[column] += int((meaningful & ids.normalize_ids(texts, "order").is_not_null()).sum())
            elif meaningful.any():
                self._flags[column] += int(meaningful.sum())
            if not _PARENT.search(name):
                blank = to_plain_text(cells.filter(coerce.is_filled(cells) & ~meaningful)).drop_nulls()
                self._blanks.setdefault(column, set()).update(blank.unique())

    def render(self) -> tuple[str, ...]:
        """Render the notes, in a fixed order."""
        return (*self.texts, *self._render_columns(), *self._render_counts())

    def _render_columns(self) -> Iterable[str]:
        for column, words in sorted(self._placeholders.items()):
            yield (
                f"{column}: words that are no id were read as empty ({_list(words)}); "
                f"`placeholders: {{{column}: []}}` in a mapping takes such words as ids"
            )
        if self._filled:
            yield f"filled down from the line above: {_list(self._filled)}"
        for column, words in sorted(self._statuses.items()):
            yield (
                f"{column} says {_list(words)}; all were read as purchases. `where: {{{column}: {{not: "
                f"[{', '.join(sorted(words))}]}}}}` in a mapping leaves them out"
            )
        for column, n in sorted(self._flags.items()):
            advice = _advise(column, self._blanks.get(column, set()))
            yield f"{column} says something of {count(n, 'purchase')}, read as if it did not; {advice}"
        for column, n in sorted(self._parents.items()):
            if n:
                yield (
                    f"{column} names the parent of {count(n, 'purchased line')}: parts of another line. `where: "
                    f"{{{column}: empty}}` in a mapping leaves them out"
                )
        for column, (n, example) in sorted(self._ambiguous.items()):
            timely = column in ("timestamp", "received_at")
            key = "`dates: day first` or `dates: month first`" if timely else '`decimal: ","` or `decimal: "."`'
            yield (
                f"{column}: {count(n, 'cell')} such as {example!r} can be read in two ways, no other cell says which: "
                f"rejected. Write {key} in a mapping"
            )
        for table, n in sorted(self._partners.items()):
            yield f"{table} has no row for {count(n, 'line')}"

        if self.converted:
            yield f"converted to the mapping's currency: {_list(self.converted)}"

    def _render_counts(self) -> Iterable[str]:
        for key, (one, many) in _COUNTED.items():
            if n := self.counts[key]:
                yield one if n == 1 else many.format(n=n)


# Of one, and of several.
_COUNTED = {
    "people": (
        "1 order line without a customer has that of the line above, of the same order",
        "{n:,} order lines without a customer have that of the line above, of the same order",
    ),
    "addresses": (
        "1 cell in customer_id is an e-mail address; its salted hash is the customer_id",
        "{n:,} cells in customer_id are e-mail addresses; a salted hash of each is the customer_id",
    ),
    "unsalted": (
        f"1 row has an e-mail address as customer_id and was rejected: addresses are not stored. {pii.SET_SALT}",
        "{n:,} rows have an e-mail address as customer_id and were rejected: addresses are not stored. " + pii.SET_SALT,
    ),
    "email": (
        "1 row without customer_id has the salted hash of its e-mail address as it",
        "{n:,} rows without customer_id have the salted hash of their e-mail address as it",
    ),
    "guests": (
        "1 order line names nobody: its order is a guest's, client_id order:ORDER",
        "{n:,} order lines name nobody; each order is of a guest of its own, client_id order:ORDER",
    ),
    "baskets": (
        "1 purchase or refund has no order_id: what one customer bought at one instant counts as one order",
        "{n:,} purchases and refunds have no order_id: what one customer bought at one instant counts as one order",
    ),
    "returns": (
        "1 row of negative quantity or price was read as a refund",
        "{n:,} rows of negative quantity or price were read as refunds",
    ),
    "negative": (
        f"1 purchase of negative quantity or price was rejected; {_AS_RETURNS}",
        f"{{n:,}} purchases of negative quantity or price were rejected; {_AS_RETURNS}",
    ),
    "refunded": (
        "1 purchase was refunded: it has a refund beside it",
        "{n:,} purchases were refunded: each has a refund beside it",
    ),
    "dollars": (
        "1 price is in $ or kr, a sign of several currencies: say which, as in `currency: USD` in a mapping",
        "{n:,} prices are in $ or kr, a sign of several currencies: say which, as in `currency: USD` in a mapping",
    ),
    "scientific": (
        f"1 row has an id in scientific notation and was rejected: {ids.SCIENTIFIC_HINT}",
        f"{{n:,}} rows have an id in scientific notation and were rejected: {ids.SCIENTIFIC_HINT}",
    ),
}


def _advise(column: str, blanks: set[str]) -> str:
    """What to write where a column, whose cells `blanks` say nothing, tells of cancelled or refunded purchases."""
    name = fold(column)
    if "amount" in name or "total" in name:
        return "what was paid back is not taken off"
    nothing = ", ".join(['""', *(f'"{word}"' for word in sorted(blanks - {""}))])
    sold, unsold = (f"[{nothing}]", f"{{not: [{nothing}]}}") if blanks else ("empty", "filled")
    if "quantity" in name or "qty" in name:
        refunds = f"refunds: {{where: {{{column}: {unsold}}}, quantity: {column}}}"
        return f"`{refunds}` in a mapping reads so many as refunded too"
    return (
        f"`where: {{{column}: {sold}}}` in a mapping leaves them out, `refunds: {{where: {{{column}: {unsold}}}}}` "
        "reads them as refunded too"
    )


def _list(counts: Mapping[str, int], most: int = 6) -> str:
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    named = [f"{n:,} × {word}" for word, n in ordered[:most]]
    rest = len(ordered) - most
    return ", ".join(named) + (f" and {rest:,} more" if rest > 0 else "")
