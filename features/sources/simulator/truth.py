"""The truth of a simulated shop: the probabilities behind its log, all that a perfect recommender could know.

`probabilities` are those of a customer's next item at an instant, given everything about the customer but
their next steps. A customer who makes r visits a day with v looks each, on average, and whose
habit of item i falls due on that day with the chance h_i, given the time since the last purchase, touches
item i on that day with the intensities

    purchase: r × o × line_i + h_i          view_item: r × (v × look_i + o × line_i) + h_i

where o is the chance that a visit becomes an order and line_i that i is in one. Divided by their sum these
are the probabilities. `look` and `line` come from the customer's mixture over styles, categories, brand and
favourites of the tables of `choice`; nothing is drawn to compute them.

Exact but for this: they are of a day of the shop (from 3:00 UTC), not of a minute; inside a visit, earlier looks
would tell more; and the chance that a visit becomes an order is averaged over lengths and sources.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from features.common.errors import InputError
from features.sources.simulator.calendar import Calendar
from features.sources.simulator.choice import Choice
from features.sources.simulator.config import SimulatorConfig
from features.sources.simulator.events import DAY
from features.sources.simulator.frames import log_start
from features.sources.simulator.habits import GAP_SPREAD, KEEP_UP_CHANCE, Habits
from features.sources.simulator.items import BRANDS, Items, select_categories
from features.sources.simulator.people import People
from features.sources.simulator.shop import Shop, simulate
from features.sources.simulator.visits import FAVOURITE_SHARE, Rates

FORMAT = 1
DAY_STARTS = DAY // 8  # 3:00
TruthEvent = Literal["view_item", "purchase"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """The shop without its visits: enough to compute what any customer would do on any day of the log."""

    config: SimulatorConfig
    choice: Choice
    people: People
    favourites: NDArray[np.int64]
    habits: Habits
    rates: Rates

    @classmethod
    def from_shop(cls, shop: Shop) -> "Truth":
        customers = shop.config.customers
        own = {f.name: getattr(shop.people, f.name)[:customers] for f in fields(People) if f.name != "customers"}
        people = replace(shop.people, **own)
        return cls(shop.config, shop.choice, people, shop.favourites, shop.habits, shop.rates)

    def save(self, directory: Path) -> None:
        """Write config.json and truth.npz (plain arrays) to `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        text = {"format": FORMAT, "config": self.config.model_dump(mode="json")}
        (directory / "config.json").write_text(json.dumps(text, indent=1) + "\n")
        np.savez_compressed(directory / "truth.npz", allow_pickle=False, **self._arrays())

    @classmethod
    def load(cls, directory: Path) -> "Truth":
        """Load what `save` wrote. Raises `InputError` where it is missing or of another format."""
        try:
            text = json.loads((directory / "config.json").read_text())
            with np.load(directory / "truth.npz", allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, ValueError) as e:
            raise InputError(f"{directory} holds no simulated truth: {e}") from None
        if text.get("format") != FORMAT:
            raise InputError(f"{directory} has format {text.get('format')!r}, expected {FORMAT}; write it anew")
        config = SimulatorConfig(**text["config"])

        def build(kind: type, name: str, **other: Any) -> Any:
            return kind(**{k.partition(".")[2]: v for k, v in arrays.items() if k.startswith(f"{name}.")}, **other)

        items = build(Items, "items", categories=select_categories(config.departments)[: config.items])
        items = replace(items, title=items.title.tolist(), noun=items.noun.tolist())
        novelty, promoted, looks, basket = arrays["settings"].tolist()
        return cls(
            config=config,
            choice=build(
                Choice, "choice", items=items, calendar=build(Calendar, "calendar"), novelty=novelty, promoted=promoted
            ),
            people=build(People, "people", customers=config.customers),
            favourites=arrays["favourites"],
            habits=build(Habits, "habits"),
            rates=Rates(looks, arrays["orders"], basket),
        )

    def _arrays(self) -> dict[str, NDArray[Any]]:
        parts = {
            "items": self.choice.items, "calendar": self.choice.calendar, "choice": self.choice, "people": self.people,
            "habits": self.habits,
        }  # fmt: skip
        values = {f"{n}.{f.name}": getattr(p, f.name) for n, p in parts.items() for f in fields(p)}  # type: ignore[arg-type]
        values = {name: np.array(v) if isinstance(v, list) else v for name, v in values.items()}
        arrays = {name: v for name, v in values.items() if isinstance(v, np.ndarray)}
        numbers = np.array([self.choice.novelty, self.choice.promoted, self.rates.looks, self.rates.basket])
        return arrays | {"favourites": self.favourites, "orders": self.rates.orders, "settings": numbers}

    @cached_property
    def items(self) -> list[str]:
        """The item ids, in the order of the probabilities' columns."""
        return [f"i{i:06d}" for i in range(self.config.items)]

    def probabilities(
        self, customers: Sequence[str], at: int | NDArray[np.int64], event: TruthEvent = "purchase"
    ) -> Floats:
        """Probability of each item to be the customer's next one: float64[len(customers), items]; rows sum to 1.

        `at`: microseconds since the epoch, one for all or one each. Raises `InputError` for a customer the
        shop does not have or an instant outside its log.
        """
        who = np.array([self.customer_row(c) for c in customers], np.int64)
        since = np.broadcast_to(np.asarray(at, np.int64), len(who)) - log_start(self.config)
        if len(who) and not (since.min() >= 0 and since.max() <= self.config.days * DAY):
            raise InputError(f"the simulated log has {self.config.days} days from {self.config.start}; ask inside them")
        days = np.clip((since - DAY_STARTS) // DAY, 0, self.config.days - 1)
        result = np.empty((len(who), self.config.items))
        for day in np.unique(days):
            rows = np.flatnonzero(days == day)
            result[rows] = self._probabilities_on(int(day), who[rows], event)
        return result

    def bought_within(self, customers: Sequence[str], start: int, end: int) -> Floats:
        """Probability of each item to be bought at least once in [start, end): float64[len(customers), items].

        As of `start` (microseconds, both midnights): later events are not known, but the shop's calendar is.
        Customers are assumed to stay; a habit is counted for its first purchase. No ranking is better where
        an item is relevant if it is bought in the window. Raises `InputError` as above.
        """
        who = np.array([self.customer_row(c) for c in customers], np.int64)
        first, last = ((at - log_start(self.config)) // DAY for at in (start, end - 1))
        if not 0 <= first <= last < self.config.days:
            raise InputError(f"the simulated log has {self.config.days} days from {self.config.start}; ask inside them")
        orders = np.zeros((len(who), self.config.items))
        for day in range(first, last + 1):
            rate = self.people.rate[who] * self.choice.calendar.visits[day] * self.rates.orders[who]
            buy = self.choice.weights_on(day)[1]
            orders += rate[:, None] * self.demand(buy, day, who).lines(self.rates.basket, self.config.wander)
        row, item, chance = self._habits_due(first, last, who)
        never = np.exp(-orders)  # visits come at random, independent of each other
        never[row, item] *= 1 - chance
        return 1 - never

    def customer_row(self, customer: str) -> int:
        """The row of a customer in `people`. Raises `InputError` for one the shop does not have."""
        number = int(customer[1:]) if customer[:1] == "c" and customer[1:].isdecimal() else -1
        if not 0 <= number < self.config.customers:
            raise InputError(f"the simulated shop has no customer {customer!r}; they are c000000 and on")
        return number

    def _probabilities_on(self, day: int, who: NDArray[np.int64], event: TruthEvent) -> Floats:
        look, buy = self.choice.weights_on(day)
        visits = (self.people.rate[who] * self.choice.calendar.visits[day])[:, None]
        lines = self.demand(buy, day, who).lines(self.rates.basket, self.config.wander)
        intensity = visits * self.rates.orders[who, None] * lines
        if event == "view_item":
            intensity += visits * self.rates.looks * self.demand(look, day, who).any()
        row, item, chance = self._habits_due(day, day, who)
        np.add.at(intensity, (row, item), chance)
        total = intensity.sum(axis=1, keepdims=True)
        # Where nobody orders anything, the probabilities are those of an order if there were one.
        lines /= lines.sum(axis=1, keepdims=True)
        return np.where(total > 0, intensity / np.where(total > 0, total, 1), lines)

    def demand(self, table: Floats, day: int, who: NDArray[np.int64]) -> "Demand":
        """Compute the demand of customers `who` (rows) on a day, by one of its two tables (`Choice.weights_on`)."""
        p, items = self.people, self.choice.items
        block = items.category * len(BRANDS) + items.brand
        first = np.flatnonzero(np.diff(block, prepend=-1))
        run = np.cumsum(np.diff(block, prepend=-1) != 0) - 1
        total = np.add.reduceat(table, first, axis=2)[:, :, run]
        in_brand = np.divide(table, total, out=np.zeros_like(table), where=total > 0)
        in_category = table / np.add.reduceat(table, items.first[:-1], axis=2)[:, :, items.category]
        on_sale = np.zeros((len(BRANDS), len(items.categories)), bool)
        on_sale[items.brand, items.category] = total[0, 0] > 0
        brand, loyalty = p.brand[who], p.loyalty[who, None]
        theirs, absent = items.brand == brand[:, None], ~on_sale[brand][:, items.category]
        styles = []
        for style in p.style[who].T:
            anyone = in_category[style, p.level[who]]
            insisting = np.where(theirs, in_brand[style, p.level[who]], 0.0) + np.where(absent, anyone, 0.0)
            styles.append((1 - loyalty) * anyone + loyalty * insisting)
        season = p.taste[who] * self.choice.calendar.season[day]
        season /= season.sum(axis=1, keepdims=True)
        favourite = self.favourites[who]
        available = self.choice.available(np.full_like(favourite, day), favourite)
        share = self.config.favourites * FAVOURITE_SHARE * available
        fond = np.zeros((len(who), self.config.items))
        np.add.at(fond, (np.arange(len(who))[:, None], favourite), share)
        return Demand(season[:, items.category], p.mixture[who], styles, fond)

    def _habits_due(
        self, first: int, last: int, who: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        """Index into `who` and item of every habit, and the chance that it falls due from day `first` to `last`."""
        h, out = self.habits, self.choice.calendar.out
        pair = h.person * self.config.items + h.item
        newest = (h.day < first) & np.append((pair[1:] != pair[:-1]) | (h.day[1:] >= first), True)[: len(pair)]
        open_ = np.flatnonzero(newest & (first < self.people.until[h.person]))
        low, high = (np.searchsorted(h.person[open_], who, side=s) for s in ("left", "right"))
        row = np.repeat(np.arange(len(who)), high - low)
        at = open_[np.arange(len(row)) - np.repeat(np.cumsum(high - low) - (high - low), high - low) + low[row]]
        person, item = h.person[at], h.item[at]

        def latest_chance(day: int) -> NDArray[np.int64]:
            """The latest day up to `day` on which the person shops and the item is in stock."""
            latest = day - (day + person) % self.config.rhythm
            while (waits := (latest >= 0) & out[np.maximum(latest, 0), item]).any():
                latest[waits] -= self.config.rhythm
            return latest

        centre = np.log(self.choice.items.refill_days[item] * self.people.pace[person])

        def used_up(days: NDArray[np.int64]) -> Floats:
            """The chance that a purchase lasts at most so many days."""
            chance: Floats = ndtr((np.log(np.maximum(days, 0) + 0.5) - centre) / GAP_SPREAD)
            return np.where(days < 1, 0.0, chance)

        # Items that fell due since the person's last opportunity to buy them are bought at the next one.
        before = used_up(latest_chance(first - 1) - h.day[at])
        chance = (
            KEEP_UP_CHANCE
            * (used_up(latest_chance(last) - h.day[at]) - before)
            / (KEEP_UP_CHANCE * (1 - before) + 1 - KEEP_UP_CHANCE)
        )
        return row, item, chance


@dataclass(frozen=True)
class Demand:
    """Probabilities of what customers look at or buy on a day: each matrix is (customers, items)."""

    category: Floats  # the chance of each item's category
    mixture: Floats  # (customers, styles of one): the chance of each of their styles
    styles: list[Floats]  # for each of their styles, the chance of an item within its category
    fond: Floats  # the chance that it is this item because it is a favourite

    def any(self) -> Floats:
        """The chance of each item, over all topics of a visit."""
        general = self.category * sum(self.mixture[:, m, None] * style for m, style in enumerate(self.styles))
        return self.fond + (1 - self.fond.sum(axis=1, keepdims=True)) * general

    def lines(self, basket: float, wander: float) -> Floats:
        """How often each item is in an order, on average.

        An order is n draws with a geometric n of mean B, given the visit's topic. An item that one draw
        hits with the chance p is in it with the chance 1 − E[(1 − p)^n] = B p / (1 + (B − 1) p).
        """
        stray = self.any() * wander + self.fond * (1 - wander)
        free = (1 - wander) * (1 - self.fond.sum(axis=1, keepdims=True))

        def in_order(p: Floats) -> Floats:
            return basket * p / (1 + (basket - 1) * p)

        on_topic = sum(self.mixture[:, m, None] * in_order(stray + free * q) for m, q in enumerate(self.styles))
        return self.category * on_topic + (1 - self.category) * in_order(stray)


def write_truth(config: SimulatorConfig, directory: Path) -> None:
    """Simulate the shop of `config` and write its truth to `directory`; see `Truth.load`."""
    Truth.from_shop(simulate(config)).save(directory)
