"""Events as a log keeps them: each once, by time."""

import polars as pl

from features.event_log.ingestion.combine import combine
from features.event_log.ingestion.readings import Origins
from features.event_log.schema import EVENT_SCHEMA, STAGED_SCHEMA, STORED_SCHEMA, conform


def combine_events(events: pl.DataFrame) -> pl.DataFrame:
    """What a log without files holds of `events`, in `EVENT_SCHEMA`."""
    rows, _ = combine(pl.DataFrame(schema=STORED_SCHEMA), conform(events, STAGED_SCHEMA), Origins({}))
    return rows.select(*EVENT_SCHEMA)
