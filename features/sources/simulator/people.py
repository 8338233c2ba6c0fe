"""The simulated shop's people: preferences, visit rates, devices, consent, and links between devices and accounts."""

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.event_log.schema import LINK_SCHEMA, conform
from features.sources.simulator.calendar import Calendar
from features.sources.simulator.choice import Choice, Intent, draw_looks
from features.sources.simulator.config import SimulatorConfig
from features.sources.simulator.items import BRANDS, Items

STYLES_PER_PERSON = 3  # styles in one person
FAVOURITES = 8  # of a customer
COUNTRIES = ["DE", "AT", "CH", "NL"]
DEVICES = ["mobile", "desktop", "tablet"]


@dataclass(frozen=True)
class People:
    """Everybody who visits the shop, one entry per person: customers first, then people without an account."""

    customers: int
    taste: NDArray[np.float32]  # (people, categories), rows add up to 1
    style: NDArray[np.int64]  # (people, STYLES_PER_PERSON)
    mixture: NDArray[np.float64]  # (people, STYLES_PER_PERSON), rows add up to 1
    level: NDArray[np.int64]  # of thrift
    brand: NDArray[np.int64]  # the preferred one
    loyalty: NDArray[np.float64]  # chance that a look is at that brand only
    engagement: NDArray[np.float64]  # mean about 1: factor on the chance that a visit becomes an order
    pace: NDArray[np.float64]  # how long a purchase lasts them, against the usual
    rate: NDArray[np.float64]  # visits a day between `since` and `until`, when the shop is as busy as on average
    since: NDArray[np.float64]  # day of the first visit
    until: NDArray[np.float64]  # day of churn

    def __len__(self) -> int:
        return len(self.level)


@dataclass(frozen=True)
class Devices:
    """Clients of people; a client's number is that of the person whose first device it is."""

    first: NDArray[np.int64]  # per person
    second: NDArray[np.int64]  # per person, the same as the first where there is none
    clients: int
    kind: NDArray[np.int64]  # per client, index into DEVICES
    country: NDArray[np.int64]  # per person, index into COUNTRIES
    consent: NDArray[np.bool_]  # per person


def draw_people(rng: np.random.Generator, config: SimulatorConfig, items: Items) -> People:
    """Draw customers and people without an account, with their preferences."""
    customers, categories = config.customers, len(items.categories)
    n = customers + round(customers * config.visitors_per_customer)
    share = np.arange(1, categories + 1) ** -0.5
    # The smaller the Dirichlet's parameters, the fewer categories hold most of a person's taste.
    alpha = share / share.sum() * 3.0 / max(config.taste, 1e-3) ** 2
    taste = rng.standard_gamma(np.broadcast_to(alpha, (n, categories))) + 1e-9
    mixture = rng.standard_gamma(0.6, (n, STYLES_PER_PERSON)) + 1e-9
    since = np.maximum(rng.uniform(-1.0, 0.9, n), 0) * config.days
    since[customers:] = rng.random(n - customers) * config.days
    stay = np.where(np.arange(n) < customers, rng.exponential(1.5 * config.days, n), rng.exponential(7.0, n))
    # A beta distribution with the configured mean: most are near 0, some near 1.
    loyalty = rng.beta(2 * config.brand_loyalty, 2 * (1 - config.brand_loyalty), n) if config.brand_loyalty else 0.0
    return People(
        customers=customers,
        taste=(taste / taste.sum(axis=1, keepdims=True)).astype(np.float32),
        style=rng.integers(0, config.styles, (n, STYLES_PER_PERSON)),
        mixture=mixture / mixture.sum(axis=1, keepdims=True),
        level=rng.integers(0, 4, n),
        brand=rng.integers(0, len(BRANDS), n),
        loyalty=np.broadcast_to(loyalty, n).copy(),
        engagement=rng.gamma(1.5, 1 / 1.5, n) * np.where(np.arange(n) < customers, 1.2, 0.5),
        pace=rng.lognormal(0, 0.25, n),
        rate=config.sessions_per_customer / config.days * rng.gamma(1.5, 1 / 1.5, n),
        since=since,
        until=np.minimum(since + stay, config.days),
    )


def draw_favourites(rng: np.random.Generator, choice: Choice, people: People) -> NDArray[np.int64]:
    """Draw the favourites, int64 (customers, FAVOURITES), by each customer's preferences on their first day."""
    who = np.repeat(np.arange(people.customers), FAVOURITES)
    day = people.since[who].astype(np.int64)
    intent = Intent(
        style=draw_styles(rng, people, who),
        level=people.level[who],
        category=draw_categories(rng, people, choice.calendar, who, day),
        brand=np.where(rng.random(len(who)) < people.loyalty[who], people.brand[who], -1),
        day=day,
        to_buy=np.zeros(len(who), bool),
    )
    return draw_looks(rng, choice, intent).reshape(people.customers, FAVOURITES)


