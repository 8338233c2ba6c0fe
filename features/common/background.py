"""Background calls: one call at a time in a thread of its own, while the caller prepares the next."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, ParamSpec, Self, TypeVar

ResultT = TypeVar("ResultT")
P = ParamSpec("P")


class BackgroundCall(Generic[ResultT]):
    """Runs at most one call in the background. `threads` are for calls that start work of their own there."""

    def __init__(self, threads: int = 1) -> None:
        self.executor = ThreadPoolExecutor(threads)
        self._pending: Future[ResultT] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.executor.shutdown()

    def start(self, function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> None:
        """Start a call; the one before must have been waited for."""
        if self._pending is not None:
            raise RuntimeError("a call is running; wait for it before the next is started")
        self._pending = self.executor.submit(function, *args, **kwargs)

    def wait(self) -> list[ResultT]:
        """Wait for the call: its result in a list, empty where none was started. Raises what the call raised."""
        if self._pending is None:
            return []
        pending, self._pending = self._pending, None
        return [pending.result()]
