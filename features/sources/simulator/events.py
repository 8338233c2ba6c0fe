"""Recorded events of the simulated visits, as arrays of numbers.

Seconds around a look, which keep events in order: list −3, select −0.5, view 0, wishlist +1 to 3,
cart +3 to 8, out of the cart +8 to 11, late login +12; the next view is at least 18 later. A visit starts
with login −10 and search −8 to −5 of its first view and ends with view_cart +13, begin_checkout +16 to 25
and purchase +30 to 240 of its last.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.event_log.schema import EVENT_NAMES, EventName
from features.sources.simulator.config import SimulatorConfig
from features.sources.simulator.items import Items
from features.sources.simulator.visits import Visits

SECOND = 1_000_000
DAY = 86_400 * SECOND
LIST_ITEMS = 5  # in a recorded list, the one that is looked at among them
QUERIES = 3  # per item: its noun, its title, its category's last part


@dataclass(frozen=True)
class Rows:
    """Rows of the log, one entry each; −1 where a row has no such value."""

    time: NDArray[np.int64]  # microseconds from the start of the log
    name: NDArray[np.int8]  # index into EVENT_NAMES
    head: NDArray[np.bool_]  # the first row of its event
    visit: NDArray[np.int32]
    item: NDArray[np.int32]
    quantity: NDArray[np.int32]
    list_: NDArray[np.int16]  # 0: search results; 1 + c: the list of category c
    position: NDArray[np.int16]
    query: NDArray[np.int32]  # QUERIES × item + which

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Rows":
        return Rows(*(getattr(self, f)[rows] for f in self.__dataclass_fields__))


@dataclass(frozen=True)
class Sessions:
    """Logins, one entry per visit: when its visitor logged in (microseconds; the largest int64 for never), and if."""

    login: NDArray[np.int64]
    known: NDArray[np.bool_]


def _rows(
    name: EventName,
    time: NDArray[np.int64],
    visit: NDArray[np.int64],
    item: NDArray[np.int64] | None = None,
    head: NDArray[np.bool_] | None = None,
    **other: NDArray[np.int64],
) -> Rows:
    n = len(time)

    def column(values: NDArray[np.int64] | None, dtype: type[np.signedinteger]) -> NDArray[np.signedinteger]:
        return np.full(n, -1, dtype) if values is None else values.astype(dtype)

    return Rows(
        time=time,
        name=np.full(n, EVENT_NAMES.index(name), np.int8),
        head=np.ones(n, bool) if head is None else head,
        visit=visit.astype(np.int32),
        item=column(item, np.int32),
        quantity=column(other.get("quantity"), np.int32),
        list_=column(other.get("list_"), np.int16),
        position=column(other.get("position"), np.int16),
        query=column(other.get("query"), np.int32),
    )


def record_visits(
    rng: np.random.Generator, config: SimulatorConfig, items: Items, v: Visits, customers: int
) -> tuple[Rows, Sessions]:
    """Record the rows of all visits by kind of event; those of one event are together and sorted by item."""
    n = len(v.person)

    def seconds(low: float, high: float, size: int) -> NDArray[np.int64]:
        return (rng.uniform(low, high, size) * SECOND).astype(np.int64)

    def some(share: float, size: int) -> NDArray[np.bool_]:
        return rng.random(size, np.float32) < share

    # Views: each look at a random place in the visit, repeated views anywhere after it.
    times = rng.geometric(1 / (1 + config.repeat_views), len(v.visit))
    look = np.repeat(np.arange(len(v.visit)), times)
    first = np.zeros(len(look), bool)
    first[np.cumsum(times) - times] = True
    place = rng.random(len(v.visit))[look]
    place = np.where(first, place, place + (1 - place) * rng.random(len(look)))
    order = np.argsort(v.visit[look] + 0.999 * place, kind="stable")
    look, first = look[order], first[order]
    visit = v.visit[look]
    pause = (np.clip(rng.lognormal(3.4, 0.8, len(look)), 18, 600) * SECOND).astype(np.int64)
    spent = np.cumsum(pause)
    begin = np.searchsorted(visit, np.arange(n))
    end = np.append(begin[1:], len(visit)) - 1
    viewed = (v.start * DAY).astype(np.int64)[visit] + spent - (spent[begin] - 10 * SECOND)[visit]
    opening, closing = viewed[begin], viewed[end]
    item = v.item[look]
    parts = [_rows("view_item", viewed, visit, item)]

    # Events that follow a first look.
    at = np.empty(len(v.visit), np.int64)
    at[look[first]] = viewed[first]
    bought = v.units > 0
    abandoned = some(config.abandoned, len(at)) & ~bought
    in_cart, on_wishlist = np.flatnonzero(bought | abandoned), np.flatnonzero(some(config.wishlists, len(at)))
    refill = items.refill_days[v.item] > 0
    quantity = v.units + np.where(refill, rng.poisson(0.6, len(at)), some(0.05, len(at)))
    quantity[abandoned] = 1
    removals = np.flatnonzero(abandoned & some(0.4, len(at)))
    parts += [
        _rows("add_to_wishlist", at[on_wishlist] + seconds(1, 3, len(on_wishlist)), v.visit[on_wishlist],
              v.item[on_wishlist]),
        _rows("add_to_cart", at[in_cart] + seconds(3, 8, len(in_cart)), v.visit[in_cart], v.item[in_cart],
              quantity=quantity[in_cart]),
        _rows("remove_from_cart", at[removals] + seconds(8, 11, len(removals)), v.visit[removals], v.item[removals],
              quantity=quantity[removals]),
    ]  # fmt: skip

    # Searches, and lists with a click.
    searches = np.flatnonzero(some(config.searches, n))
    query = item[begin[searches]] * QUERIES + rng.choice(QUERIES, len(searches), p=[0.5, 0.2, 0.3])
    parts.append(_rows("search", opening[searches] - seconds(5, 8, len(searches)), searches, query=query))
    clicks = np.flatnonzero(some(config.recorded_lists, len(at)))
    from_search = np.isin(v.visit[clicks], searches) & (at[clicks] == opening[v.visit[clicks]])
    list_ = np.where(from_search, 0, 1 + items.category[v.item[clicks]])
    parts += _record_lists(rng, items, at[clicks], v.visit[clicks], v.item[clicks], list_)

    # The end of a visit.
    orders = np.zeros(n, bool)
    orders[v.visit[bought]] = True
    with_cart = np.zeros(n, bool)
    with_cart[v.visit[in_cart]] = True
    cart_views = np.flatnonzero(with_cart & some(config.cart_views, n))
    checkouts = np.flatnonzero(np.where(orders, config.checkouts > 0, with_cart & some(config.checkouts, n)))
    paid_at = closing + seconds(30, 240, n)
    lines = np.flatnonzero(bought)
    lines = lines[np.lexsort((v.item[lines], v.visit[lines]))]
    head = np.ones(len(lines), bool)
    head[1:] = np.diff(v.visit[lines]) > 0
    refunds = np.flatnonzero(bought & ~refill & some(config.refunds, len(at)))
    parts += [
        _rows("view_cart", closing[cart_views] + seconds(13, 15, len(cart_views)), cart_views),
        _rows("begin_checkout", closing[checkouts] + seconds(16, 25, len(checkouts)), checkouts),
        _rows("purchase", paid_at[v.visit[lines]], v.visit[lines], v.item[lines], head, quantity=quantity[lines]),
        _rows("refund", paid_at[v.visit[refunds]] + seconds(2 * 86_400, 20 * 86_400, len(refunds)), v.visit[refunds],
              v.item[refunds], quantity=quantity[refunds]),
    ]  # fmt: skip

    # Logins: when the visit starts, or after one of its looks.
    share = np.where(orders, min(1.0, max(0.9, config.logged_in)) if config.logged_in else 0.0, config.logged_in)
    known = (v.person < customers) & (rng.random(n) < share)
    late = some(config.late_login, n)
    after = begin + (rng.random(n) * (end - begin + 1)).astype(np.int64)
    login = np.where(late, viewed[after] + 12 * SECOND, opening - 10 * SECOND)
    logins = np.flatnonzero(known)
    parts.append(_rows("login", login[logins], logins))

    rows = Rows(*(np.concatenate([getattr(p, f) for p in parts]) for f in Rows.__dataclass_fields__))
    return rows, Sessions(np.where(known, login, np.iinfo(np.int64).max), known)


def _record_lists(
    rng: np.random.Generator,
    items: Items,
    at: NDArray[np.int64],
    visit: NDArray[np.int64],
    item: NDArray[np.int64],
    list_: NDArray[np.int64],
) -> list[Rows]:
    """Record view_item_list with its impressions, and select_item: a run of the category's old items, best first."""
    old = np.flatnonzero(items.launch_day <= 0)
    old = old[np.lexsort((-items.weight[old], items.category[old]))]
    first = np.searchsorted(items.category[old], np.arange(len(items.first)))
    category = items.category[item]
    size = np.diff(first)[category]
    turn = (rng.random(len(item)) * size).astype(np.int64)[:, None] + np.arange(LIST_ITEMS)
    impressions = old[first[category][:, None] + turn % size[:, None]]
    other = (impressions != item[:, None]) & (np.arange(LIST_ITEMS) < size[:, None])
    rank = np.cumsum(other, axis=1)
    other &= rank < LIST_ITEMS
    place = 1 + (rng.random(len(item)) * (1 + other.sum(axis=1))).astype(np.int64)
    row, column = np.nonzero(other)
    position = rank[row, column] + (rank[row, column] >= place[row])
    # The item with the click, and those beside it.
    row = np.concatenate([row, np.arange(len(item))])
    every = np.concatenate([impressions[other], item])
    position = np.concatenate([position, place])
    order = np.lexsort((every, row))
    row, every, position = row[order], every[order], position[order]
    head = np.ones(len(row), bool)
    head[1:] = np.diff(row) > 0
    list_at = at - (rng.uniform(2, 4, len(item)) * SECOND).astype(np.int64)
    click_at = at - SECOND // 2
    return [
        _rows("view_item_list", list_at[row], visit[row], every, head, list_=list_[row], position=position),
        _rows("select_item", click_at, visit, item, list_=list_, position=place),
    ]


