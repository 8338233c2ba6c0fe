"""Settings of the simulated shop, and presets for kinds of shop."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.common.errors import InputError
from features.common.yaml_config import describe_errors


class SimulatorConfig(BaseModel):
    """Defaults give about 250,000 events; `docs/simulator.md` compares their rates with real shops'."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Size
    customers: int = Field(default=2000, ge=1)
    """People with an account."""
    visitors_per_customer: float = Field(default=2.0, ge=0)
    """People who never log in, per customer."""
    items: int = Field(default=500, ge=1)
    """Products, spread evenly over the categories."""
    departments: tuple[str, ...] = ()
    """First parts of the categories sold, such as `grocery` or `home/cleaning`; empty: all there are."""
    days: int = Field(default=180, ge=1)
    """Length of the log."""
    start: date = date(2026, 1, 1)
    """First day of the log, UTC."""
    seed: int = Field(default=0, ge=0)
    """Seed of all random numbers."""
    currency: str = "EUR"
    """Of all prices."""

    # Visits
    sessions_per_customer: float = Field(default=36.0, gt=0)
    """Mean visits of a customer who stays from the first to the last day, reorders not counted."""
    views_per_session: float = Field(default=3.4, ge=1)
    """Mean items looked at in a visit, without those that are looked at only to be bought."""
    repeat_views: float = Field(default=0.3, ge=0)
    """How often an item is looked at once more in the same visit, on average."""
    conversion: float = Field(default=0.03, ge=0, le=0.5)
    """Share of visits that end in an order, habitual reorders not counted; 3–4% is usual."""
    basket: float = Field(default=1.7, ge=1)
    """Mean items in an order, habitual reorders not counted; their number is geometric."""
    weekly: float = Field(default=1.0, ge=0)
    """How much the days of the week differ in visits; 1: the busiest has half as many again as the quietest."""
    yearly: float = Field(default=1.0, ge=0)
    """How much the seasons differ, in visits and in which categories they go to."""
    traffic: float = Field(default=1.0, ge=0)
    """How much sources and devices differ in conversion, and sources in how many visits they bring."""
    mobile: float = Field(default=0.6, ge=0, le=1)
    """Share of people whose first device is a phone; 0: nobody has one."""
    foreign: float = Field(default=0.3, ge=0, le=1)
    """Share of people who live outside the shop's own country."""

    # Preferences
    taste: float = Field(default=1.0, ge=0)
    """How much people differ in their preferences; 0: all have the same categories and styles."""
    styles: int = Field(default=24, ge=1)
    """Number of styles; a person has a mixture of three."""
    popularity: float = Field(default=0.8, ge=0)
    """Exponent of Zipf's law within a category; 0: all items are equally popular."""
    price_sensitivity: float = Field(default=1.0, ge=0)
    """How much expensive items are avoided, on average; people differ in it."""
    brand_loyalty: float = Field(default=0.25, ge=0, lt=1)
    """Mean chance that someone only looks at the brand they prefer."""
    favourites: float = Field(default=0.25, ge=0, lt=1)
    """Chance that a customer's look falls on one of their own favourites."""
    wander: float = Field(default=0.2, ge=0, le=1)
    """Chance that a look leaves the category the visit is about."""
    appeal: float = Field(default=0.4, ge=0)
    """How much items differ in how often a look becomes a purchase (standard deviation of its log)."""
    habit: float = Field(default=0.5, ge=0, le=1)
    """Chance that the first purchase of an item that is used up becomes a habit."""
    rhythm: int = Field(default=1, ge=1)
    """Days between two habitual shopping trips: items that fall due in between are bought together; 1: every day."""

    # Quizzes
    quizzes: float = Field(default=0.0, ge=0, le=1)
    """Share of new visitors who say what they like as they come in: category, brand and a band of prices."""
    quiz_noise: float = Field(default=0.15, ge=0, le=1)
    """Chance that an answer is drawn at random, whatever the visitor likes."""

    # Item vectors in the catalog
    vectors: int = Field(default=0, ge=0)
    """Numbers in each item's vector, the catalog's `embedding`, as of a model of its pictures; 0: it has none."""
    vector_noise: float = Field(default=0.7, ge=0)
    """How wrong the vectors are about each trait of an item, in the trait's own standard deviations."""

    # Assortment, prices and stock
    price_spread: float = Field(default=0.55, ge=0)
    """Standard deviation of the log of prices within a category."""
    launched: float = Field(default=0.2, ge=0, le=1)
    """Share of the items that is launched during the log."""
    novelty: float = Field(default=1.0, ge=0)
    """How much more a new item is looked at on its first day; fades within weeks."""
    promotions: float = Field(default=0.05, ge=0, le=0.5)
    """Share of the items that is discounted on a day, alone or with all of its category."""
    stock_outs: float = Field(default=0.03, ge=0, le=0.5)
    """Share of the items that is out of stock on a day; the best seller of a category never is."""

    # Identity
    logged_in: float = Field(default=0.6, ge=0, le=1)
    """Share of customers' visits that are logged in; nine tenths of those with an order, unless 0."""
    late_login: float = Field(default=0.15, ge=0, le=1)
    """Share of the logged-in visits that log in midway, after some anonymous events."""
    shared_devices: float = Field(default=0.06, ge=0, le=1)
    """Share of customers who share their first device with another one."""
    second_device: float = Field(default=0.3, ge=0, le=1)
    """Share of customers who also use a second device."""
    newsletter: float = Field(default=0.3, ge=0, le=1)
    """Share of customers who left a device's e-mail address with the newsletter, and have it in their account."""
    refused: float = Field(default=0.02, ge=0, le=1)
    """Share of people who refuse consent, with those they share a device with."""
    bots: float = Field(default=0.01, ge=0, le=0.5)
    """Share of the events made by a few clients that view hundreds of items an hour."""

    # Which events are recorded
    recorded_lists: float = Field(default=0.03, ge=0, le=1)
    """Share of looks that come from a recorded list, with the other items in it."""
    searches: float = Field(default=0.12, ge=0, le=1)
    """Share of visits that begin with a search."""
    wishlists: float = Field(default=0.01, ge=0, le=1)
    """Share of looks that put the item on the wishlist."""
    abandoned: float = Field(default=0.015, ge=0, le=1)
    """Share of looks that put the item in the cart and leave it there, or take it out again."""
    cart_views: float = Field(default=0.6, ge=0, le=1)
    """Share of visits with an item in the cart that view the cart."""
    checkouts: float = Field(default=0.25, ge=0, le=1)
    """Share of the visits with an abandoned cart that had begun to check out; unless 0, every order has."""
    refunds: float = Field(default=0.04, ge=0, le=1)
    """Share of the purchases of items that are not used up that are returned."""

    @classmethod
    def grocery(cls, **changes: Any) -> "SimulatorConfig":
        """A supermarket: little browsing, large baskets over many categories, mostly bought again."""
        preset = {
            "departments": ("grocery", "beauty", "pets", "home/cleaning", "baby", "office"), "customers": 1500,
            "visitors_per_customer": 0.5, "sessions_per_customer": 24.0, "views_per_session": 2.2, "conversion": 0.15,
            "basket": 7.0, "wander": 0.9, "habit": 0.7, "rhythm": 7, "favourites": 0.45, "price_spread": 0.4,
            "logged_in": 0.8, "launched": 0.1,
        }  # fmt: skip
        return cls(**{**preset, **changes})

    @classmethod
    def fashion(cls, **changes: Any) -> "SimulatorConfig":
        """Clothes: long visits, few orders, brands and seasons, much of it new, discounted or sent back."""
        preset = {
            "departments": ("clothing", "sports", "home/bedding"), "items": 1200, "visitors_per_customer": 3.0,
            "sessions_per_customer": 20.0, "views_per_session": 6.5, "repeat_views": 0.5, "conversion": 0.022,
            "basket": 1.7, "brand_loyalty": 0.4, "yearly": 2.0, "launched": 0.4, "promotions": 0.12, "refunds": 0.3,
            "wishlists": 0.03, "habit": 0.3,
        }  # fmt: skip
        return cls(**{**preset, **changes})

    @classmethod
    def longtail(cls, **changes: Any) -> "SimulatorConfig":
        """A marketplace: thousands of items, most of them rarely viewed, and visitors who rarely return."""
        preset = {
            "items": 6500, "visitors_per_customer": 8.0, "sessions_per_customer": 10.0, "views_per_session": 3.4,
            "conversion": 0.035, "basket": 1.2, "habit": 0.2, "price_spread": 0.75, "popularity": 0.6,
        }  # fmt: skip
        return cls(**{**preset, **changes})

    @classmethod
    def wholesale(cls, **changes: Any) -> "SimulatorConfig":
        """A gift wholesaler such as Online Retail II's: two years, few customers, orders of twenty lines."""
        preset = {
            "items": 3000, "departments": ("home", "toys", "garden", "office", "books", "grocery"), "customers": 1200,
            "visitors_per_customer": 0.5, "days": 730, "sessions_per_customer": 16.0, "views_per_session": 3.0,
            "conversion": 0.5, "basket": 34.0, "wander": 0.8, "habit": 0.0, "favourites": 0.4, "refunds": 0.025,
            "price_spread": 0.8, "logged_in": 1.0,
        }  # fmt: skip
        return cls(**{**preset, **changes})


def build_config(shop: str, changes: Mapping[str, Any]) -> SimulatorConfig:
    """Build the config of `shop`, `general` or the name of a preset, with `changes`. Raises `InputError`."""
    try:
        return SimulatorConfig(**changes) if shop == "general" else getattr(SimulatorConfig, shop)(**changes)
    except ValidationError as error:
        raise InputError(f"the simulator's settings: {describe_errors(error)}") from error
