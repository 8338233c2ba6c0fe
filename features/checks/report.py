"""The report of a log: all checks, and the totals that they are read beside."""

from dataclasses import dataclass
from typing import Any

from features.checks import anomalies, ids, joins, money, orders, rows, times, visitors
from features.checks.facts import Facts
from features.checks.finding import SEVERITIES, Finding, sort_by_severity
from features.common.clock import DAY, iso
from features.common.errors import InputError
from features.event_log.log import EventLog

CHECKS = (
    rows.check_names,
    rows.check_rejected,
    rows.check_copies,
    times.check_isolated,
    times.check_future,
    times.check_set_aside,
    times.check_gaps,
    times.check_ends,
    times.check_hours,
    joins.check_join,
    joins.check_coverage,
    ids.check_ids,
    ids.check_lookalikes,
    ids.check_heavy_customer,
    ids.check_shapes,
    visitors.check_sizes,
    visitors.check_one_visitor,
    visitors.check_bots,
    visitors.check_shared_devices,
    visitors.check_consent,
    visitors.check_anonymous,
    visitors.check_funnel,
    orders.check_buyers,
    orders.check_order_ids,
    orders.check_repeats,
    orders.check_equal_lines,
    orders.check_refunds,
    money.check_currencies,
    money.check_prices,
    money.check_catalog_prices,
    money.check_quantities,
    anomalies.check_order_values,
    anomalies.check_bursts,
    anomalies.check_order_numbers,
    anomalies.check_unproven,
    anomalies.check_claimed_customers,
)


@dataclass(frozen=True)
class CheckReport:
    """What was found in a log, the most severe first, and the facts that it was found in."""

    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def stopped(self) -> bool:
        """Whether something is so wrong that what is computed from the log means nothing."""
        return any(f.severity == "stop" for f in self.findings)

    @property
    def totals(self) -> dict[str, Any]:
        facts = self.facts
        return {
            "events": facts.rows,
            "customers": facts.visitors["customer_id"].count(),
            "clients": facts.clients.height,
            "items": facts.items.height,
            "orders": facts.orders.height,
            "revenue": round(facts.revenue, 2),
            "first": iso(int(facts.hours["hour"][0]) * DAY // 24)[:10],
            "last": iso(int(facts.hours["hour"][-1]) * DAY // 24)[:10],
        }

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON: log, as_of, totals, number of findings by severity, findings."""
        return {
            "log": str(self.facts.log.path),
            "fingerprint": self.facts.log.fingerprint,
            "as_of": None if self.facts.as_of is None else iso(self.facts.as_of),
            "totals": self.totals,
            "counts": {s: sum(f.severity == s for f in self.findings) for s in SEVERITIES},
            "findings": [f.as_dict() for f in self.findings],
        }

    def text(self) -> str:
        """Render the report for a terminal."""
        totals = self.totals
        lines = [
            f"{self.facts.log.path}: {totals['events']:,} events of {totals['customers']:,} customers and "
            f"{totals['clients']:,} devices with {totals['items']:,} items, {totals['orders']:,} orders, "
            f"from {totals['first']} to {totals['last']}"
        ]
        for finding in self.findings:
            lines.append(f"{finding.severity:>5}  {finding.code}: {finding.text}")
            if finding.example:
                lines.append(f"{'':>7}for example: {finding.example}")
            if finding.advice and finding.severity != "info":
                lines.append(f"{'':>7}what to do: {finding.advice}")
        counts = self.as_dict()["counts"]
        lines.append(", ".join(f"{n} {severity}" for severity, n in counts.items()))
        return "\n".join(lines)


def check_log(log: EventLog, as_of: int | None = None) -> CheckReport:
    """Run all checks on the events before `as_of` (microseconds; default: all). Raises `InputError` without events."""
    facts = Facts(log, as_of)
    if not facts.rows:
        raise InputError(
            f"{log.path} holds no events before {iso(as_of)}" if as_of is not None else f"{log.path} is empty"
        )
    return CheckReport(facts, tuple(sort_by_severity(f for check in CHECKS for f in check(facts))))
