"""How long the stages of ranking take, for whoever wants to know: `candidates`, `features`, `ranker`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal

Stage = Literal["candidates", "features", "ranker"]
Listener = Callable[[Stage, float], None]

_listeners: list[Listener] = []


def tell(listener: Listener) -> None:
    """Call `listener` with a stage and its seconds, each time one ends, in the thread that ranks."""
    if listener not in _listeners:
        _listeners.append(listener)


@contextmanager
def stage(name: Stage) -> Iterator[None]:
    """Times a block."""
    begun = perf_counter()
    yield
    for listener in _listeners:
        listener(name, perf_counter() - begun)
