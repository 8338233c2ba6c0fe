"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

Rows = Callable[[str, int, int | None], None]
"""Hears what is being done, to how many rows so far, and of how many, where that is known."""

Step = Callable[[str, int, int], None]
"""Says that step `done` (from 1) of `total` begins, and what it is."""

SECONDS_BETWEEN_LINES = 5.0


def silent(text: str, done: int, total: int | None) -> None:
    """For callers who do not want to hear."""


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{task.completed:,.0f} rows" + (f", {speed:,.0f} rows/s" if speed else ""))


@contextlib.contextmanager
def rows() -> Iterator[Rows]:
    """A `Rows` that shows itself on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), _Speed(), TimeElapsedColumn(), console=console) as bar:
        tasks: dict[str, object] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        yield show


def _lines() -> Rows:
    began = said = time.monotonic()
    stage, since = "", began

    def line(what: str, done: int, total: int | None) -> None:
        nonlocal said, stage, since
        now = time.monotonic()
        if what != stage:
            stage, since = what, now
        if now - said < SECONDS_BETWEEN_LINES:
            return
        said = now
        of = f" of {total:,}" if total else ""
        speed = f", {done / (now - since):,.0f} rows/s" if now > since else ""
        print(f"[{now - began:5.0f} s] {what}: {done:,}{of} rows{speed}", file=sys.stderr, flush=True)

    return line


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
