"""The choice model of the simulated shop: the probability of each item to be looked at, and draws from it.

A person of style k and thrift level l who looks at category c sees item i with probability

    P(i | k, l, c, day) = look[k, l, i] / sum of look[k, l, j] over the items j of c
    look[k, l, i] = weight[i] × exp(style[k] · style[i] − thrift[l] × log(price[i] / median price of c)) × today[i]

where the price is net of the day's discount and `today` is 0 before the launch, raised while an item is
new or discounted, and a tenth while it is out of stock. Where the person insists on a brand, the sum
is over that brand's items in c, as long as there are any. Looks that end in a purchase follow `buy`:
`look` × appeal[i], more where discounted, and 0 while out of stock. `Truth` reads the same tables.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.sources.simulator.calendar import Calendar
from features.sources.simulator.config import SimulatorConfig
from features.sources.simulator.items import STYLE_DIMENSIONS, Items

THRIFT = np.array([0.2, 0.6, 1.1, 2.1])  # by level, each a quarter of the people; mean 1
LOOKS_WHILE_OUT = 0.1  # of the usual looks at an item that is out of stock
NOVELTY_DAYS = 10.0


@dataclass(frozen=True)
class Choice:
    """The choice tables. `base` (styles, levels, items) is `look` without the factors of the day."""

    base: NDArray[np.float64]
    thrift: NDArray[np.float64]
    items: Items
    calendar: Calendar
    novelty: float
    promoted: float  # how much a discount raises looks, and purchases once more

    def weights_on(self, day: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Compute `look` and `buy` on a day of the log, each float64 (styles, levels, items)."""
        off = self.calendar.discount[day].astype(np.float64)
        age = day - self.items.launch_day
        fresh = np.where(self.items.launch_day > 0, 1 + self.novelty * np.exp(-np.maximum(age, 0) / NOVELTY_DAYS), 1.0)
        common = (age >= 0) * fresh * np.exp(self.promoted * off)
        by_level = common * np.exp(-self.thrift[:, None] * np.log1p(-off))
        out = self.calendar.out[day]
        looks = by_level * np.where(out, LOOKS_WHILE_OUT, 1.0)
        purchases = by_level * np.where(out, 0.0, self.items.appeal * np.exp(self.promoted * off))
        return self.base * looks, self.base * purchases

    def available(self, day: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each item was on sale and in stock on its day."""
        return (self.items.launch_day[item] <= day) & ~self.calendar.out[day, item]


def draw_choice(rng: np.random.Generator, config: SimulatorConfig, items: Items, calendar: Calendar) -> Choice:
    """Draw the styles of people and compute the choice tables from them."""
    style = config.taste * 0.75 * rng.standard_normal((config.styles, STYLE_DIMENSIONS))
    thrift = config.price_sensitivity * THRIFT
    liking = (style @ items.style.T)[:, None, :] - thrift[None, :, None] * items.dearness
    return Choice(items.weight * np.exp(liking), thrift, items, calendar, config.novelty, promoted=1.0)


@dataclass(frozen=True)
class Intent:
    """What each look is for, one entry per look; `brand` is -1 where any will do."""

    style: NDArray[np.int64]
    level: NDArray[np.int64]
    category: NDArray[np.int64]
    brand: NDArray[np.int64]
    day: NDArray[np.int64]
    to_buy: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> "Intent":
        return Intent(*(getattr(self, f)[rows] for f in self.__dataclass_fields__))


def draw_looks(rng: np.random.Generator, choice: Choice, intent: Intent) -> NDArray[np.int64]:
    """Draw the item of each look; looks and purchases of a day are drawn from that day's tables."""
    point = rng.random(len(intent.day))
    item = np.zeros(len(intent.day), np.int64)
    key = 2 * intent.day + intent.to_buy
    order = np.argsort(key, kind="stable")
    edges = np.searchsorted(key[order], np.arange(2 * len(choice.calendar.visits) + 1))
    for day in range(len(choice.calendar.visits)):
        low, middle, high = edges[2 * day : 2 * day + 3]
        if low == high:
            continue
        for table, rows in zip(choice.weights_on(day), (order[low:middle], order[middle:high]), strict=True):
            if len(rows):
                item[rows] = _draw_looks_today(choice.items, table, intent[rows], point[rows])
    return item


def _draw_looks_today(
    items: Items, table: NDArray[np.float64], intent: Intent, point: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Invert the cumulative weights: one search in those of all styles and levels, concatenated."""
    levels, n = table.shape[1:]
    cumulative = np.concatenate([[0.0], np.cumsum(table)])
    offset = (intent.style * levels + intent.level) * n
    low, high = (cumulative[offset + items.first[intent.category + end]] for end in (0, 1))
    ends = items.block[intent.category, intent.brand]
    brand_low, brand_high = cumulative[offset + ends[:, 0]], cumulative[offset + ends[:, 1]]
    loyal = (intent.brand >= 0) & (brand_high > brand_low)
    low, high = np.where(loyal, brand_low, low), np.where(loyal, brand_high, high)
    # Strictly below the upper edge: an item whose weight is 0 is never drawn.
    at = np.minimum(low + point * (high - low), np.nextafter(high, 0.0))
    item: NDArray[np.int64] = np.searchsorted(cumulative, at, side="right") - 1 - offset
    return item
