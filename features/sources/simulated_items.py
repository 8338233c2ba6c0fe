"""The simulated shop's shelves: categories, brands, and an item table drawn from them."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Shelf(NamedTuple):
    path: str  # category
    price: float  # median, in the shop's currency
    refill_days: int  # how long one purchase lasts; 0 for what is not used up
    nouns: tuple[str, ...]


# The most visited first.
SHELVES = (
    Shelf("grocery/coffee", 9, 21, ("espresso beans", "filter coffee", "decaf beans", "cold brew")),
    Shelf("home/kitchen", 28, 0, ("saucepan", "chef's knife", "mixing bowl", "cutting board", "kettle")),
    Shelf("beauty/skin", 18, 40, ("day cream", "face wash", "night serum", "sun lotion")),
    Shelf("clothing/tops", 26, 0, ("t-shirt", "linen shirt", "sweater", "tank top", "hoodie")),
    Shelf("pets/dogs", 22, 28, ("dry dog food", "dog treats", "puppy food", "dental chews")),
    Shelf("home/decor", 24, 0, ("vase", "wall mirror", "picture frame", "candle holder", "clock")),
    Shelf("electronics/audio", 75, 0, ("headphones", "earbuds", "speaker", "turntable")),
    Shelf("grocery/tea", 7, 30, ("green tea", "black tea", "herbal tea", "chai")),
    Shelf("clothing/shoes", 70, 0, ("sneakers", "ankle boots", "sandals", "loafers")),
    Shelf("toys/building", 32, 0, ("building blocks", "marble run", "model train", "puzzle")),
    Shelf("home/cleaning", 8, 35, ("dish soap", "laundry powder", "floor cleaner", "sponges")),
    Shelf("garden/plants", 15, 0, ("fern", "olive tree", "lavender", "tomato seedling", "cactus")),
    Shelf("sports/running", 48, 0, ("running shoes", "running shorts", "water bottle", "headlamp")),
    Shelf("beauty/hair", 12, 45, ("shampoo", "conditioner", "hair oil", "styling clay")),
    Shelf("books/cooking", 24, 0, ("baking book", "soup cookbook", "vegan cookbook", "grill guide")),
    Shelf("pets/cats", 17, 24, ("wet cat food", "cat litter", "cat treats", "kitten food")),
    Shelf("home/bedding", 55, 0, ("duvet cover", "pillow", "fitted sheet", "wool blanket")),
    Shelf("office/paper", 9, 60, ("notebook", "copy paper", "sticky notes", "envelopes")),
    Shelf("electronics/lighting", 38, 0, ("desk lamp", "floor lamp", "light strip", "night light")),
    Shelf("baby/care", 14, 18, ("nappies", "baby wipes", "baby lotion", "formula milk")),
    Shelf("sports/yoga", 34, 0, ("yoga mat", "yoga block", "leggings", "bolster")),
    Shelf("garden/tools", 29, 0, ("hand trowel", "pruning shears", "watering can", "rake")),
    Shelf("clothing/bags", 60, 0, ("backpack", "tote bag", "wallet", "weekend bag")),
    Shelf("books/travel", 19, 0, ("city guide", "hiking guide", "road atlas", "travel journal")),
)
BRANDS = (
    "Alder", "Birchwood", "Calla", "Dunmore", "Elmfield", "Fernway", "Gable", "Hollin", "Ivory Lane",
    "Juniper Row", "Kestrel", "Larkhill", "Marlow", "Northdale", "Oakhurst", "Pinewood",
)  # fmt: skip
ADJECTIVES = (
    "classic", "everyday", "organic", "small", "large", "soft", "bright", "dark", "natural", "light",
    "premium", "simple", "rustic", "modern", "festive", "summer", "winter", "blue", "green", "red", "white",
)  # fmt: skip

TASTE_DIMENSIONS = 4


@dataclass(frozen=True)
class Items:
    """One entry per item, ordered by category; `first[c]:first[c + 1]` are the items of category c."""

    category: NDArray[np.int64]  # index into SHELVES
    brand: NDArray[np.int64]  # index into BRANDS
    price: NDArray[np.float64]
    title: list[str]
    weight: NDArray[np.float64]  # popularity within the category
    style: NDArray[np.float32]  # (items, TASTE_DIMENSIONS)
    launch_day: NDArray[np.float64]  # days from the start of the log; negative for what was there before
    first: NDArray[np.int64]

    @property
    def refill_days(self) -> NDArray[np.int64]:
        return np.array([s.refill_days for s in SHELVES])[self.category]

    @property
    def dearness(self) -> NDArray[np.float64]:
        """Log of the price against the category's median."""
        return np.log(self.price / np.array([s.price for s in SHELVES])[self.category])


def draw(rng: np.random.Generator, items: int, days: int, launched: float) -> Items:
    """`items` items, a share `launched` of which comes on sale during the log's `days`."""
    shelves = min(len(SHELVES), items)
    category = np.sort(np.arange(items) % shelves)
    first = np.searchsorted(category, np.arange(shelves + 1))
    rank = np.arange(items) - first[category]
    launch = np.where(rng.random(items) < launched, rng.random(items) * 0.8 * days, -rng.random(items) * 365)
    # The best seller of a category is always on sale, so every category has something to show.
    launch[first[:-1]] = -365.0
    median = np.array([s.price for s in SHELVES])[category]
    price = np.maximum(np.round(median * rng.lognormal(0, 0.45, items)) - 0.01, 0.99)
    titles = np.empty(items, dtype=object)
    for c, (low, high) in enumerate(pairwise(first)):
        names = [f"{a} {n}".capitalize() for n in SHELVES[c].nouns for a in ADJECTIVES]
        order = rng.permutation(len(names))
        series = np.arange(high - low) // len(names)
        titles[low:high] = [names[order[i % len(names)]] + (f" No. {s + 1}" if s else "") for i, s in enumerate(series)]
    return Items(
        category=category,
        brand=rng.integers(0, len(BRANDS), items),
        price=price.round(2),
        title=list(titles),
        weight=1.0 / np.power(rank + 1.0, 0.8),
        style=rng.standard_normal((items, TASTE_DIMENSIONS)).astype(np.float32),
        launch_day=launch,
        first=first,
    )
