"""Identity resolution: which customer an anonymous client belongs to, by evidence only.

Evidence that links a client to a customer: an event with both ids (a login, or any event while logged in), an e-mail
address or payment token (salted hashes) that occurs with both, a merge that the shop requested. As of an instant only
evidence before it counts: from then on the client's earlier anonymous events are the customer's too; before, they
were nobody's. A client linked to several customers is a shared device and joins nobody's profile. A token of several
customers (a family's card) links nobody. An `unlink` states that the two never belonged together: it removes every
link between them at all times, which undoes a merge. A device that did not prove itself belongs to nobody.
"""

import narwhals as nw

from features.tables.bots import UNPROVEN
from features.tables.engine import Lazy, distinct

_PAIR = ("client_id", "customer_id")


def build_profiles(pairs: Lazy, links: Lazy, as_of: int) -> Lazy:
    """Build one row per client that belongs to exactly one customer as of `as_of`: client_id, customer_id.

    `pairs`: client_id and customer_id of the events before `as_of` that have both; `links` is in `LINK_SCHEMA`, with
    `t`.
    """
    past_links = links.filter(nw.col("t") < as_of)
    merged = past_links.filter(
        nw.col("kind") == "merge", ~nw.col("client_id").is_null(), ~nw.col("customer_id").is_null()
    )
    pairs = nw.concat(
        [
            pairs.select(*_PAIR),
            distinct(merged, *_PAIR),
            _by_token(past_links.filter(nw.col("kind").is_in(["email", "payment"]))),
        ]
    )
    unlinked = distinct(links.filter(nw.col("kind") == "unlink"), *_PAIR)
    return (
        pairs.join(unlinked, on=list(_PAIR), how="anti")
        .group_by("client_id")
        .agg(customer=nw.col("customer_id").min(), last=nw.col("customer_id").max())
        .filter(nw.col("customer") == nw.col("last"), ~nw.col("client_id").str.starts_with(UNPROVEN))
        .select("client_id", customer_id=nw.col("customer"))
    )


def _by_token(links: Lazy) -> Lazy:
    """Pairs of a client and a customer with the same token, where only one customer has the token."""
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
    """Fill in the customer of `events` where the client has a profile; the client stays."""
    owner = profiles.select("client_id", owner=nw.col("customer_id"))
    return (
        events.join(owner, on="client_id", how="left")
        .with_columns(customer_id=nw.coalesce("customer_id", "owner"))
        .drop("owner")
    )
