"""Stated preferences: what visitors said they like, beside the items that match it.

A question is about an attribute of the catalog by its name: `category` (a path, or one level of one), `brand`, `price`
(a band such as 20-50), or any name in the items' attributes, such as `size`. Of each question the visitor's latest
answer counts: those of the visit come before those of the snapshot. Questions that no item knows match nothing.

Names and values are compared as hashes, without case and without spaces at the ends. Ages are as of the snapshot:
what was answered since then is new.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl

from features.common.arrays import AnyArray, BoolArray, Float32Array, Int64Array, UInt8Array
from features.common.clock import DAY
from features.event_log import stated_answers
from features.ranking.id_index import signed_hash
from features.ranking.pair_index import find_keys
from features.tables.columns import Column
from features.tables.history import ranges

COLUMNS = (
    Column("stated_category", "-1/0/1", "the candidate is of a category that the visitor said they like; 0: none said"),
    Column("stated_brand", "-1/0/1", "the same of its brand"),
    Column("stated_price", "-1/0/1", "the same of its price, in a band"),
    Column("stated_attributes", "questions", "other attributes of the candidate that the visitor said they like"),
    Column("stated_age_days", "days", "from the visitor's newest answer to the snapshot; null: they said nothing"),
)

CATEGORY, BRAND, PRICE, ATTRIBUTE = range(4)  # what a question is about
_FACETS = {"category": CATEGORY, "brand": BRAND, "price": PRICE}
_SPELLINGS = {
    "categories": "category",
    "brands": "brand",
    "priceband": "price",
    "pricerange": "price",
    "budget": "price",
}
_BETWEEN_WORDS = re.compile(r"[\s_-]+")
_NUMBER = r"[^\d.,]*(\d+(?:[.,]\d{1,2})?)[^\d.,]*"
_BAND = re.compile(rf"{_NUMBER}(?:-|–|—|\bto\b|\.\.){_NUMBER}")
_FROM, _UP_TO = re.compile(rf"{_NUMBER}\+"), re.compile(rf"(?:<|-|under|below|up to){_NUMBER}")


@dataclass(frozen=True)
class StatedPreferences:
    """Answers, one entry per value, sorted by `query` (0…n-1), whose it is.

    `question` and `term` int64 are hashes, `facet` uint8 is what the question is about; `low` and `high` float32 are
    the bounds of a band of prices, else NaN. `age` float32: days from the answer to the snapshot.
    """

    query: Int64Array
    question: Int64Array
    facet: UInt8Array
    term: Int64Array
    low: Float32Array
    high: Float32Array
    age: Float32Array

    def __len__(self) -> int:
        return len(self.query)

    def take(self, rows: Int64Array | slice, query: Int64Array) -> "StatedPreferences":
        """Select entries, which get the numbers `query`."""
        return StatedPreferences(
            query,
            self.question[rows],
            self.facet[rows],
            self.term[rows],
            self.low[rows],
            self.high[rows],
            self.age[rows],
        )


def _no_entries() -> StatedPreferences:
    ints, floats = np.zeros(0, np.int64), np.zeros(0, np.float32)
    return StatedPreferences(ints, ints, np.zeros(0, np.uint8), ints, floats, floats, floats)


NOTHING_STATED = _no_entries()


def nothing_matches(n: int) -> Float32Array:
    """Features of n candidates of visitors who said nothing."""
    out = np.zeros((n, len(COLUMNS)), np.float32)
    out[:, -1] = np.nan
    return out


@dataclass(frozen=True)
class CustomerAnswers:
    """What customers had answered as of a snapshot: `entries.query` is the customer's position; `indptr` counts them.

    `total` is the number of answers of everybody, devices without a customer too.
    """

    indptr: Int64Array
    entries: StatedPreferences
    total: int = 0

    @classmethod
    def build(cls, answers: pl.DataFrame, customers: Int64Array, n_customers: int, as_of: int) -> "CustomerAnswers":
        """Build from `answers` (question, answer, t), by customer `customers`, -1 for nobody of the snapshot."""
        order = np.lexsort((answers["t"].to_numpy(), customers))
        order = order[customers[order] >= 0]
        entries = parse_answers(
            customers[order], answers["question"][order].to_list(), answers["answer"][order].to_list(),
            ((as_of - answers["t"].to_numpy()[order]) / DAY).astype(np.float32),
        )  # fmt: skip
        return cls.from_entries(entries, n_customers, len(answers))

    @classmethod
    def from_entries(cls, entries: StatedPreferences, n_customers: int, total: int = 0) -> "CustomerAnswers":
        """Build from entries sorted by customer."""
        indptr = np.zeros(n_customers + 1, np.int64)
        np.cumsum(np.bincount(entries.query, minlength=n_customers), out=indptr[1:])
        return cls(indptr, entries, total)

    def arrays(self) -> dict[str, AnyArray]:
        """The arrays that a bundle ships."""
        entries = {name: getattr(self.entries, name) for name in self.entries.__dataclass_fields__ if name != "query"}
        return {"indptr": self.indptr, "total": np.array([self.total]), **entries}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> "CustomerAnswers":
        """The answers whose `arrays()` these were; they may be memory-mapped."""
        indptr = arrays["indptr"]
        query = np.arange(len(indptr) - 1).repeat(np.diff(indptr))
        columns = (arrays[name] for name in StatedPreferences.__dataclass_fields__ if name != "query")
        return cls(indptr, StatedPreferences(query, *columns), int(arrays["total"][0]))

    def gather(self, customers: Int64Array) -> StatedPreferences:
        """Gather the entries of some customers, `query` i being customers[i]; -1 is unknown and has none."""
        if not len(self.entries):
            return NOTHING_STATED
        known = customers >= 0
        row = np.where(known, customers, 0)
        sizes = self.indptr[row + known] - self.indptr[row]
        return self.entries.take(ranges(self.indptr[row], sizes), np.arange(len(customers)).repeat(sizes))


def combine(old: StatedPreferences | None, new: StatedPreferences, withdrawn: Int64Array) -> StatedPreferences:
    """Combine the entries of a snapshot with newer ones, which replace those of the same visitor and question.

    `withdrawn` int64[n]: `question_keys` of those that were answered anew, with or without an answer.
    """
    if old is None or not len(old):
        return new
    stays = np.flatnonzero(~np.isin(question_keys(old.query, old.question), withdrawn))
    old = old.take(stays, old.query[stays])
    if not len(new):
        return old
    both = StatedPreferences(*(np.concatenate([getattr(old, f), getattr(new, f)]) for f in old.__dataclass_fields__))
    order = np.lexsort((both.term, both.question, both.query))
    return both.take(order, both.query[order])


def question_keys(query: Int64Array, question: Int64Array) -> Int64Array:
    """Build one number of each visitor and question."""
    with np.errstate(over="ignore"):
        keys: Int64Array = question ^ (query * np.int64(0x2545F4914F6CDD1D))
    return keys


def answered_questions(query: Int64Array, questions: Sequence[str | None]) -> Int64Array:
    """Return `question_keys` of the questions that visitors answered or withdrew."""
    return question_keys(query, np.array([_hash_question(_plain_question(q or "")) for q in questions], np.int64))


def parse_answers(
    query: Int64Array, questions: Sequence[str | None], answers: Sequence[str | None], age: Float32Array
) -> StatedPreferences:
    """Parse answers sorted by `query`, oldest first, as the event log has them: of each question the latest counts."""
    latest: dict[tuple[int, str], int] = {}
    for n, (q, question) in enumerate(zip(query.tolist(), questions, strict=True)):
        if plain := _plain_question(question or ""):
            latest[q, plain] = n
    rows: list[tuple[int, int, int, int, float, float, float]] = []
    nan, ages = float("nan"), age.tolist()
    for (q, question), n in latest.items():
        facet, key, values = (
            _FACETS.get(question, ATTRIBUTE),
            _hash_question(question),
            stated_answers.decode(answers[n]),
        )
        if facet == PRICE:
            rows += [(q, key, facet, 0, low, high, ages[n]) for low, high in _bands(values)]
        else:
            rows += [(q, key, facet, _hash_term(question, value), nan, nan, ages[n]) for value in values]
    if not rows:
        return NOTHING_STATED
    rows.sort(key=lambda row: row[:4])
    columns = list(zip(*rows, strict=True))
    types = (np.int64, np.int64, np.uint8, np.int64, np.float32, np.float32, np.float32)
    return StatedPreferences(*(np.array(c, t) for c, t in zip(columns, types, strict=True)))


def _bands(values: Sequence[str]) -> list[tuple[float, float]]:
    """Parse bands of prices: "20-50", "20+", "up to 50", or two plain numbers."""
    plain = [v for v in values if re.fullmatch(_NUMBER, v)]
    if len(plain) == len(values) == 2:
        low, high = sorted(_number(re.fullmatch(_NUMBER, v)[1]) for v in plain)  # type: ignore[index]
        return [(low, high)]
    bands = []
    for text in (v.casefold() for v in values):
        if match := _BAND.fullmatch(text):
            low, high = sorted((_number(match[1]), _number(match[2])))
            bands.append((low, high))
        elif match := _FROM.fullmatch(text):
            bands.append((_number(match[1]), float("inf")))
        elif match := _UP_TO.fullmatch(text) or re.fullmatch(_NUMBER, text):
            bands.append((0.0, _number(match[1])))
    return bands


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def _plain_question(question: str) -> str:
    plain = _BETWEEN_WORDS.sub("", question.casefold())
    return _SPELLINGS.get(plain, plain)


def _hash_question(plain: str) -> int:
    return signed_hash(f"question/{plain}")


def _hash_term(question: str, value: str) -> int:
    return signed_hash(f"{question}\x1f{value.strip().casefold()}")


@dataclass(frozen=True)
class ItemTerms:
    """The values that answers may match: `terms` int64, hashes, of item i from `indptr[i]` to `indptr[i + 1]`."""

    indptr: Int64Array
    terms: Int64Array

    @classmethod
    def from_texts(
        cls, categories: Sequence[str | None], brands: Sequence[str | None], attributes: Sequence[str | None]
    ) -> "ItemTerms":
        """Build from each item's category, a path, its brand, and its attributes, a JSON object."""
        hashes: dict[tuple[str, str], int] = {}

        def term(question: str, value: str) -> int:
            key = question, value
            if key not in hashes:
                hashes[key] = _hash_term(*key)
            return hashes[key]

        levels: dict[str, list[str]] = {}
        of_items: list[set[int]] = []
        for category, brand, pairs in zip(categories, brands, attributes, strict=True):
            terms: set[int] = set()
            if category:
                if category not in levels:
                    levels[category] = _levels(category)
                terms.update(term("category", level) for level in levels[category])
            if brand:
                terms.add(term("brand", brand))
            if pairs:
                terms.update(term(question, value) for question, value in _pairs(pairs))
            of_items.append(terms)
        indptr = np.zeros(len(of_items) + 1, np.int64)
        np.cumsum([len(terms) for terms in of_items], out=indptr[1:])
        every = chain.from_iterable(map(sorted, of_items))
        return cls(indptr, np.fromiter(every, np.int64, int(indptr[-1])))

    def of(self, item: Int64Array) -> tuple[Int64Array, Int64Array]:
        """List the terms of each of `item`: (row int64[n], term int64[n])."""
        sizes = self.indptr[item + 1] - self.indptr[item]
        return np.arange(len(item)).repeat(sizes), self.terms[ranges(self.indptr[item], sizes)]


