"""A stopwatch for the steps of a run, which a report shows."""

import time

from features.common.progress import Progress, silent


class Stopwatch:
    """A `Progress` that records when each step begins, and passes it on to another."""

    def __init__(self, step: Progress = silent) -> None:
        self._step = step
        self._starts: list[tuple[str, float]] = []

    def __call__(self, text: str, done: int, total: int | None) -> None:
        self._starts.append((text, time.monotonic()))
        self._step(text, done, total)

    def seconds(self) -> list[tuple[str, float]]:
        """Return the text and the seconds of each step; the last one ends now."""
        ends = [*(at for _, at in self._starts[1:]), time.monotonic()]
        return [(text, end - at) for (text, at), end in zip(self._starts, ends, strict=True)]
