"""The command `benchmark`: a public data set in its published form and protocol, our figure beside the published."""

from pathlib import Path
from typing import Annotated

import typer

from features.common.errors import InputError
from usual.cli.options import Json, print_answer

app = typer.Typer()
PANEL = "Training"


@app.command(rich_help_panel=PANEL)
def benchmark(
    name: Annotated[str, typer.Argument(help="online-retail, diginetica, instacart or rees46.")],
    paths: Annotated[list[Path], typer.Argument(help="The published files, or the directory that holds them.")],
    work: Annotated[
        Path | None, typer.Option(help="New directory to keep the event log in; default: a temporary one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train on a public data set by its published protocol, and print our figures beside the published ones."""
    import tempfile

    from features.common.progress import show_steps
    from training.benchmarks.registry import BENCHMARKS

    if name not in BENCHMARKS:
        known = "\n".join(f"  {b.name:<15}{b.title}. Files: {b.files}" for b in BENCHMARKS.values())
        raise InputError(f"there is no benchmark {name!r}; there are\n{known}")
    if work and work.exists():
        raise InputError(f"--work {work} exists; name a new directory, as the log must hold this data set alone")
    chosen = BENCHMARKS[name]
    with tempfile.TemporaryDirectory() as temporary, show_steps() as step:
        outcome = chosen.run(paths, work or Path(temporary) / "log", step)
    print_answer(chosen.as_dict(outcome), as_json, chosen.render(outcome))
