"""Recent interactions of every visitor, in order: what co-occurrence generators are fitted on."""

import narwhals as nw

from features.common.clock import DAY
from features.tables.engine import Lazy

WINDOW_DAYS = 56
TOUCHES = ("select_item", "view_item", "add_to_wishlist", "add_to_cart", "purchase")


def build_interactions(events: Lazy, as_of: int) -> Lazy:
    """Build one row per visitor, item, name and instant of the last `WINDOW_DAYS` days: visitor, item_id, name, t.

    `visitor` is the customer, or the client of someone without an account.
    """
    recent = events.filter(
        nw.col("t") >= as_of - WINDOW_DAYS * DAY, nw.col("name").is_in([*TOUCHES]), ~nw.col("item_id").is_null()
    )
    client, customer = (nw.concat_str(nw.lit(f"{kind}/"), f"{kind}_id") for kind in ("client", "customer"))
    visitor = nw.when(nw.col("customer_id").is_null()).then(client).otherwise(customer)
    return recent.select("item_id", nw.col("name").cast(nw.String), "t", visitor=visitor)
