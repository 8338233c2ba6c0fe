"""Consent: of who refused it neither an id nor an answer is kept, whatever source an event comes from."""

import polars as pl

FORGOTTEN = ("customer_id", "client_id", "session_id", "order_id", "question", "answer")
REFUSED = pl.col("consent").eq_missing(False)


def forget_refused(events: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Remove `FORGOTTEN` from the rows that refuse consent; also count these rows.

    They are counted in reports, and nothing else: no table or model reads them.
    """
    if events["consent"].all():  # nulls aside
        return events, 0
    cleared = (pl.when(~REFUSED).then(c).alias(c) for c in FORGOTTEN)
    return events.with_columns(cleared), int((~events["consent"]).sum())


def describe_refused(rows: int) -> str:
    """Say what was not kept of `rows` rows."""
    start = "1 row refuses consent: of it" if rows == 1 else f"{rows:,} rows refuse consent: of them"
    return f"{start} no id of a customer, device, visit or order is kept, and nothing is learnt"
