"""Findings: what a check says of a log, and how numbers and examples are written in it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from features.common.counts import count as count

Severity = Literal["stop", "warn", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
BE, HAVE = ("is", "are"), ("has", "have")


@dataclass(frozen=True)
class Finding:
    """One thing to know about a log.

    `stop`: what is computed from the log is meaningless until this is put right; `warn`: some numbers are wrong or
    worse than they could be; `info`: as a shop may well be, and worth knowing. `code` is stable, for scripts.
    """

    code: str
    severity: Severity
    text: str  # one sentence with numbers
    advice: str  # what to do; empty where there is nothing to do
    example: str = ""
    numbers: dict[str, float | int | str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def sort_by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings, the most severe first; of one severity in the order in which they come."""
    return sorted(findings, key=lambda f: SEVERITIES.index(f.severity))


def percent(share: float) -> str:
    """Write a share of 0–1 in percent; small ones with digits enough to differ from nothing, and from all."""
    if 0 < share < 0.001:
        return "under 0.1%"
    if 0.999 < share < 1:
        return "over 99.9%"
    return f"{share:.0%}" if share in (0, 1) else f"{share:.1%}"


def part(n: int, of: int, noun: str, verb: tuple[str, str] = BE) -> str:
    """Write a part of a whole with its share and verb: `2 orders of 100 (2.0%) have`."""
    return f"{count(n, noun)} of {of:,} ({percent(n / of if of else 0.0)}) {verb[n != 1]}"


def quote(value: object, length: int = 40) -> str:
    """Write an id or a text of the shop's data as an example, shortened."""
    text = str(value)
    return repr(text if len(text) <= length else f"{text[: length - 1]}…")
