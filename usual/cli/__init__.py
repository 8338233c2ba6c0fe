"""Every command of `usual`, one module per group of commands.

A command checks its arguments, calls one function of `features`, `models`, `training` or `serving`, and prints the
result. Libraries are imported inside the commands, so that `usual --help` does not wait for them.
"""

import os
import re
import sys
from typing import Annotated

import typer

import features as features  # fixes thread counts before any library starts its own
from features.common.errors import InputError
from usual import __version__
from usual.cli import benchmark, checks, data, demo, inference, promotion, rules, serving, tables, tokens, training
from usual.cli.options import print_note

app = typer.Typer(
    help="Personalization for online shops: an event log goes in, ranked products come out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (demo, data, checks, tables, training, benchmark, promotion, inference, serving, rules, tokens):
    app.add_typer(group.app)


def _print_version(version: bool) -> None:
    if version:
        typer.echo(f"usual {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Personalization for online shops: an event log goes in, ranked products come out."""


def main() -> None:
    """Run a command; a mistake of the user's is one line on stderr and exit code 2."""
    os.umask(0o077)  # most of what is written holds ids of customers
    try:
        app()
    except InputError as error:
        # The numbers that Python and Rust put before and after a reason say nothing to a user.
        print_note("usual: " + re.sub(r"\[Errno \d+\] | \(os error \d+\)", "", str(error)))
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        # A directory that is a file, a place that may not be written, a log that went while it was read.
        print_note(
            f"usual: {error.filename}: {error.strerror}; check the path, or run again if a log was being replaced"
        )
        sys.exit(2)
