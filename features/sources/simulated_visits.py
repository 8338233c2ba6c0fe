"""Who comes to the simulated shop, what they look at, and what they take home."""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from features.sources.simulated_items import BRANDS, SHELVES, TASTE_DIMENSIONS, Items

SHOWN = 8  # items popularity puts before the visitor, of which one is looked at
HOURS = np.array([1, 1, 0, 0, 0, 1, 2, 4, 5, 6, 6, 6, 7, 6, 5, 5, 6, 7, 8, 10, 10, 8, 4, 2]) / 110


class SimulatorConfig(BaseModel):
    """Defaults give about 200,000 events; rates are those of real shops, see the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customers: int = Field(default=2000, ge=1)
    """People with an account."""
    visitors_per_customer: float = Field(default=2.0, ge=0)
    """People who never log in, per customer."""
    items: int = Field(default=500, ge=1)
    """Products, spread evenly over the categories."""
    days: int = Field(default=180, ge=1)
    """Length of the log."""
    seed: int = Field(default=0, ge=0)
    """Of everything that is drawn."""
    start: date = date(2026, 1, 1)
    """First day of the log, UTC."""
    sessions_per_customer: float = Field(default=40.0, gt=0)
    """Mean visits of a customer who is there from the first to the last day."""
    views_per_session: float = Field(default=4.5, ge=1)
    """Mean items looked at in a visit."""
    conversion: float = Field(default=0.03, ge=0, le=0.5)
    """Share of visits that end in an order, habitual reorders not counted; 3–4% is usual."""
    taste: float = Field(default=1.0, ge=0)
    """How much people differ in what they like; 0: popularity is all there is."""
    habit: float = Field(default=0.5, ge=0, le=1)
    """Chance that the first purchase of something used up becomes a habit."""
    launched: float = Field(default=0.2, ge=0, le=1)
    """Share of the items that comes on sale during the log."""
    refunds: float = Field(default=0.04, ge=0, le=1)
    """Share of the things bought, other than those used up, that come back."""
    refused: float = Field(default=0.02, ge=0, le=1)
    """Share of people who refuse consent."""
    currency: str = "EUR"
    """Of all prices."""


@dataclass(frozen=True)
class People:
    """Customers first, then the visitors nobody knows."""

    taste: NDArray[np.float64]  # (people, categories), rows add up to 1
    style: NDArray[np.float32]  # (people, TASTE_DIMENSIONS)
    brand: NDArray[np.float32]  # (people, brands)
    thrift: NDArray[np.float64]
    engagement: NDArray[np.float64]  # mean 1: how readily a visit becomes an order
    since: NDArray[np.float64]  # day of the first visit
    until: NDArray[np.float64]  # day after which they are gone


@dataclass(frozen=True)
class Visits:
    """Visits, and the views in them: `visit` is the view's index into the other two."""

    person: NDArray[np.int64]
    start: NDArray[np.float64]  # days
    visit: NDArray[np.int64]
    item: NDArray[np.int64]
    carted: NDArray[np.bool_]
    bought: NDArray[np.bool_]


def draw_people(rng: np.random.Generator, config: SimulatorConfig, categories: int) -> People:
    """Customers and strangers, each with a taste over the first `categories` of the shelves."""
    known = config.customers
    n = known + round(known * config.visitors_per_customer)
    share = np.arange(1, categories + 1) ** -0.5
    # The smaller the Dirichlet's parameters, the fewer categories hold most of a person's taste.
    alpha = share / share.sum() * 3.0 / max(config.taste, 1e-3) ** 2
    taste = rng.gamma(np.broadcast_to(alpha, (n, categories))) + 1e-9
    since = np.maximum(rng.uniform(-1.0, 0.9, n), 0) * config.days
    since[known:] = rng.random(n - known) * config.days
    stay = np.where(np.arange(n) < known, rng.exponential(1.5 * config.days, n), rng.exponential(7.0, n))
    return People(
        taste=taste / taste.sum(axis=1, keepdims=True),
        style=(config.taste * rng.standard_normal((n, TASTE_DIMENSIONS))).astype(np.float32),
        brand=(config.taste * rng.standard_normal((n, len(BRANDS)))).astype(np.float32),
        thrift=config.taste * rng.lognormal(0, 0.7, n),
        engagement=rng.gamma(1.5, 1 / 1.5, n) * np.where(np.arange(n) < known, 1.2, 0.5),
        since=since,
        until=np.minimum(since + stay, config.days),
    )


