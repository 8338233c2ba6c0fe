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
    """Write the tables of one instant: customers, items, histories, affinities, identities, and what is left out."""
    from features.common import clock
    from features.common.paths import check_out_directory
    from features.event_log.log import EventLog
    from features.tables.build import FILES, build_tables
    from features.tables.engines import open_engine

    check_out_directory(out)
    tables = build_tables(EventLog.open(log), clock.parse(as_of, "--as-of"), open_engine(engine))
    tables.write(out)
    sizes = {name: getattr(tables, name).height for name in FILES}
    answer = {**sizes, "as_of": clock.iso(tables.as_of), "left_out": tables.left_out.as_dict(), "out": out}
    lines = [f"{n:>12,}  {name}.parquet" for name, n in sizes.items()]
    print_answer(answer, as_json, "\n".join([*lines, *tables.left_out.describe(), f"written to {out}"]))


@app.command(rich_help_panel=PANEL)
def segments(
    log: LogDir,
    as_of: Annotated[str, typer.Option(help="Events before this time count; ISO 8601, UTC.")],
    out: Annotated[Path, typer.Option(help="Parquet or CSV, one row per customer.")],
    page: Annotated[Path | None, typer.Option(help="Also an HTML page with tables and plots.")] = None,
    clusters: Annotated[
        int | None, typer.Option(min=1, help="Most clusters to fit; default: as many as fit best.")
    ] = None,
    keep_clusters: Annotated[
        Path | None,
        typer.Option(help="JSON file to keep the clusters in; if it exists, customers are assigned to its clusters."),
    ] = None,
    seeds: Annotated[
        Path | None, typer.Option(help="File with a column customer_id, or one id a line: find customers like these.")
    ] = None,
    lookalikes: Annotated[
        int | None,
        typer.Option(min=1, help="With --seeds: how many of the most similar customers to rank; default: 1000."),
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
    """Write one row per customer: RFM, lifecycle, traffic, lifetime value, cluster, lookalike score, predictions."""
    from features.common import clock
    from features.event_log.log import EventLog
    from features.segments import build, report
    from features.segments.clusters import Clustering
    from features.sources.customer_ids import read_customer_ids
    from features.tables.build import build_tables

    build.validate_out(out)
    if page:
        report.validate_page(page)
    if lookalikes and not seeds:
        raise InputError("--lookalikes needs --seeds: a file of the customers to find similar ones for")
    seed_ids = read_customer_ids(seeds, "the list of seeds") if seeds else None
    tables = build_tables(EventLog.open(log), clock.parse(as_of, "--as-of"))
    predictions = None
    if model:
        from training import config
        from training.evaluation.backtest import predict_customers
        from training.tracking import registry

        predictions = predict_customers(registry.load_bundle(model, config.load()), tables)
    clustering = Clustering.read(keep_clusters) if keep_clusters and keep_clusters.exists() else None
    if clustering and clusters:
        raise InputError(f"--clusters fits clusters, but {keep_clusters} holds some to keep; give one of the two")
    segmentation = build.build(tables, clusters, seed_ids, lookalikes or 1000, predictions, clustering)
    if keep_clusters and not clustering:
        segmentation.clustering.write(keep_clusters)
    segmentation.write(out)
    if page:
        report.write_page(segmentation, page)
    files = ", ".join(str(f) for f in (out, page) if f)
    print_answer(
        {**build.summarize(segmentation), "out": out}, as_json, f"{build.format_text(segmentation)}\nwritten to {files}"
    )
