"""Commands that decide which model is served: promote, rollback, refresh."""

from pathlib import Path
from typing import Annotated

import typer

from usual.cli.options import Json, LogDir, print_answer, print_note

app = typer.Typer()
PANEL = "Promotion"


@app.command(rich_help_panel=PANEL)
def promote(
    force: Annotated[str | None, typer.Option(help="Promote whatever the gate says, for this reason.")] = None,
    log: Annotated[
        Path | None, typer.Option(help="Log with events newer than both models, to compare them on.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the challenger champion, if the gate in mlflow.yml lets it pass; servers that follow serve it at once."""
    from features.event_log.log import EventLog
    from training import config
    from training.promotion.promote import promote as decide
    from training.tracking import registry

    settings = config.load()
    verdict = decide(settings, force, EventLog.open(log) if log else None)
    if verdict.promoted and (hint := registry.publish_champion(settings)):
        print_note(hint)
    print_answer(vars(verdict), as_json, verdict.text())
    if not verdict.promoted:
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
def rollback(as_json: Json = False) -> None:
    """Give the alias champion back to the version before."""
    from training import config
    from training.promotion.promote import rollback as undo
    from training.tracking import registry

    settings = config.load()
    verdict = undo(settings)
    if hint := registry.publish_champion(settings):
        print_note(hint)
    print_answer(vars(verdict), as_json, verdict.text())


@app.command(rich_help_panel=PANEL)
def refresh(
    log: LogDir,
    as_of: Annotated[str | None, typer.Option(help="Default: the last midnight, UTC.")] = None,
    as_json: Json = False,
) -> None:
    """Publish the champion over a newer snapshot of the log, without retraining; servers that follow serve it."""
    from features.common.clock import parse
    from models import publishing
    from serving.deploy.refresh import refresh as renew

    made = renew(log, publishing.publishing_dir(), parse(as_of) if as_of else None)
    print_answer({"path": str(made.path), "version": made.version}, as_json, f"published {made.path}")