def draw_categories(
    rng: np.random.Generator, people: People, calendar: Calendar, person: NDArray[np.int64], day: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Draw a category for each (person, day) by the person's taste × the season."""
    point = rng.random(len(person), np.float32)
    season = calendar.season.astype(np.float32)
    category = np.zeros(len(person), np.int64)
    # In slices that fit the processor's cache.
    for low, high in pairwise([*range(0, len(person), 20_000), len(person)]):
        edges = people.taste[person[low:high]]
        edges *= season[day[low:high]]
        np.cumsum(edges, axis=1, out=edges)
        category[low:high] = (edges[:, :-1] <= point[low:high, None] * edges[:, -1:]).sum(axis=1)
    return category


def draw_styles(rng: np.random.Generator, people: People, person: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw one of each person's styles."""
    point = rng.random(len(person))
    edges = np.cumsum(people.mixture, axis=1)[:, :-1]
    which = sum(edges[person, m] <= point for m in range(STYLES_PER_PERSON - 1))
    return people.style[person, which]


def draw_devices(rng: np.random.Generator, config: SimulatorConfig, people: People) -> Devices:
    """Draw clients and who shares them, countries, and consent."""
    n, customers = len(people), people.customers
    mobile = rng.random(n) < config.mobile
    kind = np.where(mobile, 0, np.where(rng.random(n) < 0.15, 2, 1))
    first, second = np.arange(n), np.arange(n)
    # Two customers who live together use the device of the first of them.
    pairs = np.flatnonzero(rng.random(customers // 2) < config.shared_devices)
    first[2 * pairs + 1] = 2 * pairs
    second[2 * pairs + 1] = 2 * pairs
    with_second = np.flatnonzero(rng.random(customers) < config.second_device)
    second[with_second] = n + np.arange(len(with_second))
    other = np.where(kind[with_second] == 1, 0 if config.mobile else 2, 1)
    abroad = rng.random(n) < config.foreign
    country = np.where(abroad, 1 + rng.choice(len(COUNTRIES) - 1, n, p=[0.4, 0.33, 0.27]), 0)
    consent = rng.random(n) >= config.refused
    country[2 * pairs + 1], consent[2 * pairs + 1] = country[2 * pairs], consent[2 * pairs]
    return Devices(first, second, n + len(with_second), np.concatenate([kind, other]), country, consent)


def build_links(
    rng: np.random.Generator,
    config: SimulatorConfig,
    person: NDArray[np.int64],
    client: NDArray[np.int64],
    at: pl.Series,
    known: NDArray[np.bool_],
    ids: tuple[pl.Series, pl.Series],
) -> pl.DataFrame:
    """Build links, in `LINK_SCHEMA`, of newsletter sign-ups and accounts with the same hashed e-mail address.

    `person`, `client`, `at`, `known`: one entry per visit, in order of time. `ids`: of customers
    and of clients. A sign-up happens in any of the person's visits; the account gets the address in the first
    visit that is logged in.
    """
    signs_up = rng.random(config.customers) < config.newsletter
    turn = rng.permutation(len(person))  # the order in which a person's visits are tried for a sign-up
    ours = turn[(person[turn] < config.customers)]
    ours = ours[signs_up[person[ours]]]
    sign_up = ours[np.unique(person[ours], return_index=True)[1]]
    logged_in = np.flatnonzero(known & (person < config.customers))
    account = logged_in[np.unique(person[logged_in], return_index=True)[1]]
    account = account[signs_up[person[account]]]
    customers, clients = ids
    names = customers.gather(person[np.concatenate([sign_up, account])]).to_list()
    token = [hashlib.sha256(f"{name}@example.com".encode()).hexdigest() for name in names]
    none = pl.Series([None], dtype=pl.String)
    rows = pl.DataFrame({
        "at": at.gather(np.concatenate([sign_up, account])),
        "token": token,
        "client_id": pl.concat([clients.gather(client[sign_up]), none.new_from_index(0, len(account))]),
        "customer_id": pl.concat([none.new_from_index(0, len(sign_up)), customers.gather(person[account])]),
    })  # fmt: skip
    rows = rows.sort("at", "token", "client_id", nulls_last=True)
    return conform(rows.with_columns(kind=pl.lit("email")), LINK_SCHEMA)
