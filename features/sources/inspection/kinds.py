"""Kinds: what a file is, from the roles of its columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from features.sources.inspection.profile import Profile, profile
from features.sources.inspection.roles import SURE, Assigned, assign_roles
from features.sources.inspection.sample import FileSample
from features.sources.inspection.words import Role, split_words

Kind = Literal[
    "events", "order lines", "orders", "views", "catalog", "lines without header", "order headers", "customers",
    "unknown",
]  # fmt: skip
DESCRIPTIONS: dict[Kind, str] = {
    "events": "events, one row each, named by a column",
    "order lines": "order lines, one row per product of an order",
    "orders": "orders without their products, one row each",
    "views": "items that somebody looked at, one row each",
    "catalog": "a catalog, one row per product",
    "lines without header": "order lines whose dates or customers are in another file",
    "order headers": "orders whose products are in another file",
    "customers": "a list of customers, or of other ids",
    "unknown": "a table that says neither what happened when, nor what products there are",
}


@dataclass(frozen=True)
class InspectedFile:
    """A file with the roles of its columns."""

    sample: FileSample
    profiles: Mapping[str, Profile]
    roles: Mapping[Role, Assigned]
    kind: Kind

    def column(self, role: Role) -> str | None:
        return self.roles[role].column if role in self.roles else None

    def profile_of(self, role: Role) -> Profile:
        return self.profiles[self.roles[role].column]


def inspect_file(sample: FileSample) -> InspectedFile:
    """Find the roles of a file's columns, and what it is."""
    profiles = {name: profile(sample.table[name]) for name in sample.columns}
    roles = _correct(assign_roles(profiles), profiles)
    roles = _place_id(roles, profiles, _find_kind(roles, profiles))
    kind = _find_kind(roles, profiles)
    return InspectedFile(sample, profiles, _place_stock(roles, kind), kind)


def _correct(roles: dict[Role, Assigned], profiles: Mapping[str, Profile]) -> dict[Role, Assigned]:
    """What several columns say together."""
    placed = dict(roles)
    sku = next((n for n in profiles if split_words(n)[-1:] == ("sku",) and profiles[n].filled), None)
    if "parent" in roles and sku is not None and sku not in (a.column for a in roles.values()):
        placed["item_id"] = Assigned(sku, 96)  # the parent's id is that of a line
    if "session_id" in roles and not roles.keys() & {"customer_id", "client_id", "email"}:
        placed["client_id"] = placed.pop("session_id")  # somebody was there, if only for a visit
    return placed


def _find_kind(roles: Mapping[Role, Assigned], profiles: Mapping[str, Profile]) -> Kind:
    def has(*names: Role) -> bool:
        return any(name in roles for name in names)

    person = has("customer_id", "client_id", "email")
    if has("timestamp") and (person or has("order_id")):
        if has("name"):
            return "events"
        if has("item_id"):
            return "order lines" if has("order_id", "quantity", "price", "total") else "views"
        return "orders" if has("price", "total") else "order headers" if has("order_id") else "unknown"
    if has("order_id") and has("item_id"):
        return "lines without header"
    if has("order_id") and person:
        return "order headers"
    if (
        not person
        and not has("order_id")
        and (has("title", "price", "available") or (has("item_id") and has("category")))
    ):
        return "catalog"
    if (person and not has("item_id", "timestamp")) or (len(profiles) == 1 and not has("timestamp")):
        return "customers"
    return "unknown"


_BARE = ("id", "_id", "g:id", "uid", "nr", "no", "code")


def _place_id(roles: dict[Role, Assigned], profiles: Mapping[str, Profile], kind: Kind) -> dict[Role, Assigned]:
    """A column that is called nothing but `id` is the id of what the file is about."""
    placed = dict(roles)
    name = next((n for n, p in profiles.items() if n.rsplit(".")[-1].strip().lower() in _BARE and p.filled), None)
    if name is None or any(found.column == name for found in roles.values()):
        return placed
    unique = profiles[name].distinct == profiles[name].filled
    known = roles["item_id"].score if "item_id" in roles else 0
    if kind in ("catalog", "unknown") and known < SURE and unique and "timestamp" not in roles:
        placed["item_id"] = Assigned(name, 80)
    elif "order_id" not in roles and (kind in ("orders", "order lines") or (kind == "unknown" and "total" in roles)):
        placed["order_id"] = Assigned(name, 60)
    elif kind == "events" and unique and "event_id" not in roles and not profiles[name].empty:
        placed["event_id"] = Assigned(name, 60)
    return placed


def _place_stock(roles: dict[Role, Assigned], kind: Kind) -> dict[Role, Assigned]:
    """In a catalog a quantity is what is in stock; elsewhere nothing is said of availability."""
    if kind != "catalog":
        return {r: a for r, a in roles.items() if r != "available"}
    return roles | ({"available": roles["quantity"]} if "available" not in roles and "quantity" in roles else {})
