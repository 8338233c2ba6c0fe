"""Commands that use a model without a server: recommend, explain."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features.common.counts import count
from features.common.errors import InputError
from usual.cli.options import Json, Model, note_late_time, print_answer, print_note

if TYPE_CHECKING:
    import polars as pl

    from features.common.arrays import BoolArray
    from features.ranking.snapshot import Snapshot
    from models.bundle import Bundle
    from serving.rules.rulebook import Rulebook

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
    k: Annotated[
        int | None, typer.Option(min=1, help="Products per customer; default: 10, or what the placement says.")
    ] = None,
    placement: Annotated[
        str | None,
        typer.Option(help="Follow the rules of a placement, such as email.digest, as the server does; default: none."),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="Follow this rules file, as the server does with USUAL_RULES; default: no rules."),
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="With --rules: as they hold then, by the clock of the file; default: now.")
    ] = None,
    include_unavailable: Annotated[
        bool, typer.Option("--include-unavailable", help="Rank unavailable products too, to look into the past.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Rank products for many customers at once; none that is unavailable in the catalog or the event store."""
    from features.common import clock
    from features.event_log.log import EventLog
    from features.sources import event_store
    from features.sources.customer_ids import read_customer_ids
    from training import batch_inference, config
    from training.evaluation.backtest import refresh_with_left_out
    from training.tracking import registry

    batch_inference.check_out(out)
    if as_of and not log:
        raise InputError("--as-of needs --log: without a log there is only the model's own snapshot")
    if placement and include_unavailable:
        raise InputError("--placement follows the rules of the server, which shows nothing unavailable; give one")
    if at and not rules:
        raise InputError("--at needs --rules: it says when the rules are to hold")
    if rules and include_unavailable:
        raise InputError("--rules follows the server, which shows nothing unavailable; give one of the two")
    book, rules_at = _load_rules(rules, at) if rules else (None, None)
    when = clock.parse(as_of, "--as-of") if as_of else None
    event_log, left_out = EventLog.open(log) if log else None, None
    listed = read_customer_ids(customers) if customers else None  # what is wrong with it is told before the work
    bundle = registry.load_bundle(model, config.load())
    ids = listed if listed is not None else batch_inference.read_customers(None, bundle)
    if event_log:
        when = bundle.snapshot.as_of if when is None else when
        note_late_time(clock.micros(event_log.last), when)
        bundle, left_out = refresh_with_left_out(bundle, event_log, when)
    overrides = {} if include_unavailable else event_store.read_availability()
    allowed = _allowed(bundle.snapshot, overrides, include_unavailable)
    if placement or book:
        rows, wanted = _fill_placement(bundle, ids, placement, k, overrides, book, rules_at)
    else:
        wanted = k or 10
        rows = batch_inference.recommend(bundle, ids, wanted, allowed)
    if rows.is_empty():
        raise InputError(_explain_nothing(bundle.snapshot, allowed, len(overrides)))
    batch_inference.write(rows, out)
    unknown = batch_inference.find_unknown(bundle, ids)
    served = rows["customer_id"].n_unique()
    summary = {
        "customers": served,
        "rows": rows.height,
        "out": str(out),
        "unknown_customers": len(unknown),
        "unknown_examples": unknown[:5],
        "without_products": len(ids) - served,
        "shorter_lists": served - int((rows["rank"] == wanted).sum()),
        "unavailable_items": int((~allowed).sum()),
        "store_overrides": len(overrides),
        "left_out": left_out and left_out.as_dict(),
    }
    lines = [f"{count(rows.height, 'row')} for {count(served, 'customer')} written to {out}"]
    if unknown:
        lines.append(describe_unknown(unknown, len(ids), bundle.snapshot))
    if summary["without_products"]:
        lines.append(f"{summary['without_products']:,} customers got no product: nothing that may be shown is left")
    if summary["shorter_lists"]:
        lines.append(f"{summary['shorter_lists']:,} customers got fewer than {wanted:,} products: no more may be shown")
    if summary["unavailable_items"]:
        lines.append(f"{summary['unavailable_items']:,} of {len(allowed):,} products are unavailable and left out")
    lines += left_out.describe() if left_out else []
    print_answer(summary, as_json, "\n".join(lines))


