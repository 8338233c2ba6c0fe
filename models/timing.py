"""Stage timing: tells listeners how long the stages of ranking take (`candidates`, `features`, `ranker`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal

Stage = Literal["candidates", "features", "ranker"]
Listener = Callable[[Stage, float], None]

_listeners: list[Listener] = []


def add_listener(listener: Listener) -> None:
    """Call `listener` with a stage and its seconds, each time one ends, in the thread that ranks."""
    if listener not in _listeners:
        _listeners.append(listener)


@contextmanager
def stage(name: Stage) -> Iterator[None]:
    """Time a block as a stage."""
    started = perf_counter()
    yield
    for listener in _listeners:
        listener(name, perf_counter() - started)
