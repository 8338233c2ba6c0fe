"""Commands that write tables of one instant: features, segments."""

from pathlib import Path
from typing import Annotated

import typer

from features.common.errors import InputError
from usual.cli.options import Json, LogDir, print_answer

app = typer.Typer()
PANEL = "Features and segments"


@app.command("features", rich_help_panel=PANEL)
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
    from features.tables.build import FILES, build_tables
    from features.tables.engines import open_engine

    made = build_tables(EventLog.open(log), clock.parse(as_of, "--as-of"), open_engine(engine))
    made.write(out)
    sizes = {name: getattr(made, name).height for name in FILES}
    lines = "\n".join(f"{n:>12,}  {name}.parquet" for name, n in sizes.items())
    print_answer({**sizes, "as_of": clock.iso(made.as_of), "out": out}, as_json, f"{lines}\nwritten to {out}")


@app.command(rich_help_panel=PANEL)
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
    from features.event_log.customer_ids import read_customer_ids
    from features.event_log.log import EventLog
    from features.segments import build as segmenting
    from features.segments import report as segments_page
    from features.segments.clusters import Clustering
    from features.tables.build import build_tables

    segmenting.validate_out(out)
    if page:
        segments_page.validate_page(page)
    if lookalikes and not seeds:
        raise InputError("--lookalikes needs --seeds: a file of the customers that others are to be like")
    seed_ids = read_customer_ids(seeds, "the list of seeds") if seeds else None
    event_log, when = EventLog.open(log), clock.parse(as_of, "--as-of")
    now = build_tables(event_log, when)
    likely = None
    if model:
        from training import config
        from training.evaluation.backtest import predict_customers
        from training.tracking import registry

        likely = predict_customers(registry.load_bundle(model, config.load()), now)
    kept = Clustering.read(keep_clusters) if keep_clusters and keep_clusters.exists() else None
    if kept and clusters:
        raise InputError(f"--clusters finds clusters, but {keep_clusters} holds some to keep; give one of the two")
    made = segmenting.build(now, clusters, seed_ids, lookalikes or 1000, likely, kept)
    if keep_clusters and not kept:
        made.clustering.write(keep_clusters)
    made.write(out)
    if page:
        segments_page.write_page(made, page)
    files = ", ".join(str(f) for f in (out, page) if f)
    print_answer(
        {**segmenting.summarize(made), "out": out}, as_json, f"{segmenting.format_text(made)}\nwritten to {files}"
    )
