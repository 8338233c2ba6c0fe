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


@app.command(rich_help_panel=PANEL)
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
    from features.common.progress import show_rows
    from features.event_log import ingest as door
    from features.sources.simulator.config import build_config
    from features.sources.simulator.truth import write_truth

    given = {"customers": customers, "items": items, "days": days, "seed": seed}
    settings = {name: value for name, value in given.items() if value is not None}
    own = [*settings, *(["shop"] if shop is not ShopChoice.general else []), *(["truth"] if truth else [])]
    if own and source is not SourceChoice.simulated:
        raise InputError(f"{', '.join(f'--{s}' for s in own)} only goes with the source simulated")
    config = build_config(shop.value, settings) if source is SourceChoice.simulated else None
    if truth and config:
        write_truth(config, truth)
    with show_rows() as progress:
        report = door.ingest(sources.read(source.value, paths or [], mapping, config, table, query_file), out, progress)
    print_answer(report.as_dict(), as_json, report.text())


@app.command(rich_help_panel=PANEL)
def erase(
    customer: Annotated[str, typer.Argument(help="The customer_id.")],
    log: LogDir,
    as_json: Json = False,
) -> None:
    """Remove a customer and everything of theirs from the log, for good."""
    from features.event_log.erase import erase as remove

    gone = remove(customer, log)
    print_answer(vars(gone), as_json, gone.text())


@app.command(rich_help_panel=PANEL)
def merge(
    client: Annotated[str, typer.Argument(help="The client_id of a device or cookie.")],
    customer: Annotated[str, typer.Argument(help="The customer_id it belongs to.")],
    log: LogDir,
    undo: Annotated[bool, typer.Option("--undo", help="Say that the two do not belong together.")] = False,
    as_json: Json = False,
) -> None:
    """Say that a client is a customer, from now on."""
    from features.event_log.identity_links import merge_client

    new = merge_client(client, customer, log, undo)
    told = "the client is no longer that customer" if undo else "the client is that customer from now on"
    print_answer({"changed": new, "undo": undo}, as_json, told if new else "the log says so already")
