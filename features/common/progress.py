"""Progress of long work, on stderr: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how far it is, and how far it goes, None where that is not known.

Work on rows reports how many rows are done; a run of steps reports the number of each step, from 1, as it begins.
"""

SECONDS_BETWEEN_LINES = 5.0


def silent(task: str, done: int, total: int | None) -> None:
    """A `Progress` that shows nothing."""


@contextlib.contextmanager
def show_rows() -> Iterator[Progress]:
    """Show work on rows: rows done, of how many, and rows a second."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _row_lines()
        return
    with _bar(console, _Speed()) as bar:
        bars: dict[str, TaskID] = {}

        def show(task: str, done: int, total: int | None) -> None:
            if task not in bars:
                bars[task] = bar.add_task(task, total=total)
            bar.update(bars[task], completed=done, total=total)

        yield show


@contextlib.contextmanager
def show_steps() -> Iterator[Progress]:
    """Show a run of steps: which one is running, and how many there are."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _step_lines()
        return
    with _bar(console, MofNCompleteColumn()) as bar:
        run = bar.add_task("", total=None)

        def show(task: str, done: int, total: int | None) -> None:
            bar.update(run, description=task, completed=done - 1, total=total)

        yield show
        bar.update(run, completed=bar.tasks[0].total)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{task.completed:,.0f} rows" + (f", {speed:,.0f} rows/s" if speed else ""))


def _bar(console: Console, count: ProgressColumn) -> Bar:
    return Bar(TextColumn("{task.description}"), BarColumn(), count, TimeElapsedColumn(), console=console)


def _row_lines() -> Progress:
    """A line every `SECONDS_BETWEEN_LINES`; the speed is that of the current task."""
    start = last_line = task_start = time.monotonic()
    current = ""

    def show(task: str, done: int, total: int | None) -> None:
        nonlocal last_line, current, task_start
        at = time.monotonic()
        if task != current:
            current, task_start = task, at
        if at - last_line < SECONDS_BETWEEN_LINES:
            return
        last_line = at
        of = f" of {total:,}" if total else ""
        speed = f", {done / (at - task_start):,.0f} rows/s" if at > task_start else ""
        _print(at - start, f"{task}: {done:,}{of} rows{speed}")

    return show


def _step_lines() -> Progress:
    """A line for every step."""
    start = time.monotonic()

    def show(task: str, done: int, total: int | None) -> None:
        step = f"{done}/{total} " if total else ""
        _print(time.monotonic() - start, step + task)

    return show


def _print(seconds: float, text: str) -> None:
    print(f"[{seconds:5.0f} s] {text}", file=sys.stderr, flush=True)
