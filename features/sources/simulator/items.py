"""The simulated shop's items: categories, brands, and an item table and item vectors drawn from them."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.common.errors import InputError
from features.sources.simulator.config import SimulatorConfig


class CategorySpec(NamedTuple):
    """A category that the shop can have, and what its items are like."""

    path: str
    price: float  # median, in the shop's currency
    refill_days: int  # how long one purchase lasts; 0 for items that are not used up
    nouns: tuple[str, ...]


# The most visited first.
CATEGORIES = (
    CategorySpec("grocery/coffee", 9, 21, ("espresso beans", "filter coffee", "decaf beans", "cold brew")),
    CategorySpec("home/kitchen", 28, 0, ("saucepan", "chef's knife", "mixing bowl", "cutting board", "kettle")),
    CategorySpec("beauty/skin", 18, 40, ("day cream", "face wash", "night serum", "sun lotion")),
    CategorySpec("clothing/tops", 26, 0, ("t-shirt", "linen shirt", "sweater", "tank top", "hoodie")),
    CategorySpec("pets/dogs", 22, 28, ("dry dog food", "dog treats", "puppy food", "dental chews")),
    CategorySpec("home/decor", 24, 0, ("vase", "wall mirror", "picture frame", "candle holder", "clock")),
    CategorySpec("electronics/audio", 75, 0, ("headphones", "earbuds", "speaker", "turntable")),
    CategorySpec("grocery/tea", 7, 30, ("green tea", "black tea", "herbal tea", "chai")),
    CategorySpec("clothing/shoes", 70, 0, ("sneakers", "ankle boots", "sandals", "loafers")),
    CategorySpec("toys/building", 32, 0, ("building blocks", "marble run", "model train", "puzzle")),
    CategorySpec("home/cleaning", 8, 35, ("dish soap", "laundry powder", "floor cleaner", "sponges")),
    CategorySpec("garden/plants", 15, 0, ("fern", "olive tree", "lavender", "tomato seedling", "cactus")),
    CategorySpec("sports/running", 48, 0, ("running shoes", "running shorts", "water bottle", "headlamp")),
    CategorySpec("beauty/hair", 12, 45, ("shampoo", "conditioner", "hair oil", "styling clay")),
    CategorySpec("books/cooking", 24, 0, ("baking book", "soup cookbook", "vegan cookbook", "grill guide")),
    CategorySpec("pets/cats", 17, 24, ("wet cat food", "cat litter", "cat treats", "kitten food")),
    CategorySpec("home/bedding", 55, 0, ("duvet cover", "pillow", "fitted sheet", "wool blanket")),
    CategorySpec("office/paper", 9, 60, ("notebook", "copy paper", "sticky notes", "envelopes")),
    CategorySpec("electronics/lighting", 38, 0, ("desk lamp", "floor lamp", "light strip", "night light")),
    CategorySpec("baby/care", 14, 18, ("nappies", "baby wipes", "baby lotion", "formula milk")),
    CategorySpec("sports/yoga", 34, 0, ("yoga mat", "yoga block", "leggings", "bolster")),
    CategorySpec("garden/tools", 29, 0, ("hand trowel", "pruning shears", "watering can", "rake")),
    CategorySpec("clothing/bags", 60, 0, ("backpack", "tote bag", "wallet", "weekend bag")),
    CategorySpec("books/travel", 19, 0, ("city guide", "hiking guide", "road atlas", "travel journal")),
)
BRANDS = (
    "Alder", "Birchwood", "Calla", "Dunmore", "Elmfield", "Fernway", "Gable", "Hollin", "Ivory Lane",
    "Juniper Row", "Kestrel", "Larkhill", "Marlow", "Northdale", "Oakhurst", "Pinewood",
)  # fmt: skip
ADJECTIVES = (
    "classic", "everyday", "organic", "small", "large", "soft", "bright", "dark", "natural", "light",
    "premium", "simple", "rustic", "modern", "festive", "summer", "winter", "blue", "green", "red", "white",
)  # fmt: skip

STYLE_DIMENSIONS = 4
CATEGORY_DIMENSIONS = 4  # of an item's vector before it is projected: as much about the category as about the style


@dataclass(frozen=True)
class Items:
    """The item table: one entry per item, ordered by category, then brand.

    `first[c]:first[c + 1]` are the items of category c, `block[c, b, 0]:block[c, b, 1]` those of brand b in it.
    """

    categories: tuple[CategorySpec, ...]  # the categories of this shop
    category: NDArray[np.int64]  # index into `categories`
    brand: NDArray[np.int64]  # index into BRANDS
    price: NDArray[np.float64]
    title: list[str]
    noun: list[str]
    weight: NDArray[np.float64]  # popularity within the category
    appeal: NDArray[np.float64]  # factor on the chance that a look becomes a purchase
    style: NDArray[np.float64]  # (items, STYLE_DIMENSIONS)
    launch_day: NDArray[np.int64]  # days from the start of the log; negative for items older than the log
    first: NDArray[np.int64]
    block: NDArray[np.int64]
    best: NDArray[np.int64]  # per category, the item with the greatest weight: always on sale and in stock

    @property
    def refill_days(self) -> NDArray[np.int64]:
        """How long one purchase of each item lasts; 0 for items that are not used up."""
        return np.array([s.refill_days for s in self.categories])[self.category]

    @property
    def dearness(self) -> NDArray[np.float64]:
        """Log of each price against its category's median."""
        return np.log(self.price / np.array([s.price for s in self.categories])[self.category])


