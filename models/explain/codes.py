"""Reason codes: the kinds of reasons, and how strong each may be."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

ReasonCode = Literal[
    "due_again",
    "due_again_by_item",
    "stated",
    "bought_often",
    "bought_before",
    "carted_in_visit",
    "wished_in_visit",
    "viewed_in_visit",
    "bought_in_visit",
    "carted_before",
    "viewed_before",
    "bought_with",
    "bought_next",
    "viewed_next",
    "like_what",
    "people_like_you",
    "popular_in_category",
    "new_in_your_category",
    "popular_with_segment",
    "new_arrival",
    "fits_taste",
    "popular",
    "sold_before",
    "in_range",
]
REASON_CODES: tuple[ReasonCode, ...] = get_args(ReasonCode)

# The strength of a reason at its weakest and at its strongest. The visitor's own interactions with the product go
# before those with other products, and these before statistics of many: the best seller has its generator's best score
# for every visitor, which explains nothing about this one.
STRENGTH_RANGES: dict[ReasonCode, tuple[float, float]] = {
    "due_again": (0.6, 1.0),
    "due_again_by_item": (0.4, 0.85),
    "stated": (0.35, 0.85),
    "bought_often": (0.6, 0.95),
    "bought_before": (0.4, 0.9),
    "carted_in_visit": (0.6, 1.0),
    "wished_in_visit": (0.5, 0.95),
    "viewed_in_visit": (0.4, 0.9),
    "bought_in_visit": (0.3, 0.7),
    "carted_before": (0.4, 0.9),
    "viewed_before": (0.3, 0.8),
    "bought_with": (0.0, 0.8),
    "bought_next": (0.0, 0.75),
    "viewed_next": (0.0, 0.8),
    "like_what": (0.0, 0.6),
    "people_like_you": (0.0, 0.65),
    "popular_in_category": (0.0, 0.5),
    "new_in_your_category": (0.0, 0.5),
    "popular_with_segment": (0.0, 0.35),
    "new_arrival": (0.0, 0.35),
    "fits_taste": (0.0, 0.3),
    "popular": (0.0, 0.25),
    "sold_before": (0.0, 0.05),
    "in_range": (0.0, 0.01),
}


class Reason(NamedTuple):
    """Why an item is recommended: a fact about the visitor, the item or the shop.

    `strength` (0–1) compares the reasons of one item; `item_id` is the visitor's item that the reason cites, if any;
    `values` are the numbers in its text, and the segment's name.
    """

    code: ReasonCode
    strength: float
    item_id: str | None
    values: Mapping[str, Any]