def describe_unknown(unknown: Sequence[str], named: int, snapshot: "Snapshot") -> str:
    """Say how many of the `asked` customers the model does not know, and what they got."""
    from features.common.clock import iso

    examples = ", ".join(repr(c) for c in unknown[:3])
    text = (
        f"{len(unknown):,} of {named:,} customers are unknown to the model, such as {examples}: there was no event of "
        f"theirs before {iso(snapshot.as_of)}; they got what an unknown visitor gets"
    )
    if len(unknown) == named and len(snapshot.customers):
        known = ", ".join(repr(c) for c in snapshot.customers.values[:3].to_pylist())
        text += f". The model knows customers such as {known}: are the ids written alike?"
    return text


def _allowed(snapshot: "Snapshot", overrides: Mapping[str, bool], include_unavailable: bool) -> "BoolArray":
    import numpy as np

    from models.availability import available_now

    return np.ones(len(snapshot.items), bool) if include_unavailable else available_now(snapshot, overrides)


def _fill_placement(
    bundle: "Bundle",
    ids: list[str],
    placement: str | None,
    k: int | None,
    overrides: Mapping[str, bool],
    book: "Rulebook | None",
    at: int | None,
) -> tuple["pl.DataFrame", int]:
    from models.recommender import BundleRecommender
    from serving.recommend.offline import fill_placement, fill_without_placement
    from serving.schemas import placements
    from serving.settings import read_settings
    from training import batch_inference

    recommender, wanted = BundleRecommender(bundle), k or 10
    if placement is not None:
        served = placements.read(read_settings().placements)
        slates = fill_placement(recommender, ids, placement, served, k, overrides, book, at)
        wanted = k or (served[placement].limit if placement in served else 0)
    elif book is not None:
        slates = fill_without_placement(recommender, ids, wanted, overrides, book, at)
    table = batch_inference.to_table((s.customer_id, s.item_ids, s.scores, s.strategy) for s in slates)
    return table, wanted


def _load_rules(path: Path, at: str | None) -> tuple["Rulebook", int | None]:
    from serving.rules import rulebook
    from serving.rules.schedule import parse_instant
    from serving.schemas import placements
    from serving.settings import read_settings

    book = rulebook.load(path, placements.read(read_settings().placements))
    return book, None if at is None else parse_instant(at, book.zone)


def _explain_nothing(snapshot: "Snapshot", allowed: "BoolArray", overrides: int) -> str:
    available, items = int(allowed.sum()), len(allowed)
    if available:
        return "no customer got a product, so nothing was written: the placement's rules leave nothing over"
    by_store = f", and by {overrides:,} items set in the event store" if overrides else ""
    return (
        f"no customer got a product, so nothing was written: by the catalog{by_store} none of the {items:,} items is "
        "available. Correct the column `available` of the catalog and ingest it again, or see what would be ranked "
        "with --include-unavailable"
    )


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
    from features.common.ids import normalize_id_list, require_id
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
    customer = require_id(customer, "customer", "--customer") if customer else None
    seen, items = (
        [i for i in normalize_id_list(ids or (), "item", option) if i]
        for ids, option in ((viewed, "--viewed"), (item, "--item"))
    )
    request = RankingRequest(k, customer, tuple((i, "view_item") for i in seen))
    explanation = explain_ranking(BundleRecommender(registry.load_bundle(model, config.load())), request, items)
    if viewed and not explanation.visit:
        print_note("--viewed changes nothing: this model has no ranker for customers with history inside a visit")
    print_answer(explanation.as_dict(titles=titles), as_json, explanation.text(titles=titles, features=bool(item)))
