"""Options that several commands share, and how a command prints what it did."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

LogDir = Annotated[Path, typer.Option("--log", help="Event log directory, as `usual ingest` writes it.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")]
LATE_DAYS = 28  # from the last event to a snapshot, beyond which people look as if they had left

Model = Annotated[
    str | None,
    typer.Option("--model", help="Bundle directory or MLflow URI; default: the champion."),
]


def print_answer(value: dict[str, Any], as_json: bool, text: str) -> None:
    """Print to stdout: `value` as one JSON object where a script reads it, else `text`."""
    typer.echo(json.dumps(value, indent=1, default=str) if as_json else text)


def note_late_time(last: int, when: int) -> None:
    """Print a note where a snapshot's instant `when` lies long after the log's last event (both microseconds)."""
    from features.common.clock import DAY, iso

    if (days := (when - last) // DAY) > LATE_DAYS:
        print_note(
            f"note: {iso(when)[:10]} is {days:,} days after the log's last event, of {iso(last)[:10]}: everybody looks "
            "as if they had not come back since, and nothing as if it were bought lately. Is that the time you mean?"
        )


def print_note(text: str) -> None:
    """Print to stderr, so that stdout stays what a script expects."""
    typer.echo(text, err=True)
