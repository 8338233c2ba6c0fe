"""Rule failures: counts of conditions that could not be evaluated, handed to the metrics once a second.

Many rules read what most requests do not have; a metric that several processes share takes longer than a condition.
"""

import threading
from collections import Counter
from time import monotonic

from serving import metrics
from serving.rules.effects import Failure

_EVERY_S = 1.0


class RuleFailures:
    """Counts for the metrics of this process. Any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, Failure]] = Counter()
        self._flushed = monotonic()
        metrics.before_render(self.flush)

    def count(self, rule: str, why: Failure) -> None:
        """Count a request on which the condition of a rule could not be evaluated."""
        with self._lock:
            self._counts[rule, why] += 1
        if monotonic() - self._flushed > _EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Hand over what was counted."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            self._flushed = monotonic()
        for (rule, why), number in counts.items():
            metrics.count_rule_failures(rule, why, number)
