"""Answers of visitors: the latest of each question as of an instant, from the events `preferences`."""

import narwhals as nw

from features.event_log.stated_answers import PREFERENCES
from features.tables import bots, identity
from features.tables.engine import Engine, Lazy

_KEY = ("visitor", "question")


def build_answers(engine: Engine, events: Lazy, profiles: Lazy, as_of: int) -> Lazy:
    """Build one row per visitor and question: visitor, customer_id, question, answer (null: withdrawn), t.

    `t` is in microseconds. The visitor is a customer, or a device that belongs to none; that has no customer_id.

    `events` are those of the log; `profiles`, as of `as_of`, say whose the answers of anonymous clients are. Of one
    instant the answer with the greatest event_id counts.
    """
    usable = (
        bots.drop_unproven_clients(engine.with_micros(events, "timestamp", "t"))
        .filter(
            nw.col("t") < as_of,
            nw.col("consent").fill_null(True),
            nw.col("name").cast(nw.String) == PREFERENCES,
            ~nw.col("question").is_null(),
        )
        .select("t", "event_id", "customer_id", "client_id", "question", "answer")
    )
    client, customer = (nw.concat_str(nw.lit(f"{kind}/"), f"{kind}_id") for kind in ("client", "customer"))
    visitor = nw.when(nw.col("customer_id").is_null()).then(client).otherwise(customer)
    answers = identity.resolve(usable, profiles).with_columns(visitor=visitor)
    last = answers.group_by(*_KEY).agg(t=nw.col("t").max())
    latest = answers.join(last, on=[*_KEY, "t"], how="inner")
    one = latest.group_by(*_KEY).agg(event_id=nw.col("event_id").max())
    return latest.join(one, on=[*_KEY, "event_id"], how="inner").select(
        "visitor", "customer_id", "question", "answer", "t"
    )
