"""Commands that train and measure: train, tune, evaluate, ui."""

from pathlib import Path
from typing import Annotated

import typer

from features.common.paths import check_out_file, home
from usual.cli.options import Json, LogDir, Model, print_answer

app = typer.Typer()
PANEL = "Training"


@app.command(rich_help_panel=PANEL)
def train(
    log: LogDir,
    until: Annotated[str | None, typer.Option(help="Use events before this time; default: all of the log.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Settings; default: training/recipe.yml.")] = None,
    force: Annotated[
        str | None, typer.Option(help="Train although a check says that the result would be meaningless; the reason.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the log, fit, evaluate on a hold-out, log to MLflow, register as challenger."""
    from features.common import clock
    from features.event_log.log import EventLog
    from training import config
    from training import recipe as recipes
    from training.reports import text as report
    from training.run import run

    settings, event_log, loaded_recipe = config.load(), EventLog.open(log), recipes.load(recipe)
    end = clock.parse(until, "--until") if until else None
    result, logged_run = run(event_log, loaded_recipe, settings, end, force)
    print_answer(report.run_to_dict(result, logged_run), as_json, report.render_run(result, logged_run))


@app.command(rich_help_panel=PANEL)
def tune(
    log: LogDir,
    trials: Annotated[int, typer.Option(min=1, help="Number of trials in all, including those the study already has.")],
    until: Annotated[str | None, typer.Option(help="Use events before this time; default: all of the log.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe to start from; default: training/recipe.yml.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the best recipe; default: USUAL_HOME/best-recipe.yml.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the study; a study of that name is continued. Default: derived from log and recipe."
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="Hold-out metric to tune for: RECOMMENDER_METRIC, as `train` prints.")
    ] = "one_to_one_ndcg_at_10",
    as_json: Json = False,
) -> None:
    """Tune a recipe on the hold-out, log each trial to MLflow, and write the best recipe if it is better."""
    from features.common import clock
    from features.common.progress import show_steps
    from features.event_log.log import EventLog
    from training import config
    from training import recipe as recipes
    from training.tuning import study_text
    from training.tuning import tune as tuning

    settings, event_log, loaded_recipe = config.load(), EventLog.open(log), recipes.load(recipe)
    end = clock.parse(until, "--until") if until else None
    target = out or home() / "best-recipe.yml"
    check_out_file(target, ".yml", ".yaml")
    source = (recipe or recipes.DEFAULT_RECIPE).read_text()
    task = tuning.TuningTask(event_log, loaded_recipe, source, trials, target, end, metric, name)
    with show_steps() as step:
        outcome, logged = tuning.tune(task, settings, step)
    print_answer(
        study_text.study_to_dict(outcome, logged, target), as_json, study_text.render_study(outcome, logged, target)
    )


@app.command(rich_help_panel=PANEL)
def evaluate(
    log: LogDir,
    start: Annotated[str, typer.Option("--from", help="Start of the window, ISO 8601.")],
    end: Annotated[str, typer.Option("--to", help="End of the window (not included).")],
    model: Model = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="For a simulated log: directory of its truth, to report the share of the reachable score."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet, one row per query with everything measured.")] = None,
    as_json: Json = False,
) -> None:
    """Backtest a model on a window it has not seen, against baselines and by groups of customers and visits."""
    from features.common import clock
    from features.event_log.log import EventLog
    from features.sources.simulator.truth import Truth
    from training import config, recipe
    from training.evaluation.backtest import run_backtest
    from training.reports import text as report
    from training.tracking import registry

    if out:
        report.check_output_path(out)
    result = run_backtest(
        registry.load_bundle(model, config.load()),
        EventLog.open(log),
        clock.parse(start, "--from"),
        clock.parse(end, "--to"),
        recipe.load(),
        Truth.load(truth) if truth else None,
    )
    if out:
        report.write_queries(result.evaluations, out)
    about = {
        "left_out": result.left_out.as_dict(),
        "buyers": result.buyers,
        "unknown_buyers": result.unknown_buyers,
    }
    text = "\n".join([report.render_evaluations(result.evaluations, out), "", *result.describe()])
    print_answer(report.evaluations_to_dict(result.evaluations) | about, as_json, text)


@app.command(rich_help_panel=PANEL)
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Open the MLflow pages: runs, metrics, plots, registered models."""
    from training import config
    from training.tracking import mlflow_client

    mlflow_client.serve_ui(config.load(), host, port)
