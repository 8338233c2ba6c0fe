"""The simulated shop's calendar: demand by season and weekday, promotions, and stock-outs, day by day."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from features.sources.simulator.config import SimulatorConfig
from features.sources.simulator.items import Items

MONDAY_TO_SUNDAY = np.array([1.10, 1.02, 1.0, 0.97, 0.88, 0.83, 1.2])
DISCOUNTS = np.array([0.1, 0.15, 0.2, 0.3, 0.4])
PROMOTED = 2.0  # log of the demand for a category, for a mean discount of its whole price

# Category or department → day of the year on which it is most in demand, and how much more than on average (log).
PEAKS = {
    "grocery/tea": (15, 0.4),
    "home/bedding": (20, 0.4),
    "home/decor": (335, 0.3),
    "electronics": (335, 0.4),
    "clothing/tops": (180, 0.3),
    "clothing/shoes": (270, 0.3),
    "toys": (340, 0.9),
    "garden": (125, 1.1),
    "sports": (130, 0.4),
    "beauty/skin": (190, 0.4),
    "books": (345, 0.4),
    "office": (245, 0.4),
}


@dataclass(frozen=True)
class Calendar:
    """Demand, discounts and stock by day: arrays with one row per day of the log."""

    visits: NDArray[np.float64]  # (days,), mean 1: how busy the shop is
    season: NDArray[np.float64]  # (days, categories): how much each is in demand
    discount: NDArray[np.float32]  # (days, items): share of the price that is taken off
    out: NDArray[np.bool_]  # (days, items): out of stock

    def expected_visits(self, day: NDArray[np.float64]) -> NDArray[np.float64]:
        """Integrate `visits` from the start of the log to the instants `day`, in days."""
        edges = np.concatenate([[0.0], np.cumsum(self.visits)])
        return np.interp(day, np.arange(len(edges)), edges)

    def days_at(self, expected: NDArray[np.float64]) -> NDArray[np.float64]:
        """The instants at which the integral reaches `expected`: the inverse of `expected_visits`."""
        edges = np.concatenate([[0.0], np.cumsum(self.visits)])
        return np.interp(expected, edges, np.arange(len(edges)))


def draw_calendar(rng: np.random.Generator, config: SimulatorConfig, items: Items) -> Calendar:
    """Draw the calendar of the log's days."""
    days = [config.start + timedelta(days=d) for d in range(config.days)]
    year = np.array([d.timetuple().tm_yday for d in days]) * (2 * np.pi / 365.25)
    week = np.log(MONDAY_TO_SUNDAY)[[d.weekday() for d in days]]
    peaks = np.array([_find_peak(s.path) for s in items.categories])
    christmas = 0.25 * np.cos(year - 345 * 2 * np.pi / 365.25)
    visits = np.exp(config.weekly * week + config.yearly * christmas)
    angle = year[:, None] - peaks[None, :, 0] * (2 * np.pi / 365.25)
    discount = np.zeros((config.days, config.items), np.float32)
    single, start, length = _draw_episodes(rng, config, config.promotions / 2, np.arange(config.items), (3, 10))
    off = DISCOUNTS[rng.integers(0, len(DISCOUNTS), len(single))]
    _mark_days(discount, single, start, length, off)
    category, start, length = _draw_episodes(
        rng, config, config.promotions / 2, np.arange(len(items.categories)), (2, 4)
    )
    off = DISCOUNTS[rng.integers(0, len(DISCOUNTS), len(category))]
    size = np.diff(items.first)[category]
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    everything = np.repeat(items.first[category], size) + within
    _mark_days(discount, everything, *(np.repeat(a, size) for a in (start, length, off)))
    out = np.zeros((config.days, config.items), np.float32)
    others = np.setdiff1d(np.arange(config.items), items.best)
    missing, start, length = _draw_episodes(rng, config, config.stock_outs, others, (2, 12))
    _mark_days(out, missing, start, length, np.ones(len(missing)))
    # Discounts attract people to a category.
    attraction = PROMOTED * np.add.reduceat(discount, items.first[:-1], axis=1) / np.diff(items.first)
    return Calendar(
        visits=visits / visits.mean(),
        season=np.exp(config.yearly * peaks[None, :, 1] * np.cos(angle) + attraction),
        discount=discount,
        out=out > 0,
    )


def _find_peak(path: str) -> tuple[float, float]:
    return PEAKS.get(path) or PEAKS.get(path.partition("/")[0]) or (1.0, 0.0)


def _draw_episodes(
    rng: np.random.Generator, config: SimulatorConfig, share: float, of: NDArray[np.int64], length: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Draw (which of `of`, first day, number of days), so that `share` of them is in an episode on any day."""
    shortest, longest = length
    mean = (shortest + longest) / 2
    count = rng.poisson(share * len(of) * (config.days + mean) / mean)
    which = of[rng.integers(0, max(len(of), 1), count)] if len(of) else np.zeros(0, np.int64)
    lasting = rng.integers(shortest, longest + 1, len(which))
    return which, rng.integers(-int(mean), config.days, len(which)), lasting


def _mark_days(
    table: NDArray[np.float32],
    which: NDArray[np.int64],
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    value: NDArray[np.float64],
) -> None:
    """Write each episode's value into its days of `table`; where two overlap, the greater stands."""
    offset = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    day = np.repeat(start, length) + offset
    inside = (day >= 0) & (day < len(table))
    item, level = np.repeat(which, length), np.repeat(value, length)
    np.maximum.at(table, (day[inside], item[inside]), level[inside].astype(np.float32))
