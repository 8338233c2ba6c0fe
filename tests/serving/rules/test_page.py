"""Page one: shares and pins, attacked with lists of any shape."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.rules.page import Move, PagePin, PageRules, PageShare

ANY = st.integers(0, 30)
LISTS = st.lists(ANY, unique=True, max_size=25)


def arrange(rules: PageRules, order: list[int], limit: int, used: frozenset[int] = frozenset()) -> list[int]:
    return rules.arrange(order, limit, lambda entry: entry not in used)[0]


def pins(*at_and_entries: tuple[int, tuple[int, ...]]) -> PageRules:
    return PageRules(pins=tuple(PagePin(f"r{n}", at, entries) for n, (at, entries) in enumerate(at_and_entries)))


def test_a_pin_stands_on_its_place_and_the_others_keep_their_order():
    assert arrange(pins((2, (9,))), [1, 2, 3, 4], 3) == [1, 9, 2, 3, 4]
    assert arrange(pins((2, (4,))), [1, 2, 3, 4], 3) == [1, 4, 2, 3]
    assert arrange(pins((1, (3, 9))), [1, 2, 3, 4], 4) == [3, 9, 1, 2, 4]


def test_a_pin_that_is_gone_leaves_its_place_to_the_next_and_then_to_the_ranking():
    used = frozenset({9})
    assert arrange(pins((2, (9, 8))), [1, 2, 3], 3, used) == [1, 8, 2, 3]
    assert arrange(pins((2, (9,))), [1, 2, 3], 3, used) == [1, 2, 3]


def test_two_pins_on_one_place_stand_one_after_the_other():
    assert arrange(pins((2, (8,)), (2, (9,))), [1, 2, 3], 4) == [1, 8, 9, 2, 3]
    assert arrange(pins((2, (8,)), (1, (9, 7))), [1, 2, 3], 4) == [9, 8, 7, 1, 2, 3]


def test_a_pin_beyond_page_one_does_nothing_and_brings_nothing_in():
    assert arrange(pins((5, (9,))), [1, 2, 3, 4, 5], 4) == [1, 2, 3, 4, 5]
    assert arrange(pins((4, (8, 9))), [1, 2, 3, 4, 5], 4) == [1, 2, 3, 8, 4, 5]


def test_a_pin_below_a_short_list_comes_last():
    assert arrange(pins((8, (9,))), [1, 2], 10) == [1, 2, 9]


def share(part: float, members: set[int], spare: tuple[int, ...] = ()) -> PageRules:
    return PageRules(shares=(PageShare("s", part, frozenset(members), spare),))


def test_a_share_takes_the_last_places_of_others():
    assert arrange(share(0.5, {5, 6}), [1, 2, 3, 4, 5, 6], 4) == [1, 2, 5, 6, 3, 4]
    assert arrange(share(0.5, {1, 6}), [1, 2, 3, 4, 5, 6], 4) == [1, 2, 3, 6, 4, 5]
    assert arrange(share(0.25, {1}), [1, 2, 3, 4, 5, 6], 4) == [1, 2, 3, 4, 5, 6]


def test_a_share_takes_what_there_is_and_then_spare_items():
    assert arrange(share(0.5, {6}), [1, 2, 3, 4, 5, 6], 4) == [1, 2, 3, 6, 4, 5]
    assert arrange(share(0.5, {6, 9}, (9,)), [1, 2, 3, 4, 5, 6], 4) == [1, 2, 6, 9, 3, 4, 5]
    assert arrange(share(0.5, {8, 9}, (8, 9)), [1], 4) == [1, 8, 9]


def test_what_moved_which_item_is_told():
    rules = PageRules(
        shares=(PageShare("s", 0.5, frozenset({3})),),
        pins=(PagePin("p", 1, (3, 9)),),
        moves={3: [Move("b", "boost", 8, 3)]},
    )
    entries, moves = rules.arrange([1, 2, 3], 2, lambda _: True)
    assert entries == [3, 9, 1, 2]
    assert moves == {
        3: [Move("b", "boost", 8, 3), Move("s", "share", 3, 2), Move("p", "pin", 2, 1)],
        9: [Move("p", "pin", None, 2)],
    }


@st.composite
def pages(draw: st.DrawFn) -> tuple[PageRules, list[int], int, frozenset[int]]:
    order, used = draw(LISTS), draw(st.frozensets(ANY, max_size=8))
    order = [entry for entry in order if entry not in used]
    shares = tuple(
        PageShare(f"s{n}", part, members, tuple(sorted(members))[:4])
        for n, (part, members) in enumerate(
            draw(st.lists(st.tuples(st.floats(0.01, 1), st.frozensets(ANY)), max_size=3))
        )
    )
    pinned = tuple(
        PagePin(f"p{n}", at, tuple(entries))
        for n, (at, entries) in enumerate(
            draw(st.lists(st.tuples(st.integers(1, 14), st.lists(ANY, unique=True, max_size=5)), max_size=4))
        )
    )
    return PageRules(shares, pinned), order, draw(st.integers(1, 12)), used


@settings(deadline=None)
@given(pages())
def test_nothing_is_lost_doubled_or_taken_from_elsewhere(case: tuple[PageRules, list[int], int, frozenset[int]]):
    rules, order, limit, used = case
    entries = arrange(rules, order, limit, used)
    assert len(set(entries)) == len(entries)
    assert set(order) <= set(entries)
    assert not used & set(entries)
    brought = {e for pin in rules.pins for e in pin.entries} | {e for s in rules.shares for e in s.spare}
    assert set(entries) - set(order) <= brought


@settings(deadline=None)
@given(pages())
def test_what_rules_bring_in_stands_on_page_one_only(case: tuple[PageRules, list[int], int, frozenset[int]]):
    """Unless a pin pushes down what a share brought: never does it reach a cursor, which holds ranked items alone."""
    rules, order, limit, used = case
    entries = arrange(PageRules((), rules.pins), order, limit, used)
    assert set(entries[limit:]) <= set(order)


@settings(deadline=None)
@given(pages())
def test_the_first_pin_stands_on_its_place(case: tuple[PageRules, list[int], int, frozenset[int]]):
    rules, order, limit, used = case
    entries = arrange(rules, order, limit, used)
    first = next((pin for pin in rules.pins if pin.entries), None)
    if first is None:
        return
    free = [entry for entry in first.entries if entry not in used]
    if free and first.at <= min(limit, len(entries)):
        earlier = entries.index(free[0]) + 1
        assert earlier == first.at or len(entries) < limit


@settings(deadline=None)
@given(pages())
def test_a_share_is_given_as_far_as_there_are_items(case: tuple[PageRules, list[int], int, frozenset[int]]):
    rules, order, limit, used = case
    for share in rules.shares:
        entries = arrange(PageRules((share,)), order, limit, used)
        there = len([e for e in share.members if e in order or (e in share.spare and e not in used)])
        page = sum(entry in share.members for entry in entries[:limit])
        assert page >= min(there, math.ceil(share.share * limit - 1e-9))


@settings(deadline=None)
@given(pages())
def test_an_earlier_share_keeps_what_it_was_given(case: tuple[PageRules, list[int], int, frozenset[int]]):
    rules, order, limit, used = case
    if not rules.shares:
        return
    first = rules.shares[0]
    alone = arrange(PageRules((first,)), order, limit, used)
    both = arrange(PageRules(rules.shares), order, limit, used)
    assert {e for e in alone[:limit] if e in first.members} <= set(both[:limit])


@settings(deadline=None)
@given(pages())
def test_without_rules_nothing_changes(case: tuple[PageRules, list[int], int, frozenset[int]]):
    _, order, limit, used = case
    assert arrange(PageRules(), order, limit, used) == order
