"""Commands that decide which model is served: promote, rollback, refresh."""

from pathlib import Path
from typing import Annotated

import typer

from usual.cli.options import Json, LogDir, note_late_time, print_answer, print_note

app = typer.Typer()
PANEL = "Promotion"


@app.command(rich_help_panel=PANEL)
def promote(
    force: Annotated[str | None, typer.Option(help="Promote regardless of the gate, and record this reason.")] = None,
    log: Annotated[
        Path | None, typer.Option(help="Log with events newer than both models, to compare them on.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the challenger champion, if the gate in mlflow.yml lets it pass; running servers swap to it."""
    from features.event_log.log import EventLog
    from training import config
    from training.promotion.promote import promote as promote_challenger
    from training.tracking import registry

    settings = config.load()
    verdict = promote_challenger(settings, force, EventLog.open(log) if log else None)
    if verdict.promoted and (hint := registry.publish_champion(settings)):
        print_note(hint)
    print_answer(vars(verdict), as_json, verdict.text())
    if not verdict.promoted:
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
def rollback(as_json: Json = False) -> None:
    """Return the alias champion to the previous version."""
    from training import config
    from training.promotion.promote import rollback as roll_back
    from training.tracking import registry

    settings = config.load()
    verdict = roll_back(settings)
    if hint := registry.publish_champion(settings):
        print_note(hint)
    print_answer(vars(verdict), as_json, verdict.text())


@app.command(rich_help_panel=PANEL)
def refresh(
    log: LogDir,
    as_of: Annotated[str | None, typer.Option(help="Default: the last midnight, UTC.")] = None,
    as_json: Json = False,
) -> None:
    """Publish the champion on a newer snapshot of the log, without retraining; running servers swap to it."""
    from features.common.clock import DAY, micros, now, parse
    from features.event_log.log import EventLog
    from models import publishing
    from serving.deploy.refresh import refresh as refresh_champion

    when = parse(as_of, "--as-of") if as_of else now() // DAY * DAY
    note_late_time(micros(EventLog.open(log).last), when)
    published = refresh_champion(log, publishing.publishing_dir(), when)
    print_answer({"path": str(published.path), "version": published.version}, as_json, f"published {published.path}")
