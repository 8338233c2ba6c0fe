"""Commands that look before the work: check a log, inspect files."""

from pathlib import Path
from typing import Annotated

import typer

from usual.cli.options import Json, LogDir, print_answer

app = typer.Typer()
PANEL = "Event log"


@app.command(rich_help_panel=PANEL)
def check(
    log: LogDir,
    as_of: Annotated[str | None, typer.Option(help="Check the events before this time; default: all.")] = None,
    page: Annotated[Path | None, typer.Option(help="Also an HTML page with the findings and plots.")] = None,
    as_json: Json = False,
) -> None:
    """Say what to know before trusting a log. Exit code 1 where something makes any result meaningless."""
    from features.checks.page import validate_page, write_page
    from features.checks.report import check_log
    from features.common import clock
    from features.event_log.log import EventLog

    if page:
        validate_page(page)
    report = check_log(EventLog.open(log), clock.parse(as_of, "--as-of") if as_of else None)
    if page:
        write_page(report, page)
    print_answer(report.as_dict(), as_json, report.text() + (f"\nwritten to {page}" if page else ""))
    if report.stopped:
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
def inspect(
    files: Annotated[
        list[Path], typer.Argument(help="Files that belong together: orders and lines, events, a catalog.")
    ],
    write: Annotated[Path | None, typer.Option(help="Write the proposed mapping to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Look at files nobody has described: what they are, the mapping that reads them, and what it would reject."""
    from features.common.errors import InputError
    from features.sources.inspection.inspect import inspect_files
    from features.sources.inspection.render import render

    if write and write.suffix not in (".yml", ".yaml"):
        raise InputError(f"--write is {write}; its name must end in .yml")
    if write and write.exists():
        raise InputError(
            f"{write} exists; name another file, or remove it: what somebody has changed in it would be lost"
        )
    inspection = inspect_files(files)
    if write and inspection.mapping_text:
        write.parent.mkdir(parents=True, exist_ok=True)
        write.write_text(inspection.mapping_text, encoding="utf-8")
        inspection.mapping_path = str(write)
    written = str(write) if write and inspection.mapping_text else None
    print_answer(inspection.as_dict(), as_json, render(inspection, written))
