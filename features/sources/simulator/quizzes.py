"""Quizzes of the simulated shop: what new visitors say they like as they come in for the first time.

A share of them (`config.quizzes`) answers by the preferences they have: the category they like best, the brand they are
loyal to, and the band of prices in which most of what they look at lies. Each answer is drawn at random instead with
the chance `config.quiz_noise`.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.event_log.schema import EVENT_SCHEMA, TIMESTAMP, conform
from features.event_log.stated_answers import PREFERENCES, encode
from features.sources.simulator import frames
from features.sources.simulator.choice import Choice
from features.sources.simulator.config import SimulatorConfig
from features.sources.simulator.events import SECOND, Rows
from features.sources.simulator.items import BRANDS
from features.sources.simulator.people import People

QUIZ_STREAM = 11  # of random numbers, beside those of `shop`
_BEFORE = 30 * SECOND  # from the first answer to the first other event of the visit
_LOYAL = 0.3  # who is less so names no brand
_BAND = (0.15, 0.85)  # of what somebody would look at in the category


def record_quizzes(
    config: SimulatorConfig, people: People, choice: Choice, writer: frames.LogWriter, rows: Rows
) -> pl.DataFrame:
    """Record the answers in `EVENT_SCHEMA`, in order of time. `rows` are those of the log, by which visits begin."""
    rng = np.random.default_rng([config.seed, QUIZ_STREAM])
    takes_quiz = (rng.random(len(people)) < config.quizzes) & (people.since > 0)
    visit, first = np.unique(rows.visit, return_index=True)
    visit, time = visit[writer.person[visit] >= 0], rows.time[first[writer.person[visit] >= 0]]
    order = np.argsort(time, kind="stable")
    visit, time = visit[order], time[order]
    person, at = np.unique(writer.person[visit], return_index=True)
    chosen = takes_quiz[person] & (time[at] >= _BEFORE)
    person, visit, time = person[chosen], visit[at[chosen]], time[at[chosen]]
    answers = _draw_answers(rng, config.quiz_noise, people, choice, person)
    parts = [
        pl.DataFrame({"_n": np.arange(len(person)), "question": [question] * len(person), "answer": texts, "_k": n})
        for n, (question, texts) in enumerate(answers.items())
    ]
    stated = pl.concat(parts).drop_nulls("answer")
    n, k = stated["_n"].to_numpy(), stated["_k"].to_numpy()
    visit, person, client = visit[n].astype(np.int64), person[n], writer.client[visit[n]]
    frame = stated.select("question", "answer").with_columns(
        frames.format_ids("q", np.arange(len(n))).alias("event_id"),
        pl.Series("timestamp", time[n] - _BEFORE + k * SECOND + frames.log_start(config)).cast(TIMESTAMP),
        writer.ids["client"].gather(client).alias("client_id"),
        frames.format_ids("s", visit).alias("session_id"),
        pl.Series("source", [frames.SOURCES[s] for s in writer.source[visit]]),
        pl.Series("device", [frames.DEVICES[d] for d in writer.device[client]]),
        pl.Series("country", [frames.COUNTRIES[c] for c in writer.country[person]]),
        pl.Series("consent", writer.consent[person]),
        name=pl.lit(PREFERENCES),
        list_id=pl.lit("quiz"),
    )
    return conform(frame, EVENT_SCHEMA).sort("timestamp", "event_id")


def _draw_answers(
    rng: np.random.Generator, noise: float, people: People, choice: Choice, person: NDArray[np.int64]
) -> dict[str, list[str | None]]:
    items = choice.items
    n, categories = len(person), len(items.categories)

    def with_noise(values: NDArray[np.int64], among: int) -> NDArray[np.int64]:
        return np.where(rng.random(n) < noise, rng.integers(0, among, n), values)

    category = with_noise(people.taste[person].argmax(axis=1), categories)
    brand = with_noise(people.brand[person], len(BRANDS))
    names_brand = people.loyalty[person] >= _LOYAL
    level = with_noise(people.level[person], len(choice.thrift))
    bands = {(c, k): _price_band(choice, c, k) for c in range(categories) for k in range(len(choice.thrift))}
    return {
        "category": [encode([items.categories[c].path]) for c in category.tolist()],
        "brand": [encode([BRANDS[b]]) if said else None for b, said in zip(brand, names_brand, strict=True)],
        "price": [encode([bands[c, k]]) for c, k in zip(category.tolist(), level.tolist(), strict=True)],
    }


def _price_band(choice: Choice, category: int, level: int) -> str:
    """The band of prices in which most of what people of a level of thrift look at in a category lies."""
    items = choice.items
    of = slice(*items.first[category : category + 2].tolist())
    weight = items.weight[of] * np.exp(-choice.thrift[level] * items.dearness[of])
    order = np.argsort(items.price[of], kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    low, high = items.price[of][order][np.minimum(np.searchsorted(share, _BAND), len(order) - 1)]
    return f"{int(low)}-{int(np.ceil(high))}"
