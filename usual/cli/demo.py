"""`usual demo`: a simulated shop, from its events to ranked products."""

import shutil
from typing import Annotated

import typer

from features.common.paths import home
from usual.cli.data import SourceChoice, ingest
from usual.cli.promotion import promote
from usual.cli.serving import package

app = typer.Typer()
PANEL = "Start here"


@app.command(rich_help_panel=PANEL)
def demo(
    customers: Annotated[int, typer.Option(help="Customers of the simulated shop.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
) -> None:
    """Simulate a shop, train, promote, package, serve, and show what two visitors are recommended."""
    from features.event_log.log import EventLog
    from serving.deploy.demo import play_visit
    from serving.deploy.server import run_server
    from training import config, recipe
    from training.reports import text as report
    from training.run import run

    log = home() / "demo" / "log"
    shutil.rmtree(log, ignore_errors=True)
    ingest(SourceChoice.simulated, out=log, customers=customers, seed=seed)
    result, logged = run(EventLog.open(log), recipe.load(), config.load())
    promote(force="demo: the simulated shop was made anew")
    package()
    with run_server() as url:
        for line in play_visit(url, EventLog.open(log)):
            typer.echo(line)
    typer.echo(f"\n{report.render_run(result, logged)}")
