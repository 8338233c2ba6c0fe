"""What a store holds beside events: what shops say of items between two snapshots, and answers given once.

One implementation for both kinds of store, which differ in how the place of a value is written in SQL. Each
function runs within a transaction that its caller has begun.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from features.common.clock import DAY

ITEMS, ANSWERS = "usual_items", "usual_answers"
ANSWERED_FOR = DAY  # how long an answer can be had again

Execute = Callable[..., Any]  # of a connection: a statement and its values; a cursor


class ItemPatch(NamedTuple):
    """What is said of an item. A field that is not set keeps its value; one set to None has none any more."""

    item_id: str
    sets_available: bool
    available: bool | None
    sets_price: bool
    price: float | None


class ItemRow(NamedTuple):
    """All that is said of an item, None where nothing is."""

    item_id: str
    available: bool | None
    price: float | None


class ItemChanges(NamedTuple):
    """Items that changed after version `since`, up to `version`.

    `everything`: these are all there are, and of what is not among them nothing is said.
    """

    since: int
    version: int
    everything: bool
    rows: list[ItemRow]


class Once(NamedTuple):
    """Names a request that is to be done once: digests of its key and of what it asks for."""

    key: bytes
    asked: bytes


class Outcome(NamedTuple):
    """The answer, and whether it had been given before; None where the same key asked for something else."""

    answer: bytes | None
    replayed: bool


class Beside:
    """The statements, with `place` for each value: ? or %s."""

    def __init__(self, place: str) -> None:
        p = place
        self._upsert = f"""
INSERT INTO {ITEMS} (item_id, available, price, version, at) VALUES ({p}, {p}, {p}, {p}, {p})
ON CONFLICT (item_id) DO UPDATE SET
    available = CASE WHEN {p} THEN excluded.available ELSE {ITEMS}.available END,
    price = CASE WHEN {p} THEN excluded.price ELSE {ITEMS}.price END,
    version = excluded.version, at = excluded.at
"""  # noqa: S608
        self._latest = f"SELECT coalesce(max(version), 0) FROM {ITEMS}"  # noqa: S608
        self._since = f"SELECT item_id, available, price, version FROM {ITEMS} WHERE version > {p}"  # noqa: S608
        self._forget = f"DELETE FROM {ANSWERS} WHERE key = {p} AND at < {p}"  # noqa: S608
        self._claim = f"INSERT INTO {ANSWERS} (key, asked, at) VALUES ({p}, {p}, {p}) ON CONFLICT DO NOTHING"  # noqa: S608
        self._keep = f"UPDATE {ANSWERS} SET answer = {p} WHERE key = {p}"  # noqa: S608
        self._given = f"SELECT asked, answer FROM {ANSWERS} WHERE key = {p}"  # noqa: S608
        self._old = f"DELETE FROM {ANSWERS} WHERE key IN (SELECT key FROM {ANSWERS} WHERE at < {p} LIMIT {p})"  # noqa: S608

    def patch(self, cursor: Any, patches: Sequence[ItemPatch], now: int) -> None:
        """Keep `patches`, one per item, under one new version. No other patch may run at the same time."""
        ((latest,),) = cursor.execute(self._latest).fetchall()
        # At least the time, so that a store that was begun anew does not repeat versions of the one before.
        version = max(latest + 1, now)
        values = [
            (p.item_id, p.available, p.price, version, now, p.sets_available, p.sets_price) for p in sorted(patches)
        ]
        cursor.executemany(self._upsert, values)

    def changes(self, execute: Execute, since: int) -> ItemChanges:
        """What changed after the version `since`."""
        ((latest,),) = execute(self._latest).fetchall()
        if latest == since:
            return ItemChanges(since, since, False, [])
        everything = latest < since or since == 0  # another store than the one that `since` is of
        found = execute(self._since, (0 if everything else since,)).fetchall()
        rows = [ItemRow(i, None if a is None else bool(a), price) for i, a, price, _ in found]
        return ItemChanges(since, max((row[3] for row in found), default=latest), everything, rows)

    def once(self, execute: Execute, once: Once, now: int, run: Callable[[], bytes]) -> Outcome:
        """What `run` gives, kept with all it writes; or what it gave before."""
        execute(self._forget, (once.key, now - ANSWERED_FOR))
        if execute(self._claim, (*once, now)).rowcount:  # where another has claimed it, this waits for its commit
            answer = run()
            execute(self._keep, (answer, once.key))
            return Outcome(answer, False)
        ((asked, answer),) = execute(self._given, (once.key,)).fetchall()
        return Outcome(bytes(answer) if bytes(asked) == once.asked else None, True)

    def purge(self, execute: Execute, now: int, most: int) -> int:
        """Remove at most `most` answers that are too old; how many went."""
        return int(execute(self._old, (now - ANSWERED_FOR, most)).rowcount)
