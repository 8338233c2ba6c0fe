"""Commands about the event log: ingest, erase, merge."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from features.common.errors import InputError
from usual.cli.options import Json, LogDir, print_answer

app = typer.Typer()
PANEL = "Event log"


class SourceChoice(StrEnum):
    events = "events"
    postgres = "postgres"
    sql = "sql"
    ga4 = "ga4"
    segment = "segment"
    rees46 = "rees46"
    retailrocket = "retailrocket"
    instacart = "instacart"
    diginetica = "diginetica"
    dunnhumby = "dunnhumby"
    online_retail = "online-retail"
    simulated = "simulated"
    store = "store"


class ShopChoice(StrEnum):
    general = "general"
    grocery = "grocery"
    fashion = "fashion"
    longtail = "longtail"
    wholesale = "wholesale"


class RereadChoice(StrEnum):
    replace_earlier = "replace"
    add = "add"


@app.command(rich_help_panel=PANEL)
def ingest(
    source: SourceChoice,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files to read; none for `postgres`, `sql`, `simulated`, `store`.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Event log directory; an existing log is added to.")] = Path("log"),
    mapping: Annotated[
        Path | None, typer.Option(help="`events`, `postgres`, `sql`: YAML that maps your columns to ours.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="`events`: how a well-known system or data set exports them, as shopify or ga4; docs/presets.md lists "
            "them. With --mapping, whose keys change the preset's."
        ),
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="`postgres`, `sql`: TABLE or SCHEMA.TABLE; the connection is $USUAL_SOURCE_DSN.")
    ] = None,
    query_file: Annotated[Path | None, typer.Option(help="`postgres`, `sql`: file with one SELECT.")] = None,
    currency: Annotated[
        str | None, typer.Option(help="The currency of the log, as EUR; amounts in others need a rate.")
    ] = None,
    rate: Annotated[
        list[str] | None, typer.Option(help="USD=0.92: what 1 USD is worth in the log's currency; may be repeated.")
    ] = None,
    reread: Annotated[
        RereadChoice | None,
        typer.Option(
            help="Files that the log has under another mapping: `replace` takes back what the earlier reading gave, "
            "`add` keeps both."
        ),
    ] = None,
    all_times: Annotated[
        bool | None,
        typer.Option(
            "--all-times/--no-all-times",
            help="Use also events far from all others in time, such as of 1970; the log keeps the choice.",
        ),
    ] = None,
    watermark: Annotated[
        str | None,
        typer.Option(help="`sql`: column that only grows; rows below its last value in the log are not read again."),
    ] = None,
    customers: Annotated[int | None, typer.Option(help="`simulated`: how many customers.")] = None,
    items: Annotated[int | None, typer.Option(help="`simulated`: how many items.")] = None,
    days: Annotated[int | None, typer.Option(help="`simulated`: how many days.")] = None,
    seed: Annotated[int | None, typer.Option(help="`simulated`: seed of the random numbers.")] = None,
    vectors: Annotated[
        int | None, typer.Option(help="`simulated`: length of the items' embeddings in the catalog; default: none.")
    ] = None,
    shop: Annotated[ShopChoice, typer.Option(help="`simulated`: what kind of shop.")] = ShopChoice.general,
    truth: Annotated[
        Path | None, typer.Option(help="`simulated`: directory for the true probabilities behind the events.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read SOURCE into an event log; rejected rows are kept beside it with their reason."""
    from features import sources
    from features.common.progress import show_rows
    from features.event_log.ingestion.ingest import IngestSettings
    from features.event_log.ingestion.ingest import ingest as ingest_events
    from features.sources import inputs
    from features.sources.simulator.config import build_config

    options = {"customers": customers, "items": items, "days": days, "seed": seed, "vectors": vectors}
    settings = {name: value for name, value in options.items() if value is not None}
    simulator_only = [*settings, *(["shop"] if shop is not ShopChoice.general else []), *(["truth"] if truth else [])]
    if simulator_only and source is not SourceChoice.simulated:
        raise InputError(f"{', '.join(f'--{s}' for s in simulator_only)} only goes with the source simulated")
    config = build_config(shop.value, settings) if source is SourceChoice.simulated else None
    if truth and config:
        # Only here: it needs SciPy, whose import takes a tenth of a second.
        from features.sources.simulator.truth import write_truth

        write_truth(config, truth)
    with show_rows() as progress:
        # What is read anew is read from its beginning, however far a watermark had come.
        known = None if reread is RereadChoice.replace_earlier else out
        batches = sources.read(source.value, paths or [], mapping, config, table, query_file, watermark, known, preset)
        origin = inputs.describe_inputs(source.value, paths or [], mapping, preset, table, query_file, config)
        code, rates = inputs.merge_currency(inputs.stated_currency(mapping, preset), currency, rate or [])
        ingest_settings = IngestSettings(
            code, rates, "replace" if reread is RereadChoice.replace_earlier else "add" if reread else None, all_times
        )
        report = ingest_events(batches, out, progress, origin, ingest_settings)
    print_answer(report.as_dict(), as_json, report.text())


@app.command(rich_help_panel=PANEL)
def erase(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The customer_id; with --device a client_id.")],
    log: Annotated[Path | None, typer.Option("--log", help="Event log directory, as `usual ingest` writes it.")] = None,
    device: Annotated[bool, typer.Option("--device", help="ID is the client_id of a device or cookie.")] = False,
    everywhere: Annotated[
        bool,
        typer.Option(
            "--everywhere",
            help="Also from the event store, published bundles, Bentos, MLflow's artifacts and logs in USUAL_HOME.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Erase a customer, with the devices that are theirs alone, or a device, from the log or everywhere."""
    from features.common.ids import normalize_id
    from features.event_log.erase import erase as erase_customer
    from features.event_log.erase import erase_client

    name = normalize_id(id_, "client" if device else "customer") or id_
    if not everywhere:
        if log is None:
            raise InputError("name the event log with --log, or erase with --everywhere")
        report = erase_client(name, log) if device else erase_customer(name, log)
        print_answer(vars(report), as_json, report.text())
        return
    from serving.deploy.erase import erase_everywhere
    from training import config

    settings = config.load()
    customer, client = (None, name) if device else (name, None)
    done = erase_everywhere(customer, client, log, settings.uri, settings.artifacts)
    print_answer(vars(done), as_json, done.text())


@app.command(rich_help_panel=PANEL)
def merge(
    client: Annotated[str, typer.Argument(help="The client_id of a device or cookie.")],
    customer: Annotated[str, typer.Argument(help="The customer_id it belongs to.")],
    log: LogDir,
    undo: Annotated[bool, typer.Option("--undo", help="State that the two never belonged together.")] = False,
    as_json: Json = False,
) -> None:
    """State that a device belongs to a customer from now on."""
    from features.common.ids import require_id
    from features.event_log.identity_links import merge_client

    ids = require_id(client, "client", "the client_id"), require_id(customer, "customer", "the customer_id")
    changed = merge_client(*ids, log, undo)
    text = "the client is no longer that customer" if undo else "the client is that customer from now on"
    print_answer({"changed": changed, "undo": undo}, as_json, text if changed else "the log says so already")