def name_term(term: int, category: str | None, brand: str | None, attributes: str | None) -> str:
    """Name the value of an item whose hash is `term`; empty where it has none."""
    values = [("category", level) for level in _levels(category or "")] + [("brand", brand or "")]
    values += _pairs(attributes or "")
    return next((value for question, value in values if _hash_term(question, value) == term), "")


def _levels(category: str) -> list[str]:
    """The path, the paths above it, and each level on its own: people name any of them."""
    parts = [part.strip() for part in category.split("/")]
    return [*("/".join(parts[: n + 1]) for n in range(len(parts))), *parts[1:]]


def _pairs(attributes: str) -> list[tuple[str, str]]:
    try:
        content = json.loads(attributes)
    except (ValueError, RecursionError):
        return []
    if not isinstance(content, dict):
        return []
    pairs = []
    for name, value in content.items():
        question = _plain_question(name)
        if question in _FACETS:
            continue  # the catalog's own columns say these
        values = value if isinstance(value, list) else [value]
        pairs += [(question, stated_answers.plain(each)) for each in values if isinstance(each, str | int | float)]
    return pairs


NO_ANSWERS = CustomerAnswers(np.zeros(1, np.int64), NOTHING_STATED)


def state(
    answers: CustomerAnswers,
    customers: Int64Array,
    query: Int64Array,
    questions: Sequence[str | None],
    texts: Sequence[str | None],
) -> StatedPreferences:
    """Combine what a snapshot has of visitors with what they answered since then.

    `customers` int64[n]: their positions, -1 for nobody; `query`, `questions` and `texts`: their newer answers as in
    the event log, sorted by visitor, oldest first.
    """
    old = answers.gather(customers) if len(answers.entries) else None
    if not len(query):
        return NOTHING_STATED if old is None else old
    new = parse_answers(query, questions, texts, np.zeros(len(query), np.float32))
    return combine(old, new, answered_questions(query, questions))


