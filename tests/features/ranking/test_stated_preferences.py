"""What visitors said they like, beside the items: matches, latest answers, and no leak from batches or the future."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_log.schema import CATALOG_SCHEMA, conform
from features.ranking.feature_matrix import FIXED_COLUMNS, STATED, assemble, columns, schema_hash
from features.ranking.snapshot import Snapshot
from features.ranking.stated_preferences import COLUMNS, NOTHING_STATED, name_term, parse_answers, state
from features.ranking.visitors import Visitors
from tests.features.shop import AS_OF, build, examples, row, same_arrays

CATALOG = conform(
    pl.DataFrame(
        {
            "item_id": ["boots", "dress", "bare"],
            "category": ["Women/Shoes/Boots", "Women/Dresses", None],
            "brand": ["Acme", "Bo", None],
            "attributes": ['{"Size": ["M", "L"], "color": "red"}', '{"size": 38}', "no JSON"],
        }
    ),
    CATALOG_SCHEMA,
)
PRICES = {"boots": 30.0, "dress": 80.0}


def said(question: str | None, *answers: object, visitor: str = "c1", days: float = -1, **columns: object) -> dict:
    return row(
        "preferences", days, visitor, question=question, answer=json.dumps(answers) if answers else None, **columns
    )


def shop(*answers: dict, as_of: int = AS_OF) -> Snapshot:
    sales = [row("purchase", -3, "c9", item, 1.0, price, f"o-{item}") for item, price in PRICES.items()]
    views = [row("view_item", -2, "c1", "bare")]
    return Snapshot.from_tables(build([*sales, *views, *answers], as_of, catalog=CATALOG))


def match(s: Snapshot, visitor: str = "c1", newer: tuple[tuple[str, str | None], ...] = ()) -> dict[str, list[float]]:
    """Item → its features about stated preferences."""
    customers = s.customers.find([visitor])
    query = np.zeros(len(newer), np.int64)
    stated = state(s.answers, customers, query, [q for q, _ in newer], [a for _, a in newer])
    none, n = np.zeros((len(s.items), 0), np.float32), len(s.items)
    matrix = assemble(
        s, Visitors.of_customers(customers, stated), np.zeros(n, np.int64), np.arange(n), none, none, True
    )
    assert matrix.shape == (n, len(FIXED_COLUMNS) + len(COLUMNS))
    return dict(zip(s.items.values.to_pylist(), matrix[:, -len(COLUMNS) :].tolist(), strict=True))


@pytest.mark.parametrize(
    ("question", "answers", "column", "expected"),
    [
        ("category", ["Women"], 0, [1, 1, -1]),
        ("Category", [" women/shoes "], 0, [1, -1, -1]),
        ("category", ["BOOTS"], 0, [1, -1, -1]),
        ("category", ["boots", "Dresses"], 0, [1, 1, -1]),
        ("category", ["unheard of"], 0, [-1, -1, -1]),
        ("brands", ["acme"], 1, [1, -1, -1]),
        ("price", ["20-50"], 2, [1, -1, 0]),
        ("price band", ["€50 – €100"], 2, [-1, 1, 0]),
        ("budget", ["up to 100"], 2, [1, 1, 0]),
        ("price", ["80+"], 2, [-1, 1, 0]),
        ("price", [20, 50], 2, [1, -1, 0]),
        ("price", ["cheap"], 2, [0, 0, 0]),
        ("size", ["m"], 3, [1, 0, 0]),
        ("size", ["M", "L"], 3, [1, 0, 0]),
        ("size", [38], 3, [0, 1, 0]),
        ("shoe laces", ["red"], 3, [0, 0, 0]),
    ],
)
def test_answers_match_items(question: str, answers: list[object], column: int, expected: list[int]):
    features = match(shop(said(question, *answers)))
    assert [features[item][column] for item in ("boots", "dress", "bare")] == expected
    others = [c for c in range(4) if c != column]
    assert all(values[c] == 0 for values in features.values() for c in others)


def test_the_latest_answer_of_a_question_counts_and_null_withdraws():
    s = shop(said("brand", "Acme", days=-5), said("brand", "Bo", days=-2), said("size", "M", days=-3))
    assert [match(s)[i] for i in ("boots", "dress")] == [[0, -1, 0, 1, 2], [0, 1, 0, 0, 2]]
    newer = match(s, newer=(("Brand", '["Acme"]'),))
    assert [newer[i][:4] for i in ("boots", "dress")] == [[0, 1, 0, 1], [0, -1, 0, 0]]
    assert newer["boots"][4] == 0, "what was said since the snapshot is new"
    withdrawn = match(s, newer=(("brand", None),))
    assert [withdrawn[i][:4] for i in ("boots", "dress")] == [[0, 0, 0, 1], [0, 0, 0, 0]]
    again = match(s, newer=(("brand", None), ("brand", '["Bo"]'), ("brand", '["Acme"]')))
    assert again["boots"][1] == 1
    assert again["dress"][1] == -1
    silent = match(shop(said("brand", "Acme", days=-5), said("brand", days=-1)))
    assert silent["boots"][:4] == [0, 0, 0, 0]
    assert np.isnan(silent["boots"][4])


def test_a_snapshot_has_what_was_said_before_it_by_whom_it_belongs_to():
    at_the_boundary = said("brand", "Acme", days=0)
    assert np.isnan(match(shop(at_the_boundary))["boots"][4]), "half-open"
    device = said("brand", "Acme", visitor="d1")
    assert match(shop(device))["boots"][1] == 0
    login = row("login", -0.5, "c1+d1")
    assert match(shop(device, login))["boots"][1] == 1, "a device's answers are the customer's at login"
    assert match(shop(said("brand", "Acme", consent=False)))["boots"][1] == 0
    assert shop(device).answers.total == 1
    assert shop().answers.total == 0


@examples(25)
@given(st.lists(st.lists(st.sampled_from(["boots", "Women", "x", "Dresses"]), max_size=3), min_size=1, max_size=5))
def test_a_visitor_does_not_depend_on_the_batch(answers: list[list[str]]):
    s = shop()
    query = np.arange(len(answers)).repeat(2)
    questions = ["category", "size"] * len(answers)
    texts = [t for a in answers for t in (json.dumps(a), '["M"]' if a else None)]
    stated = state(s.answers, np.full(len(answers), -1), query, questions, texts)
    visitors = Visitors.of_customers(np.full(len(answers), -1), stated)
    n = len(s.items)
    pairs, item = np.arange(len(answers)).repeat(n), np.tile(np.arange(n), len(answers))
    none = np.zeros((len(pairs), 0), np.float32)
    whole = assemble(s, visitors, pairs, item, none, none, True)
    for q in range(len(answers)):
        for alone in (visitors.slice(q, q + 1), visitors.only(np.array([q]))):
            part = assemble(s, alone, np.zeros(n, np.int64), np.arange(n), none[:n], none[:n], True)
            assert same_arrays(part, whole[q * n : (q + 1) * n])


def test_models_without_the_generator_are_what_they_were():
    s, none = shop(), np.zeros((3, 0), np.float32)
    visitors = Visitors.of_customers(np.array([0]))
    args = (s, visitors, np.zeros(3, np.int64), np.arange(3), none, none)
    assert same_arrays(assemble(*args), np.ascontiguousarray(assemble(*args, True)[:, : -len(COLUMNS)]))
    assert columns(("popular",))[-1].name == FIXED_COLUMNS[-1].name
    assert columns(("popular", STATED))[-len(COLUMNS) :] == COLUMNS
    assert schema_hash(("popular",)) != schema_hash(("popular", STATED))


@given(st.lists(st.tuples(st.text(max_size=9), st.one_of(st.none(), st.text(max_size=30))), max_size=6))
def test_no_answer_breaks_the_parser(answers: list[tuple[str, str | None]]):
    zeros = np.zeros(len(answers))
    stated = parse_answers(
        zeros.astype(np.int64), [q for q, _ in answers], [a for _, a in answers], zeros.astype(np.float32)
    )
    assert len(stated) <= 10 * len(answers)
    assert not len(NOTHING_STATED)


def test_a_match_can_be_named():
    (term,) = parse_answers(np.zeros(1, np.int64), ["category"], ["shoes"], np.zeros(1, np.float32)).term.tolist()
    assert name_term(term, "Women/Shoes/Boots", None, None) == "Shoes"
    assert name_term(term, None, "Shoes", None) == ""
