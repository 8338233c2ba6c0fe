"""Hot swap: what is published takes the place of what is served, while requests go on.

The new bundle is loaded and warmed up beside the old one, which answers until one reference is swapped. Whatever
fails leaves the old one in place.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from features.common.errors import InputError
from models import publishing
from models.publishing import Published
from serving import metrics
from serving.recommend.active_model import Served
from serving.recommend.engine import Answers
from serving.schemas.problems import log_failure

log = logging.getLogger("usual.serving")

_AGAIN_S = 30.0  # what failed may have been the disk or the memory


@dataclass(frozen=True)
class Looked:
    """What a look at the publishing directory led to; `problem`: why what is published there is not served."""

    swapped: bool
    problem: str | None = None


class Following:
    """Looks at directory `where` every `every_s` seconds, in a thread; `make` loads a bundle."""

    def __init__(
        self, where: Path, answers: Answers, make: Callable[[Published], Served], every_s: float = 1.0
    ) -> None:
        self.where, self._answers, self._make, self._every_s = where, answers, make, every_s
        self._looking = threading.Lock()
        self._closed = threading.Event()
        self._seen: Published | None = None
        self._last = Looked(False)
        self._thread = threading.Thread(target=self._follow, name="following", daemon=True)

    @property
    def problem(self) -> str | None:
        """Why what is published is not served, if it is not; without paths, as pages may read it."""
        return self._last.problem and self._last.problem.replace(f"{self.where}/", "")

    def start(self, serving: Published | None) -> None:
        """Follow from now on; `serving` is what is served already."""
        self._seen = serving
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def look(self, again: bool = False) -> Looked:
        """Swap in what is published if it is new. What failed once is tried anew only when asked `again`."""
        with self._looking:
            before, self._last = self._last, self._looked(again)
        if self._last.swapped:
            metrics.swap(loaded=True)
        elif self._last.problem not in (None, before.problem):
            metrics.swap(loaded=False)
            log.error("the model stays as it is: %s", self._last.problem)
        return self._last

    def _looked(self, again: bool) -> Looked:
        try:
            found = publishing.current(self.where)
            if found is None or (self._seen == found and not (again and self.problem)):
                return Looked(False, self.problem if found else None)
            self._seen = found
            served = self._make(found)
            served.warm_up()
            self._answers.swap(served)
        except InputError as error:
            return Looked(False, str(error))
        except Exception as error:
            log_failure("a new model could not be loaded", "of a swap", error)
            return Looked(False, f"the published model could not be loaded ({type(error).__name__})")
        log.info("serving version %s, snapshot %s", served.version, served.model["snapshot"])
        return Looked(True)

    def _follow(self) -> None:
        tried = time.monotonic()
        while not self._closed.wait(self._every_s):
            again = time.monotonic() - tried > _AGAIN_S
            tried = time.monotonic() if again else tried
            self.look(again)