def _clock(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Times of day, in days, as busy as a shop's hours are."""
    return (rng.choice(24, n, p=HOURS) + rng.random(n)) / 24


def browse(rng: np.random.Generator, config: SimulatorConfig, items: Items, people: People) -> Visits:
    """The visits people make of themselves, and what they look at, put in the cart and buy in them."""
    n = len(people.thrift)
    rate = config.sessions_per_customer / config.days * rng.gamma(1.5, 1 / 1.5, n)
    count = rng.poisson(rate * (people.until - people.since))
    count[config.customers :] = 1 + rng.poisson(0.5, n - config.customers)
    count[0] = max(count[0], 1)  # so that the smallest shop has an event
    person = np.repeat(np.arange(n), count)
    when = people.since[person] + rng.random(len(person)) * (people.until - people.since)[person]
    start = np.floor(when) + _clock(rng, len(person))

    views = rng.geometric(1 / config.views_per_session, len(person))
    visit = np.repeat(np.arange(len(person)), views)
    category = _categories(rng, people, person)[visit]
    wander = rng.random(len(visit)) < 0.2
    category[wander] = _categories(rng, people, person[visit[wander]])
    item, liking = _look(rng, items, people, person[visit], category, start[visit])

    chance = people.engagement[person] * np.minimum(views / config.views_per_session + 0.4, 2)
    chance *= config.conversion / chance.mean()
    orders = rng.random(len(person)) < chance
    basket = 1 + rng.poisson(0.8, len(person))
    # What is liked most of what was looked at is what is bought, each item once.
    ranked = np.lexsort((-liking, visit))
    pairs = visit[ranked] * len(items.price) + item[ranked]
    best = ranked[np.sort(np.unique(pairs, return_index=True)[1])]
    nth = np.arange(len(best)) - np.searchsorted(visit[best], visit[best])
    bought = np.zeros(len(visit), bool)
    bought[best] = orders[visit[best]] & (nth < basket[visit[best]])
    carted = bought | (rng.random(len(visit)) < 0.01)
    return Visits(person, start, visit, item, carted, bought)


def _categories(rng: np.random.Generator, people: People, person: NDArray[np.int64]) -> NDArray[np.int64]:
    edges = np.cumsum(people.taste, axis=1)[:, :-1]
    return (edges[person] < rng.random(len(person))[:, None]).sum(axis=1)


def _look(
    rng: np.random.Generator,
    items: Items,
    people: People,
    person: NDArray[np.int64],
    category: NDArray[np.int64],
    day: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The item each view falls on, and how much it is liked."""
    edges = np.concatenate([[0.0], np.cumsum(items.weight)])
    low, high = edges[items.first[category]], edges[items.first[category + 1]]
    point = low[:, None] + rng.random((len(person), SHOWN)) * (high - low)[:, None]
    shown = np.searchsorted(edges, point, side="right") - 1
    shown = np.clip(shown, items.first[category][:, None], items.first[category + 1][:, None] - 1)
    liking = np.einsum("nsd,nd->ns", items.style[shown], people.style[person]).astype(np.float64)
    liking += people.brand[person[:, None], items.brand[shown]]
    liking -= people.thrift[person][:, None] * items.dearness[shown]
    liking[items.launch_day[shown] > day[:, None]] = -np.inf
    choice = np.argmax(liking + rng.gumbel(size=liking.shape), axis=1)
    row = np.arange(len(person))
    item, liked = shown[row, choice], liking[row, choice]
    nothing = np.isneginf(liked)
    return np.where(nothing, items.first[category], item), np.where(nothing, 0.0, liked)


def reorders(rng: np.random.Generator, config: SimulatorConfig, items: Items, people: People, seen: Visits) -> Visits:
    """Visits in which customers buy again what they have used up, everything due on a day in one order."""
    person, item, day = seen.person[seen.visit], seen.item, seen.start[seen.visit]
    rows = np.flatnonzero(seen.bought & (person < config.customers) & (items.refill_days[item] > 0))
    rows = rows[np.argsort(day[rows], kind="stable")]
    rows = rows[np.unique(person[rows] * len(items.price) + item[rows], return_index=True)[1]]
    rows = rows[rng.random(len(rows)) < config.habit]
    shortest = min(s.refill_days for s in SHELVES if s.refill_days)
    repeats = 1 + 2 * config.days // shortest
    gaps = items.refill_days[item[rows]][:, None] * rng.lognormal(0, 0.2, (len(rows), repeats))
    kept_up = np.cumprod(rng.random((len(rows), repeats)) < 0.9, axis=1).astype(bool)
    due = np.floor(day[rows][:, None] + np.cumsum(gaps, axis=1))
    which, nth = np.nonzero(kept_up & (due < people.until[person[rows]][:, None] - 1))
    who, what, when = person[rows][which], item[rows][which], due[which, nth].astype(np.int64)
    once = np.unique(np.stack([who, when, what], axis=1), axis=0)
    trips, visit = np.unique(once[:, :2], axis=0, return_inverse=True)
    all_of_it = np.ones(len(once), bool)
    start = trips[:, 1] + _clock(rng, len(trips))
    return Visits(trips[:, 0], start, visit.reshape(-1), once[:, 2], all_of_it, all_of_it)


def joined(a: Visits, b: Visits) -> Visits:
    """Both together, the visits in order of time and the views in order of visits."""
    start = np.concatenate([a.start, b.start])
    order = np.argsort(start, kind="stable")
    place = np.argsort(order, kind="stable")
    visit = place[np.concatenate([a.visit, b.visit + len(a.start)])]
    views = np.argsort(visit, kind="stable")
    return Visits(
        np.concatenate([a.person, b.person])[order],
        start[order],
        visit[views],
        np.concatenate([a.item, b.item])[views],
        np.concatenate([a.carted, b.carted])[views],
        np.concatenate([a.bought, b.bought])[views],
    )