def match(
    terms: ItemTerms, price: Float32Array, stated: StatedPreferences, query: Int64Array, item: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """Match n candidates, `item[i]` for visitor `query[i]`, with what was stated: (row, entry), each int64[matches].

    `price` float32[items]. An entry of `stated` that matches a candidate is listed once for it.
    """
    if not len(stated):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    has = np.zeros(int(max(stated.query[-1], query.max(initial=0))) + 1, bool)
    has[stated.query] = True
    rows = np.flatnonzero(has[query])
    of_row, term = terms.of(item[rows])
    valued = np.flatnonzero(stated.facet != PRICE)
    codes = np.unique(stated.term[valued])
    found_row, found_entry = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    if len(valued):
        slot, known = find_keys(codes, term)
        keys = stated.query[valued] * len(codes) + codes.searchsorted(stated.term[valued])
        order = np.argsort(keys, kind="stable")
        at, hit = find_keys(keys[order], query[rows][of_row] * len(codes) + slot)
        hit &= known
        found_row.append(rows[of_row[hit]])
        found_entry.append(valued[order[at[hit]]])
    bands = np.flatnonzero(stated.facet == PRICE)
    if len(bands):
        first, end = (stated.query[bands].searchsorted(query[rows], side) for side in ("left", "right"))
        pair, band = np.arange(len(rows)).repeat(end - first), bands[ranges(first, end - first)]
        of = price[item[rows[pair]]]
        inside = (of >= stated.low[band]) & (of <= stated.high[band])
        found_row.append(rows[pair[inside]])
        found_entry.append(band[inside])
    return np.concatenate(found_row), np.concatenate(found_entry)


def compute_stated_features(
    terms: ItemTerms, price: Float32Array, stated: StatedPreferences, query: Int64Array, item: Int64Array, visitors: int
) -> Float32Array:
    """Compute the features of n candidates, `item[i]` for visitor `query[i]`: float32[n × len(COLUMNS)]."""
    out = np.zeros((len(query), len(COLUMNS)), np.float32)
    age = np.full(visitors, np.nan, np.float32)
    if len(stated):
        for facet in (CATEGORY, BRAND, PRICE):
            asked: BoolArray = np.zeros(visitors, bool)
            asked[stated.query[stated.facet == facet]] = True
            out[:, facet] = np.where(asked[query], -1, 0)
        row, entry = match(terms, price, stated, query, item)
        facet_of = stated.facet[entry].astype(np.int64)
        single = facet_of != ATTRIBUTE
        out[row[single], facet_of[single]] = 1
        # Several values of one question count once.
        codes = np.unique(stated.question)
        pairs = np.unique(row[~single] * len(codes) + codes.searchsorted(stated.question[entry[~single]]))
        out[:, ATTRIBUTE] = np.bincount(pairs // len(codes), minlength=len(query))
        np.fmin.at(age, stated.query, stated.age)
        unknown = np.isnan(price[item])
        out[unknown & (out[:, PRICE] < 0), PRICE] = 0
    out[:, 4] = age[query]
    return out
