"""Commands that use a model without a server: recommend, explain."""

from pathlib import Path
from typing import Annotated

import typer

from features.common.errors import InputError
from usual.cli.options import Json, Model, print_answer, print_note

app = typer.Typer()
PANEL = "Batch inference"


@app.command(rich_help_panel=PANEL)
def recommend(
    out: Annotated[Path, typer.Option(help="Parquet or CSV: customer_id, item_id, rank, score.")],
    model: Model = None,
    log: Annotated[Path | None, typer.Option("--log", help="Refresh the model's snapshot from this log.")] = None,
    as_of: Annotated[
        str | None, typer.Option(help="With --log: instant of the snapshot; default: the model's own.")
    ] = None,
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
    from training.evaluation.backtest import refresh_bundle
    from training.tracking import registry

    bundle = registry.load_bundle(model, config.load())
    if as_of and not log:
        raise InputError("--as-of needs --log: without a log there is only the model's own snapshot")
    if log:
        when = clock.parse(as_of, "--as-of") if as_of else bundle.snapshot.as_of
        bundle = refresh_bundle(bundle, EventLog.open(log), when)
    rows = batch_inference.recommend(bundle, batch_inference.read_customers(customers, bundle), k)
    batch_inference.write(rows, out)
    summary = {"customers": rows["customer_id"].n_unique(), "rows": rows.height, "out": str(out)}
    print_answer(summary, as_json, f"{summary['rows']:,} rows for {summary['customers']:,} customers written to {out}")


@app.command(rich_help_panel=PANEL)
def explain(
    customer: Annotated[str | None, typer.Option(help="The customer_id; default: an unknown visitor.")] = None,
    item: Annotated[
        list[str] | None, typer.Option(help="This product, recommended or not; may be given more than once.")
    ] = None,
    viewed: Annotated[
        list[str] | None, typer.Option(help="A product viewed in this visit; may be given more than once.")
    ] = None,
    model: Model = None,
    log: Annotated[Path | None, typer.Option("--log", help="Log whose catalog has the products' titles.")] = None,
    k: Annotated[int, typer.Option(min=1, help="Without --item: how many products.")] = 10,
    as_json: Json = False,
) -> None:
    """Explain why products are recommended to a customer, and how the ranker scores each."""
    from features.event_log.log import EventLog
    from models.explain.explain import explain as explain_ranking
    from models.interface import RankingRequest
    from models.recommender import BundleRecommender
    from training import config
    from training.tracking import registry

    titles = {}
    if log:
        rows = EventLog.open(log).catalog().select("item_id", "title").iter_rows()
        titles = {item_id: title for item_id, title in rows if title}
    request = RankingRequest(k, customer, tuple((i, "view_item") for i in viewed or ()))
    explanation = explain_ranking(BundleRecommender(registry.load_bundle(model, config.load())), request, item or ())
    if viewed and not explanation.visit:
        print_note("--viewed changes nothing: this model has no ranker for customers with history inside a visit")
    print_answer(explanation.as_dict(titles=titles), as_json, explanation.text(titles=titles, features=bool(item)))
