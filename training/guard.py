"""Guards: what stops a training because its result would be meaningless, and what only warns.

`usual train --force REASON` goes on in spite of a stop. The reason, and what it overruled, become part of the run, the
model card and the report.
"""

from dataclasses import dataclass, field

from features.checks.cheap import cheap_checks
from features.common.errors import InputError
from features.event_log.log import EventLog

FORCE_HINT = "To train all the same, and have the reason recorded: --force REASON"


@dataclass
class Guard:
    """Collects what is to be known of a training; stops it, unless there is a reason to go on.

    `overruled`: stops that the reason `force` overruled; `warnings`: what was noticed and stops nothing.
    """

    force: str | None = None
    overruled: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.force is not None and not self.force.strip():
            raise InputError("--force needs a reason; it is stored with the model")

    def stop(self, message: str) -> None:
        """Stop with `message`, or note that it was overruled. Raises `InputError`."""
        if self.force is None:
            raise InputError(f"{message}. {FORCE_HINT}")
        self.overruled.append(message)

    def warn(self, message: str) -> None:
        """Note what was noticed."""
        self.warnings.append(message)

    def check_log(self, event_log: EventLog, until: int | None = None) -> None:
        """Run the cheap checks on the events before `until` (microseconds). Raises `InputError` for those that stop."""
        stops = []
        for finding in cheap_checks(event_log, until):
            text = " ".join(part for part in (finding.text, _sentence(finding.example)) if part)
            message = f"{finding.code}: {text}" + (f" What to do: {finding.advice}" if finding.advice else "")
            if finding.severity == "stop":
                stops.append(message.rstrip("."))
            elif finding.severity == "warn":
                self.warn(message)
        if stops and self.force is None:
            reasons = "\n".join(f"  - {message}" for message in stops)
            raise InputError(
                f"{event_log.path} is not fit to train on (`usual check` has the whole list):\n{reasons}\n{FORCE_HINT}"
            )
        self.overruled += stops


def _sentence(text: str) -> str:
    return f"For example: {text}." if text else ""
