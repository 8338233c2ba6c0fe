"""The front door: every command, a few lines each."""

import json
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import features as features  # fixes thread counts before any library starts its own
from features.common.errors import InputError
from features.common.paths import home

app = typer.Typer(
    help="Personalization for online shops: an event log goes in, ranked products come out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class SourceChoice(StrEnum):
    events = "events"
    postgres = "postgres"
    ga4 = "ga4"
    segment = "segment"
    rees46 = "rees46"
    retailrocket = "retailrocket"
    online_retail = "online-retail"
    simulated = "simulated"
    store = "store"


class ShopChoice(StrEnum):
    general = "general"
    grocery = "grocery"
    fashion = "fashion"
    longtail = "longtail"
    wholesale = "wholesale"


LogDir = Annotated[Path, typer.Option("--log", help="Event log directory, as `usual ingest` writes it.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Bundle directory or MLflow URI; default: the champion."),
]


def say(text: str) -> None:
    typer.echo(text, err=True)


def answer(value: dict[str, Any], as_json: bool, text: str) -> None:
    typer.echo(json.dumps(value, indent=1, default=str) if as_json else text)


@app.command()
def ingest(
    source: SourceChoice,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files to read; none for `postgres`, `simulated`, `store`.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Event log directory; a log that is there is added to.")] = Path("log"),
    mapping: Annotated[
        Path | None, typer.Option(help="`events`, `postgres`: YAML that maps your columns to ours.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="`postgres`: TABLE or SCHEMA.TABLE; the connection is $USUAL_SOURCE_DSN.")
    ] = None,
    query_file: Annotated[Path | None, typer.Option(help="`postgres`: file with one SELECT.")] = None,
    customers: Annotated[int | None, typer.Option(help="`simulated`: how many customers.")] = None,
    items: Annotated[int | None, typer.Option(help="`simulated`: how many items.")] = None,
    days: Annotated[int | None, typer.Option(help="`simulated`: how many days.")] = None,
    seed: Annotated[int | None, typer.Option(help="`simulated`: where chance starts.")] = None,
    shop: Annotated[ShopChoice, typer.Option(help="`simulated`: what kind of shop.")] = ShopChoice.general,
    truth: Annotated[
        Path | None, typer.Option(help="`simulated`: directory for what the visitors truly wanted.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read SOURCE into an event log; bad rows are kept beside it with their reason."""
    from features import sources
    from features.common import progress
    from features.event_log import ingest as door
    from features.sources.simulator.config import configured
    from features.sources.simulator.truth import write_truth

    given = {"customers": customers, "items": items, "days": days, "seed": seed}
    settings = {name: value for name, value in given.items() if value is not None}
    own = [*settings, *(["shop"] if shop is not ShopChoice.general else []), *(["truth"] if truth else [])]
    if own and source is not SourceChoice.simulated:
        raise InputError(f"{', '.join(f'--{s}' for s in own)} only goes with the source simulated")
    config = configured(shop.value, settings) if source is SourceChoice.simulated else None
    if truth and config:
        write_truth(config, truth)
    with progress.rows() as tell:
        report = door.ingest(sources.read(source.value, paths or [], mapping, config, table, query_file), out, tell)
    answer(report.as_dict(), as_json, report.text())


@app.command(name="features")
def features_(
    log: LogDir,
    as_of: Annotated[str, typer.Option(help="Events before this time count; ISO 8601, UTC.")],
    out: Annotated[Path, typer.Option(help="Directory for the tables.")],
    engine: Annotated[str, typer.Option(help="polars, spark, or a Spark master such as spark://host:7077.")] = "polars",
    as_json: Json = False,
) -> None:
    """Write every table as of one instant: customers, items, histories, affinities, who is who, bots left out."""
    from features.common import clock
    from features.event_log.log import EventLog
    from features.tables import build
    from features.tables import engine as engines

    made = build.at(EventLog.open(log), clock.parse(as_of, "--as-of"), engines.named(engine))
    made.write(out)
    sizes = {name: getattr(made, name).height for name in build.FILES}
    lines = "\n".join(f"{n:>12,}  {name}.parquet" for name, n in sizes.items())
    answer({**sizes, "as_of": clock.iso(made.as_of), "out": out}, as_json, f"{lines}\nwritten to {out}")


@app.command()
def segments(
    log: LogDir,
    as_of: Annotated[str, typer.Option(help="Events before this time count; ISO 8601, UTC.")],
    out: Annotated[Path, typer.Option(help="Parquet or CSV, one row per customer.")],
    page: Annotated[Path | None, typer.Option(help="Also an HTML page with tables and plots.")] = None,
    clusters: Annotated[
        int | None, typer.Option(min=1, help="How many clusters; default: as many as fit best.")
    ] = None,
    keep_clusters: Annotated[
        Path | None,
        typer.Option(help="JSON file: clusters found are kept in it; if it is there, customers join those."),
    ] = None,
    seeds: Annotated[
        Path | None, typer.Option(help="File with a column customer_id, or one id a line: find customers like these.")
    ] = None,
    lookalikes: Annotated[
        int | None, typer.Option(min=1, help="With --seeds: how many of the most alike to rank; default: 1000.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Bundle directory or MLflow URI: add its predictions, who orders in the next 7 and 28 days and from "
            "which category."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one row per customer: RFM, lifecycle, traffic, lifetime value, cluster, likeness to seeds, predictions."""
    from features.common import clock
    from features.event_log.log import EventLog
    from features.segments import build as segmenting
    from features.segments import lookalike
    from features.segments import report as segments_page
    from features.segments.clusters import Clustering
    from features.tables import build

    segmenting.check_out(out)
    if page:
        segments_page.check_page(page)
    if lookalikes and not seeds:
        raise InputError("--lookalikes needs --seeds: a file of the customers that others are to be like")
    wanted = lookalike.read_seeds(seeds) if seeds else None
    event_log, when = EventLog.open(log), clock.parse(as_of, "--as-of")
    now = build.at(event_log, when)
    likely = None
    if model:
        from training import config
        from training.evaluation.backtest import predicted
        from training.tracking import registry

        likely = predicted(registry.bundle(model, config.load()), now)
    kept = Clustering.read(keep_clusters) if keep_clusters and keep_clusters.exists() else None
    if kept and clusters:
        raise InputError(f"--clusters finds clusters, but {keep_clusters} holds some to keep; give one of the two")
    made = segmenting.build(now, clusters, wanted, lookalikes or 1000, likely, kept)
    if keep_clusters and not kept:
        made.clustering.write(keep_clusters)
    made.write(out)
    if page:
        segments_page.write(made, page)
    files = ", ".join(str(f) for f in (out, page) if f)
    answer({**segmenting.summary(made), "out": out}, as_json, f"{segmenting.text(made)}\nwritten to {files}")


@app.command()
def erase(
    customer: Annotated[str, typer.Argument(help="The customer_id.")],
    log: LogDir,
    as_json: Json = False,
) -> None:
    """Remove a customer and everything of theirs from the log, for good."""
    from features.event_log.erase import erase as remove

    gone = remove(customer, log)
    answer(vars(gone), as_json, gone.text())


@app.command()
def merge(
    client: Annotated[str, typer.Argument(help="The client_id of a device or cookie.")],
    customer: Annotated[str, typer.Argument(help="The customer_id it belongs to.")],
    log: LogDir,
    undo: Annotated[bool, typer.Option("--undo", help="Say that the two do not belong together.")] = False,
    as_json: Json = False,
) -> None:
    """Say that a client is a customer, from now on."""
    from features.event_log.identity_links import merge as link

    new = link(client, customer, log, undo)
    told = "the client is no longer that customer" if undo else "the client is that customer from now on"
    answer({"changed": new, "undo": undo}, as_json, told if new else "the log says so already")


@app.command()
def train(
    log: LogDir,
    until: Annotated[str | None, typer.Option(help="Use events before this time; default: all of the log.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Settings; default: training/recipe.yml.")] = None,
    as_json: Json = False,
) -> None:
    """Fit, evaluate on a hold-out, log to MLflow, register as challenger."""
    from features.common import clock
    from features.event_log.log import EventLog
    from training import config
    from training import recipe as recipes
    from training.reports import text as report
    from training.run import run

    settings, event_log, chosen = config.load(), EventLog.open(log), recipes.load(recipe)
    result, logged = run(event_log, chosen, settings, clock.parse(until, "--until") if until else None)
    answer(report.as_dict(result, logged), as_json, report.text(result, logged))


@app.command()
def tune(
    log: LogDir,
    trials: Annotated[int, typer.Option(min=1, help="How many trials in all, with those the study already has.")],
    until: Annotated[str | None, typer.Option(help="Use events before this time; default: all of the log.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Where to begin; default: training/recipe.yml.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the recipe that came of it; default: USUAL_HOME/best-recipe.yml.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the study; the same name goes on with it. Default: by what it is about.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="Hold-out metric to tune for: RECOMMENDER_METRIC, as `train` prints.")
    ] = "one_to_one_ndcg_at_10",
    as_json: Json = False,
) -> None:
    """Try many recipes on a hold-out, log each to MLflow, and write the best, if it is better, as a recipe."""
    from features.common import clock
    from features.common.progress import steps
    from features.event_log.log import EventLog
    from training import config
    from training import recipe as recipes
    from training.tuning import report
    from training.tuning import tune as tuning

    settings, event_log, chosen = config.load(), EventLog.open(log), recipes.load(recipe)
    end = clock.parse(until, "--until") if until else None
    target = out or home() / "best-recipe.yml"
    source = (recipe or recipes.DEFAULT).read_text()
    task = tuning.Task(event_log, chosen, source, trials, target, end, metric, name)
    with steps() as step:
        outcome, logged = tuning.tune(task, settings, step)
    answer(report.as_dict(outcome, logged, target), as_json, report.text(outcome, logged, target))


@app.command()
def evaluate(
    log: LogDir,
    start: Annotated[str, typer.Option("--from", help="Start of the window, ISO 8601.")],
    end: Annotated[str, typer.Option("--to", help="End of the window (not included).")],
    model: Model = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="Of a simulated log: directory of its truth, to tell how much of the reachable is reached."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet, one row per query with everything measured.")] = None,
    as_json: Json = False,
) -> None:
    """Replay a model on a window it has not seen, against simple baselines and by groups of customers and visits."""
    from features.common import clock
    from features.event_log.log import EventLog
    from features.sources.simulator.truth import Truth
    from training import config, recipe
    from training.evaluation.backtest import replay
    from training.reports import text as report
    from training.tracking import registry

    if out:
        report.check_out(out)
    evaluations = replay(
        registry.bundle(model, config.load()),
        EventLog.open(log),
        clock.parse(start, "--from"),
        clock.parse(end, "--to"),
        recipe.load(),
        Truth.load(truth) if truth else None,
    )
    if out:
        report.write_queries(evaluations, out)
    answer(report.evaluations_as_dict(evaluations), as_json, report.evaluations_text(evaluations, out))


@app.command()
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
        say(hint)
    answer(vars(verdict), as_json, verdict.text())
    if not verdict.promoted:
        raise typer.Exit(1)


@app.command()
def rollback(as_json: Json = False) -> None:
    """Give the alias champion back to the version before."""
    from training import config
    from training.promotion.promote import rollback as undo
    from training.tracking import registry

    settings = config.load()
    verdict = undo(settings)
    if hint := registry.publish_champion(settings):
        say(hint)
    answer(vars(verdict), as_json, verdict.text())


@app.command()
def recommend(
    out: Annotated[Path, typer.Option(help="Parquet or CSV: customer_id, item_id, rank, score.")],
    model: Model = None,
    log: Annotated[Path | None, typer.Option("--log", help="Refresh the model's snapshot from this log.")] = None,
    as_of: Annotated[str | None, typer.Option(help="With --log: as of when; default: the model's own time.")] = None,
    customers: Annotated[
        Path | None, typer.Option(help="File with a column customer_id, or one id a line; default: all.")
    ] = None,
    k: Annotated[int, typer.Option(min=1, help="Products per customer.")] = 10,
    as_json: Json = False,
) -> None:
    """Rank products for many customers at once."""
    from features.common import clock
    from features.event_log.log import EventLog
    from training import batch_inference, config
    from training.evaluation.backtest import refreshed
    from training.tracking import registry

    bundle = registry.bundle(model, config.load())
    if as_of and not log:
        raise InputError("--as-of needs --log: without a log there is only the model's own snapshot")
    if log:
        when = clock.parse(as_of, "--as-of") if as_of else bundle.snapshot.as_of
        bundle = refreshed(bundle, EventLog.open(log), when)
    made = batch_inference.recommend(bundle, batch_inference.read_customers(customers, bundle), k)
    batch_inference.write(made, out)
    summary = {"customers": made["customer_id"].n_unique(), "rows": made.height, "out": str(out)}
    answer(summary, as_json, f"{summary['rows']:,} rows for {summary['customers']:,} customers written to {out}")


@app.command()
def explain(
    customer: Annotated[str | None, typer.Option(help="The customer_id; default: somebody unknown.")] = None,
    item: Annotated[
        list[str] | None, typer.Option(help="This product, recommended or not; may be given more than once.")
    ] = None,
    viewed: Annotated[
        list[str] | None, typer.Option(help="A product looked at in this visit; may be given more than once.")
    ] = None,
    model: Model = None,
    log: Annotated[Path | None, typer.Option("--log", help="Log whose catalog has the products' titles.")] = None,
    k: Annotated[int, typer.Option(min=1, help="Without --item: how many products.")] = 10,
    as_json: Json = False,
) -> None:
    """Say why products are recommended to a customer, and what the ranker made of each."""
    from features.event_log.log import EventLog
    from models.explain.explain import explain as why
    from models.interface import Request
    from models.recommender import BundleRecommender
    from training import config
    from training.tracking import registry

    titles = {}
    if log:
        rows = EventLog.open(log).catalog().select("item_id", "title").iter_rows()
        titles = {item_id: title for item_id, title in rows if title}
    request = Request(k, customer, tuple((i, "view_item") for i in viewed or ()))
    explanation = why(BundleRecommender(registry.bundle(model, config.load())), request, item or ())
    if viewed and not explanation.visit:
        say("--viewed changes nothing: this model has no ranker for customers with history inside a visit")
    answer(explanation.as_dict(titles=titles), as_json, explanation.text(titles=titles, features=bool(item)))


@app.command()
def package(model: Model = None, as_json: Json = False) -> None:
    """Put a model into the BentoML store and build the Bento that serves it."""
    from serving.deploy import bento as packaging
    from training import config
    from training.tracking import registry

    settings = config.load()
    uri = model or registry.champion(settings)
    path, label = registry.bundle_path(uri, settings), registry.version_label(uri, settings)
    bento = packaging.package(path, version_label=label)
    answer(vars(bento), as_json, f"built {bento.tag}\n  {bento.path}\nserve it with: usual serve")


@app.command()
def refresh(
    log: LogDir,
    as_of: Annotated[str | None, typer.Option(help="Default: the last midnight, UTC.")] = None,
    as_json: Json = False,
) -> None:
    """Publish the champion over a newer snapshot of the log, without retraining; servers that follow serve it."""
    from features.common.clock import parse
    from models import publishing
    from serving.deploy.refresh import refresh as renew

    made = renew(log, publishing.place(), parse(as_of) if as_of else None)
    answer({"path": str(made.path), "version": made.version}, as_json, f"published {made.path}")


@app.command()
def serve(
    target: Annotated[
        str | None, typer.Argument(help="Bento tag or bundle directory; default: the latest Bento.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
    workers: Annotated[int, typer.Option(min=1, help="Server processes.")] = 1,
    without_keys: Annotated[
        bool, typer.Option("--open", help="Ask for no keys; only on a loopback address, to develop.")
    ] = False,
) -> None:
    """Serve the packaged champion, or a bundle directory, over HTTP, to who has a key."""
    from serving.deploy import server

    server.serve(target, host=host, port=port, workers=workers, without_keys=without_keys)


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Open the MLflow pages: runs, metrics, plots, registered models."""
    from training import config
    from training.tracking import log_run

    log_run.serve_ui(config.load(), host, port)


@app.command()
def demo(
    customers: Annotated[int, typer.Option(help="Customers of the simulated shop.")] = 2000,
    seed: Annotated[int, typer.Option(help="Where chance starts.")] = 0,
) -> None:
    """Simulate a shop, train, promote, package, serve, and ask the server for two visitors."""
    from features.event_log.log import EventLog
    from serving.deploy.demo import visit
    from serving.deploy.server import running
    from training import config, recipe
    from training.reports import text as report
    from training.run import run

    log = home() / "demo" / "log"
    shutil.rmtree(log, ignore_errors=True)
    ingest(SourceChoice.simulated, out=log, customers=customers, seed=seed)
    result, logged = run(EventLog.open(log), recipe.load(), config.load())
    promote(force="demo: the simulated shop was made anew")
    package()
    with running() as url:
        for line in visit(url, EventLog.open(log)):
            typer.echo(line)
    typer.echo(f"\n{report.text(result, logged)}")


def main() -> None:
    """Run a command; a mistake of the user's is one line on stderr and exit code 2."""
    try:
        app()
    except InputError as error:
        say(f"usual: {error}")
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        # A directory that is a file, a place that may not be written, a log that went while it was read.
        say(f"usual: {error.filename}: {error.strerror}; check the path, or run again if a log was being replaced")
        sys.exit(2)


if __name__ == "__main__":
    main()
