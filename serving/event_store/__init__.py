"""Event store: events are on disk before they are acknowledged, and read back as what a visitor has just done.

One interface, `EventStore` (`store`, the module to open first), over SQLite (one machine, also with several workers)
and PostgreSQL (several). `protocol` has the values that are stored and read, and what a connection to either database
does; `sqlite` and `postgresql` are these connections, `journal` the files of the former, `worker` the thread that each
is used in. `claims` keeps what pages say without proof beside the events, `item_updates` item overrides and idempotent
answers. This room imports `serving.schemas` and `serving.identity`, and nothing above.
"""

from features.sources.event_store import is_postgres, sqlite_path
from serving.event_store.item_updates import IdempotencyKey, IdempotentAnswer, ItemChanges, ItemPatch, ItemRow
from serving.event_store.protocol import (
    Connection,
    ErasureCounts,
    StoredEvent,
    StoreUnavailable,
    UnstorableValue,
    VisitEvent,
)
from serving.event_store.store import EventStore, Limits
from serving.schemas.visitor import VisitorIds

__all__ = [
    "ErasureCounts",
    "EventStore",
    "IdempotencyKey",
    "IdempotentAnswer",
    "ItemChanges",
    "ItemPatch",
    "ItemRow",
    "Limits",
    "StoreUnavailable",
    "StoredEvent",
    "UnstorableValue",
    "VisitEvent",
    "VisitorIds",
    "open_store",
]


def open_store(url: str, limits: Limits | None = None) -> EventStore:
    """Open the store that `url` names: the path of a SQLite file, or postgresql://….

    It connects at first use, so that a server starts without it. Raises InputError for a URL that is neither.
    """
    limits = limits or Limits()
    if is_postgres(url):
        from serving.event_store.postgresql import PostgresConnection, check_url

        check_url(url)

        def connect() -> Connection:
            return PostgresConnection(url, limits.write_s)
    else:
        from serving.event_store.sqlite import SqliteConnection

        path = sqlite_path(url)

        def connect() -> Connection:
            return SqliteConnection(path, limits.write_s)

    return EventStore(connect, limits)
