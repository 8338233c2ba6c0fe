"""Item updates and idempotent answers: what a store holds beside events.

One implementation for both databases, which differ in the placeholder of a value in SQL. Each function runs within a
transaction that its caller has begun.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from features.common.clock import DAY

ITEMS, ANSWERS = "usual_items", "usual_answers"
ANSWER_LIFETIME = DAY  # microseconds

Execute = Callable[..., Any]  # of a connection: a statement and its values; a cursor


class ItemPatch(NamedTuple):
    """An update of one item. A field that is not set keeps its value; one set to None loses it."""

    item_id: str
    sets_available: bool
    available: bool | None
    sets_price: bool
    price: float | None


class ItemRow(NamedTuple):
    """The overrides of an item; None: none."""

    item_id: str
    available: bool | None
    price: float | None


class ItemChanges(NamedTuple):
    """Items that changed after version `since`, up to `version`.

    `everything`: these are all there are; items not among them have no overrides.
    """

    since: int
    version: int
    everything: bool
    rows: list[ItemRow]


class IdempotencyKey(NamedTuple):
    """Names a request that is to be done once: digests of its key and of the request itself."""

    key: bytes
    request: bytes


class IdempotentAnswer(NamedTuple):
    """The answer, and whether it is an earlier one; None where the same key came with another request."""

    answer: bytes | None
    replayed: bool


class SideTables:
    """The statements, with `placeholder` for each value: ? or %s."""

    def __init__(self, placeholder: str) -> None:
        p = placeholder
        self._upsert = f"""
INSERT INTO {ITEMS} (item_id, available, price, version, at) VALUES ({p}, {p}, {p}, {p}, {p})
ON CONFLICT (item_id) DO UPDATE SET
    available = CASE WHEN {p} THEN excluded.available ELSE {ITEMS}.available END,
    price = CASE WHEN {p} THEN excluded.price ELSE {ITEMS}.price END,
    version = excluded.version, at = excluded.at
"""  # noqa: S608
        self._latest = f"SELECT coalesce(max(version), 0) FROM {ITEMS}"  # noqa: S608
        self._since = f"SELECT item_id, available, price, version FROM {ITEMS} WHERE version > {p}"  # noqa: S608
        self._delete_expired = f"DELETE FROM {ANSWERS} WHERE key = {p} AND at < {p}"  # noqa: S608
        self._claim = f"INSERT INTO {ANSWERS} (key, asked, at) VALUES ({p}, {p}, {p}) ON CONFLICT DO NOTHING"  # noqa: S608
        self._save = f"UPDATE {ANSWERS} SET answer = {p} WHERE key = {p}"  # noqa: S608
        self._load = f"SELECT asked, answer FROM {ANSWERS} WHERE key = {p}"  # noqa: S608
        self._purge = f"DELETE FROM {ANSWERS} WHERE key IN (SELECT key FROM {ANSWERS} WHERE at < {p} LIMIT {p})"  # noqa: S608

    def patch(self, cursor: Any, patches: Sequence[ItemPatch], now: int) -> None:
        """Store `patches`, one per item, under one new version. No other patch may run at the same time."""
        ((latest,),) = cursor.execute(self._latest).fetchall()
        # At least the time, so that a new store does not repeat versions of the one it replaces.
        version = max(latest + 1, now)
        values = [
            (p.item_id, p.available, p.price, version, now, p.sets_available, p.sets_price) for p in sorted(patches)
        ]
        cursor.executemany(self._upsert, values)

    def changes(self, execute: Execute, since: int) -> ItemChanges:
        """Read what changed after version `since`."""
        ((latest,),) = execute(self._latest).fetchall()
        if latest == since:
            return ItemChanges(since, since, False, [])
        everything = latest < since or since == 0  # latest < since: `since` is a version of another store
        changed = execute(self._since, (0 if everything else since,)).fetchall()
        rows = [ItemRow(i, None if a is None else bool(a), price) for i, a, price, _ in changed]
        return ItemChanges(since, max((row[3] for row in changed), default=latest), everything, rows)

    def write_once(self, execute: Execute, key: IdempotencyKey, now: int, run: Callable[[], bytes]) -> IdempotentAnswer:
        """Store the answer of `run` with all it writes; or return its earlier answer."""
        execute(self._delete_expired, (key.key, now - ANSWER_LIFETIME))
        if execute(self._claim, (*key, now)).rowcount:  # where another has claimed it, this waits for its commit
            answer = run()
            execute(self._save, (answer, key.key))
            return IdempotentAnswer(answer, False)
        ((request, answer),) = execute(self._load, (key.key,)).fetchall()
        return IdempotentAnswer(bytes(answer) if bytes(request) == key.request else None, True)

    def purge(self, execute: Execute, now: int, most: int) -> int:
        """Remove at most `most` expired answers; returns how many."""
        return int(execute(self._purge, (now - ANSWER_LIFETIME, most)).rowcount)
