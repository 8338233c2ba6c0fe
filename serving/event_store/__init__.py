"""Events on disk before they are acknowledged, and read back as what a visitor has just done.

One interface, `EventStore`, over SQLite (one machine, also with several workers) and PostgreSQL (several).
"""

from features.sources.event_store import is_postgres, sqlite_path
from serving.event_store.item_updates import ItemChanges, ItemPatch, ItemRow, Once, Outcome
from serving.event_store.protocol import Connection, Erased, Event, StoreUnavailable, Touch, Unstorable, Visitor
from serving.event_store.store import EventStore, Limits

__all__ = [
    "Erased",
    "Event",
    "EventStore",
    "ItemChanges",
    "ItemPatch",
    "ItemRow",
    "Limits",
    "Once",
    "Outcome",
    "StoreUnavailable",
    "Touch",
    "Unstorable",
    "Visitor",
    "open_store",
]


def open_store(url: str, limits: Limits | None = None) -> EventStore:
    """The store that `url` names: the path of a SQLite file, or postgresql://….

    It is opened at first use, so that a server starts without it. Raises InputError for a URL that is neither.
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
