"""The ids of a visitor: whose stored events belong to a request."""

from typing import NamedTuple


class VisitorIds(NamedTuple):
    """A known customer, a client (a device or cookie), or both; at least one is given."""

    customer_id: str | None
    client_id: str | None