def record_bots(
    rng: np.random.Generator, config: SimulatorConfig, items: Items, people_rows: int, visits: int
) -> tuple[Rows, NDArray[np.int64]]:
    """Draw the views of bots: any item, every few seconds, for an hour or so a visit.

    Their visits are numbered from `visits` on; the second result is the bot of each.
    """
    total = round(config.bots / (1 - config.bots) * people_rows)
    if total < 100:  # too few to stand out as a bot
        return _rows("view_item", np.zeros(0, np.int64), np.zeros(0, np.int64)), np.zeros(0, np.int64)
    sweeps = max(1, round(total / 600))
    bot = np.arange(sweeps) % max(1, round(total / 5000))
    size = rng.multinomial(total, np.full(sweeps, 1 / sweeps))
    sweep = np.repeat(np.arange(sweeps), size)
    pause = (rng.uniform(2, 8, total) * SECOND).astype(np.int64)
    spent = np.cumsum(pause)
    start = (rng.random(sweeps) * (config.days - 0.1) * DAY).astype(np.int64)
    time = start[sweep] + spent - spent[np.cumsum(size) - size][sweep]
    old = np.flatnonzero(items.launch_day <= 0)
    return _rows("view_item", time, visits + sweep, old[rng.integers(0, len(old), total)]), bot
