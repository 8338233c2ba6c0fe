"""The model watcher: swaps in what is published in a directory, while requests go on.

The new bundle is loaded, warmed up and tried (`models.self_check`) beside the active one, which answers until one
reference is swapped. Whatever fails leaves the active one in place.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from features.common.errors import InputError
from models import publishing
from models.publishing import PublishedBundle
from serving import metrics
from serving.recommend.active_model import ActiveModel
from serving.recommend.engine import RecommendationEngine
from serving.schemas.problems import log_failure

log = logging.getLogger("usual.serving")

_RETRY_EVERY_S = 30.0  # what failed may have been the disk or the memory


@dataclass(frozen=True)
class WatchOutcome:
    """What a check of the directory led to; `problem`: why what is published there is not the active model."""

    swapped: bool
    problem: str | None = None


class ModelWatcher:
    """Checks `directory` every `every_s` seconds, in a thread; `load` makes a model of a published bundle."""

    def __init__(
        self,
        directory: Path,
        engine: RecommendationEngine,
        load: Callable[[PublishedBundle], ActiveModel],
        every_s: float = 1.0,
    ) -> None:
        self.directory, self._engine, self._load, self._every_s = directory, engine, load, every_s
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._latest: PublishedBundle | None = None  # also where it could not be loaded
        self._last = WatchOutcome(False)
        self._thread = threading.Thread(target=self._watch, name="model watcher", daemon=True)

    @property
    def problem(self) -> str | None:
        """Why what is published is not served, if it is not; without paths, as pages may read it."""
        return self._last.problem and self._last.problem.replace(f"{self.directory}/", "")

    def start(self, active: PublishedBundle | None) -> None:
        """Watch from now on; `active` is what is served already."""
        self._latest = active
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def check(self, retry: bool = False) -> WatchOutcome:
        """Swap in what is published if it is new. What failed once is only tried again with `retry`."""
        with self._lock:
            before, self._last = self._last, self._swap_if_new(retry)
        if self._last.swapped:
            metrics.count_swap(loaded=True)
        elif self._last.problem not in (None, before.problem):
            metrics.count_swap(loaded=False)
            log.error("the model stays as it is: %s", self._last.problem)
        return self._last

    def _swap_if_new(self, retry: bool) -> WatchOutcome:
        try:
            published = publishing.read_current(self.directory)
            if published is None or (self._latest == published and not (retry and self.problem)):
                return WatchOutcome(False, self.problem if published else None)
            self._latest = published
            model = self._load(published)
            self._engine.prepare(model)
            self._engine.swap(model)
        except InputError as error:
            return WatchOutcome(False, str(error))
        except Exception as error:
            log_failure("a new model could not be loaded", "of a swap", error)
            return WatchOutcome(False, f"the published model could not be loaded ({type(error).__name__})")
        log.info("serving version %s, snapshot %s", model.version, model.identity["snapshot"])
        return WatchOutcome(True)

    def _watch(self) -> None:
        retried = time.monotonic()
        while not self._closed.wait(self._every_s):
            retry = time.monotonic() - retried > _RETRY_EVERY_S
            retried = time.monotonic() if retry else retried
            self.check(retry)