def select_categories(departments: tuple[str, ...]) -> tuple[CategorySpec, ...]:
    """Select the categories below any of the departments. Raises `InputError` where a department has none."""
    for name in departments:
        if not any(f"{s.path}/".startswith(f"{name}/") for s in CATEGORIES):
            names = ", ".join(sorted({s.path.partition("/")[0] for s in CATEGORIES}))
            raise InputError(f"the simulated shop has no department {name!r}; there are {names}")
    return tuple(s for s in CATEGORIES if not departments or any(f"{s.path}/".startswith(f"{d}/") for d in departments))


def draw_items(rng: np.random.Generator, config: SimulatorConfig) -> Items:
    """Draw the shop's items; a share `config.launched` of them is launched during the log."""
    n = config.items
    categories = select_categories(config.departments)[:n]
    category = np.sort(np.arange(n) % len(categories))
    brand = rng.integers(0, len(BRANDS), n)
    brand = brand[np.lexsort((brand, category))]
    first = np.searchsorted(category, np.arange(len(categories) + 1))
    place = np.arange(len(categories))[:, None] * len(BRANDS) + np.arange(len(BRANDS))
    key = category * len(BRANDS) + brand
    block = np.stack([np.searchsorted(key, place), np.searchsorted(key, place, side="right")], axis=2)
    rank = np.concatenate([rng.permutation(high - low) for low, high in pairwise(first)])
    best = first[:-1] + np.array([np.argmin(rank[low:high]) for low, high in pairwise(first)])
    is_new = rng.random(n) < config.launched
    launch = np.floor(np.where(is_new, rng.random(n) * 0.8 * config.days, -rng.random(n) * 365)).astype(np.int64)
    # The best seller of a category is always on sale, so no category is ever empty.
    launch[best] = -365
    median = np.array([s.price for s in categories])[category]
    price = np.maximum(np.round(median * rng.lognormal(0, config.price_spread, n)) - 0.01, 0.99)
    titles, nouns = np.empty(n, dtype=object), np.empty(n, dtype=object)
    for c, (low, high) in enumerate(pairwise(first)):
        names = [(a, noun) for noun in categories[c].nouns for a in ADJECTIVES]
        order = rng.permutation(len(names))
        for i in range(high - low):
            series, which = divmod(i, len(names))
            adjective, noun = names[order[which]]
            titles[low + i] = f"{adjective} {noun}".capitalize() + (f" No. {series + 1}" if series else "")
            nouns[low + i] = noun
    return Items(
        categories=categories,
        category=category,
        brand=brand,
        price=price.round(2),
        title=list(titles),
        noun=list(nouns),
        weight=np.power(rank + 1.0, -config.popularity),
        appeal=rng.lognormal(0, config.appeal, n),
        style=rng.standard_normal((n, STYLE_DIMENSIONS)),
        launch_day=launch,
        first=first,
        block=block,
        best=best,
    )


def draw_vectors(rng: np.random.Generator, config: SimulatorConfig, items: Items) -> NDArray[np.float32]:
    """Draw unit vectors, float32 (items, config.vectors), as a model would make of pictures or texts of the items.

    A vector is a random projection of the category and of the traits that choices depend on and that no other
    column of the catalog shows, style and appeal, with `config.vector_noise`. New items have one as the others do.
    """
    # Drawn per trait, not per number: noise does not average out where vectors are long.
    traits = np.column_stack([items.style, np.log(items.appeal) / (config.appeal or 1.0)])
    perceived = traits + config.vector_noise * rng.standard_normal(traits.shape)
    category = rng.standard_normal((len(items.categories), CATEGORY_DIMENSIONS))[items.category]
    signal = np.column_stack([category, perceived])
    vectors = signal @ rng.standard_normal((signal.shape[1], config.vectors))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
