"""Visits of the simulated shop: when people come and from where, what they look at and what they buy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.sources.simulator.choice import Choice, Intent, draw_looks
from features.sources.simulator.config import SimulatorConfig
from features.sources.simulator.people import FAVOURITES, Devices, People, draw_categories, draw_styles

SOURCES = ["direct", "organic", "paid_search", "email", "social", "referral"]
SOURCE_SHARES = np.array(
    [[0.18, 0.33, 0.24, 0.02, 0.16, 0.07], [0.34, 0.24, 0.1, 0.2, 0.07, 0.05]]
)  # strangers, customers
SOURCE_ORDERS = np.array([1.2, 1.0, 0.9, 1.6, 0.5, 0.8])  # orders per visit, against the mean
DEVICE_ORDERS = np.array([0.85, 1.3, 1.0])
# Visits by hour. There are none from two to five, so a visit belongs to the day it started on: launches,
# discounts and stock change in between.
HOURS = np.array([5, *range(6, 24), 24, 25])
HOUR_SHARES = np.array([1, 2, 4, 5, 6, 6, 6, 7, 6, 5, 5, 6, 7, 8, 10, 10, 8, 4, 2, 1, 1]) / 110
LOOKS_SHAPE = 0.5  # of the negative binomial: two visits in five are a single look
SECOND_SHARE = 0.3  # share of visits from the second device
FAVOURITE_SHARE = np.arange(1, FAVOURITES + 1) ** -0.7 / (np.arange(1, FAVOURITES + 1) ** -0.7).sum()


@dataclass(frozen=True)
class Visits:
    """Visits in order of time, and the looks in them, each with its visit.

    A look is one item looked at, perhaps several times. `units` is how often it was added to the order.
    """

    person: NDArray[np.int64]
    start: NDArray[np.float64]  # days
    source: NDArray[np.int64]
    client: NDArray[np.int64]
    visit: NDArray[np.int64]
    item: NDArray[np.int64]
    units: NDArray[np.int64]

    @property
    def day(self) -> NDArray[np.int64]:
        """The day of the log each visit belongs to."""
        return np.floor(self.start - 3 / 24).astype(np.int64)


@dataclass(frozen=True)
class Rates:
    """What `draw_visits` measures of itself, for the truth."""

    looks: float  # mean looks of a visit, without those that are only there to buy
    orders: NDArray[np.float64]  # per customer: chance that a visit becomes an order
    basket: float


def draw_visits(
    rng: np.random.Generator,
    config: SimulatorConfig,
    choice: Choice,
    people: People,
    devices: Devices,
    favourites: NDArray[np.int64],
) -> tuple[Visits, Rates]:
    """Draw all visits but reorders, with the items looked at and bought; and the rates behind them."""
    n, customers, calendar = len(people), people.customers, choice.calendar
    since, until = calendar.expected_visits(people.since), calendar.expected_visits(people.until)
    count = rng.poisson(people.rate * (until - since))
    count[customers:] = 1 + rng.poisson(0.5, n - customers)
    count[0] = max(count[0], 1)  # so that the smallest shop has an event
    person = np.repeat(np.arange(n), count)
    days = calendar.days_at(since[person] + rng.random(len(person)) * (until - since)[person])
    start = np.minimum(np.floor(days), config.days - 1) + draw_times_of_day(rng, len(days))
    order = np.argsort(start, kind="stable")
    person, start = person[order], start[order]
    source, client = draw_sources(rng, config, people, person), draw_clients(rng, devices, person)

    mean = max(config.views_per_session / (1 + config.repeat_views) - 1, 0.0)
    looks = 1 + rng.negative_binomial(LOOKS_SHAPE, LOOKS_SHAPE / (LOOKS_SHAPE + mean), len(person))
    by_device = DEVICE_ORDERS[devices.kind] ** config.traffic
    eagerness = np.minimum(looks / (1 + mean) + 0.4, 2) * SOURCE_ORDERS[source] ** config.traffic
    ease = eagerness * by_device[client]
    scale = config.conversion / (people.engagement[person] * ease).mean()
    is_order = rng.random(len(person)) < scale * people.engagement[person] * ease
    draws = np.where(is_order, rng.geometric(1 / config.basket, len(person)), 0)
    visit = np.concatenate([np.repeat(np.arange(len(person)), looks), np.repeat(np.arange(len(person)), draws)])
    to_buy = np.arange(len(visit)) >= looks.sum()
    day = np.floor(start - 3 / 24).astype(np.int64)
    item = _draw_items(rng, config, choice, people, favourites, person, day, visit, to_buy)
    visit, item, units = _merge_units(visit, item, to_buy, config.items)
    readiness, of_customers = scale * people.engagement[:customers], eagerness[person < customers]
    first, second = (by_device[client[:customers]] * readiness for client in (devices.first, devices.second))
    orders = (1 - SECOND_SHARE) * _mean_of_capped(first, of_customers) + SECOND_SHARE * _mean_of_capped(
        second, of_customers
    )
    return Visits(person, start, source, client, visit, item, units), Rates(1 + mean, orders, config.basket)


def draw_times_of_day(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Draw times of day, in days, by how busy the shop's hours are."""
    return (HOURS[rng.choice(len(HOURS), n, p=HOUR_SHARES)] + rng.random(n)) / 24


