"""The report of an ingest: what became of every row, with an example of each kind that was not kept."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from features.event_log import log
from features.event_log.catalog import describe_dropped_vectors

_ADVICE = {
    "bad_timestamp": 'write times as 2026-01-31T08:30Z, or their format into a mapping, as `dates: "%d.%m.%Y %H:%M"`',
    "ambiguous_timestamp": "write `dates: day first` or `dates: month first` into a mapping",
    "bad_quantity": "write numbers as 1234.5, in digits",
    "bad_price": "write prices as 1234.50, or into a mapping which column has them, as `columns: {price: THEIR_NAME}`",
    "ambiguous_quantity": 'write into a mapping which mark comes before the decimals, as `decimal: ","`',
    "ambiguous_price": 'write into a mapping which mark comes before the decimals, as `decimal: ","`',
    "no_customer_or_client": "write into a mapping who acted, as `columns: {customer_id: THEIR_NAME}`",
    "scientific_id": "a spreadsheet has lost the id's digits: export the file anew, with ids as text",
    "no_rate_for_currency": "write what 1 of it is worth, as `--rate USD=0.92`",
    "bad_json": "one line has to be one JSON object",
    "ragged_row": "the row has more cells than the header: quote the cells that contain the separator",
    "unclosed_quote": "close the quote, or double a quote that is part of the text",
}


@dataclass(frozen=True)
class IngestReport:
    """How many rows one ingest kept, merged, rejected or skipped; the counts add up to `rows_read` + `derived`."""

    rows_read: int
    kept: dict[str, int]  # by event name
    merged: int
    duplicates: int  # the log, or this input, already had their (event_id, item_id)
    rejected: dict[str, int]  # by reason
    log: log.EventLog
    notes: tuple[str, ...] = ()
    erased: int = 0  # of customers who were erased from the log; nothing of these rows is kept
    dropped_vectors: dict[int, int] = field(default_factory=dict)  # length → items (`Catalog.dropped_vectors`)
    left_out: dict[str, int] = field(default_factory=dict)  # by condition of the mapping
    derived: int = 0  # event rows made beside their row
    in_log: int = 0  # of `duplicates`: rows that the log had before; the others came twice in this input
    taken_back: int = 0  # rows of earlier readings that this one replaces
    examples: dict[str, str] = field(default_factory=dict)  # reason of rejection → file, row and cell of one
    unknown_names: dict[str, int] = field(default_factory=dict)  # kept rows by names that the product does not know

    def check(self) -> None:
        """Raise `RuntimeError` where the counts do not add up."""
        accounted = sum(self.kept.values()) + self.merged + self.duplicates + sum(self.rejected.values()) + self.erased
        accounted += sum(self.left_out.values())
        if accounted != self.rows_read + self.derived:
            derived_text = f" and made {self.derived:,}" if self.derived else ""
            raise RuntimeError(
                f"ingest lost count: read {self.rows_read:,} rows{derived_text}, accounted for {accounted:,}"
            )

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON; the key `dropped_vectors` is there only where some were dropped."""
        dropped = {str(length): n for length, n in self.dropped_vectors.items()}
        report = {
            "rows_read": self.rows_read,
            "kept": self.kept,
            "merged": self.merged,
            "duplicates": self.duplicates,
            "duplicates_in_log": self.in_log,
            "duplicates_in_input": self.duplicates - self.in_log,
            "rejected": self.rejected,
            "examples": self.examples,
            "erased": self.erased,
            "left_out": self.left_out,
            "derived": self.derived,
            "taken_back": self.taken_back,
            "unknown_names": self.unknown_names,
            "log": {"path": str(self.log.path), **self.log.summary},
            "notes": list(self.notes),
        }
        return report | {"dropped_vectors": dropped} if dropped else report

    def text(self) -> str:
        """Render a table whose numbers add up to the rows read."""
        rows = [
            *((f"kept: {name}", n) for name, n in self.kept.items()),
            ("merged into another row of the same order", self.merged),
            ("duplicates: in the log already", self.in_log),
            ("duplicates: more than once in this input", self.duplicates - self.in_log),
            *((f"rejected: {describe_reason(reason, self.examples)}", n) for reason, n in self.rejected.items()),
            ("of customers who were erased", self.erased),
            *((f"left out: {condition}", n) for condition, n in self.left_out.items()),
            ("derived from another row", -self.derived),
        ]
        lines = [f"{n:>12,}  {what}" for what, n in rows if n]
        lines += [f"{self.rows_read:>12,}  rows read", *self.notes]
        if self.dropped_vectors:
            lines.append(describe_dropped_vectors(self.dropped_vectors))
        info = self.log.info
        span = f" from {info['first'][:10]} to {info['last'][:10]}" if info["rows"] else ""
        currency = f", amounts in {info['currency']}" if info.get("currency") else ""
        lines.append(f"{self.log.path}: {info['rows']:,} events{span}{currency}")
        if self.rejected:
            lines += advise(self.rejected)
            lines.append(f"rejected rows and their reasons: {self.log.path / 'rejected.parquet'}")
        return "\n".join(lines)


def describe_reason(reason: str, examples: dict[str, str]) -> str:
    """A reason with the example of it, if there is one."""
    return f"{reason}, as {examples[reason]}" if reason in examples else reason


def advise(reasons: Iterable[str]) -> list[str]:
    """Say what to do about rejected rows, for the reasons where that is known."""
    return [f"{reason}: {_ADVICE[reason]}" for reason in reasons if reason in _ADVICE]


def sort_by_frequency(counts: Counter[str]) -> dict[str, int]:
    """Sort counts, the most frequent first."""
    return dict(sorted(counts.items(), key=lambda c: (-c[1], c[0])))


def list_names(names: Sequence[str], most: int = 5) -> str:
    """A few names for a message, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
