"""The visit that ends `usual demo`: a few requests to a running server, printed for people."""

from collections.abc import Iterator

import httpx
import polars as pl

from features.event_log.log import EventLog

_LIMIT = 8


def play_visit(url: str, log: EventLog) -> Iterator[str]:
    """Request products for a regular customer, for a new visitor, and for the same after one product view.

    Yields the lines to print.
    """
    titles = dict(log.catalog().select("item_id", "title").iter_rows())
    purchases = log.scan().filter(pl.col("name") == "purchase", pl.col("customer_id").is_not_null())
    regular = purchases.group_by("customer_id").len().sort("len", "customer_id").collect()["customer_id"][-1]
    viewed = log.scan().filter(pl.col("name") == "view_item").collect()["item_id"][-1]
    visits = {
        f"a regular, {regular}": {"customer_id": regular},
        "someone never seen": {"client_id": "somebody-new"},
        f"the same, having looked at {titles.get(viewed, viewed)}": {
            "client_id": "somebody-new",
            "context": {"item_ids": [viewed]},
        },
    }
    for label, request in visits.items():
        body = {"requests": [{"placement": "home.for_you", "limit": _LIMIT, **request}]}
        response = httpx.post(f"{url}/v1/recommendations", json=body, timeout=10)
        (result,) = response.raise_for_status().json()["results"]
        how = result["strategy"] + (f", fallback {result['fallback']['why']}" if result["fallback"] else "")
        yield f"\nfor {label} ({how}):"
        for item in result["items"]:
            yield f"  {item['rank']:>2}  {item['item_id']:<10} {titles.get(item['item_id']) or ''}"