def draw_sources(
    rng: np.random.Generator, config: SimulatorConfig, people: People, person: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Draw the traffic source of each visit."""
    edges = np.cumsum(
        SOURCE_SHARES**config.traffic / (SOURCE_SHARES**config.traffic).sum(axis=1, keepdims=True), axis=1
    )[:, :-1]
    point = rng.random(len(person))
    ours = (person < people.customers).astype(np.int64)
    return sum((edges[ours, s] <= point).astype(np.int64) for s in range(len(SOURCES) - 1))


def draw_clients(rng: np.random.Generator, devices: Devices, person: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw the client of each visit."""
    return np.where(rng.random(len(person)) < SECOND_SHARE, devices.second[person], devices.first[person])


def _mean_of_capped(readiness: NDArray[np.float64], ease: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of min(1, readiness × ease) over the eases, for each readiness."""
    typical = np.quantile(ease, np.linspace(0.005, 0.995, 100)) if len(ease) else np.zeros(1)
    return np.minimum(1, readiness[:, None] * typical).mean(axis=1)


def _draw_items(
    rng: np.random.Generator,
    config: SimulatorConfig,
    choice: Choice,
    people: People,
    favourites: NDArray[np.int64],
    person: NDArray[np.int64],
    day: NDArray[np.int64],
    visit: NDArray[np.int64],
    to_buy: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Draw the item of each look: a favourite, or one of the visit's style and category, or of any other."""
    style = draw_styles(rng, people, person)[visit]
    category = draw_categories(rng, people, choice.calendar, person, day)[visit]
    wandering = np.flatnonzero(rng.random(len(visit), np.float32) < config.wander)
    stray = visit[wandering]
    style[wandering] = draw_styles(rng, people, person[stray])
    category[wandering] = draw_categories(rng, people, choice.calendar, person[stray], day[stray])
    who = person[visit]
    brand = np.where(rng.random(len(visit)) < people.loyalty[who], people.brand[who], -1)
    of_favourites = np.flatnonzero((rng.random(len(visit)) < config.favourites) & (who < people.customers))
    item = np.full(len(visit), -1, np.int64)
    which = np.searchsorted(np.cumsum(FAVOURITE_SHARE)[:-1], rng.random(len(of_favourites)), side="right")
    favourite = favourites[who[of_favourites], which]
    item[of_favourites] = np.where(choice.available(day[visit[of_favourites]], favourite), favourite, -1)
    rest = np.flatnonzero(item < 0)
    intent = Intent(style[rest], people.level[who[rest]], category[rest], brand[rest], day[visit[rest]], to_buy[rest])
    item[rest] = draw_looks(rng, choice, intent)
    return item


def _merge_units(
    visit: NDArray[np.int64], item: NDArray[np.int64], to_buy: NDArray[np.bool_], items: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Merge looks at an item that was added to an order several times into one, with its units."""
    key, units = np.unique(visit[to_buy] * items + item[to_buy], return_counts=True)
    looks = ~to_buy
    return (
        np.concatenate([visit[looks], key // items]),
        np.concatenate([item[looks], key % items]),
        np.concatenate([np.zeros(looks.sum(), np.int64), units]),
    )


def merge_visits(a: Visits, b: Visits) -> Visits:
    """Merge two sets of visits, in order of time."""
    start = np.concatenate([a.start, b.start])
    order = np.argsort(start, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))

    def both(field: str) -> NDArray[np.int64]:
        return np.concatenate([getattr(a, field), getattr(b, field)])

    return Visits(
        person=both("person")[order],
        start=start[order],
        source=both("source")[order],
        client=both("client")[order],
        visit=place[np.concatenate([a.visit, b.visit + len(a.start)])],
        item=both("item"),
        units=both("units"),
    )
