"""Which customer an anonymous client belongs to, by evidence and never by guess.

Evidence that ties a client to a customer: an event that carries both ids (a login, or anything done while
logged in), an e-mail address or payment token (salted hashes) seen with both, a merge that the shop asked for.
As of an instant only evidence before it counts: from then on the client's anonymous past, too, is the
customer's; before, it was nobody's. A client tied to several customers is a shared device: it joins nobody's
profile. A token seen with several customers (a family's card) ties nobody. An `unlink` says that the two were never
one: it takes away every tie between them at all times, so what was merged comes apart again.
"""

import narwhals as nw

from features.tables.engine import Lazy, distinct

_PAIR = ("client_id", "customer_id")


def build_profiles(events: Lazy, links: Lazy, as_of: int) -> Lazy:
    """One row per client that belongs to exactly one customer as of `as_of`: client_id, customer_id.

    `events` has client_id, customer_id and t, all before `as_of`; `links` is in `LINK_SCHEMA`, with `t`.
    """
    known = links.filter(nw.col("t") < as_of)
    pairs = nw.concat(
        [
            _both(events),
            _both(known.filter(nw.col("kind") == "merge")),
            _by_token(known.filter(nw.col("kind").is_in(["email", "payment"]))),
        ]
    )
    undone = distinct(links.filter(nw.col("kind") == "unlink"), *_PAIR)
    return (
        pairs.join(undone, on=list(_PAIR), how="anti")
        .group_by("client_id")
        .agg(customer=nw.col("customer_id").min(), last=nw.col("customer_id").max())
        .filter(nw.col("customer") == nw.col("last"))
        .select("client_id", customer_id=nw.col("customer"))
    )


def _both(rows: Lazy) -> Lazy:
    return distinct(rows.filter(~nw.col("client_id").is_null(), ~nw.col("customer_id").is_null()), *_PAIR)


def _by_token(links: Lazy) -> Lazy:
    """Clients and customers seen with one token that only one customer has."""
    token = ["kind", "token"]
    owners = (
        links.filter(~nw.col("customer_id").is_null())
        .group_by(*token)
        .agg(customer_id=nw.col("customer_id").min(), last=nw.col("customer_id").max())
        .filter(nw.col("customer_id") == nw.col("last"))
    )
    clients = distinct(links.filter(~nw.col("client_id").is_null()), *token, "client_id")
    return clients.join(owners, on=token, how="inner").select(*_PAIR)


def resolve(events: Lazy, profiles: Lazy) -> Lazy:
    """`events` with the customer filled in where the client has a profile; the client stays."""
    owner = profiles.select("client_id", owner=nw.col("customer_id"))
    return (
        events.join(owner, on="client_id", how="left")
        .with_columns(customer_id=nw.coalesce("customer_id", "owner"))
        .drop("owner")
    )
