"""How long the steps of a run take, told beside it."""

import time

from features.common.progress import Progress, silent


class Stopwatch:
    """A `Progress` that passes on what it hears, and keeps when."""

    def __init__(self, step: Progress = silent) -> None:
        self._step = step
        self._began: list[tuple[str, float]] = []

    def __call__(self, text: str, done: int, total: int | None) -> None:
        self._began.append((text, time.monotonic()))
        self._step(text, done, total)

    def seconds(self) -> list[tuple[str, float]]:
        """What each step was, and how long it took; the last one until now."""
        ends = [*(at for _, at in self._began[1:]), time.monotonic()]
        return [(text, end - at) for (text, at), end in zip(self._began, ends, strict=True)]
