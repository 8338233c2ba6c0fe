"""Page one: shares of places and pins, after everything else is in order."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PageShare:
    """A rule's share: `members` are the entries that count, `spare` those outside the list that may be taken."""

    rule: str
    share: float
    members: frozenset[int]
    spare: tuple[int, ...] = ()

    def needed(self, limit: int) -> int:
        """How many of `limit` places must have a member."""
        return math.ceil(self.share * limit - 1e-9)


@dataclass(frozen=True, slots=True)
class PagePin:
    """A rule's pins: `entries` stand from place `at` (1 is the first) on."""

    rule: str
    at: int
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """What a rule did to an item: its places before and after, counted from 1; None: it was not in the list."""

    rule: str
    action: str
    before: int | None
    after: int

    def as_json(self) -> dict[str, str | int | None]:
        """As answers have it."""
        return {"id": self.rule, "action": self.action, "from": self.before, "to": self.after}


@dataclass(frozen=True, slots=True)
class PageRules:
    """What is to be done to page one, by precedence. Entries are numbers of a ranking's items."""

    shares: tuple[PageShare, ...] = ()
    pins: tuple[PagePin, ...] = ()
    moves: dict[int, list[Move]] | None = None
    """What happened to entries before; None: nobody asks."""

    def arrange(
        self, order: list[int], limit: int, free: Callable[[int], bool]
    ) -> tuple[list[int], dict[int, list[Move]]]:
        """Return `order` with the first `limit` entries composed anew, and what moved which entry, if somebody asks.

        An entry for which `free` is False is shown elsewhere: it is not in `order`, and is not brought in.
        """
        moves = None if self.moves is None else {entry: list(earlier) for entry, earlier in self.moves.items()}
        entries = order
        for n, share in enumerate(self.shares):
            entries = _give_share(entries, limit, share, self.shares[:n], free, moves)
        if self.pins:
            entries = _put_pins(entries, limit, self.pins, free, moves)
        return entries, moves or {}


def _give_share(
    entries: list[int],
    limit: int,
    share: PageShare,
    earlier: Sequence[PageShare],
    free: Callable[[int], bool],
    moves: dict[int, list[Move]] | None,
) -> list[int]:
    """Let members from further down take the places of the last entries that no share needs."""
    page, rest = entries[:limit], entries[limit:]
    members = share.members
    missing = share.needed(limit) - sum(entry in members for entry in page)
    if missing <= 0:
        return entries
    wanted: list[int] = []
    for entry in rest:
        if entry in members:
            wanted.append(entry)
            if len(wanted) == missing:
                break
    if len(wanted) < missing and share.spare:
        known = {*entries, *wanted}
        wanted += [entry for entry in share.spare if entry not in known and free(entry)][: missing - len(wanted)]
    room = limit - len(page)  # of a page that is not full
    keepers = [share, *earlier]
    givers = [n for n, entry in enumerate(page) if not any(entry in other.members for other in keepers)]
    givers = givers[-(len(wanted) - room) :] if len(wanted) > room else []
    wanted = wanted[: room + len(givers)]
    displaced = [page[n] for n in givers]
    places = [*givers, *range(len(page), len(page) + len(wanted) - len(givers))]
    page += [-1] * (len(wanted) - len(givers))
    for n, entry in zip(places, wanted, strict=True):
        page[n] = entry
    if moves is not None:
        before = {entry: n for n, entry in enumerate(entries, 1)}
        for n, entry in zip(places, wanted, strict=True):
            moves.setdefault(entry, []).append(Move(share.rule, "share", before.get(entry), n + 1))
    taken = set(wanted)
    return page + displaced + [entry for entry in rest if entry not in taken]


def _put_pins(
    entries: list[int],
    limit: int,
    pins: Sequence[PagePin],
    free: Callable[[int], bool],
    moves: dict[int, list[Move]] | None,
) -> list[int]:
    """Put each pin on its place, or on the next that no earlier pin has; the others keep their order around them."""
    at_place: dict[int, int] = {}
    rule_of: dict[int, str] = {}
    for pin in pins:
        place = pin.at
        for entry in pin.entries:
            if entry in rule_of or not free(entry):
                continue
            while place in at_place:
                place += 1
            if place > limit:
                break
            at_place[place] = entry
            rule_of[entry] = pin.rule
            place += 1
    if not at_place:
        return entries
    others = [entry for entry in entries if entry not in rule_of]
    page: list[int] = []
    taken = 0
    for place in sorted(at_place):
        # On its place, or nearer to the top of a list that is too short.
        between = others[taken : taken + place - 1 - len(page)]
        taken += len(between)
        page += [*between, at_place[place]]
    if moves is not None:
        before = {entry: n for n, entry in enumerate(entries, 1)}
        for n, entry in enumerate(page, 1):
            if entry in rule_of:
                moves.setdefault(entry, []).append(Move(rule_of[entry], "pin", before.get(entry), n))
    return page + others[taken:]
