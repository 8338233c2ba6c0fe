"""Texts of reasons. A shop translates them by passing its own `Language`; codes and values stay the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from models.explain.codes import Reason, ReasonCode


def _times(n: float) -> str:
    return {1: "once", 2: "twice"}.get(int(n), f"{int(n)} times")


def _span(days: float) -> str:
    """Format a span in days, in weeks from three weeks on, in months from three months on."""
    for unit, size, least in (("months", 30.44, 91), ("weeks", 7, 21)):
        if days >= least:
            return f"{days / size:.0f} {unit}"
    return "1 day" if round(days) <= 1 else f"{days:.0f} days"


def _ago(days: float) -> str:
    return "within the last day" if days < 1 else f"{_span(days)} ago"


def _buyers(n: float) -> str:
    return "1 customer" if int(n) == 1 else f"{int(n):,} customers"


def _segment(name: str | float) -> str:
    return _SEGMENTS.get(str(name), str(name))


_SEGMENTS = {
    "prospect": "those who have not bought yet",
    "champions": "the best customers",
    "loyal": "loyal customers",
    "potential_loyalist": "customers on the way to loyal",
    "new": "new customers",
    "promising": "customers with a first order not long ago",
    "need_attention": "customers who come less often than they did",
    "about_to_sleep": "customers who have not been here for a while",
    "at_risk": "regulars who stay away",
    "cant_lose": "the best customers who stay away",
    "hibernating": "customers from long ago",
}

TEMPLATES: dict[ReasonCode, str] = {
    "due_again": "Due again: bought every {gap_days}, last {days_ago}",
    "due_again_by_item": "Due again: those who rebuy it do so after {gap_days}; last bought {days_ago}",
    "stated": "You said you like {stated}",
    "bought_often": "Bought {orders}, last {days_ago}",
    "bought_before": "Bought once, {days_ago}",
    "carted_in_visit": "Put in the cart in this visit",
    "wished_in_visit": "Put on the wish list in this visit",
    "viewed_in_visit": "Looked at {events} in this visit",
    "bought_in_visit": "Bought in this visit",
    "carted_before": "Put in the cart before, but not bought",
    "viewed_before": "Looked at {days_ago}, not bought since",
    "bought_with": "Chosen by the same people as {item}",
    "bought_next": "Often in the next order after {item}",
    "viewed_next": "Often looked at or bought soon after {item}",
    "like_what": "Similar to {item}",
    "people_like_you": "Bought by {neighbours_bought} of the {neighbours} most similar customers",
    "popular_in_category": "Popular in the category of {item}: bought by {buyers_28d} in four weeks",
    "new_in_your_category": "New in the category of {item}: here for {age_days}",
    "popular_with_segment": "Popular with {segment}",
    "new_arrival": "New: here for {age_days}",
    "fits_taste": "Fits the taste shown so far",
    "popular": "Popular: bought by {buyers_28d} in four weeks",
    "sold_before": "Bought by {buyers} so far",
    "in_range": "Part of the range; nobody has bought it yet",
}

Formatter = Callable[..., str]


@dataclass(frozen=True)
class Language:
    """`templates`: a sentence for each code, with a reason's values and `item` in braces.

    `values`: how to format a value, by its name; one that is not listed is printed as it is.
    """

    templates: Mapping[ReasonCode, str] = field(default_factory=lambda: TEMPLATES)
    values: Mapping[str, Formatter] = field(
        default_factory=lambda: {
            "days_ago": _ago,
            "gap_days": _span,
            "age_days": _span,
            "orders": _times,
            "events": _times,
            "buyers": _buyers,
            "buyers_28d": _buyers,
            "segment": _segment,
        }
    )

    def render(self, reason: Reason, titles: Mapping[str, str] | None = None) -> str:
        """Return the sentence of a reason; `titles` by item id replace ids where there are any."""
        values = {name: self.values[name](v) if name in self.values else v for name, v in reason.values.items()}
        item = (titles or {}).get(reason.item_id or "") or reason.item_id
        return self.templates[reason.code].format(**values, item=item)


ENGLISH = Language()
