"""Commands that serve a model over HTTP: package, serve."""

from typing import Annotated

import typer

from usual.cli.options import Json, Model, print_answer

app = typer.Typer()
PANEL = "Serving"


@app.command(rich_help_panel=PANEL)
def package(model: Model = None, as_json: Json = False) -> None:
    """Put a model into the BentoML store and build the Bento that serves it."""
    from serving.deploy import bento as bentos
    from training import config
    from training.tracking import registry

    settings = config.load()
    uri = model or registry.champion_uri(settings)
    path, label = registry.resolve_bundle(uri, settings), registry.version_label(uri, settings)
    bento = bentos.build_bento(path, version_label=label)
    print_answer(vars(bento), as_json, f"built {bento.tag}\n  {bento.path}\nserve it with: usual serve")


@app.command(rich_help_panel=PANEL)
def serve(
    target: Annotated[
        str | None,
        typer.Argument(
            help="Bento tag or bundle directory; default: the latest Bento, or without one the published champion."
        ),
    ] = None,
    host: Annotated[str, typer.Option(envvar="USUAL_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="USUAL_PORT", help="Port to listen on.")] = 3000,
    workers: Annotated[int, typer.Option(envvar="USUAL_WORKERS", min=1, help="Server processes.")] = 1,
    without_keys: Annotated[
        bool, typer.Option("--open", help="Require no keys; only on a loopback address, for development.")
    ] = False,
) -> None:
    """Serve the packaged champion, or a bundle directory, over HTTP, to clients with a key."""
    from serving.deploy import server

    server.serve(target, host=host, port=port, workers=workers, without_keys=without_keys)
