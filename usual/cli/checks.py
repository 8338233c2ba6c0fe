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
