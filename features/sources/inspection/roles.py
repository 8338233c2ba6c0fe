"""Roles: which column of a file is which of ours, by what it is called and what its cells look like."""

from collections.abc import Mapping
from dataclasses import dataclass

from features.sources.inspection.profile import Profile
from features.sources.inspection.words import ROLES, Role, score_name

SURE = 90  # a name that is one of the words for the role
LIKELY = 30
MOST = 0.8  # of the cells have to look like the role
FEW_STATUSES = 40


@dataclass(frozen=True)
class Assigned:
    """A column and how it was found: `score` of its name, 0 where its cells alone told."""

    column: str
    score: int


def assign_roles(profiles: Mapping[str, Profile]) -> dict[Role, Assigned]:
    """Give each role the column that fits best; a column has one role."""
    scored = [
        (score, -rank, -n, role, name)
        for rank, role in enumerate(ROLES)
        for n, (name, p) in enumerate(profiles.items())
        if (score := _score(role, name, p)) >= LIKELY and fits(role, p, score)
    ]
    assigned: dict[Role, Assigned] = {}
    taken: set[str] = set()
    for score, _, _, role, name in sorted(scored, reverse=True):
        if role not in assigned and name not in taken:
            assigned[role] = Assigned(name, score)
            taken.add(name)
    for role in ("email", "timestamp", "name", "currency"):  # their cells tell them apart from all others
        column = None if role in assigned else _by_cells(role, profiles, taken)
        if column is not None:
            assigned[role] = Assigned(column, 0)
            taken.add(column)
    return assigned


def _score(role: Role, name: str, p: Profile) -> int:
    score = score_name(role, name)
    if role == "name" and p.events >= 0.5:
        return score + 15 if score else 0
    if role == "order_id" and p.numbered >= MOST:
        return max(score, 96)
    return score


def fits(role: Role, p: Profile, score: int) -> bool:
    """Whether the cells of a column can be of the role."""
    if not p.filled:
        return False
    if role == "email":
        return p.addresses >= MOST
    if p.addresses >= MOST or (p.addresses and role != "customer_id"):
        return False  # an address is never anything else, though it may stand among ids of customers
    most = 0.5 if score >= SURE - 45 else MOST  # a good name forgives many bad cells
    if role == "timestamp":
        return p.times >= most and (score >= SURE - 45 or p.texts < 1)
    if role in ("quantity", "price", "total", "position"):
        return p.numbers >= most
    if role == "currency":
        return p.currencies >= MOST
    if role == "name":
        return len(p.values) > 0 and (p.events >= 0.3 or (score >= 96 and p.texts >= MOST and p.distinct <= 30))
    if role in ("status", "parent"):
        return role == "parent" or (0 < p.distinct <= FEW_STATUSES and p.texts >= MOST)
    if role == "available":
        return p.available >= MOST
    if role in ("title", "category", "brand"):
        return p.texts >= 0.5 and p.times < MOST
    if role in ("item_id", "order_id", "customer_id"):
        return not p.typed_time and p.currencies < MOST
    return True


def _by_cells(role: Role, profiles: Mapping[str, Profile], taken: set[str]) -> str | None:
    free = [p for name, p in profiles.items() if name not in taken and p.filled]
    if role == "email":
        candidates = [p for p in free if p.addresses >= MOST]
    elif role == "timestamp":
        candidates = [p for p in free if p.times >= 0.95 and (p.typed_time or p.numbers < 0.5)]
    elif role == "name":
        candidates = [p for p in free if p.events >= MOST and 1 <= p.distinct <= 30 and p.texts == 1]
    else:
        candidates = [p for p in free if p.currencies >= 0.95]
    return max(candidates, key=lambda p: p.filled).name if candidates else None
