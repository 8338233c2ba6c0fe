"""Options that several commands share, and how a command prints what it did."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

LogDir = Annotated[Path, typer.Option("--log", help="Event log directory, as `usual ingest` writes it.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Bundle directory or MLflow URI; default: the champion."),
]


def print_answer(value: dict[str, Any], as_json: bool, text: str) -> None:
    """Print to stdout: `value` as one JSON object where a script reads it, else `text`."""
    typer.echo(json.dumps(value, indent=1, default=str) if as_json else text)


def print_note(text: str) -> None:
    """Print to stderr, so that stdout stays what a script expects."""
    typer.echo(text, err=True)
