"""The rules watcher: follows a rules file, and swaps in what is whole.

A file that does not fit, or that is gone, leaves the rules as they are; `problem` says why until it is mended.
"""

import logging
import os
import threading
from collections.abc import Callable, Collection
from hashlib import blake2b
from pathlib import Path

from features.common import clock
from features.common.errors import InputError
from serving import metrics
from serving.rules import rulebook
from serving.rules.rulebook import Rulebook

log = logging.getLogger("usual.serving")

_Stat = tuple[int, int, int]


class RulesWatcher:
    """Keeps `book` as the file at `path` has it, for a server with these `placements`; any thread may read it.

    The file must be whole to begin with: a server that forgot its rules would show what they hide. Raises InputError.
    """

    def __init__(self, path: Path, placements: Collection[str], every_s: float = 1.0) -> None:
        self.path, self._placements, self._every_s = path, placements, every_s
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._stat = _stat(path)
        content = rulebook.read_bytes(path)
        self._digest = _digest(content)
        self.book: Rulebook = rulebook.parse(content, str(path), placements)
        self.loaded_at = clock.now()
        self.problem: str | None = None
        self.prepare: Callable[[Rulebook], None] = lambda _: None
        """Called with a new book before it counts."""
        self._thread = threading.Thread(target=self._watch, name="rules watcher", daemon=True)
        metrics.set_rules(len(self.book.rules))

    def start(self) -> None:
        """Follow the file from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def check(self) -> bool:
        """Look at the file, and swap in what it has if that is new and whole. Returns whether it was."""
        with self._lock:
            stat = _stat(self.path)
            if stat is not None and stat == self._stat:
                return False
            try:
                content = rulebook.read_bytes(self.path)
            except InputError as error:
                self._report(str(error))
                return False
            self._stat = stat
            digest = _digest(content)
            if digest == self.book.digest:  # as it was before it was broken
                self._digest, self.problem = digest, None
                return False
            if digest == self._digest:  # still broken in the same way
                return False
            self._digest = digest
            try:
                book = rulebook.parse(content, str(self.path), self._placements)
                self.prepare(book)
            except InputError as error:
                self._report(str(error))
                return False
            self.book, self.loaded_at, self.problem = book, clock.now(), None
            metrics.count_rules_load(loaded=True)
            metrics.set_rules(len(book.rules))
            log.info("following %d rules, digest %s", len(book.rules), book.digest)
            return True

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            metrics.count_rules_load(loaded=False)
            log.error("the rules stay as they are: %s", problem)
        self.problem = problem

    def _watch(self) -> None:
        while not self._closed.wait(self._every_s):
            try:
                self.check()
            except Exception as error:  # a thread that ends would leave this worker behind for good
                self._report(f"the rules could not be loaded ({type(error).__name__})")


def _stat(path: Path) -> _Stat | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=8).hexdigest()
