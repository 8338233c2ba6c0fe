"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Step = Callable[[str, int, int], None]
"""Says that step `done` (from 1) of `total` begins, and what it is."""


def silent(text: str, done: int, total: int) -> None:
    """For callers who do not want to hear."""


@contextlib.contextmanager
def steps() -> Iterator[Step]:
    """A `Step` that shows itself on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        began = time.monotonic()

        def line(text: str, done: int, total: int) -> None:
            print(f"[{time.monotonic() - began:5.0f} s] {done}/{total} {text}", file=sys.stderr, flush=True)

        yield line
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=None)

        def advance(text: str, done: int, total: int) -> None:
            bar.update(task, description=text, completed=done - 1, total=total)

        yield advance
        bar.update(task, completed=bar.tasks[0].total)
